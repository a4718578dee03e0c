"""Legs that were changed by hand, or made by somebody else: put right, taken over, given back."""

from msgspec.structs import replace

from aggregates import replica as legs
from aggregates.decision import Decision, Facts
from aggregates.node import unheard
from aggregates.replica import Replica, ReplicaPhase
from schemas.answers import refuse
from schemas.mending import (
    LeaveReplica,
    Mend,
    MendCommand,
    MendEvent,
    MendReplica,
    ReplicaMended,
    ReplicaMendLeft,
    ReplicaMendWanted,
    ReplicaMendWithdrawn,
    ReportReplicaLeft,
)
from schemas.refusals import Refusal
from schemas.replica import (
    ReplicaCommand,
    ReplicaEvent,
    ReplicaRemoved,
    ReplicaSpec,
    ReplicaWanted,
    ReportReplicaAbsent,
    ReportReplicaPresent,
)
from schemas.volume import Layout

_Event = ReplicaEvent | MendEvent
_AT_WORK = frozenset({ReplicaPhase.MENDING, ReplicaPhase.LEAVING})


def decide(
    replica: Replica, command: ReplicaCommand | MendCommand, facts: Facts
) -> Decision[_Event]:
    """Say what shall happen. May refuse a request; never refuses a report."""
    match command:
        case MendReplica() | LeaveReplica():
            if replica.spec is None:
                where = f"{command.node} has no leg of {command.volume}"
                return refuse(Refusal.UNKNOWN_REPLICA, where)
            if isinstance(command, LeaveReplica):
                return _leave(replica, replica.spec, command)
            return _mend(replica, replica.spec, command, facts)
        case ReportReplicaLeft():
            if replica.spec is None or replica.spec.uid != command.uid:
                return ()
            return _left(replica, replica.spec, command)
        case ReportReplicaPresent() | ReportReplicaAbsent() if replica.phase in _AT_WORK:
            if replica.spec is None or replica.spec.uid != command.uid:
                return ()
            return _note(replica, replica.spec, command)
        case _:
            return legs.decide(replica, command, facts)


def _mend(
    replica: Replica, spec: ReplicaSpec, command: MendReplica, facts: Facts
) -> Decision[_Event]:
    if replica.phase is ReplicaPhase.MENDING and replica.mend is command.mend:
        return ()
    if replica.phase is not ReplicaPhase.PRESENT or spec.snapshot_of is not None:
        odd = f"{command.volume} on {command.node} is {replica.phase.value}"
        return refuse(Refusal.REPLICA_BUSY, odd)
    return unheard(facts.world.nodes.get(command.node), command.node) or (
        ReplicaMendWanted(
            volume=command.volume,
            node=command.node,
            operation=command.operation,
            uid=spec.uid,
            mend=command.mend,
            seen=command.seen,
        ),
    )


def _leave(replica: Replica, spec: ReplicaSpec, command: LeaveReplica) -> Decision[_Event]:
    if replica.phase is ReplicaPhase.LEAVING:
        return ()
    # Whoever took it over may give it back, and nobody once that has been seen through.
    mine = spec.adopts is not None and replica.adopting == command.operation
    give_back = mine and replica.phase in {ReplicaPhase.WANTED, ReplicaPhase.PRESENT}
    if replica.phase is not ReplicaPhase.MENDING and not give_back:
        odd = f"{command.volume} on {command.node} is {replica.phase.value}"
        return refuse(Refusal.REPLICA_BUSY, odd)
    return (
        ReplicaMendWithdrawn(
            volume=command.volume,
            node=command.node,
            operation=command.operation,
            uid=spec.uid,
            give_back=give_back,
        ),
    )


def _left(replica: Replica, spec: ReplicaSpec, report: ReportReplicaLeft) -> Decision[_Event]:
    if replica.phase is not ReplicaPhase.LEAVING:
        return ()
    if replica.mend is None:
        return (_removed(report, spec),)
    return (ReplicaMendLeft(volume=report.volume, node=report.node, uid=spec.uid),)


def _removed(report: ReportReplicaLeft | ReportReplicaAbsent, spec: ReplicaSpec) -> ReplicaRemoved:
    return ReplicaRemoved(volume=report.volume, node=report.node, uid=spec.uid, pool=spec.pool)


def _note(
    replica: Replica, spec: ReplicaSpec, report: ReportReplicaPresent | ReportReplicaAbsent
) -> Decision[_Event]:
    if replica.mend is None:
        return ()  # said before the node knew that it is to be given back
    if isinstance(report, ReportReplicaAbsent):
        forgotten = replica.mend is Mend.FORGET
        return (_removed(report, spec),) if forgotten else ()
    wanted = _wanted_bytes(replica)
    if replica.mend is Mend.FORGET or report.size_bytes < wanted:
        return ()
    # Only a size that was accepted counts: the ledger knows of no other.
    return (
        ReplicaMended(
            volume=report.volume,
            node=report.node,
            uid=spec.uid,
            pool=spec.pool,
            size_bytes=report.size_bytes if replica.mend is Mend.RECREATE else wanted,
            device=report.device,
            thin=spec.layout is Layout.THIN,
        ),
    )


def _wanted_bytes(replica: Replica) -> int:
    return max(replica.mend_bytes, replica.size_bytes)


def evolve(replica: Replica, event: _Event) -> Replica:
    """Apply what happened. Never refuses: the past cannot be wrong."""
    match event:
        case ReplicaWanted():
            adopting = event.operation if event.spec.adopts is not None else ""
            return replace(legs.evolve(replica, event), adopting=adopting)
        case ReplicaMendWanted():
            larger = event.seen if event.mend is Mend.SIZE else None
            return replace(
                replica,
                phase=ReplicaPhase.MENDING,
                mend=event.mend,
                mend_bytes=0 if larger is None else larger.size_bytes,
                trouble=None,
            )
        case ReplicaMendWithdrawn():
            return replace(replica, phase=ReplicaPhase.LEAVING, trouble=None)
        case ReplicaMended():
            return _mended(replica, event)
        case ReplicaMendLeft():
            return _at_rest(replica)
        case _:
            return legs.evolve(replica, event)


def _mended(replica: Replica, event: ReplicaMended) -> Replica:
    if replica.spec is None:
        return replica
    size_bytes = max(replica.spec.size_bytes, event.size_bytes)
    spec = replace(replica.spec, size_bytes=size_bytes)
    return replace(_at_rest(replica), spec=spec, size_bytes=event.size_bytes)


def _at_rest(replica: Replica) -> Replica:
    return replace(replica, phase=ReplicaPhase.PRESENT, mend=None, mend_bytes=0, trouble=None)
