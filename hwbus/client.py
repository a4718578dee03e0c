"""How a program talks to the control plane: say a word, ask a view, follow what comes of it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import Any

import msgspec

from hwbus import subjects
from hwbus.asking import ACTOR, CAUSE, COMMAND_ID, CORRELATION, EXPECTED_VERSION
from hwbus.ports import Bus, EventLog, OutcomeUnknownError, Stored
from schemas.answers import Accepted, Answer, Refused, Undecided
from schemas.grammar import Message, kind_and_verb

# The one word of long work that the wires must know: after it nothing follows.
ENDED = "operation.ended.v1"
FILLED = "replica.replication-changed.v1"
_OPERATION = "operation"
_ASK_TIMEOUT_S = 10.0
_QUERY_SLACK_S = 3.0
_PAGES_MAX = 10_000


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it goes over the bus; what ``--show-call`` prints."""

    subject: str
    headers: dict[str, str]
    data: bytes


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of a view as JSON objects, as the view stood after ``seq`` of the log.

    ``behind`` is the sequence that was asked for and not reached in time, or 0. ``at`` is there for
    a page of the past: the moment that it shows.
    """

    kind: str
    seq: int
    items: tuple[dict[str, Any], ...]
    next: str | None = None
    api_version: str = "v1"
    behind: int = 0
    at: datetime | None = None


class RefusedQueryError(Exception):
    """The view said no; ``refused`` holds the code, the reason and the fix."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(f"{refused.code}: {refused.because}")
        self.refused = refused


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """One commit as a reader sees it; ``object`` is an address such as ``volume/pg``.

    ``readable`` is false for a message that is no commit; then only where it stands is known.
    """

    seq: int
    object: str
    at: datetime
    actor: str = ""
    command: str = ""
    word: str = ""
    correlation: str = ""
    cause: str = ""
    version: int = 0
    events: tuple[dict[str, Any], ...] = ()
    readable: bool = True


class _Envelope(msgspec.Struct, frozen=True, kw_only=True):
    at: datetime
    actor: str = ""
    command: str = ""
    word: str = ""
    correlation: str = ""
    cause: str = ""
    version: int = 0
    events: tuple[dict[str, Any], ...] = ()


class _PageOnWire(msgspec.Struct, frozen=True, kw_only=True, tag_field="answer", tag="page"):
    kind: str
    api_version: str = msgspec.field(name="apiVersion", default="v1")
    seq: int
    items: tuple[dict[str, Any], ...]
    next: str | None = None
    at: datetime | None = None


class _BehindOnWire(msgspec.Struct, frozen=True, kw_only=True, tag_field="answer", tag="behind"):
    seq: int
    min_seq: int


_ANSWER: msgspec.json.Decoder[Accepted | Refused | Undecided] = msgspec.json.Decoder(
    Accepted | Refused | Undecided
)
_PAGE: msgspec.json.Decoder[_PageOnWire | Refused | _BehindOnWire] = msgspec.json.Decoder(
    _PageOnWire | Refused | _BehindOnWire
)
_ENVELOPE = msgspec.json.Decoder(_Envelope)


def command_call(
    word: Message,
    *,
    actor: str,
    command_id: str,
    expect_version: int | None = None,
    correlation: str = "",
    cause: str = "",
) -> Call:
    """Return the request that says *word*. Raises ``UnicodeEncodeError`` for lone surrogates."""
    headers = {COMMAND_ID: command_id, ACTOR: actor}
    if expect_version is not None:
        headers[EXPECTED_VERSION] = str(expect_version)
    if correlation:
        headers[CORRELATION] = correlation
    if cause:
        headers[CAUSE] = cause
    return Call(
        subject=subjects.command(*kind_and_verb(word)),
        headers=headers,
        data=msgspec.json.encode(word),
    )


def query_call(
    view: str,
    where: Mapping[str, Any] | None = None,
    *,
    limit: int | None = None,
    cursor: str = "",
    min_seq: int = 0,
    wait_ms: int | None = None,
    at: int | str | None = None,
) -> Call:
    """Return the request that asks *view* for the rows whose columns equal *where*."""
    query: dict[str, Any] = {"where": dict(where or {})}
    given = {"limit": limit, "cursor": cursor, "min_seq": min_seq, "wait_ms": wait_ms}
    query |= {"at": at} if at is not None else {}
    # Nought and nothing are what the view assumes; but not to wait at all has to be said.
    query |= {key: value for key, value in given.items() if value or (key, value) == _NO_WAIT}
    return Call(subject=subjects.query(view), headers={}, data=msgspec.json.encode(query))


_NO_WAIT = ("wait_ms", 0)


def read(stored: Stored) -> Happening:
    """Return *stored* as a reader sees it; what is no commit is marked so and stops nobody."""
    try:
        address = str(subjects.parse_event(stored.subject))
    except subjects.BadNameError:
        address = stored.subject
    try:
        envelope = _ENVELOPE.decode(stored.data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Happening(seq=stored.seq, object=address, at=stored.at, readable=False)
    return Happening(
        seq=stored.seq,
        object=address,
        at=envelope.at,
        actor=envelope.actor,
        command=envelope.command,
        word=envelope.word,
        correlation=envelope.correlation,
        cause=envelope.cause,
        version=envelope.version,
        events=envelope.events,
    )


_PARTS_OF_A_VOLUME = ("replica", "attachment")


def subjects_of(object_: str) -> tuple[str, ...]:
    """Return where what concerns the object at an address such as ``pool/n1/fast`` is written.

    A volume brings its replicas and attachments along. Raises ``BadNameError``: that is no address.
    """
    match object_.split("/"):
        case [kind, name]:
            own = subjects.address(kind, subjects.CLUSTER, name).subject
            on_nodes = (f"{subjects.ROOT}.evt.{part}.*.{name}" for part in _PARTS_OF_A_VOLUME)
            return (own, *on_nodes) if kind == "volume" else (own,)
        case [kind, place, name]:
            return (subjects.address(kind, place, name).subject,)
        case _:
            raise subjects.BadNameError(f"{object_[:120]!r} is no address like volume/pg")


class Client:
    """Talks to a control plane over one connection, in the name of one actor.

    Every method raises ``NobodyThereError`` when nothing serves the address,
    ``OutcomeUnknownError`` when no answer came in time and ``ForbiddenError`` when the broker
    does not let this user ask. With *at*, a sequence or an RFC 3339 moment, every view is asked as
    it was there.
    """

    def __init__(
        self,
        bus: Bus,
        log: EventLog,
        *,
        actor: str,
        mint: Callable[[], str],
        at: int | str | None = None,
    ) -> None:
        self.at = at
        self.bus = bus
        self.log = log
        self._actor = actor
        self._mint = mint

    def at_point(self, at: int | str) -> "Client":
        """Return a client over the same connection that asks every view as it was at *at*."""
        return Client(self.bus, self.log, actor=self._actor, mint=self._mint, at=at)

    async def command(
        self,
        word: Message,
        *,
        command_id: str | None = None,
        expect_version: int | None = None,
        correlation: str = "",
        cause: str = "",
        timeout_s: float = _ASK_TIMEOUT_S,
    ) -> Answer:
        """Say *word* and return what the desk answers; the same *command_id* is one decision."""
        call = command_call(
            word,
            actor=self._actor,
            command_id=command_id or self._mint(),
            expect_version=expect_version,
            correlation=correlation,
            cause=cause,
        )
        return await self.send(call, timeout_s=timeout_s)

    async def send(self, call: Call, *, timeout_s: float = _ASK_TIMEOUT_S) -> Answer:
        """Send a command as it is and return what the desk answers."""
        data = await self.bus.request(
            call.subject, call.data, headers=call.headers, timeout_s=timeout_s
        )
        return _ANSWER.decode(data)

    async def query(
        self,
        view: str,
        where: Mapping[str, Any] | None = None,
        *,
        limit: int | None = None,
        cursor: str = "",
        min_seq: int = 0,
        wait_ms: int | None = None,
        timeout_s: float = _ASK_TIMEOUT_S,
    ) -> Page:
        """Return one page of *view*.

        If the view has not reached *min_seq* in time, the page is what it has, and says so in
        ``behind``. Raises ``RefusedQueryError`` for a column or cursor the view does not know.
        """
        call = query_call(
            view,
            where,
            limit=limit,
            cursor=cursor,
            min_seq=min_seq if self.at is None else 0,
            wait_ms=wait_ms,
            at=self.at,
        )
        timeout_s = max(timeout_s, (wait_ms or 0) / 1000 + _QUERY_SLACK_S)
        answer = _PAGE.decode(
            await self.bus.request(call.subject, call.data, headers={}, timeout_s=timeout_s)
        )
        match answer:
            case Refused():
                raise RefusedQueryError(answer)
            case _BehindOnWire() if self.at is not None:
                raise OutcomeUnknownError(
                    f"the views stand at {answer.seq} and have not reached {answer.min_seq} yet"
                )
            case _BehindOnWire():
                late = await self.query(
                    view, where, limit=limit, cursor=cursor, timeout_s=timeout_s
                )
                return msgspec.structs.replace(late, behind=min_seq)
            case _PageOnWire():
                return _read_page(answer)

    async def ask(self, call: Call, *, timeout_s: float = _ASK_TIMEOUT_S) -> Page:
        """Send a question as it is and return the page. Raises ``RefusedQueryError``."""
        data = await self.bus.request(
            call.subject, call.data, headers=call.headers, timeout_s=timeout_s
        )
        answer = _PAGE.decode(data)
        if isinstance(answer, Refused):
            raise RefusedQueryError(answer)
        if isinstance(answer, _BehindOnWire):
            raise OutcomeUnknownError(f"the views stand at {answer.seq}")
        return _read_page(answer)

    async def query_all(
        self,
        view: str,
        where: Mapping[str, Any] | None = None,
        *,
        min_seq: int = 0,
        wait_ms: int | None = None,
    ) -> Page:
        """Return all rows of *view*, page after page; ``seq`` is that of the first page."""
        page = await self.query(view, where, min_seq=min_seq, wait_ms=wait_ms)
        items = list(page.items)
        cursor = page.next
        for _ in range(_PAGES_MAX):
            if not cursor:
                return msgspec.structs.replace(page, items=tuple(items), next=None)
            further = await self.query(view, where, cursor=cursor)
            items += further.items
            cursor = further.next
        raise OutcomeUnknownError(f"the view {view!r} has no end")

    async def pages(
        self, view: str, where: Mapping[str, Any] | None = None, *, min_seq: int = 0
    ) -> AsyncGenerator[Page, None]:
        """Yield *view* page after page, so that no more than one is in memory."""
        page = await self.query(view, where, min_seq=min_seq)
        yield page
        while page.next:
            page = await self.query(view, where, cursor=page.next)
            yield page

    @asynccontextmanager
    async def happenings(
        self, *, after: int, objects: Sequence[str] = ()
    ) -> AsyncIterator[AsyncIterator[Happening]]:
        """Follow what is recorded after sequence *after*, about all or only these addresses."""
        filters = tuple(dict.fromkeys(s for o in objects for s in subjects_of(o)))
        async with (
            self.log.follow(
                after=after, subjects=filters or (f"{subjects.ROOT}.evt.>",)
            ) as batches,
            aclosing(_one_by_one(batches)) as each,
        ):
            yield each

    async def follow_operation(
        self, operation: str, *, object_: str = "", after: int = 0
    ) -> AsyncGenerator[Happening, None]:
        """Yield all that is recorded for *operation*, its end last, and how replicas are filled.

        To leave off earlier close the generator (``contextlib.aclosing``).
        *object_* is the address it is done to, *after* a sequence before its first commit.
        Raises ``BadNameError`` for an id or address that can stand in no subject.
        """
        objects = [f"{_OPERATION}/{operation}", *([object_] if object_ else [])]
        async with self.happenings(after=after, objects=objects) as all_of_it:
            async for happening in all_of_it:
                mine = {happening.correlation, happening.object.rpartition("/")[2]}
                if operation in mine or fills(happening):
                    yield happening
                    if ends(happening):
                        return

    async def wait(
        self, operation: str, *, object_: str = "", after: int = 0, timeout_s: float | None = None
    ) -> Happening:
        """Return the commit that ended *operation*. Raises ``TimeoutError`` after *timeout_s*."""
        async with asyncio.timeout(timeout_s):
            async with aclosing(
                self.follow_operation(operation, object_=object_, after=after)
            ) as story:
                async for happening in story:
                    if ends(happening):
                        return happening
        raise OutcomeUnknownError(f"the log ended before the operation {operation}")


def _read_page(answer: _PageOnWire) -> Page:
    return Page(
        kind=answer.kind,
        seq=answer.seq,
        items=answer.items,
        next=answer.next,
        api_version=answer.api_version,
        at=answer.at,
    )


def ends(happening: Happening) -> bool:
    """Say whether an operation ended with *happening*."""
    return any(event.get("type") == ENDED for event in happening.events)


def fills(happening: Happening) -> bool:
    """Say whether a node told in *happening* how far its replica is filled.

    Nobody asked it, so that belongs to no operation; but one at most runs on a volume.
    """
    return any(
        event.get("type") == FILLED
        and any(peer.get("sync") == "target" for peer in event.get("seen", {}).get("peers", ()))
        for event in happening.events
    )


async def _one_by_one(batches: AsyncIterator[list[Stored]]) -> AsyncGenerator[Happening, None]:
    async for batch in batches:
        for stored in batch:
            yield read(stored)
