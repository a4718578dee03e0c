"""Answers questions on the bus from the views, and never from a past older than asked for."""

from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

import msgspec
import structlog

from hwbus.ports import Call, Endpoint
from hwbus.subjects import ROOT, query
from projectors.asking import Plan, UnaskableError, cursor, plan
from projectors.projector import Projector
from projectors.qos import told
from projectors.sqlite import Found, Store
from projectors.tables import AUDIT, DRIFT, OPERATIONS, PLACEMENTS, QOS, VOLUMES, Table
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
R = TypeVar("R", bound=Row)


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

    async def __call__(self, call: Call) -> bytes:
        """Return the page, the refusal, or how far behind the view is."""
        view = call.subject.removeprefix(f"{ROOT}.q.")
        try:
            asked = _asked(call.data)
            planned = None if view == "status" else plan(view, asked)
        except UnaskableError as error:
            return _ENCODE(refuse(Refusal.MALFORMED, str(error), error.fix))
        late = await self._late(asked)
        if late is not None:
            return _ENCODE(late)
        if planned is None:
            return self._status(asked)
        async with self._projector.reading() as store:
            match view:
                case "operation":
                    found = await _operation(store, planned)
                case "volume":
                    found = await _volume(store, planned)
                case "qos":
                    found = await _qos(store, planned, asked.limit)
                case _:
                    found = await store.find(planned, limit=asked.limit, bytes_max=PAGE_MAX_BYTES)
        return _page(view, found)

    async def _late(self, asked: Query) -> Behind | None:
        reached = await self._projector.reached(asked.min_seq, within_s=asked.wait_ms / 1000)
        if reached:
            return None
        seq = self._projector.seq
        because = f"the view stands at {seq} and has not seen {asked.min_seq} yet"
        return Behind(seq=seq, min_seq=asked.min_seq, because=because)

    def _status(self, asked: Query) -> bytes:
        rows = self._projector.status()
        wanted = asked.where.get("stream")
        items = tuple(row for row in rows if wanted in {None, row.stream})
        return _ENCODE(Page(kind="status", seq=self._projector.seq, items=items))


async def _volume(store: Store, planned: Plan) -> Found:
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
    given = [one async for one in _all(store, QOS, ("name", row.qos))] if row.qos else []
    wanted = given[0].limits if given else row.limits
    row = msgspec.structs.replace(row, wanted_limits=wanted)
    return Found(found.seq, [_ENCODE(row)], None)


async def _qos(store: Store, planned: Plan, limit: int) -> Found:
    found = await store.find(planned, limit=limit, bytes_max=PAGE_MAX_BYTES)
    missing = ("drift", Drift.ATTACHMENT_MISSING.value)
    lost = {one.object: one.observed async for one in _all(store, DRIFT, missing)}
    bodies: list[bytes] = []
    last = ""
    for body in found.bodies:
        row = QOS.decode(body)
        members = [one async for one in _all(store, VOLUMES, ("qos", row.name))]
        counted = _ENCODE(told(row, members, lost))
        if bodies and sum(map(len, bodies)) + len(counted) > PAGE_MAX_BYTES:
            return Found(found.seq, bodies, last)
        bodies.append(counted)
        last = row.name
    return Found(found.seq, bodies, found.next_key)


async def _all(store: Store, table: Table[R], equal: tuple[str, str]) -> AsyncIterator[R]:
    """Give every row of which that column is equal, however many there are."""
    behind: str | None = ""
    while behind is not None:
        asked = Plan(table=table.name, newest_first=False, equal=(equal,), behind=behind)
        found = await store.find(asked, limit=_AT_ONCE, bytes_max=PAGE_MAX_BYTES)
        for body in found.bodies:
            yield table.decode(body)
        behind = found.next_key


async def _operation(store: Store, planned: Plan) -> Found:
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


def _page(view: str, found: Found) -> bytes:
    head = {"answer": "page", "kind": view, "apiVersion": "v1", "seq": found.seq}
    following = None if found.next_key is None else cursor(found.next_key)
    # The rows are JSON already; to decode and encode ten thousand of them would be felt.
    start = _ENCODE(head)[:-1]
    return b"".join(
        (start, b',"items":[', b",".join(found.bodies), b'],"next":', _ENCODE(following), b"}")
    )
