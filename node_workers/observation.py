"""What one look at a machine found: facts with our names on them, and no opinion about them."""

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from node_workers.ports import Bytes
from schemas.mending import SeenVolume


class DiskClass(StrEnum):
    """What kind of medium a disk is, as far as the kernel can tell."""

    HDD = "hdd"
    SSD = "ssd"
    NVME = "nvme"


class ContentKind(StrEnum):
    """What is on a disk. Only ``blank`` may be claimed."""

    BLANK = "blank"
    PARTITION_TABLE = "partition-table"
    FILESYSTEM = "filesystem"
    RAID = "raid"
    LVM = "lvm"
    MOUNTED = "mounted"
    HELD = "held"
    SYSTEM = "system"
    UNREADABLE = "unreadable"


class DiskContent(msgspec.Struct, frozen=True, kw_only=True):
    """What is on a disk, with the detail a person wants to read.

    ``detail`` is the signature's type, the mount point or the holders. ``pool`` is the volume
    group's name, ``pool_uid`` our tag on it (empty: not ours), ``pv_uuid`` LVM's own identity.
    """

    kind: ContentKind
    detail: str = ""
    pool: str = ""
    pool_uid: str = ""
    pv_uuid: str = ""


class ObservedDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A whole disk that is plugged in."""

    identity: str
    path: str
    size_bytes: Bytes
    disk_class: DiskClass
    content: DiskContent
    serial: str = ""
    wwn: str = ""
    model: str = ""
    removable: bool = False
    read_only: bool = False
    stamped: bool = False


class PoolMember(msgspec.Struct, frozen=True, kw_only=True):
    """A disk of a pool; ``disk`` is its stamp, ``path`` is empty while it is missing."""

    disk: str
    path: str
    pv_uuid: str
    size_bytes: Bytes
    free_bytes: Bytes
    missing: bool


class ObservedPool(msgspec.Struct, frozen=True, kw_only=True):
    """A volume group, ours when ``uid`` is not empty."""

    name: str
    uid: str
    vg_uuid: str
    size_bytes: Bytes
    free_bytes: Bytes
    extent_bytes: Bytes
    metadata_bytes: Bytes
    metadata_free_bytes: Bytes
    missing_disks: int
    members: tuple[PoolMember, ...]


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """What is used of a mounted filesystem, and what an ordinary user may still write."""

    used_bytes: Bytes
    free_bytes: Bytes


class ObservedVolume(msgspec.Struct, frozen=True, kw_only=True):
    """A logical volume, ours when ``uid`` is not empty; ``layout`` is as LVM names it.

    ``data_percent`` is None except for thin pools, thin volumes and thick snapshots; ``origin`` is
    what it is a snapshot of, ``invalid`` that it overflowed. ``mount_points`` are those
    that this machine's own mount namespace shows; ``open`` knows of the others too. ``room`` is
    known while it is mounted there. ``layouts``, ``mixed``, ``unfinished`` and ``claim`` are as in
    ``SeenVolume``.
    """

    pool: str
    name: str
    uid: str
    cause: str
    lv_uuid: str
    size_bytes: Bytes
    layout: str
    stripes: int
    thin_pool: str
    is_thin_pool: bool
    data_percent: float | None
    metadata_percent: float | None
    active: bool
    open: bool
    health: str
    path: str
    mount_points: tuple[str, ...] = ()
    origin: str = ""
    invalid: bool = False
    room: Room | None = None
    layouts: tuple[str, ...] = ()
    mixed: bool = False
    unfinished: bool = False
    claim: str = ""

    @property
    def is_thick_snapshot(self) -> bool:
        """Whether it has room of its own for what changes in its origin, and no life without it."""
        return bool(self.origin) and "thin" not in self.layouts


class ObservedDevice(msgspec.Struct, frozen=True, kw_only=True):
    """The stable device of an attached volume, and where this mount namespace has it mounted."""

    volume: str
    size_bytes: Bytes
    number: str
    mount_points: tuple[str, ...] = ()
    room: Room | None = None


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """One consistent enough picture of a machine's storage: disks, pools, volumes, devices."""

    disks: tuple[ObservedDisk, ...]
    pools: tuple[ObservedPool, ...]
    volumes: tuple[ObservedVolume, ...]
    devices: tuple[ObservedDevice, ...] = ()


def as_seen(volume: ObservedVolume, volumes: Iterable[ObservedVolume]) -> SeenVolume:
    """Return *volume*, one of all *volumes* of a look, as a finding tells of it."""
    snapshots = (one.origin for one in volumes if one.pool == volume.pool and one.is_thick_snapshot)
    return SeenVolume(
        pool=volume.pool,
        name=volume.name,
        lv=volume.lv_uuid,
        size_bytes=volume.size_bytes,
        layout=",".join(volume.layouts) or volume.layout,
        stripes=volume.stripes,
        uid=volume.uid,
        origin=volume.origin,
        mixed=volume.mixed,
        kept=volume.name in snapshots,
        unfinished=volume.unfinished,
        claim=volume.claim,
    )
