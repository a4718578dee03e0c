"""New volumes that are not blank: what they may be made of, and where."""

from datetime import timedelta

from aggregates.decision import Decision, Facts
from aggregates.labelling import bad_labels
from aggregates.placement import Near, cannot_reach, nowhere, rank
from aggregates.raw_disks import no_whole_disk
from aggregates.restoring import restore
from aggregates.snapshot import Snapshot, unreadable
from aggregates.volume import STRIPES_MIN, Volume, VolumePhase, bad_layout, name_taken
from aggregates.volume import decide as decide_volume
from schemas.answers import Refused, refuse
from schemas.attaching import AttachingCommand, AttachingEvent
from schemas.copying import (
    CloneVolume,
    CopyingCommand,
    CopyingEvent,
    RestoreBackup,
    RestoreVolume,
    VolumeCloneBegan,
)
from schemas.encrypting import EncryptingEvent, RekeyVolume
from schemas.filling import FillingCommand, FillingEvent
from schemas.refusals import Refusal
from schemas.units import readable
from schemas.volume import (
    CopyOf,
    Filesystem,
    Layout,
    ProvisionVolume,
    VolumeCommand,
    VolumeEvent,
    VolumeProvisioningBegan,
)

OWN_SNAPSHOT_CHARACTERS = 8


Command = VolumeCommand | AttachingCommand | RekeyVolume | FillingCommand | CopyingCommand
Happened = VolumeEvent | AttachingEvent | EncryptingEvent | FillingEvent | CopyingEvent


def decide(volume: Volume, command: Command, facts: Facts) -> Decision[Happened]:
    """Say what shall happen to a volume, or how it shall be made out of another one."""
    match command:
        case RestoreVolume():
            step = volume.phase is VolumePhase.CLONING and volume.operation == command.operation
            no = None if step else name_taken(volume, command.volume, facts)
            return no or _restore(command, facts)
        case RestoreBackup():
            return name_taken(volume, command.volume, facts) or restore(command, facts)
        case CloneVolume():
            no = name_taken(volume, command.volume, facts)
            return no or _clone(facts.world.volumes.get(command.source), command, facts)
        case _:
            return decide_volume(volume, command, facts)


def _restore(command: RestoreVolume, facts: Facts) -> Decision[Happened]:
    snapshot = facts.world.snapshots.get(command.snapshot)
    no = unreadable(snapshot, command.snapshot)
    if no is not None or snapshot is None:
        return no or refuse(Refusal.UNKNOWN_SNAPSHOT, f"there is no snapshot {command.snapshot}")
    no = _too_small(command, command.snapshot, snapshot.size_bytes)
    no = no or _unopened(command.snapshot, encrypted=bool(snapshot.header_bytes))
    labels = _labels(command, _origin(snapshot, facts), snapshot.volume)
    if no is not None:
        return no
    if isinstance(labels, Refused):
        return labels
    wish = _wish(command, snapshot, facts)
    odd = bad_layout(wish.layout, wish.stripes)
    if odd is not None:
        return odd
    shared = snapshot.pool if wish.layout is Layout.THIN is snapshot.layout else ""
    source = Near(snapshot.node, shared)
    candidates = rank(wish, facts.world, facts.uid, source)
    return nowhere(wish, candidates) or (
        VolumeProvisioningBegan(
            volume=command.volume,
            uid=facts.uid,
            operation=command.operation or facts.operation,
            deadline=facts.at + timedelta(seconds=command.deadline_s),
            size_bytes=wish.size_bytes,
            candidates=candidates,
            layout=wish.layout,
            stripes=wish.stripes,
            filesystem=wish.filesystem,
            labels=labels,
            source=CopyOf(
                snapshot=command.snapshot,
                uid=snapshot.uid,
                volume=snapshot.volume,
                volume_uid=snapshot.volume_uid,
                pool=snapshot.pool,
                size_bytes=snapshot.size_bytes,
                thin=snapshot.layout is Layout.THIN,
                rate_bytes_per_s=command.rate_bytes_per_s,
                node=snapshot.node,
            ),
        ),
    )


def _origin(snapshot: Snapshot, facts: Facts) -> Volume | None:
    """Return the volume that the snapshot is of, unless it is no more."""
    volume = facts.world.volumes.get(snapshot.volume)
    return volume if volume is not None and volume.uid == snapshot.volume_uid else None


def _wish(command: RestoreVolume, snapshot: Snapshot, facts: Facts) -> ProvisionVolume:
    """Return what is asked for, with what was left open taken from the snapshot."""
    layout = command.layout or _like(snapshot.layout, command.stripes)
    volume = _origin(snapshot, facts)
    return ProvisionVolume(
        volume=command.volume,
        size_bytes=command.size_bytes or snapshot.size_bytes,
        layout=layout,
        stripes=command.stripes,
        filesystem=volume.filesystem if volume is not None else Filesystem.NONE,
        pool=command.pool,
        node=command.node,
    )


def _clone(source: Volume | None, command: CloneVolume, facts: Facts) -> Decision[Happened]:
    if source is None or not source.node:
        return refuse(Refusal.UNKNOWN_VOLUME, f"there is no volume {command.source}")
    if source.until is not None:
        return refuse(Refusal.VOLUME_HELD, f"{command.source} is deleted, and held")
    if source.operation:
        running = f"operation {source.operation} ({source.phase.value}) runs on {command.source}"
        return refuse(Refusal.VOLUME_BUSY, running)
    if source.layout is Layout.THIN and command.reserve_bytes is not None:
        return refuse(Refusal.NO_RESERVE, f"{command.source} is thin")
    no = no_whole_disk(source.layout, command.source, "be cloned")
    no = no or _too_small(command, command.source, source.size_bytes)
    no = no or _unopened(command.source, encrypted=bool(source.key_ref))
    if command.node is not None:
        # Said now, and not when the snapshot has been taken for nothing.
        no = no or cannot_reach(Near(source.node, ""), facts.world, command.node)
    labels = _labels(command, source, command.source)
    if no is not None:
        return no
    if isinstance(labels, Refused):
        return labels
    layout = command.layout or _like(source.layout, command.stripes)
    return bad_layout(layout, command.stripes) or (
        VolumeCloneBegan(
            volume=command.volume,
            operation=facts.operation,
            deadline=facts.at + timedelta(seconds=command.deadline_s),
            source=command.source,
            source_uid=source.uid,
            snapshot=f"clone-{facts.uid[-OWN_SNAPSHOT_CHARACTERS:]}",
            size_bytes=command.size_bytes or source.size_bytes,
            layout=layout,
            stripes=command.stripes,
            pool=command.pool,
            reserve_bytes=command.reserve_bytes,
            rate_bytes_per_s=command.rate_bytes_per_s,
            node=command.node,
            labels=labels,
        ),
    )


def _labels(
    command: RestoreVolume | CloneVolume, source: Volume | None, name: str
) -> dict[str, str] | Refused:
    """Return the labels of the new volume: those asked for, and of its source only if asked."""
    if command.keep_labels and source is None:
        return refuse(Refusal.BAD_LABEL, f"{name} is no more, so its labels are not known")
    kept = source.labels if command.keep_labels and source is not None else {}
    return bad_labels(kept | command.labels) or kept | command.labels


def _like(layout: Layout, stripes: int) -> Layout:
    """Return the layout of a copy if none is named: stripes are asked for by their number."""
    if layout is Layout.THIN:
        return layout
    return Layout.STRIPED if stripes >= STRIPES_MIN else Layout.LINEAR


def _unopened(source: str, *, encrypted: bool) -> Refused | None:
    # A copy would carry the header of its source, which names that and opens by its keys.
    return refuse(Refusal.ENCRYPTED_SOURCE, f"{source} is encrypted") if encrypted else None


def _too_small(
    command: RestoreVolume | CloneVolume, source: str, size_bytes: int
) -> Refused | None:
    if command.size_bytes is None or command.size_bytes >= size_bytes:
        return None
    has, asked = readable(size_bytes), readable(command.size_bytes)
    less = f"{source} has {has}, {asked} are asked for"
    return refuse(Refusal.SMALLER_THAN_SOURCE, less)
