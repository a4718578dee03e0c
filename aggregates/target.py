"""A place for backups: what runs on it, which names are being given, and what each volume has."""

from collections.abc import Mapping
from datetime import timedelta
from typing import assert_never

import msgspec
from msgspec.structs import replace

from aggregates.decision import Decision, Facts
from aggregates.node import unheard
from aggregates.raw_disks import no_whole_disk
from aggregates.volume import Volume
from schemas.answers import Refused, refuse
from schemas.backups import Place
from schemas.errand import Listed, Probed, Swept, Uploaded, Verified
from schemas.refusals import Refusal
from schemas.replica import Consistency
from schemas.target import (
    AddTarget,
    BackupBegan,
    BackupFailed,
    BackupFoundDamaged,
    BackupMade,
    BackupsListed,
    BackupVerified,
    BackUpVolume,
    ConcludeTarget,
    ListBackups,
    ProbeTarget,
    RemoveTarget,
    SweepTarget,
    TargetAdded,
    TargetCommand,
    TargetEvent,
    TargetProbed,
    TargetRemoved,
    TargetSwept,
    TargetWorkBegan,
    TargetWorkFailed,
    VerifyBackup,
    Work,
)
from schemas.volume import Layout

_OWN_CHARACTERS = 8
_NAME_MAX = 100

Working = ProbeTarget | ListBackups | VerifyBackup | SweepTarget
_WORKS: dict[type[Working], Work] = {
    ProbeTarget: Work.PROBE,
    ListBackups: Work.LIST,
    VerifyBackup: Work.VERIFY,
    SweepTarget: Work.SWEEP,
}


class Latest(msgspec.Struct, frozen=True, kw_only=True):
    """The newest backup of a volume; ``kept`` is the snapshot that stays for the next one."""

    backup: str
    kept: str = ""
    kept_uid: str = ""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One target. ``running`` are the operations on it, ``latest`` is by the uid of volumes."""

    place: Place | None = None
    cluster: str = ""
    running: Mapping[str, BackupBegan | TargetWorkBegan] = {}
    latest: Mapping[str, Latest] = {}


def decide(target: Target, command: TargetCommand, facts: Facts) -> Decision[TargetEvent]:
    """Say what shall happen. May refuse a request; never refuses a report."""
    if isinstance(command, ConcludeTarget):
        began = target.running.get(command.operation)
        return () if began is None else _conclude(began, command)
    if isinstance(command, AddTarget):
        return _add(target, command)
    if target.place is None:
        return refuse(Refusal.UNKNOWN_TARGET, f"there is no backup target {command.target}")
    match command:
        case RemoveTarget():
            running = ", ".join(sorted(target.running))
            if running:
                return refuse(Refusal.TARGET_BUSY, f"operation {running} runs on it"[:1000])
            return (TargetRemoved(target=command.target),)
        case BackUpVolume():
            volume = facts.world.volumes.get(command.volume)
            return _unfit(volume, command, facts) or _back_up(target, volume, command, facts)
        case ProbeTarget() | ListBackups() | VerifyBackup() | SweepTarget():
            return _begin(target, target.place, command, facts)
        case _:
            assert_never(command)


def _add(target: Target, command: AddTarget) -> Decision[TargetEvent]:
    place = Place(
        url=command.url,
        endpoint=command.endpoint,
        region=command.region,
        credentials=command.credentials,
    )
    if target.place is not None:
        there = f"there is a backup target {command.target}: {target.place.url}"
        return refuse(Refusal.TARGET_EXISTS, there)
    return (TargetAdded(target=command.target, place=place, cluster=command.cluster),)


def _unfit(volume: Volume | None, command: BackUpVolume, facts: Facts) -> Refused | None:
    """Return why the volume cannot be backed up, or None."""
    name = command.volume
    if volume is None or not volume.node:
        return refuse(Refusal.UNKNOWN_VOLUME, f"there is no volume {name}")
    if volume.until is not None:
        return refuse(Refusal.VOLUME_HELD, f"{name} is deleted, and held")
    if volume.operation:
        running = f"operation {volume.operation} ({volume.phase.value}) runs on {name}"
        return refuse(Refusal.VOLUME_BUSY, running)
    if volume.key_ref:
        # A restored copy would carry the header of its source; what is restored has one of its own.
        return refuse(Refusal.ENCRYPTED_SOURCE, f"{name} is encrypted")
    no = no_whole_disk(volume.layout, name, "be backed up")
    if no is not None:
        return no
    thin = volume.layout is Layout.THIN
    if thin and command.reserve_bytes is not None:
        return refuse(Refusal.NO_RESERVE, f"{name} is thin")
    if command.keep and not thin:
        return refuse(Refusal.KEEP_IS_THIN, f"{name} is {volume.layout.value}")
    return unheard(facts.world.nodes.get(volume.node), volume.node)


def _back_up(
    target: Target, volume: Volume | None, command: BackUpVolume, facts: Facts
) -> Decision[TargetEvent]:
    assert volume is not None  # noqa: S101 -- ``_unfit`` has refused
    assert target.place is not None  # noqa: S101 -- and ``decide``
    stamp = f"{facts.at:%Y%m%d-%H%M%S}-{facts.uid[-4:]}"
    backup = command.backup or f"{command.volume}-{stamp}"[-_NAME_MAX:].strip("-")
    no = _taken(target, backup)
    if no is not None:
        return no
    latest = None if command.full else target.latest.get(volume.uid)
    kept = _kept(latest, facts)
    return (
        BackupBegan(
            target=command.target,
            operation=facts.operation,
            at=facts.at,
            deadline=facts.at + timedelta(seconds=command.deadline_s),
            backup=backup,
            place=target.place,
            cluster=target.cluster,
            volume=command.volume,
            volume_uid=volume.uid,
            node=volume.node,
            pool=volume.pool,
            size_bytes=volume.size_bytes,
            layout=volume.layout,
            filesystem=volume.filesystem,
            snapshot=f"backup-{facts.uid[-_OWN_CHARACTERS:]}",
            keep=command.keep,
            parent=None if latest is None else latest.backup,
            parent_snapshot=None if kept is None else kept.kept,
            parent_snapshot_uid=None if kept is None else kept.kept_uid,
            reserve_bytes=command.reserve_bytes,
            rate_bytes_per_s=command.rate_bytes_per_s,
        ),
    )


def _taken(target: Target, backup: str) -> Refused | None:
    for operation, began in target.running.items():
        if began.backup == backup:
            return refuse(Refusal.TARGET_BUSY, f"operation {operation} runs on {backup}")
    if any(latest.backup == backup for latest in target.latest.values()):
        return refuse(Refusal.BACKUP_EXISTS, f"there is a backup {backup}")
    return None


def _kept(latest: Latest | None, facts: Facts) -> Latest | None:
    """Return the newest backup if what was kept for the next one is still there, unharmed."""
    if latest is None or not latest.kept:
        return None
    snapshot = facts.world.snapshots.get(latest.kept)
    there = snapshot is not None and snapshot.uid == latest.kept_uid and not snapshot.lost
    return latest if there else None


def _begin(target: Target, place: Place, command: Working, facts: Facts) -> Decision[TargetEvent]:
    work, backup = _WORKS[type(command)], getattr(command, "backup", None)
    if work is Work.SWEEP and any(
        isinstance(began, TargetWorkBegan) and began.work is work
        for began in target.running.values()
    ):
        return refuse(Refusal.TARGET_BUSY, f"{command.target} is being swept")
    if work is Work.SWEEP and backup is not None and _running(target, backup):
        return refuse(Refusal.TARGET_BUSY, f"an operation runs on {backup}")
    node = command.node or _heard(facts)
    if node is None:
        return refuse(Refusal.NO_NODE_HEARD, "no node is heard")
    no = unheard(facts.world.nodes.get(node), node)
    return no or (
        TargetWorkBegan(
            target=command.target,
            operation=facts.operation,
            deadline=facts.at + timedelta(seconds=command.deadline_s),
            work=work,
            node=node,
            place=place,
            backup=backup,
            volume=command.volume if isinstance(command, ListBackups) else None,
            grace_s=command.grace_s if isinstance(command, SweepTarget) else 0,
            rate_bytes_per_s=getattr(command, "rate_bytes_per_s", None),
        ),
    )


def _running(target: Target, backup: str) -> bool:
    return any(began.backup == backup for began in target.running.values())


def _heard(facts: Facts) -> str | None:
    """Return the first node, by name, that is heard."""
    nodes = sorted(facts.world.nodes.items())
    return next((name for name, node in nodes if unheard(node, name) is None), None)


def _conclude(
    began: BackupBegan | TargetWorkBegan, report: ConcludeTarget
) -> Decision[TargetEvent]:
    if isinstance(began, BackupBegan):
        return (_backed_up(began, report),)
    about = {"target": began.target, "operation": began.operation}
    found = report.found
    match found:
        case Probed():
            return (TargetProbed(**about),)
        case Listed():
            return (BackupsListed(**about, listed=found),)
        case Verified() if began.backup is not None and not found.bad_chunks:
            return (BackupVerified(**about, backup=began.backup, chunks=found.chunks),)
        case Verified() if began.backup is not None:
            return (
                BackupFoundDamaged(
                    target=began.target,
                    operation=began.operation,
                    backup=began.backup,
                    code=report.code or Refusal.BACKUP_DAMAGED,
                    because=report.because,
                    bad_chunks=found.bad_chunks,
                    bad=found.bad,
                ),
            )
        case Swept():
            return (TargetSwept(**about, backup=began.backup, swept=found),)
        case _:
            return (_failed(began, report),)


def _failed(began: TargetWorkBegan, report: ConcludeTarget) -> TargetEvent:
    """Return how it failed; a manifest that is damaged itself is an alarm, too."""
    code = report.code or Refusal.DEADLINE
    if began.work is Work.VERIFY and code is Refusal.BACKUP_DAMAGED and began.backup is not None:
        return BackupFoundDamaged(
            target=began.target,
            operation=began.operation,
            backup=began.backup,
            code=code,
            because=report.because,
        )
    return TargetWorkFailed(
        target=began.target,
        operation=began.operation,
        work=began.work,
        backup=began.backup,
        code=code,
        because=report.because,
    )


def _backed_up(began: BackupBegan, report: ConcludeTarget) -> TargetEvent:
    if isinstance(report.found, Uploaded):
        return BackupMade(
            target=began.target,
            operation=began.operation,
            backup=began.backup,
            cluster=began.cluster,
            volume=began.volume,
            volume_uid=began.volume_uid,
            size_bytes=report.size_bytes or began.size_bytes,
            layout=began.layout,
            filesystem=began.filesystem,
            consistency=report.consistency or Consistency.CRASH,
            at=began.at,
            uploaded=report.found,
            kept=began.snapshot if began.keep else None,
            kept_uid=report.snapshot_uid if began.keep else None,
        )
    return BackupFailed(
        target=began.target,
        operation=began.operation,
        backup=began.backup,
        volume=began.volume,
        code=report.code or Refusal.DEADLINE,
        because=report.because,
    )


def evolve(target: Target, event: TargetEvent) -> Target:
    """Apply what happened. Never refuses: the past cannot be wrong."""
    match event:
        case TargetAdded():
            return Target(place=event.place, cluster=event.cluster)
        case TargetRemoved():
            return Target()
        case BackupBegan() | TargetWorkBegan():
            return replace(target, running={**target.running, event.operation: event})
        case BackupMade():
            newest = Latest(
                backup=event.backup, kept=event.kept or "", kept_uid=event.kept_uid or ""
            )
            latest = {**target.latest, event.volume_uid: newest}
            return replace(_ended(target, event.operation), latest=latest)
        case TargetSwept():
            left = {k: v for k, v in target.latest.items() if v.backup != event.backup}
            return replace(_ended(target, event.operation), latest=left)
        case (
            BackupFailed()
            | TargetProbed()
            | BackupsListed()
            | BackupVerified()
            | BackupFoundDamaged()
            | TargetWorkFailed()
        ):
            return _ended(target, event.operation)
        case _:
            assert_never(event)


def _ended(target: Target, operation: str) -> Target:
    left = {name: began for name, began in target.running.items() if name != operation}
    return replace(target, running=left)
