"""Answers questions on the bus from the views, and never from a past older than asked for."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

import msgspec
import structlog

from hwbus.ports import Call, Endpoint
from hwbus.subjects import ROOT, query
from projectors.asking import Found, Plan, UnaskableError, cursor, plan
from projectors.past import ThinnedError
from projectors.points import LateError, Looking, NoPointError, Points
from projectors.projector import Projector
from projectors.qos import told
from projectors.tables import AUDIT, DRIFT, OPERATIONS, PLACEMENTS, QOS, VOLUMES, Table
from projectors.upkeep import listed
from schemas.answers import refuse
from schemas.node import Drift
from schemas.operation_views import AuditKind, AuditRow, OperationRow
from schemas.queries import COLUMNS, PAGE_MAX_BYTES, ROWS, STEPS_MAX, Behind, Page, Query
from schemas.refusals import Refusal
from schemas.views import Row

_LOG = structlog.get_logger("projectors.service")
_QUERY = msgspec.json.Decoder(Query)
_ENCODE = msgspec.json.Encoder().encode
_ASKED_MAX_BYTES = 65_536
_AT_ONCE = 1000
_ATTEMPTS_MAX = 3
# What these tell is how it is with the views themselves, which nobody keeps.
_OF_NOW = frozenset({"status", "views"})
R = TypeVar("R", bound=Row)


class Readable(Protocol):
    """Rows to be asked: as they are, or as they were."""

    async def find(self, plan: Plan, *, limit: int, bytes_max: int) -> Found:
        """As ``Store.find``."""
        ...


def endpoints() -> Sequence[Endpoint]:
    """Return where the views are asked, one address a view."""
    return [
        Endpoint(
            name=view,
            subject=query(view),
            metadata={
                "request": "Query",
                "answer": f"Page[{ROWS[view].__name__}]",
                "where": ",".join(columns),
                "idempotent": "true",
            },
        )
        for view, columns in COLUMNS.items()
    ]


class Views:
    """The responder for ``hwbus.q.<view>``: bytes in, bytes out, whatever was asked."""

    def __init__(self, projector: Projector) -> None:
        self._projector = projector
        self._points = Points(projector)

    async def __call__(self, call: Call) -> bytes:
        """Return the page, the refusal, or how far behind the view is."""
        view = call.subject.removeprefix(f"{ROOT}.q.")
        try:
            asked = _asked(call.data)
            planned = None if view in _OF_NOW else plan(view, asked)
            if asked.at is not None:
                return await self._then(view, planned, asked)
        except UnaskableError as error:
            return _ENCODE(refuse(Refusal.MALFORMED, str(error), error.fix))
        except NoPointError as error:
            return _ENCODE(refuse(error.code, str(error)))
        late = await self._late(asked)
        if late is not None:
            return _ENCODE(late)
        if view == "views":
            return await self._views(asked)
        if planned is None:
            return self._status(asked)
        async with self._projector.reading() as store:
            return _page(view, await _found(view, store, planned, asked.limit))

    async def _then(self, view: str, planned: Plan | None, asked: Query) -> bytes:
        """Return the page as it was at the point asked for. Raises ``NoPointError``."""
        if planned is None or asked.at is None:
            raise NoPointError(Refusal.NO_PAST, f"{view} tells how far the views are, which is now")
        for _ in range(_ATTEMPTS_MAX):
            try:
                then = await self._points.point(asked.at, within_s=asked.wait_ms / 1000)
                async with self._projector.reading() as store:
                    looking = Looking(store, then)
                    found = await _found(view, looking, planned, asked.limit)
            except ThinnedError:
                self._points.forget()
            except LateError as late:
                return _ENCODE(Behind(seq=self._projector.seq, min_seq=late.seq, because=str(late)))
            else:
                return _page(view, found, then.at)
        raise NoPointError(Refusal.PAST_IS_GONE, "the marks were thinned while it was asked for")

    async def _late(self, asked: Query) -> Behind | None:
        reached = await self._projector.reached(asked.min_seq, within_s=asked.wait_ms / 1000)
        if reached:
            return None
        seq = self._projector.seq
        because = f"the view stands at {seq} and has not seen {asked.min_seq} yet"
        return Behind(seq=seq, min_seq=asked.min_seq, because=because)

    async def _views(self, asked: Query) -> bytes:
        wanted = asked.where.get("name")
        rows = await listed(self._projector)
        items = tuple(row for row in rows if wanted in {None, row.name})
        return _ENCODE(Page(kind="views", seq=self._projector.seq, items=items))

    def _status(self, asked: Query) -> bytes:
        rows = self._projector.status()
        wanted = asked.where.get("stream")
        items = tuple(row for row in rows if wanted in {None, row.stream})
        return _ENCODE(Page(kind="status", seq=self._projector.seq, items=items))


async def _found(view: str, store: Readable, planned: Plan, limit: int) -> Found:
    match view:
        case "operation":
            return await _operation(store, planned)
        case "volume":
            return await _volume(store, planned)
        case "qos":
            return await _qos(store, planned, limit)
        case _:
            return await store.find(planned, limit=limit, bytes_max=PAGE_MAX_BYTES)


async def _volume(store: Readable, planned: Plan) -> Found:
    found = await store.find(planned, limit=1, bytes_max=PAGE_MAX_BYTES)
    if not found.bodies:
        return found
    row = VOLUMES.decode(found.bodies[0])
    placed = await store.find(
        Plan(table=PLACEMENTS.name, newest_first=False, equal=(("key", row.name),)),
        limit=1,
        bytes_max=PAGE_MAX_BYTES,
    )
    for body in placed.bodies:
        candidates = PLACEMENTS.decode(body).candidates
        row = msgspec.structs.replace(row, candidates=candidates)
    given = [one async for one in all_rows(store, QOS, ("name", row.qos))] if row.qos else []
    wanted = given[0].limits if given else row.limits
    row = msgspec.structs.replace(row, wanted_limits=wanted)
    return Found(found.seq, [_ENCODE(row)], None)


async def _qos(store: Readable, planned: Plan, limit: int) -> Found:
    found = await store.find(planned, limit=limit, bytes_max=PAGE_MAX_BYTES)
    missing = ("drift", Drift.ATTACHMENT_MISSING.value)
    lost = {one.object: one.observed async for one in all_rows(store, DRIFT, missing)}
    bodies: list[bytes] = []
    last = ""
    for body in found.bodies:
        row = QOS.decode(body)
        members = [one async for one in all_rows(store, VOLUMES, ("qos", row.name))]
        counted = _ENCODE(told(row, members, lost))
        if bodies and sum(map(len, bodies)) + len(counted) > PAGE_MAX_BYTES:
            return Found(found.seq, bodies, last)
        bodies.append(counted)
        last = row.name
    return Found(found.seq, bodies, found.next_key)


async def all_rows(store: Readable, table: Table[R], equal: tuple[str, str]) -> AsyncIterator[R]:
    """Give every row of which that column is equal, however many there are."""
    behind: str | None = ""
    while behind is not None:
        asked = Plan(table=table.name, newest_first=False, equal=(equal,), behind=behind)
        found = await store.find(asked, limit=_AT_ONCE, bytes_max=PAGE_MAX_BYTES)
        for body in found.bodies:
            yield table.decode(body)
        behind = found.next_key


async def _operation(store: Readable, planned: Plan) -> Found:
    found = await store.find(planned, limit=1, bytes_max=PAGE_MAX_BYTES)
    if not found.bodies:
        return found
    row = OPERATIONS.decode(found.bodies[0])
    steps = await store.find(
        Plan(table=AUDIT.name, newest_first=False, equal=(("correlation", row.id),)),
        limit=STEPS_MAX,
        bytes_max=PAGE_MAX_BYTES,
    )
    told = with_steps(row, [AUDIT.decode(body) for body in steps.bodies])
    return Found(found.seq, [_ENCODE(told)], None)


def with_steps(row: OperationRow, steps: Sequence[AuditRow]) -> OperationRow:
    """Return the operation with its steps, each tool behind the commit that it was run for."""
    tools = sum(1 for step in steps if step.kind is AuditKind.TOOL)
    return msgspec.structs.replace(row, tools=tools, steps=tuple(sorted(steps, key=_place)))


def _place(step: AuditRow) -> tuple[int, int, str]:
    """Return where a step stands: clocks of nodes may differ, causes do not."""
    at = step.at.isoformat()
    if step.kind in {AuditKind.ACCEPTED, AuditKind.UNKNOWN}:
        return step.seq, 0, at
    origin, _, seq = step.cause.partition(":")
    return (int(seq), 1, at) if origin == "event" and seq.isdecimal() else (1 << 62, 1, at)


def _asked(data: bytes) -> Query:
    if len(data) > _ASKED_MAX_BYTES:
        raise UnaskableError("the question is longer than 64 KiB", "ask for less at once")
    if not data.strip():
        return Query()
    try:
        return _QUERY.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnaskableError(
            str(error), 'for example {"where": {}, "limit": 100, "min_seq": 4711}'
        ) from error


def _page(view: str, found: Found, at: datetime | None = None) -> bytes:
    head = {"answer": "page", "kind": view, "apiVersion": "v1", "seq": found.seq}
    head |= {"at": at} if at is not None else {}
    following = None if found.next_key is None else cursor(found.next_key)
    # The rows are JSON already; to decode and encode ten thousand of them would be felt.
    start = _ENCODE(head)[:-1]
    return b"".join(
        (start, b',"items":[', b",".join(found.bodies), b'],"next":', _ENCODE(following), b"}")
    )
