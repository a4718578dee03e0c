"""A leg and its peers: to whom it shall be tied, and what its node says of it."""

from typing import assert_never

from msgspec.structs import replace

from aggregates import mending
from aggregates.decision import Decision, Facts
from aggregates.node import unheard
from aggregates.replica import Replica, ReplicaPhase
from schemas.answers import refuse
from schemas.mending import MendCommand, MendEvent
from schemas.refusals import Refusal
from schemas.replica import ReplicaCommand, ReplicaEvent
from schemas.replication import (
    EpochNoted,
    ForgetReplica,
    NoteEpoch,
    ReplicaForgotten,
    ReplicaTieWanted,
    ReplicationChanged,
    ReplicationCommand,
    ReplicationEvent,
    ReportReplication,
    SettleSplit,
    SplitSettlingWanted,
    TieReplica,
)

_Command = ReplicaCommand | MendCommand | ReplicationCommand
_Event = ReplicaEvent | MendEvent | ReplicationEvent
_TIED = frozenset({ReplicaPhase.PRESENT, ReplicaPhase.TYING, ReplicaPhase.RESIZING})


def decide(replica: Replica, command: _Command, facts: Facts) -> Decision[_Event]:
    """Say what shall happen. May refuse a request; never refuses a report."""
    match command:
        case TieReplica():
            return _tie(replica, command)
        case SettleSplit():
            return _settle(replica, command, facts)
        case ForgetReplica():
            return _forget(replica, command)
        case NoteEpoch():
            return _note_epoch(replica, command)
        case ReportReplication():
            return _note(replica, command)
        case _:
            return mending.decide(replica, command, facts)


def _tie(replica: Replica, command: TieReplica) -> Decision[_Event]:
    spec = replica.spec
    if spec is None:
        where = f"{command.node} has no leg of {command.volume}"
        return refuse(Refusal.UNKNOWN_REPLICA, where)
    if replica.phase not in _TIED or spec.snapshot_of is not None:
        odd = f"{command.volume} on {command.node} is {replica.phase.value}"
        return refuse(Refusal.REPLICA_BUSY, odd)
    # Said again even if it is so already: whoever asks waits for the node to say that it is. And
    # also to a node that is silent: who goes back must be able to leave it with what is right.
    return (
        ReplicaTieWanted(
            volume=command.volume,
            node=command.node,
            operation=command.operation,
            uid=spec.uid,
            size_bytes=command.size_bytes,
            replication=command.replication,
        ),
    )


def _settle(replica: Replica, command: SettleSplit, facts: Facts) -> Decision[_Event]:
    spec = replica.spec
    if spec is None or spec.replication is None:
        where = f"{command.node} has no replica of {command.volume}"
        return refuse(Refusal.NO_SUCH_REPLICA, where)
    if replica.phase not in _TIED:
        # What its node says of this would not count for what it has still to say.
        odd = f"{command.volume} on {command.node} is {replica.phase.value}"
        return refuse(Refusal.REPLICA_BUSY, odd)
    return unheard(facts.world.nodes.get(command.node), command.node) or (
        SplitSettlingWanted(
            volume=command.volume,
            node=command.node,
            operation=command.operation,
            uid=spec.uid,
            loses=command.loses,
        ),
    )


def _forget(replica: Replica, command: ForgetReplica) -> Decision[_Event]:
    if replica.spec is None:
        where = f"{command.node} has no leg of {command.volume}"
        return refuse(Refusal.UNKNOWN_REPLICA, where)
    return (
        ReplicaForgotten(
            volume=command.volume,
            node=command.node,
            operation=command.operation,
            uid=replica.spec.uid,
            pool=replica.spec.pool,
            snapshot=replica.spec.snapshot_of is not None,
        ),
    )


def _note_epoch(replica: Replica, report: NoteEpoch) -> Decision[_Event]:
    known = replica.spec is not None and replica.spec.uid == report.uid
    if not known or report.epoch <= replica.epoch:
        return ()
    return (EpochNoted(volume=report.volume, node=report.node, uid=report.uid, epoch=report.epoch),)


def _note(replica: Replica, report: ReportReplication) -> Decision[_Event]:
    spec = replica.spec
    if spec is None or spec.uid != report.uid or spec.replication is None:
        return ()
    if (replica.seen, replica.seen_in) == (report.seen, report.epoch):
        return ()
    if report.epoch < replica.seen_in:
        return ()  # overtaken by what was seen later
    return (
        ReplicationChanged(
            volume=report.volume,
            node=report.node,
            uid=report.uid,
            epoch=report.epoch,
            seen=report.seen,
        ),
    )


def evolve(replica: Replica, event: _Event) -> Replica:
    """Apply what happened. Never refuses: the past cannot be wrong."""
    if not isinstance(event, ReplicationEvent):
        return mending.evolve(replica, event)
    match event:
        case ReplicaTieWanted():
            spec = replica.spec
            if spec is not None:
                tied = event.replication
                size_bytes = event.size_bytes
                spec = replace(spec, size_bytes=size_bytes, replication=tied, bare=False)
            known = replica.seen if event.replication is not None else None
            tying = replace(replica, phase=ReplicaPhase.TYING, spec=spec, seen=known)
            return replace(tying, trouble=None)
        case SplitSettlingWanted():
            return replace(replica, trouble=None)
        case ReplicaForgotten():
            return Replica()
        case EpochNoted():
            return replace(replica, epoch=event.epoch)
        case ReplicationChanged():
            return replace(replica, seen=event.seen, seen_in=event.epoch)
        case _:
            assert_never(event)
