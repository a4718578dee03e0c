"""Going through a log in memory for what is in limbo; a story without, and faults to put in."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from aggregates.limbo import LimboChecker
from aggregates.limbo_ledgers import books_of
from aggregates.world import World
from hwbus.memory import MemoryOutlet
from hwbus.ports import EventLog
from hwbus.subjects import Address
from projectors.reading import read_commit
from schemas.audit import ExecutedRecord, RefusedRecord
from schemas.commit import Commit
from schemas.grammar import Event
from schemas.limbo import Limbo, LimboRow
from schemas.operation import OperationEnded, OperationKind, OperationStarted, Outcome
from schemas.pool import (
    PoolFacts,
    PoolFormed,
    PoolFormingBegan,
    PoolOperationEnded,
    PoolRemoved,
    RoomReleased,
    RoomReserved,
    RoomSettled,
    RoomUnreserved,
)
from tests.support.clock import NOON
from tests.support.given import GIB

_REFUSED = msgspec.json.Decoder(RefusedRecord)


async def in_limbo(
    log: EventLog, outlet: MemoryOutlet, world: World, now: datetime
) -> tuple[LimboRow, ...]:
    """Return what is in limbo in *log*, of which *world* is made."""
    checker = LimboChecker()
    for kept in outlet.under("hwbus.audit.refused.>"):
        checker.know_refused(_REFUSED.decode(kept.data).command)
    for seq in range(1, await log.head() + 1):
        stored = await log.get(seq)
        assert stored is not None
        seen = read_commit(stored)
        checker.take(seq, (seen.address.kind, seen.address.place, seen.address.id), seen.commit)
    said = {key: books_of(pool) for key, pool in world.pools.items()}
    checker.compare(said, "the aggregates")
    return checker.verdict(now, world).findings


FORMING, MAKING = "0" * 25 + "f", "0" * 25 + "m"
CLAIM, POOL_UID = "0" * 25 + "c", "0" * 25 + "p"
DEADLINE = NOON + timedelta(minutes=10)
LATER = NOON + timedelta(hours=1)
FACTS = PoolFacts(size_bytes=10 * GIB, extent_bytes=4 << 20, metadata_bytes=1 << 20, disks=("d1",))
ON: dict[str, Any] = {"pool": "fast", "node": "n1"}
_POOL, _OP = ("pool", "n1", "fast"), ("operation", "-")


class Told(msgspec.Struct):
    """One commit of a story, to be changed as a fault would have it."""

    address: tuple[str, str, str]
    events: tuple[Event, ...]
    actor: str = "hwbus"
    command: str = ""
    correlation: str = ""
    cause: str = "rule"

    @property
    def subject(self) -> str:
        return Address(*self.address).subject

    @property
    def name(self) -> str:
        return str(Address(*self.address))

    def commit(self, seq: int) -> Commit[Event]:
        return Commit(
            id=f"commit-{seq}",
            at=NOON + timedelta(seconds=seq),
            actor=self.actor,
            command=self.command,
            word="some.word.v1",
            correlation=self.correlation,
            cause=self.cause,
            version=1,
            events=self.events,
        )


def story() -> list[Told]:
    """A pool is formed by ada, and a volume's room is set aside and settled: all is well."""
    making: dict[str, Any] = {"operation": MAKING, "object": "volume/pg"}
    of_forming, of_making = f"operation:{FORMING}", f"operation:{MAKING}"
    began = PoolFormingBegan(
        **ON, uid=POOL_UID, operation=FORMING, deadline=DEADLINE, disks=("d1",)
    )
    started = OperationStarted(
        operation=FORMING, kind=OperationKind.POOL_FORM, object="pool/n1/fast", deadline=DEADLINE
    )
    ended = OperationEnded(
        operation=FORMING,
        kind=OperationKind.POOL_FORM,
        object="pool/n1/fast",
        outcome=Outcome.COMPLETED,
    )
    return [
        Told(_POOL, (began,), "ada", "wish-1", FORMING, ""),
        Told((*_OP, FORMING), (started,), "hwbus", f"{FORMING}.start.0", FORMING, of_forming),
        Told(
            _POOL,
            (
                PoolFormed(**ON, uid=POOL_UID, facts=FACTS),
                PoolOperationEnded(**ON, operation=FORMING),
            ),
            *("worker:n1", "n1:report-1", FORMING, "event:1"),
        ),
        Told((*_OP, FORMING), (ended,), "hwbus", f"{FORMING}.end.0", FORMING, of_forming),
        Told(
            (*_OP, MAKING),
            (OperationStarted(**making, kind=OperationKind.VOLUME_PROVISION, deadline=DEADLINE),),
            *("ada", "wish-2", MAKING, ""),
        ),
        Told(
            _POOL,
            (RoomReserved(**ON, claim=CLAIM, size_bytes=GIB, operation=MAKING),),
            *("hwbus", f"{MAKING}.reserve.0", MAKING, of_making),
        ),
        Told(
            _POOL,
            (RoomSettled(**ON, claim=CLAIM, size_bytes=GIB),),
            *("hwbus", "rule.7.0", MAKING, "command:wish-2"),
        ),
        Told(
            (*_OP, MAKING),
            (
                OperationEnded(
                    **making, kind=OperationKind.VOLUME_PROVISION, outcome=Outcome.COMPLETED
                ),
            ),
            *("hwbus", f"{MAKING}.end.0", MAKING, of_making),
        ),
    ]


def a_tool(cause: str = "event:3", correlation: str = FORMING) -> ExecutedRecord:
    return ExecutedRecord(
        at=NOON,
        node="n1",
        argv=("lvcreate",),
        exit_status=0,
        duration_ms=1.0,
        cause=cause,
        correlation=correlation,
    )


class Fault(msgspec.Struct, frozen=True):
    """Something that is put into the story, and what is to be found of it."""

    name: str
    put: Callable[[list[Told]], None]
    code: Limbo
    seq: int


def _without(number: int) -> Callable[[list[Told]], None]:
    def put(told: list[Told]) -> None:
        del told[number - 1]

    return put


def _set(number: int, **fields: object) -> Callable[[list[Told]], None]:
    def put(told: list[Told]) -> None:
        for field, value in fields.items():
            setattr(told[number - 1], field, value)

    return put


def _reserved(size_bytes: int, claim: str = CLAIM) -> tuple[Event, ...]:
    return (RoomReserved(**ON, claim=claim, size_bytes=size_bytes, operation=MAKING),)


FAULTS = (
    Fault("an operation never ended", _without(8), Limbo.OVERDUE, 5),
    Fault("an operation ended twice", lambda told: told.append(told[3]), Limbo.ENDED_TWICE, 9),
    Fault("nobody asked", _set(6, actor=""), Limbo.NO_CAUSE, 6),
    Fault("there was no command", _set(6, command=""), Limbo.NO_CAUSE, 6),
    Fault("it belongs to nothing", _set(6, correlation=""), Limbo.NO_CAUSE, 6),
    Fault("a worker names no cause", _set(3, cause=""), Limbo.NO_CAUSE, 3),
    Fault("the event is not there", _set(3, cause="event:77"), Limbo.CAUSE_LOST, 3),
    Fault("the event comes later", _set(3, cause="event:3"), Limbo.CAUSE_LOST, 3),
    Fault("the command is not there", _set(7, cause="command:gone"), Limbo.CAUSE_LOST, 7),
    Fault("the operation is not there", _set(7, cause="operation:gone"), Limbo.CAUSE_LOST, 7),
    Fault("it belongs to what is not there", _set(7, correlation="gone"), Limbo.CAUSE_LOST, 7),
    Fault(
        "more is promised than there is",
        _set(6, events=_reserved(11 * GIB)),
        Limbo.OVERCOMMITTED,
        6,
    ),
    Fault(
        "more is taken than there is",
        _set(7, events=(RoomSettled(**ON, claim=CLAIM, size_bytes=11 * GIB),)),
        Limbo.OVERCOMMITTED,
        7,
    ),
    Fault(
        "nothing was there to give back",
        _set(7, events=(RoomReleased(**ON, claim=POOL_UID),)),
        Limbo.UNBALANCED,
        7,
    ),
    Fault(
        "nothing was set aside",
        _set(7, events=(RoomUnreserved(**ON, claim=POOL_UID),)),
        Limbo.UNBALANCED,
        7,
    ),
    Fault("room is set aside twice", _set(7, events=_reserved(GIB)), Limbo.UNBALANCED, 7),
    Fault("the pool is not there", _set(6, address=("pool", "n2", "fast")), Limbo.UNBALANCED, 6),
    Fault(
        "the pool goes with what is on it",
        _set(8, address=_POOL, events=(PoolRemoved(**ON, uid=POOL_UID, disks=("d1",)),)),
        Limbo.UNBALANCED,
        8,
    ),
)
