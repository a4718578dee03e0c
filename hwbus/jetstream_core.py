"""One connection, kept for as long as its owner wants: what happens to it is counted and told."""

import asyncio
import re
import secrets
import ssl
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import msgspec
import structlog
from nats.errors import Error as NatsError

from hwbus.fastnats import Asker, WireClient, new_client
from hwbus.jetstream_vigil import Vigil
from hwbus.ports import ForbiddenError, OutcomeUnknownError

_LOG = structlog.get_logger("hwbus.jetstream")
_FORBIDDEN = re.compile(r'permissions violation for publish to "([^"]+)"', re.IGNORECASE)
_TURNED_AWAY = "authorization violation"
_PING_S = 10
_SAME_TROUBLE_S = 30.0
_WORD = re.compile(r"[A-Za-z0-9_-]+")
_ABANDON_S = 5.0
Answered = TypeVar("Answered")


def inbox_of(login: "Login", servers: Sequence[str]) -> str:
    """Return where answers to a user come: ``_INBOX_<user>``, which no other user may listen to.

    The user is that of *login* or of the first server's URL. ``_INBOX`` if there is none, or one
    whose name is no word of a subject.
    """
    named = urlsplit(servers[0].partition(",")[0]).username if servers else None
    user = login.user or unquote(named or "")
    return f"_INBOX_{user}" if _WORD.fullmatch(user) else "_INBOX"


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """How we prove to the broker who we are; give one way. Paths are files, never the secret."""

    user: str | None = None
    password: str | None = None
    token: str | None = None
    creds_file: Path | None = None
    nkey_seed_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def options(self) -> dict[str, Any]:
        """Return the client's options for it. Raises ``OSError`` for unreadable files."""
        given: dict[str, Any] = {
            "user": self.user,
            "password": self.password,
            "token": self.token,
            "user_credentials": str(self.creds_file) if self.creds_file else None,
            "nkeys_seed": str(self.nkey_seed_file) if self.nkey_seed_file else None,
        }
        if self.ca_file or self.cert_file:
            context = ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None)
            if self.cert_file:
                context.load_cert_chain(
                    str(self.cert_file), str(self.key_file) if self.key_file else None
                )
            given["tls"] = context
        return {name: value for name, value in given.items() if value is not None}


class ApiError(Exception):
    """JetStream answered a request with an error."""

    def __init__(self, subject: str, code: int, err_code: int, description: str) -> None:
        super().__init__(f"{subject}: {description} ({err_code})")
        self.code = code
        self.err_code = err_code
        self.description = description


class _Error(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Envelope(msgspec.Struct):
    error: _Error | None = None


class Core:
    """A connection with a memory of what it went through, shared by all adapters on it."""

    def __init__(self, *, stock: bool | None, ask_timeout_s: float, patience_s: float) -> None:
        self.client: WireClient = new_client(stock=stock)
        self.counters: Counter[str] = Counter()
        self.up = asyncio.Event()
        self.gone = asyncio.Event()
        self.ask_timeout_s = ask_timeout_s
        self.name = ""
        self._asker: Asker | None = None
        self._vigil: asyncio.Task[None] | None = None
        self._patience_s = patience_s
        self._closing = False
        self._refused: asyncio.Future[None] | None = None
        self._last_error: Exception | None = None
        self._logged = ("", 0.0)
        self._on_change: set[Callable[[], None]] = set()

    @property
    def asker(self) -> Asker:
        """Where requests are made. Raises ``OutcomeUnknownError`` before the connection is open."""
        if self._asker is None:
            raise OutcomeUnknownError("not connected yet")
        return self._asker

    async def open(
        self, servers: list[str], *, name: str, login: Login, inbox_prefix: str, within_s: float
    ) -> None:
        """Connect, trying again until *within_s* has passed.

        Raises:
            ConnectionError: nobody accepted us in time.
            ForbiddenError: the broker does not know us.
        """
        self.name = name
        self._refused = asyncio.get_running_loop().create_future()
        connecting = asyncio.ensure_future(
            self.client.connect(
                servers,
                name=name,
                error_cb=self._errored,
                disconnected_cb=self._disconnected,
                reconnected_cb=self._reconnected,
                closed_cb=self._closed,
                inbox_prefix=inbox_prefix,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.25,  # type: ignore[arg-type]
                ping_interval=_PING_S,
                **login.options(),
            )
        )
        waits: set[asyncio.Future[None]] = {connecting, self._refused}
        await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        if not connecting.done() or connecting.exception() is not None:
            await self._give_up(connecting, servers)
        self._asker = Asker(self.client, self.client.new_inbox())
        await self._asker.open()
        self.up.set()
        vigil = Vigil(
            self.client,
            self._abandon,
            servers=servers,
            patience_s=self._patience_s,
        )
        self._vigil = asyncio.create_task(vigil.keep(), name=f"vigil of {name}")

    async def _abandon(self) -> None:
        """Close a connection that is not coming back; nats-py may not even manage that."""
        self.counters["abandoned"] += 1
        try:
            async with asyncio.timeout(_ABANDON_S):
                await self.client.close()
        except (NatsError, OSError, TimeoutError) as error:
            _LOG.warning("an abandoned connection did not close", error=repr(error))
        if not self.gone.is_set():
            await self._closed()

    async def _give_up(self, connecting: asyncio.Future[None], servers: list[str]) -> None:
        refused = self._refused is not None and self._refused.done()
        self._closing = True
        connecting.cancel()
        await asyncio.wait({connecting})
        await self.client.close()
        where = ", ".join(servers)
        if refused:
            raise ForbiddenError(f"the broker at {where} does not let {self.name!r} in")
        raise ConnectionError(f"no broker at {where}: {self._last_error!r}") from self._last_error

    async def close(self) -> None:
        """Send what waits to be sent, then close. Whoever waits for an answer is told."""
        self._closing = True
        if self._vigil is not None:
            self._vigil.cancel()
            await asyncio.wait((self._vigil,))
        if self._asker is not None:
            await self._asker.close()
        await self.client.close()

    def on_change(self, call: Callable[[], None]) -> Callable[[], None]:
        """Call *call* after each reconnection and when the client is gone; return the undoing."""
        self._on_change.add(call)
        return lambda: self._on_change.discard(call)

    async def connected(self) -> None:
        """Return when the broker can be reached, or never will be again."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self.up, self.gone)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def settled(self) -> None:
        """Return when the broker has seen all that was sent so far. Bounded, best effort."""
        try:
            await self.client.flush(2)
        except (NatsError, OSError) as error:
            # A lost connection is renewed, and the subscriptions with it.
            _LOG.info("not settled", error=repr(error))

    def unique(self, what: str) -> str:
        """Return a name for something short-lived of ours at the broker."""
        owner = re.sub(r"[^A-Za-z0-9_-]", "_", self.name) or "hwbus"
        return f"{owner}-{what}-{secrets.token_hex(6)}"

    async def api(
        self, subject: str, request: object, kind: type[Answered], *, timeout_s: float | None = None
    ) -> Answered:
        """Ask JetStream's API. Raises ``ApiError``, and what ``Asker.ask`` raises."""
        subject = f"$JS.API.{subject}"
        answer = await self.asker.ask(
            subject, msgspec.json.encode(request), timeout_s=timeout_s or self.ask_timeout_s
        )
        error = msgspec.json.decode(answer.data, type=_Envelope).error
        if error is not None:
            raise ApiError(subject, error.code, error.err_code, error.description)
        return msgspec.json.decode(answer.data, type=kind)

    async def _errored(self, error: Exception) -> None:
        self._last_error = error
        self.counters["errors"] += 1
        if _TURNED_AWAY in str(error).lower():
            self._note_refused()
        forbidden = _FORBIDDEN.search(str(error))
        if forbidden is not None:
            self.counters["forbidden"] += 1
            if self._asker is not None:
                self._asker.forbid(forbidden[1])
        self._log_seldom(repr(error))

    def _log_seldom(self, error: str) -> None:
        """Log the same trouble once in a while: a broker that is down is tried often."""
        now = time.monotonic()
        if error != self._logged[0] or now - self._logged[1] > _SAME_TROUBLE_S:
            self._logged = (error, now)
            _LOG.warning("broker trouble", client=self.name, error=error)

    def _note_refused(self) -> None:
        if self._refused is not None and not self._refused.done():
            self._refused.set_result(None)

    async def _disconnected(self) -> None:
        self.up.clear()
        self.client.forget_unsent()
        if self._asker is not None:
            self._asker.fail(OutcomeUnknownError("the connection broke before the answer came"))
        if not self._closing:
            self.counters["disconnects"] += 1
            _LOG.warning("broker lost", client=self.name)

    async def _reconnected(self) -> None:
        self.counters["reconnects"] += 1
        self.up.set()
        _LOG.info("broker found again", client=self.name)
        self._tell()

    async def _closed(self) -> None:
        if not self._closing:
            # nats-py closes for good on errors such as an expired login. Silence would be worse
            # than a crash: iterators raise, and the owner is restarted by who watches it.
            self.counters["closed_for_good"] += 1
            _LOG.error("connection closed for good", error=repr(self.client.last_error))
        self.gone.set()
        self._tell()

    def _tell(self) -> None:
        for call in list(self._on_change):
            call()
