"""What people asked for: one volume, one running operation, and where it was put and why."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never

import msgspec
from msgspec.structs import replace

from aggregates import attaching, concluding, deleting, encrypting, filling, joining, raw_disks
from aggregates.counting import Counted
from aggregates.decision import Decision, Facts
from aggregates.health import ailing
from aggregates.labelling import bad_labels
from aggregates.ledger import short_of
from aggregates.node import unheard
from aggregates.peers import device_bytes, is_all, others, too_few
from aggregates.placement import nowhere, rank
from schemas.answers import Refused, refuse
from schemas.attaching import (
    AttachingCommand,
    AttachingEvent,
    AttachVolume,
    DetachVolume,
    FollowQosClass,
    LimitVolume,
)
from schemas.copying import CopyingEvent
from schemas.deleting import (
    DeleteVolume,
    PurgeVolume,
    UndeleteVolume,
)
from schemas.disk import Wiping
from schemas.encrypting import EncryptingEvent, RekeyVolume
from schemas.filling import FillingCommand, FillingEvent, ReportVolumeFill
from schemas.keys import header_bytes
from schemas.pool import Reserve
from schemas.refusals import Refusal
from schemas.replicating import head_room_bytes
from schemas.replication import Member
from schemas.units import readable
from schemas.volume import (
    Candidate,
    ConcludeVolume,
    Filesystem,
    GrowVolume,
    Layout,
    LockVolume,
    ProvisionVolume,
    ReportLegRemoved,
    ReportVolumeSnapshotGone,
    VolumeCommand,
    VolumeEvent,
    VolumeGone,
    VolumeGrowthBegan,
    VolumeLocked,
    VolumeProvisioningBegan,
    VolumeSnapshotGone,
)

STRIPES_MIN = 2
_OfReady = GrowVolume | DeleteVolume | AttachingCommand | RekeyVolume


class VolumePhase(StrEnum):
    """Where a volume is in its life."""

    ABSENT = "absent"
    CLONING = "cloning"
    PROVISIONING = "provisioning"
    READY = "ready"
    GROWING = "growing"
    HOLDING = "holding"
    HELD = "held"
    UNDELETING = "undeleting"
    DELETING = "deleting"
    ATTACHING = "attaching"
    DETACHING = "detaching"
    LIMITING = "limiting"
    LOCKED = "locked"
    REKEYING = "rekeying"
    SETTLING = "settling"
    ADDING_REPLICA = "adding-replica"
    REMOVING_REPLICA = "removing-replica"
    HANDING_OVER = "handing-over"
    FAILING_OVER = "failing-over"
    MIGRATING = "migrating"
    SETTLING_SPLIT = "settling-split"
    REPAIRING = "repairing"


class Verifying(msgspec.Struct, frozen=True, kw_only=True):
    """The operation that compares the replicas of a volume, and the node that does it."""

    operation: str
    node: str


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """One volume. ``size_bytes`` is what was asked for until the node says what it is.

    ``until`` is when the hold on it is over; None: it is not held. ``locked_for`` is the snapshot
    that is worked on, ``snapshots`` are those that may be there. ``key_ref`` says where the key
    of an encrypted one is, ``rekeying`` the one that an operation is putting in its place.
    ``fill_percent`` is how full its filesystem was when that was last told; 0: not since it has
    grown. ``disk`` is the one that it is, if it is a whole one; ``wiping`` is what is to be done to
    that when the hold is over.

    With several replicas they are ``members``, and ``node`` has the one that may be written to in
    this ``epoch``; those on the nodes ``outdated`` have missed something, and may not.
    ``failover``: another goes on by itself when ``node`` is silent. ``migrating`` is the node that
    one of them is on its way from, ``replicas`` how many there shall be. ``coming`` is the node
    that one more is to be on, where that is sure; ``joining`` the group that it is being made for.
    ``verifying`` is who compares them; when they were last, at ``verified_at``, ``differing_bytes``
    were not the same. ``counted`` is what was written and read on each node.
    """

    phase: VolumePhase = VolumePhase.ABSENT
    uid: str = ""
    operation: str = ""
    size_bytes: int = 0
    layout: Layout = Layout.LINEAR
    stripes: int = 1
    filesystem: Filesystem = Filesystem.NONE
    node: str = ""
    pool: str = ""
    candidates: tuple[Candidate, ...] = ()
    until: datetime | None = None
    use: attaching.Use = attaching.Use()
    locked_for: str = ""
    snapshots: frozenset[str] = frozenset()
    key_ref: str = ""
    rekeying: str = ""
    disk: str = ""
    wiping: Wiping = Wiping.DISCARD
    members: tuple[Member, ...] = ()
    epoch: int = 0
    outdated: frozenset[str] = frozenset()
    failover: bool = True
    migrating: str = ""
    replicas: int = 1
    coming: str = ""
    joining: str = ""
    verifying: Verifying | None = None
    verified_at: datetime | None = None
    differing_bytes: int = 0
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    counted: dict[str, Counted] = msgspec.field(default_factory=dict)

    @property
    def header_bytes(self) -> int:
        """By how much its leg is larger than it."""
        return header_bytes(self.key_ref)

    @property
    def head_room_bytes(self) -> int:
        """By how much its legs are larger than the replicated device."""
        return head_room_bytes(device_bytes(self), len(self.members)) if self.members else 0

    fill_percent: int = 0


def decide(
    volume: Volume,
    command: VolumeCommand | AttachingCommand | RekeyVolume | FillingCommand,
    facts: Facts,
) -> Decision[VolumeEvent | AttachingEvent | EncryptingEvent | CopyingEvent | FillingEvent]:
    """Say what shall happen. May refuse a request; never refuses a report."""
    match command:
        case ProvisionVolume():
            return _provision(volume, command, facts)
        case GrowVolume():
            return _unready(volume, command, facts) or _grow(volume, command, facts)
        case DeleteVolume():
            return _unready(volume, command, facts) or deleting.delete(volume, command, facts)
        case UndeleteVolume() | PurgeVolume():
            return _unheld(volume, command, facts) or deleting.end_hold(volume, command, facts)
        case AttachVolume() | DetachVolume() | LimitVolume() | FollowQosClass():
            return _unready(volume, command, facts) or attaching.decide(volume, command, facts)
        case RekeyVolume():
            no = encrypting.no_reference(command.key_ref) or _unready(volume, command, facts)
            return no or encrypting.decide(volume, command, facts)
        case LockVolume():
            return _lock(volume, command)
        case ConcludeVolume():
            return _conclude(volume, command) if volume.operation == command.operation else ()
        case ReportLegRemoved():
            at_rest = volume.phase in {VolumePhase.READY, VolumePhase.HELD}
            gone = at_rest and volume.uid == command.uid and is_all(volume, command.node)
            return (VolumeGone(volume=command.volume, uid=command.uid),) if gone else ()
        case ReportVolumeFill():
            return filling.note(volume, command)
        case ReportVolumeSnapshotGone():
            known = volume.uid == command.uid and command.snapshot in volume.snapshots
            gone_one = VolumeSnapshotGone(volume=command.volume, snapshot=command.snapshot)
            return (gone_one,) if known else ()
        case _:
            assert_never(command)


def name_taken(volume: Volume, name: str, facts: Facts) -> Refused | None:
    """Return why no volume of that name can be made, or None."""
    if volume.phase is not VolumePhase.ABSENT:
        there = f"there is a volume {name} ({volume.phase.value})"
        return refuse(Refusal.VOLUME_EXISTS, there)
    if name in facts.world.snapshots:
        return refuse(Refusal.SNAPSHOT_EXISTS, f"there is a snapshot {name}")
    return None


def bad_layout(layout: Layout, stripes: int) -> Refused | None:
    """Return why extents cannot lie so in a pool, or None."""
    if layout is Layout.DISK:
        return raw_disks.no_whole_disk(layout, "what is asked for", "be filled from elsewhere")
    if (layout is Layout.STRIPED) is (stripes < STRIPES_MIN):
        return refuse(Refusal.BAD_LAYOUT, f"layout {layout.value} with {stripes} stripes")
    return None


def _provision(volume: Volume, command: ProvisionVolume, facts: Facts) -> Decision[VolumeEvent]:
    no = encrypting.no_reference(command.key_ref) or name_taken(volume, command.volume, facts)
    whole = command.layout is Layout.DISK
    no = no or raw_disks.unclear(command)
    no = no or (None if whole else bad_layout(command.layout, command.stripes))
    no = no or _one_only(command)
    no = no or attaching.no_class(command.qos, facts) or bad_labels(command.labels)
    if no is not None:
        return no
    ranked = raw_disks.rank if whole else rank
    candidates = joining.placed(command, ranked(command, facts.world, facts.uid), facts)
    if isinstance(candidates, Refused):
        return candidates
    no = (raw_disks.nowhere if whole else nowhere)(command, candidates)
    return (
        no
        or too_few(command, candidates, facts.world)
        or (
            VolumeProvisioningBegan(
                volume=command.volume,
                uid=facts.uid,
                operation=facts.operation,
                deadline=facts.at + timedelta(seconds=command.deadline_s),
                size_bytes=command.size_bytes,
                candidates=candidates,
                layout=command.layout,
                stripes=command.stripes,
                filesystem=command.filesystem,
                key_ref=command.key_ref,
                qos=command.qos,
                replicas=command.replicas,
                failover=command.failover,
                group=command.group,
                apart=command.apart,
                labels=command.labels,
            ),
        )
    )


def _one_only(command: ProvisionVolume) -> Refused | None:
    """Return why there can be one replica only of what is asked for, or None."""
    if command.replicas == 1 or command.layout is not Layout.DISK:
        return None
    whole = f"{command.volume} is to be a whole disk, with one replica"
    return refuse(Refusal.CANNOT_REPLICATE, whole)


def _unready(volume: Volume, command: _OfReady, facts: Facts) -> Refused | None:
    if volume.phase is VolumePhase.HELD:
        held = f"{command.volume} is deleted, and held until {_read(volume.until)}"
        return refuse(Refusal.VOLUME_HELD, held)
    return _unfree(volume, command, facts) or _kept(volume, command)


def _kept(volume: Volume, command: _OfReady) -> Refused | None:
    """Return why the snapshots of the volume stand in the way, or None."""
    thin = volume.layout is Layout.THIN
    hindered = isinstance(command, DeleteVolume | RekeyVolume)
    hindered = hindered or (isinstance(command, GrowVolume) and not thin)
    if not volume.snapshots or not hindered:
        return None
    kept = f"{command.volume} has the snapshots {', '.join(sorted(volume.snapshots))}"
    return refuse(Refusal.HAS_SNAPSHOTS, kept[:1000])


def _unheld(volume: Volume, command: UndeleteVolume | PurgeVolume, facts: Facts) -> Refused | None:
    if volume.phase is VolumePhase.READY:
        return refuse(Refusal.VOLUME_NOT_HELD, f"{command.volume} is {volume.phase.value}")
    if isinstance(command, PurgeVolume) and command.until not in {None, volume.until}:
        other = f"{command.volume} is held until {_read(volume.until)}"
        return refuse(Refusal.VOLUME_NOT_HELD, f"{other}, not until {_read(command.until)}")
    return _unfree(volume, command, facts)


def _read(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _unfree(
    volume: Volume,
    command: _OfReady | UndeleteVolume | PurgeVolume,
    facts: Facts,
) -> Refused | None:
    no = _taken(volume, command.volume)
    return no or unheard(facts.world.nodes.get(volume.node), volume.node)


def _taken(volume: Volume, name: str) -> Refused | None:
    """Return why nothing can be begun with the volume."""
    if volume.phase is VolumePhase.ABSENT:
        return refuse(Refusal.UNKNOWN_VOLUME, f"there is no volume {name}")
    if volume.operation:
        running = f"operation {volume.operation} ({volume.phase.value}) runs on {name}"
        return refuse(Refusal.VOLUME_BUSY, running)
    return None


def _lock(volume: Volume, command: LockVolume) -> Decision[VolumeEvent]:
    if volume.operation == command.operation:
        return ()
    if volume.uid != command.uid:
        return refuse(Refusal.UNKNOWN_VOLUME, f"that volume {command.volume} is no more")
    if volume.phase is VolumePhase.HELD:
        held = f"{command.volume} is deleted, and held until {_read(volume.until)}"
        return refuse(Refusal.VOLUME_HELD, held)
    return _taken(volume, command.volume) or (
        VolumeLocked(
            volume=command.volume,
            uid=command.uid,
            operation=command.operation,
            snapshot=command.snapshot,
            twins=command.twins,
        ),
    )


def _grow(volume: Volume, command: GrowVolume, facts: Facts) -> Decision[VolumeEvent]:
    no = raw_disks.no_whole_disk(volume.layout, command.volume, "grow")
    if no is not None:
        return no
    if command.size_bytes <= volume.size_bytes:
        has, asked = readable(volume.size_bytes), readable(command.size_bytes)
        same = f"{command.volume} has {has}, {asked} are asked for"
        return refuse(Refusal.NOT_LARGER, same)
    no = attaching.frozen(volume, command.volume) or _no_room_to_grow(volume, command, facts)
    return no or (
        VolumeGrowthBegan(
            volume=command.volume,
            uid=volume.uid,
            operation=facts.operation,
            deadline=facts.at + timedelta(seconds=command.deadline_s),
            node=volume.node,
            pool=volume.pool,
            from_bytes=volume.size_bytes,
            size_bytes=command.size_bytes,
            layout=volume.layout,
            stripes=volume.stripes,
            header_bytes=volume.header_bytes + volume.head_room_bytes,
            others=others(volume),
            inside_bytes=volume.header_bytes if volume.members else 0,
            filesystem=volume.filesystem if volume.members else Filesystem.NONE,
            more_bytes=replace(volume, size_bytes=command.size_bytes).head_room_bytes
            - volume.head_room_bytes,
        ),
    )


def _no_room_to_grow(volume: Volume, command: GrowVolume, facts: Facts) -> Refused | None:
    pool = facts.world.pools.get((volume.node, volume.pool))
    usable = None if pool is None else pool.usable
    if pool is None or usable is None:
        return refuse(Refusal.POOL_NOT_READY, f"{volume.node}/{volume.pool} is not there")
    wish = Reserve(
        pool=volume.pool,
        node=volume.node,
        claim=volume.uid,
        size_bytes=command.size_bytes - volume.size_bytes,
        operation=facts.operation,
        thin=volume.layout is Layout.THIN,
        stripes=volume.stripes,
        first=False,
    )
    return ailing(volume.node, volume.pool, pool.staying, facts.world) or short_of(
        pool.ledger, usable, pool.thin_ratio_percent, pool.volumes_max, wish
    )


def _conclude(
    volume: Volume, report: ConcludeVolume
) -> Decision[VolumeEvent | AttachingEvent | EncryptingEvent | CopyingEvent]:
    match volume.phase:
        case VolumePhase.CLONING:
            return (concluding.not_cloned(report),)
        case VolumePhase.PROVISIONING:
            return (concluding.provisioned(volume, report),)
        case VolumePhase.GROWING:
            return (concluding.grown(volume, report),)
        case VolumePhase.HOLDING:
            return (concluding.put_on_hold(volume, report),)
        case VolumePhase.DELETING:
            return (concluding.deleted(volume, report),)
        case VolumePhase.UNDELETING:
            return (concluding.undeleted(volume, report),)
        case VolumePhase.ATTACHING:
            return attaching.attached(volume, report)
        case VolumePhase.DETACHING:
            return attaching.detached(volume, report)
        case VolumePhase.LIMITING:
            return attaching.limited(volume, report)
        case VolumePhase.LOCKED:
            return (concluding.unlocked(volume, report),)
        case VolumePhase.REKEYING:
            return (encrypting.rekeyed(volume, report),)
        case _:
            return ()  # nothing runs, or what does concludes otherwise
