"""A volume group and the ledger of its room: decided here, so over-commit is impossible."""

from datetime import timedelta
from enum import StrEnum
from typing import TypeVar, assert_never

import msgspec
from msgspec.structs import replace

from aggregates import forming, shrinking, thin_growth
from aggregates.decision import Decision, Facts
from aggregates.health import ailing
from aggregates.ledger import Ledger, Posting, rounded_bytes, short_of, unsettled
from aggregates.node import unfit, unheard
from aggregates.thin_growth import ThinGrowth
from schemas.answers import Refused, refuse
from schemas.growing import ExtendThinPool, GrowThinPool, ThinGrowthCommand, ThinGrowthEvent
from schemas.pool import (
    AbandonPool,
    BuildPool,
    ConcludePool,
    ExtendPool,
    FormPool,
    GrowPool,
    PoolBuildWanted,
    PoolCommand,
    PoolDisksDropped,
    PoolEvent,
    PoolExtensionWanted,
    PoolFacts,
    PoolFactsChanged,
    PoolFormed,
    PoolGrown,
    PoolGrowthAbandoned,
    PoolGrowthBegan,
    PoolOperationEnded,
    PoolRemovalAbandoned,
    PoolRemovalBegan,
    PoolRemovalWanted,
    PoolRemoved,
    PoolTroubled,
    RemovePool,
    ReportPoolAbsent,
    ReportPoolBuilt,
    ReportPoolTrouble,
    ReportReleased,
    ReportSettled,
    ReportThinFill,
    ReportUnreserved,
    Reserve,
    RoomReleased,
    RoomReserved,
    RoomSettled,
    RoomUnreserved,
    TearDownPool,
)
from schemas.refusals import Refusal
from schemas.shrinking import (
    DrainDisks,
    PoolDisksKept,
    PoolShrunk,
    ShrinkCommand,
    ShrinkEvent,
    ShrinkPool,
)

_Event = PoolEvent | ShrinkEvent | ThinGrowthEvent


class PoolPhase(StrEnum):
    """Where a pool is in its life."""

    ABSENT = "absent"
    FORMING = "forming"
    READY = "ready"
    REMOVING = "removing"
    GOING = "going"


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """One pool.

    ``adding`` are disks on their way in, ``dropping`` those on their way out again; ``leaving``
    are being emptied, and ``leaving_bytes`` of room go with them; ``keeping`` were, and stay.
    ``asked``: the node has been asked for what the running operation wants.
    """

    phase: PoolPhase = PoolPhase.ABSENT
    uid: str = ""
    operation: str = ""
    asked: bool = False
    disks: tuple[str, ...] = ()
    adding: tuple[str, ...] = ()
    dropping: tuple[str, ...] = ()
    leaving: tuple[str, ...] = ()
    leaving_bytes: int = 0
    keeping: tuple[str, ...] = ()
    facts: PoolFacts | None = None
    thin_bytes: int = 0
    thin_ratio_percent: int = 100
    volumes_max: int = 0
    ledger: Ledger = Ledger()
    thin_percent: int = 0
    thin_metadata_percent: int = 0
    thin_growth: ThinGrowth | None = None
    trouble: tuple[Refusal, str] | None = None

    @property
    def staying(self) -> tuple[str, ...]:
        """The disks that something may be put on."""
        return tuple(disk for disk in self.disks if disk not in self.leaving)

    @property
    def usable(self) -> PoolFacts | None:
        """The pool as far as anything may be promised of it: without what is taken for good."""
        growing = 0 if self.thin_growth is None else self.thin_growth.reserved_bytes
        if self.facts is None or not (self.leaving or growing):
            return self.facts
        return replace(
            self.facts,
            size_bytes=max(1, self.facts.size_bytes - self.leaving_bytes - growing),
            disks=tuple(disk for disk in self.facts.disks if disk not in self.leaving),
        )


Step = BuildPool | ExtendPool | TearDownPool
Observation = (
    ReportPoolBuilt
    | ReportPoolAbsent
    | ReportPoolTrouble
    | ReportThinFill
    | AbandonPool
    | ConcludePool
)
Entry = ReportUnreserved | ReportSettled | ReportReleased


def decide(
    pool: Pool, command: PoolCommand | ShrinkCommand | ThinGrowthCommand, facts: Facts
) -> Decision[_Event]:
    """Say what shall happen. May refuse a request; never refuses a report."""
    match command:
        case Reserve():
            return _reserve(pool, command, facts)
        case ReportUnreserved() | ReportSettled() | ReportReleased():
            return _post(pool, command)
        case FormPool():
            if pool.phase is PoolPhase.ABSENT:
                return forming.begin(command, facts)
            here = f"{command.node} has a pool {command.pool} ({pool.phase.value})"
            return refuse(Refusal.POOL_EXISTS, here)
        case GrowPool() | RemovePool() | ShrinkPool() | GrowThinPool():
            if pool.phase is PoolPhase.ABSENT:
                return _unknown(command.node, command.pool)
            return _begin(pool, command, facts)
        case BuildPool() | ExtendPool() | TearDownPool():
            return _ask_node(pool, command)
        case DrainDisks():
            return shrinking.ask_node(pool, command)
        case ExtendThinPool():
            return thin_growth.ask_node(pool, command)
        case ReportPoolBuilt():
            return _note_built(pool, command)
        case ReportPoolAbsent():
            if pool.phase is not PoolPhase.GOING or pool.uid != command.uid:
                return ()
            return (_removed(pool, command.node, command.pool),)
        case AbandonPool():
            return _abandon(pool, command) if pool.operation == command.operation else ()
        case ConcludePool():
            return _conclude(pool, command)
        case ReportPoolTrouble():
            return _note_trouble(pool, command)
        case ReportThinFill():
            return thin_growth.note_fill(pool, command)
        case _:
            assert_never(command)


def _unknown(node: str, pool: str) -> Refused:
    return refuse(Refusal.UNKNOWN_POOL, f"there is no pool {pool} on {node}")


def _begin(
    pool: Pool, command: GrowPool | RemovePool | ShrinkPool | GrowThinPool, facts: Facts
) -> Decision[_Event]:
    name = f"{command.node}/{command.pool}"
    if pool.operation:
        return refuse(Refusal.POOL_BUSY, f"operation {pool.operation} runs on {name}")
    unsettled = pool.dropping or pool.keeping or pool.thin_growth
    if pool.phase is not PoolPhase.READY or unsettled:
        return refuse(Refusal.POOL_NOT_READY, f"{name} is {pool.phase.value}")
    if isinstance(command, ShrinkPool):
        return shrinking.begin(pool, command, facts)
    if isinstance(command, GrowThinPool):
        return thin_growth.begin(pool, command, facts)
    deadline = facts.at + timedelta(seconds=command.deadline_s)
    if isinstance(command, GrowPool):
        no = unfit(facts.world.nodes.get(command.node), command.node)
        no = no or forming.unclaimable(command.disks, command.node, facts)
        return no or (
            PoolGrowthBegan(
                pool=command.pool,
                node=command.node,
                operation=facts.operation,
                deadline=deadline,
                disks=command.disks,
            ),
        )
    if not pool.ledger.empty:
        return refuse(Refusal.POOL_IN_USE, f"{name} carries {pool.ledger.claims} volumes")
    no = unheard(facts.world.nodes.get(command.node), command.node)
    return no or (
        PoolRemovalBegan(
            pool=command.pool,
            node=command.node,
            operation=facts.operation,
            deadline=deadline,
        ),
    )


def _ask_node(pool: Pool, step: Step) -> Decision[PoolEvent]:
    if not pool.operation or pool.operation != step.operation:
        return refuse(Refusal.NOT_YOURS, f"{step.node}/{step.pool} does not know that operation")
    if pool.asked:
        return ()
    match step:
        case BuildPool():
            return (
                PoolBuildWanted(
                    pool=step.pool,
                    node=step.node,
                    uid=pool.uid,
                    disks=pool.disks,
                    thin_bytes=pool.thin_bytes,
                ),
            )
        case ExtendPool():
            return (
                PoolExtensionWanted(
                    pool=step.pool,
                    node=step.node,
                    uid=pool.uid,
                    disks=(*pool.disks, *pool.adding),
                ),
            )
        case TearDownPool():
            return (
                PoolRemovalWanted(
                    pool=step.pool, node=step.node, uid=pool.uid, operation=step.operation
                ),
            )
        case _:
            assert_never(step)


def _note_built(pool: Pool, report: ReportPoolBuilt) -> Decision[_Event]:
    if pool.uid != report.uid:
        return ()
    if pool.phase is PoolPhase.FORMING:
        return (_observed(PoolFormed, report),) if pool.asked else ()
    if pool.phase is not PoolPhase.READY:
        return ()
    if pool.thin_growth is not None:
        return thin_growth.note(pool, pool.thin_growth, report)
    if pool.adding and pool.asked and set(pool.adding) <= set(report.facts.disks):
        return (_observed(PoolGrown, report),)
    about, there = {"pool": report.pool, "node": report.node}, set(report.facts.disks)
    if pool.leaving and pool.asked and there.isdisjoint(pool.leaving):
        dropped = PoolDisksDropped(**about, disks=pool.leaving)
        return (_observed(PoolShrunk, report), dropped)
    changed = (_observed(PoolFactsChanged, report),) if pool.facts != report.facts else ()
    if pool.keeping and there.issuperset(pool.keeping):
        return (*changed, PoolDisksKept(**about, disks=pool.keeping))
    gone = tuple(disk for disk in pool.dropping if disk not in there)
    return (*changed, PoolDisksDropped(**about, disks=gone)) if gone else changed


Observed = TypeVar("Observed", PoolFormed, PoolGrown, PoolFactsChanged, PoolShrunk)


def _observed(word: type[Observed], report: ReportPoolBuilt) -> Observed:
    return word(pool=report.pool, node=report.node, uid=report.uid, facts=report.facts)


def _abandon(pool: Pool, report: AbandonPool) -> Decision[_Event]:
    match pool.phase:
        case PoolPhase.FORMING if not pool.asked:
            return (_removed(pool, report.node, report.pool),)
        case PoolPhase.FORMING:
            return (
                PoolRemovalWanted(
                    pool=report.pool,
                    node=report.node,
                    uid=pool.uid,
                    operation=report.operation,
                    because=report.because,
                ),
            )
        case PoolPhase.READY if pool.adding:
            return _abandon_growth(pool, report)
        case PoolPhase.READY if pool.leaving:
            return shrinking.abandon(pool, report)
        case PoolPhase.READY if pool.thin_growth is not None:
            return thin_growth.abandon(pool, pool.thin_growth, report)
        case PoolPhase.REMOVING:
            return (
                PoolRemovalAbandoned(
                    pool=report.pool,
                    node=report.node,
                    uid=pool.uid,
                    operation=report.operation,
                    code=report.code,
                    because=report.because,
                ),
            )
        case _:
            return ()


def _abandon_growth(pool: Pool, report: AbandonPool) -> Decision[PoolEvent]:
    given_up = PoolGrowthAbandoned(
        pool=report.pool,
        node=report.node,
        uid=pool.uid,
        operation=report.operation,
        code=report.code,
        because=report.because,
        disks=pool.disks,
        dropped=pool.adding,
    )
    if pool.asked:
        return (given_up,)
    return (
        given_up,
        PoolDisksDropped(pool=report.pool, node=report.node, disks=pool.adding),
    )


def _removed(pool: Pool, node: str, name: str) -> PoolRemoved:
    return PoolRemoved(
        pool=name, node=node, uid=pool.uid, disks=(*pool.disks, *pool.adding, *pool.dropping)
    )


def _conclude(pool: Pool, report: ConcludePool) -> Decision[PoolEvent]:
    if pool.operation != report.operation:
        return ()
    return (PoolOperationEnded(pool=report.pool, node=report.node, operation=report.operation),)


def _reserve(pool: Pool, command: Reserve, facts: Facts) -> Decision[PoolEvent]:
    if pool.phase is PoolPhase.ABSENT:
        return _unknown(command.node, command.pool)
    usable = pool.usable
    if pool.phase is not PoolPhase.READY or usable is None:
        busy = f"{command.node}/{command.pool} is {pool.phase.value}"
        return refuse(Refusal.POOL_NOT_READY, busy)
    held = pool.ledger.reserved.get(command.claim)
    if held is not None and held.operation == command.operation:
        return ()
    no = unsettled(pool.ledger, command)
    no = no or ailing(command.node, command.pool, pool.staying, facts.world)
    no = no or short_of(pool.ledger, usable, pool.thin_ratio_percent, pool.volumes_max, command)
    return no or (
        RoomReserved(
            pool=command.pool,
            node=command.node,
            claim=command.claim,
            size_bytes=rounded_bytes(command.size_bytes, usable.extent_bytes, command.stripes),
            operation=command.operation,
            thin=command.thin,
        ),
    )


def _post(pool: Pool, entry: Entry) -> Decision[PoolEvent]:
    about = {"pool": entry.pool, "node": entry.node, "claim": entry.claim}
    ledger = pool.ledger
    match entry:
        case ReportUnreserved():
            return (RoomUnreserved(**about),) if entry.claim in ledger.reserved else ()
        case ReportReleased():
            known = entry.claim in ledger.reserved or entry.claim in ledger.settled
            return (RoomReleased(**about),) if known else ()
        case ReportSettled():
            if pool.phase is PoolPhase.ABSENT:
                return ()
            same = ledger.settled.get(entry.claim) == Posting(entry.size_bytes, entry.thin)
            if same and entry.claim not in ledger.reserved:
                return ()
            return (RoomSettled(**about, size_bytes=entry.size_bytes, thin=entry.thin),)
        case _:
            assert_never(entry)


def _note_trouble(pool: Pool, report: ReportPoolTrouble) -> Decision[PoolEvent]:
    same = pool.trouble == (report.code, report.because)
    if pool.uid != report.uid or (same and not report.permanent):
        return ()
    return (
        PoolTroubled(
            pool=report.pool,
            node=report.node,
            code=report.code,
            because=report.because,
            permanent=report.permanent,
        ),
    )
