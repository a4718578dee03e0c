"""The ports on NATS: one connection, and everything that hangs on it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from hwbus.jetstream_bus import JetStreamBus
from hwbus.jetstream_core import ApiError, Core, Login, inbox_of
from hwbus.jetstream_inbox import InboxSettings, JetStreamInbox
from hwbus.jetstream_log import JetStreamLog, JetStreamOutlet
from hwbus.jetstream_streams import StreamDiffersError
from hwbus.jetstream_streams import ensure_streams as _ensure_streams
from hwbus.streams import EVENTS, STREAMS, SUBMIT, Stream

__all__ = ["ApiError", "InboxSettings", "Login", "StreamDiffersError", "Wires", "connect"]


class Wires:
    """All adapters of one connection; made by ``connect``."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.log = JetStreamLog(core, EVENTS.name)
        self.outlet = JetStreamOutlet(core)
        self.bus = JetStreamBus(core)

    @property
    def connected(self) -> bool:
        """Whether the broker can be reached at this moment."""
        return self._core.up.is_set()

    @property
    def counters(self) -> Mapping[str, int]:
        """What happened so far: appended, stale, unknown, reconnects, errors, dropped, parked."""
        return {**self._core.client.stats, **self._core.counters}

    @property
    def in_flight(self) -> int:
        """How many requests and appends wait for an answer."""
        return self._core.asker.in_flight

    async def until_gone(self) -> None:
        """Return when the connection is closed for good, by us or against our will."""
        await self._core.gone.wait()

    def log_of(self, stream: str) -> JetStreamLog:
        """Return another stream as a log, for example the audit stream for reading."""
        return JetStreamLog(self._core, stream)

    def inbox(self, settings: InboxSettings | None = None) -> JetStreamInbox:
        """Return the queue of submitted commands, or another durable consumer."""
        return JetStreamInbox(
            self._core, settings or InboxSettings(stream=SUBMIT.name, durable="desk")
        )

    async def ensure_streams(
        self, streams: Sequence[Stream] = STREAMS, *, replicas: int | None = None
    ) -> None:
        """Create what is missing, compare what is there.

        Raises ``StreamDiffersError`` with every difference, and ``ApiError``.
        """
        await _ensure_streams(self._core, streams, replicas=replicas)


@asynccontextmanager
async def connect(
    servers: str | Sequence[str],
    *,
    name: str,
    login: Login | None = None,
    within_s: float = 10.0,
    answer_within_s: float = 5.0,
    patience_s: float = 30.0,
    stock: bool | None = None,
) -> AsyncIterator[Wires]:
    """Connect, and stay connected through every restart of the broker until the context is left.

    *servers* are the addresses of one broker or of several; in one text, with commas between.
    *answer_within_s* is how long an append or an API request waits for its answer. A connection
    that has heard nothing for *patience_s* from a broker which greets others is closed for good:
    iterators raise, and whoever holds it dials anew. *stock* chooses nats-py's own paths (None:
    ``HWBUS_NATS_STOCK`` decides).

    Raises:
        ConnectionError: nobody accepted us within *within_s*.
        ForbiddenError: the broker does not let us in.
    """
    core = Core(stock=stock, ask_timeout_s=answer_within_s, patience_s=patience_s)
    urls = servers.split(",") if isinstance(servers, str) else servers
    login = login or Login()
    await core.open(
        [url.strip() for url in urls],
        name=name,
        login=login,
        inbox_prefix=inbox_of(login, urls),
        within_s=within_s,
    )
    try:
        yield Wires(core)
    finally:
        await core.close()
