"""A volume whose leg was changed by hand: held for whoever puts it right, or lost for good."""

from typing import assert_never

from msgspec.structs import replace

from aggregates import attaching, copying
from aggregates.decision import Decision, Facts
from aggregates.peers import not_yet
from aggregates.raw_disks import no_whole_disk
from aggregates.volume import Volume, VolumePhase, name_taken
from schemas.answers import Refused, refuse
from schemas.attaching import AttachingCommand, AttachingEvent
from schemas.copying import CopyingCommand, CopyingEvent
from schemas.encrypting import EncryptingEvent, RekeyVolume
from schemas.filling import FillingCommand, FillingEvent
from schemas.mending import Mend, SeenVolume, is_thin, no_volume
from schemas.refusals import Refusal
from schemas.settling import (
    AdoptVolume,
    SettleVolume,
    VolumeLost,
    VolumeSettled,
    VolumeSettlingBegan,
    VolumeSettlingCommand,
    VolumeSettlingEvent,
    VolumeSettlingFailed,
)
from schemas.units import readable
from schemas.volume import (
    Candidate,
    ConcludeVolume,
    Layout,
    VolumeCommand,
    VolumeEvent,
    VolumeGone,
    VolumeProvisioningBegan,
)

Command = (
    VolumeCommand
    | AttachingCommand
    | RekeyVolume
    | FillingCommand
    | CopyingCommand
    | VolumeSettlingCommand
)
Happened = (
    VolumeEvent
    | AttachingEvent
    | EncryptingEvent
    | FillingEvent
    | CopyingEvent
    | VolumeSettlingEvent
)
_TO_DO = {
    Mend.SIZE: "be larger",
    Mend.UNDO: "be put right",
    Mend.FORGET: "be given up",
    Mend.RECREATE: "be made anew",
}


def decide(volume: Volume, command: Command, facts: Facts) -> Decision[Happened]:
    """Say what shall happen to a volume that was changed by hand, or as for any other."""
    match command:
        case SettleVolume():
            return _settle(volume, command)
        case AdoptVolume():
            return _adopt(volume, command, facts)
        case ConcludeVolume() if volume.phase is VolumePhase.SETTLING:
            mine = volume.operation == command.operation
            return _conclude(volume, command) if mine else ()
        case _:
            return copying.decide(volume, command, facts)


def unmendable(
    volume: Volume | None, name: str, mend: Mend, seen: SeenVolume | None
) -> Refused | None:
    """Return why the leg of the volume cannot be put right so, or None."""
    if volume is None or volume.phase is VolumePhase.ABSENT:
        return refuse(Refusal.UNKNOWN_VOLUME, f"there is no volume {name}")
    if volume.operation:
        running = f"operation {volume.operation} ({volume.phase.value}) runs on {name}"
        return refuse(Refusal.VOLUME_BUSY, running)
    if volume.phase is not VolumePhase.READY:
        return refuse(Refusal.VOLUME_HELD, f"{name} is deleted, and held")
    whole = no_whole_disk(volume.layout, name, _TO_DO[mend])
    whole = whole or not_yet(volume, name, _TO_DO[mend])
    if whole is not None:
        return whole
    resized = seen is not None and seen.size_bytes != volume.size_bytes + volume.header_bytes
    lost = mend in {Mend.FORGET, Mend.RECREATE}
    thick = volume.layout is not Layout.THIN
    # LVM takes the thick snapshots of a volume with it, and resizes no volume that has some.
    if volume.snapshots and (lost or (thick and resized)):
        kept = f"{name} has the snapshots {', '.join(sorted(volume.snapshots))}"
        return refuse(Refusal.HAS_SNAPSHOTS, kept[:1000])
    no = attaching.held(volume, name, _TO_DO[mend]) if lost else None
    no = no or (attaching.frozen(volume, name) if resized else None)
    return no or (_too_small(volume, name, seen) if mend is Mend.SIZE else None)


def _too_small(volume: Volume, name: str, seen: SeenVolume | None) -> Refused | None:
    now, was = 0 if seen is None else seen.size_bytes, volume.size_bytes + volume.header_bytes
    if now > was:
        return None
    return refuse(Refusal.CUT_OFF, f"{name} had {readable(was)}, and has {readable(now)}")


def _settle(volume: Volume, command: SettleVolume) -> Decision[Happened]:
    if volume.operation == command.operation:
        return ()
    seen = command.seen
    from_bytes = volume.size_bytes + volume.header_bytes
    larger = command.mend is Mend.SIZE and seen is not None
    return unmendable(volume, command.volume, command.mend, seen) or (
        VolumeSettlingBegan(
            volume=command.volume,
            uid=volume.uid,
            operation=command.operation,
            node=volume.node,
            pool=volume.pool,
            mend=command.mend,
            from_bytes=from_bytes,
            size_bytes=seen.size_bytes if larger and seen is not None else from_bytes,
            thin=volume.layout is Layout.THIN,
            stripes=volume.stripes,
            header_bytes=volume.header_bytes,
        ),
    )


def _adopt(volume: Volume, command: AdoptVolume, facts: Facts) -> Decision[Happened]:
    if volume.operation == command.operation:
        return ()
    no = name_taken(volume, command.volume, facts)
    odd = no_volume(command.seen)
    if odd is not None:
        no = no or refuse(Refusal.CANNOT_TAKE_OVER, f"{command.seen.name}: {odd}")
    seen = command.seen
    striped = seen.layout == Layout.STRIPED.value
    layout = Layout.THIN if is_thin(seen) else Layout.STRIPED if striped else Layout.LINEAR
    return no or (
        VolumeProvisioningBegan(
            volume=command.volume,
            uid=command.uid,
            operation=command.operation,
            deadline=command.deadline,
            size_bytes=seen.size_bytes,
            candidates=(Candidate(node=command.node, pool=seen.pool),),
            layout=layout,
            stripes=seen.stripes if striped else 1,
            filesystem=command.filesystem,
            adopts=seen,
        ),
    )


def _conclude(volume: Volume, report: ConcludeVolume) -> Decision[Happened]:
    about = {"volume": report.volume, "operation": report.operation}
    if report.code is not None:
        failed = VolumeSettlingFailed(**about, code=report.code, because=report.because)
        return (failed,)
    if report.gone:
        return (
            VolumeLost(
                **about,
                uid=volume.uid,
                node=volume.node,
                pool=volume.pool,
                size_bytes=volume.size_bytes,
            ),
            VolumeGone(volume=report.volume, uid=volume.uid),
        )
    return (VolumeSettled(**about, size_bytes=report.size_bytes or volume.size_bytes),)


def evolve(volume: Volume, event: VolumeSettlingEvent) -> Volume:
    """Apply what happened. Never refuses: the past cannot be wrong."""
    match event:
        case VolumeSettlingBegan():
            return replace(volume, phase=VolumePhase.SETTLING, operation=event.operation)
        case VolumeSettled():
            same = event.size_bytes == volume.size_bytes
            fill_percent = volume.fill_percent if same else 0
            ready = replace(volume, phase=VolumePhase.READY, operation="")
            return replace(ready, size_bytes=event.size_bytes, fill_percent=fill_percent)
        case VolumeSettlingFailed() | VolumeLost():
            return replace(volume, phase=VolumePhase.READY, operation="")
        case _:
            assert_never(event)
