"""One leg of a volume on one node: what is wanted of it, and what the node says of it."""

from enum import StrEnum
from typing import Any, assert_never

import msgspec
from msgspec.structs import replace

from aggregates import instants, rekeying
from aggregates.decision import Decision, Facts
from aggregates.node import unheard
from schemas.answers import refuse
from schemas.instants import InstantSettled, SettleInstant
from schemas.mending import Mend
from schemas.refusals import Refusal
from schemas.replica import (
    CreateReplica,
    HoldReplica,
    KeepReplica,
    MergeReplica,
    RekeyReplica,
    RemoveReplica,
    ReplicaCommand,
    ReplicaCreated,
    ReplicaEvent,
    ReplicaHeld,
    ReplicaHoldWanted,
    ReplicaKept,
    ReplicaMergeWanted,
    ReplicaRekeyed,
    ReplicaRekeyWanted,
    ReplicaRemovalWanted,
    ReplicaRemovalWithdrawn,
    ReplicaRemoved,
    ReplicaResized,
    ReplicaResizeWanted,
    ReplicaSpec,
    ReplicaTroubled,
    ReplicaWanted,
    ReportReplicaAbsent,
    ReportReplicaHeld,
    ReportReplicaPresent,
    ReportReplicaRekeyed,
    ReportReplicaTrouble,
    ResizeReplica,
)
from schemas.replication import LegSeen, tie_of
from schemas.volume import Filesystem, Layout


class ReplicaPhase(StrEnum):
    """How what is wanted and what is stand to one another."""

    ABSENT = "absent"
    WANTED = "wanted"
    PRESENT = "present"
    RESIZING = "resizing"
    HOLDING = "holding"
    HELD = "held"
    GOING = "going"
    MERGING = "merging"
    STAYING = "staying"
    MENDING = "mending"
    LEAVING = "leaving"
    TYING = "tying"


_MAY_STAY = frozenset(
    {ReplicaPhase.HOLDING, ReplicaPhase.HELD, ReplicaPhase.GOING, ReplicaPhase.MERGING}
)
_OUT_OF_USE = _MAY_STAY | {ReplicaPhase.MENDING, ReplicaPhase.LEAVING}
_MAY_BE_GONE = frozenset({ReplicaPhase.GOING, ReplicaPhase.STAYING, ReplicaPhase.HOLDING})


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """One leg. ``size_bytes`` is what the node last said, ``spec.size_bytes`` what is wanted.

    ``rekeyed`` is the generation of keys that the node last said it opens by. ``mend`` is how it is
    being put right, to ``mend_bytes`` at least; ``adopting`` the operation that took it over.
    ``seen`` is how it is tied to its peers, as its node said when it knew the volume to be in the
    epoch ``seen_in``; ``epoch`` is the newest that the node was told of.
    """

    phase: ReplicaPhase = ReplicaPhase.ABSENT
    spec: ReplicaSpec | None = None
    size_bytes: int = 0
    created: bool = False
    trouble: tuple[Refusal, str] | None = None
    rekeyed: int = 1
    mend: Mend | None = None
    mend_bytes: int = 0
    adopting: str = ""
    seen: LegSeen | None = None
    seen_in: int = 0
    epoch: int = 0


def decide(replica: Replica, command: ReplicaCommand, facts: Facts) -> Decision[ReplicaEvent]:
    """Say what shall happen. May refuse a request; never refuses a report."""
    match command:
        case CreateReplica():
            return _create(replica, command, facts)
        case (
            ReportReplicaPresent()
            | ReportReplicaHeld()
            | ReportReplicaRekeyed()
            | ReportReplicaAbsent()
            | ReportReplicaTrouble()
        ):
            if replica.spec is None or replica.spec.uid != command.uid:
                return ()
            return _note(replica, replica.spec, command)
        case (
            SettleInstant()
            | ResizeReplica()
            | RemoveReplica()
            | MergeReplica()
            | HoldReplica()
            | KeepReplica()
            | RekeyReplica()
        ):
            if replica.spec is None:
                where = f"{command.node} has no leg of {command.volume}"
                return refuse(Refusal.UNKNOWN_REPLICA, where)
            return _want(replica, replica.spec, command)
        case _:
            assert_never(command)


def _create(replica: Replica, command: CreateReplica, facts: Facts) -> Decision[ReplicaEvent]:
    if replica.spec is not None:
        if replica.spec.uid == command.spec.uid and replica.phase is not ReplicaPhase.GOING:
            return ()
        busy = f"{command.node} still holds an earlier leg of {command.volume}"
        return refuse(Refusal.REPLICA_BUSY, busy)
    no = unheard(facts.world.nodes.get(command.node), command.node)
    return no or (
        ReplicaWanted(
            volume=command.volume,
            node=command.node,
            operation=command.operation,
            spec=command.spec,
        ),
    )


def _want(
    replica: Replica,
    spec: ReplicaSpec,
    command: SettleInstant
    | ResizeReplica
    | RemoveReplica
    | MergeReplica
    | HoldReplica
    | KeepReplica
    | RekeyReplica,
) -> Decision[ReplicaEvent]:
    match command:
        case SettleInstant():
            wanted = replica.phase is ReplicaPhase.WANTED
            return instants.settle(spec, command, wanted=wanted)
        case MergeReplica():
            return _merge(replica, spec, command)
        case RekeyReplica():
            present = replica.phase is ReplicaPhase.PRESENT
            busy = "" if present else f"{command.volume} on {command.node} is {replica.phase.value}"
            return rekeying.want(spec, command, busy)
        case ResizeReplica():
            return _resize(replica, spec, command)
        case RemoveReplica() | HoldReplica() | KeepReplica():
            if replica.phase is ReplicaPhase.MERGING and not isinstance(command, KeepReplica):
                return refuse(Refusal.REPLICA_BUSY, f"{command.volume} is being merged")
            word = _other_wish(replica.phase, command)
            about: dict[str, Any] = {"volume": command.volume, "node": command.node}
            if word is None:
                return ()
            if isinstance(command, RemoveReplica):
                about["wiping"] = command.wiping
            return (word(**about, operation=command.operation, uid=spec.uid),)
        case _:
            assert_never(command)


def _resize(replica: Replica, spec: ReplicaSpec, command: ResizeReplica) -> Decision[ReplicaEvent]:
    if replica.phase in _OUT_OF_USE:
        return refuse(Refusal.REPLICA_BUSY, f"{command.volume} is being removed, or held")
    if replica.phase is ReplicaPhase.STAYING:
        # It may be gone: were it wanted larger, the node could not say so any more.
        unsure = f"{command.node} has not said whether {command.volume} is still there"
        return refuse(Refusal.REPLICA_BUSY, unsure)
    if spec.size_bytes == command.size_bytes and spec.replication is None:
        return ()
    return (
        ReplicaResizeWanted(
            volume=command.volume,
            node=command.node,
            operation=command.operation,
            uid=spec.uid,
            size_bytes=command.size_bytes,
            device_bytes=command.device_bytes,
            filesystem=command.filesystem,
        ),
    )


def _other_wish(
    phase: ReplicaPhase, command: RemoveReplica | HoldReplica | KeepReplica
) -> type[ReplicaRemovalWanted | ReplicaHoldWanted | ReplicaRemovalWithdrawn] | None:
    """Return what *command* asks for, or None if that is wanted already."""
    match command:
        case RemoveReplica():
            return None if phase is ReplicaPhase.GOING else ReplicaRemovalWanted
        case HoldReplica():
            held = phase in {ReplicaPhase.HOLDING, ReplicaPhase.HELD}
            return None if held else ReplicaHoldWanted
        case KeepReplica():
            return ReplicaRemovalWithdrawn if phase in _MAY_STAY else None
        case _:
            assert_never(command)


def _merge(replica: Replica, spec: ReplicaSpec, command: MergeReplica) -> Decision[ReplicaEvent]:
    if replica.phase is ReplicaPhase.MERGING:
        return ()
    if spec.snapshot_of is None or replica.phase is not ReplicaPhase.PRESENT:
        odd = f"{command.volume} on {command.node} is {replica.phase.value}"
        return refuse(Refusal.REPLICA_BUSY, odd)
    return (
        ReplicaMergeWanted(
            volume=command.volume,
            node=command.node,
            operation=command.operation,
            uid=spec.uid,
        ),
    )


def _note_trouble(replica: Replica, report: ReportReplicaTrouble) -> Decision[ReplicaEvent]:
    if replica.trouble == (report.code, report.because) and not report.permanent:
        return ()
    return (
        ReplicaTroubled(
            volume=report.volume,
            node=report.node,
            uid=report.uid,
            code=report.code,
            because=report.because,
            permanent=report.permanent,
        ),
    )


def _note(
    replica: Replica,
    spec: ReplicaSpec,
    report: ReportReplicaPresent
    | ReportReplicaHeld
    | ReportReplicaRekeyed
    | ReportReplicaAbsent
    | ReportReplicaTrouble,
) -> Decision[ReplicaEvent]:
    match report:
        case ReportReplicaPresent():
            return _note_presence(replica, spec, report)
        case ReportReplicaHeld():
            if replica.phase is not ReplicaPhase.HOLDING:
                return ()
            return (ReplicaHeld(volume=report.volume, node=report.node, uid=spec.uid),)
        case ReportReplicaRekeyed():
            return rekeying.note(replica, spec, report)
        case ReportReplicaAbsent():
            merging = replica.phase is ReplicaPhase.MERGING and report.merged
            if not merging and replica.phase not in _MAY_BE_GONE:
                return ()
            return (
                ReplicaRemoved(
                    volume=report.volume,
                    node=report.node,
                    uid=spec.uid,
                    pool=spec.pool,
                    snapshot=spec.snapshot_of is not None,
                    merged=report.merged,
                    disk=spec.disk,
                ),
            )
        case ReportReplicaTrouble():
            return _note_trouble(replica, report)
        case _:
            assert_never(report)


def _is_old_news(replica: Replica, spec: ReplicaSpec, report: ReportReplicaPresent) -> bool:
    """Return whether it was said before the node knew what is wanted now."""
    match replica.phase:
        case ReplicaPhase.STAYING if not report.withdrawn:
            return True  # its node may be about to remove it still
        case ReplicaPhase.TYING if report.tie != tie_of(spec.replication, report.node):
            return True
        case _:
            return replica.phase in _OUT_OF_USE or report.size_bytes < spec.size_bytes


def _note_presence(
    replica: Replica, spec: ReplicaSpec, report: ReportReplicaPresent
) -> Decision[ReplicaEvent]:
    thin = spec.layout is Layout.THIN
    if _is_old_news(replica, spec, report):
        return ()
    if replica.phase is ReplicaPhase.WANTED:
        return (
            ReplicaCreated(
                volume=report.volume,
                node=report.node,
                uid=spec.uid,
                pool=spec.pool,
                size_bytes=report.size_bytes,
                device=report.device,
                thin=thin,
                consistency=report.consistency,
                disk=spec.disk,
                turn=report.turn,
                followed=report.followed,
            ),
        )
    if replica.phase is ReplicaPhase.STAYING:
        return (
            ReplicaKept(
                volume=report.volume,
                node=report.node,
                uid=spec.uid,
                size_bytes=report.size_bytes,
            ),
        )
    if replica.phase is ReplicaPhase.PRESENT and report.size_bytes == replica.size_bytes:
        return ()
    return (
        ReplicaResized(
            volume=report.volume,
            node=report.node,
            uid=spec.uid,
            pool=spec.pool,
            size_bytes=report.size_bytes,
            thin=thin,
            disk=spec.disk,
        ),
    )


def evolve(replica: Replica, event: ReplicaEvent) -> Replica:
    """Apply what happened. Never refuses: the past cannot be wrong."""
    match event:
        case ReplicaWanted():
            return Replica(phase=ReplicaPhase.WANTED, spec=event.spec)
        case ReplicaCreated():
            return replace(
                replica,
                phase=ReplicaPhase.PRESENT,
                size_bytes=event.size_bytes,
                created=True,
                trouble=None,
            )
        case InstantSettled():
            return replace(replica, spec=instants.settled(replica.spec, event))
        case ReplicaResizeWanted():
            return _resizing(replica, event)
        case ReplicaResized() | ReplicaKept():
            return replace(
                replica, phase=ReplicaPhase.PRESENT, size_bytes=event.size_bytes, trouble=None
            )
        case ReplicaHoldWanted():
            return replace(replica, phase=ReplicaPhase.HOLDING, trouble=None)
        case ReplicaHeld():
            return replace(replica, phase=ReplicaPhase.HELD, trouble=None)
        case ReplicaRemovalWanted():
            return replace(replica, phase=ReplicaPhase.GOING, trouble=None)
        case ReplicaMergeWanted():
            return replace(replica, phase=ReplicaPhase.MERGING, trouble=None)
        case ReplicaRemovalWithdrawn():
            return replace(replica, phase=ReplicaPhase.STAYING, trouble=None)
        case ReplicaRekeyWanted() | ReplicaRekeyed():
            return rekeying.evolve(replica, event)
        case ReplicaRemoved():
            return Replica()
        case ReplicaTroubled():
            return replace(replica, trouble=(event.code, event.because))
        case _:
            assert_never(event)


def _resizing(replica: Replica, event: ReplicaResizeWanted) -> Replica:
    if replica.spec is None:
        return replica
    tied = replica.spec.replication
    if tied is not None and event.device_bytes:
        tied = replace(tied, size_bytes=event.device_bytes)
    kept = event.filesystem is Filesystem.NONE
    filesystem = replica.spec.filesystem if kept else event.filesystem
    return replace(
        replica,
        phase=ReplicaPhase.RESIZING,
        spec=replace(
            replica.spec,
            size_bytes=event.size_bytes,
            replication=tied,
            filesystem=filesystem,
        ),
        trouble=None,
    )
