"""What a machine's storage consists of, as plain data that can be written down."""

import hashlib
from collections.abc import Iterator

import msgspec

from node_workers.backup_format import Manifest
from node_workers.simulated.drbd_model import Leg, Metadata

EXTENT_BYTES = 4 << 20
SECTOR_BYTES = 512
DEFAULT_METADATA_BYTES = 1 << 20
OVERFLOWED_PERCENT = 100.0
REPLICATED = "drbd:"
_ALIGNMENT_BYTES = 1 << 20
_METADATA_BYTES_A_VOLUME = 367  # measured on LVM 2.03.16 with two tags
_METADATA_BYTES_A_GROUP = 2048


class Content(msgspec.Struct, kw_only=True):
    """What lies at the start of a device: a signature (or none), and a marker of user data.

    Of the ``size_bytes`` of a filesystem files take ``used_bytes``. Of LUKS: ``slots`` are digests
    of the keys that open it, ``inner`` is what lies behind it. ``blocks`` are what programs wrote
    away from the start, by the number of a block of 4 KiB; ``metadata`` is DRBD's, by its end.
    """

    kind: str = ""
    uuid: str = ""
    size_bytes: int = 0
    used_bytes: int = 0
    finished: bool = True
    data: str = ""
    slots: list[str] = []
    inner: "Content | None" = None
    blocks: dict[int, str] = {}
    metadata: dict[int, Metadata] = {}


class Disk(msgspec.Struct, kw_only=True):
    """A disk; ``key`` is the thing itself, which it keeps under another name and machine.

    ``smart`` is what smartctl prints of it; without, it has no SMART, as virtual disks.
    """

    key: str
    name: str
    size_bytes: int
    serial: str = ""
    wwn: str = ""
    model: str = "SIMULATED"
    rotational: bool = False
    removable: bool = False
    partitions: int = 0
    broken: bool = False
    smart: str = ""


class Piece(msgspec.Struct, kw_only=True, frozen=True):
    """Consecutive extents on one physical volume."""

    pv: str
    start: int
    count: int


class Pv(msgspec.Struct, kw_only=True):
    """A physical volume."""

    uuid: str
    disk: str
    size_bytes: int
    metadata_bytes: int = DEFAULT_METADATA_BYTES
    tags: list[str] = []
    allocatable: bool = True

    @property
    def start_bytes(self) -> int:
        """Where the first extent begins."""
        if self.metadata_bytes == DEFAULT_METADATA_BYTES:
            return _ALIGNMENT_BYTES
        return self.metadata_bytes + _ALIGNMENT_BYTES

    @property
    def extents(self) -> int:
        """How many extents it holds."""
        return max(0, (self.size_bytes - self.start_bytes) // EXTENT_BYTES)


class Lv(msgspec.Struct, kw_only=True):
    """A logical volume; ``kind`` is linear, striped, thin-pool, thin or snapshot (a thick one).

    ``origin`` is what it is a snapshot of, ``fill_percent`` how full a thick snapshot is,
    ``metadata_percent`` the metadata of a thin pool. LVM shows one that is ``merging`` no more, and
    activates none that is ``skipped``, unless it is told so twice.
    """

    uuid: str
    name: str
    kind: str
    extents: int
    minor: int
    stripes: int = 1
    tags: list[str] = []
    pieces: list[Piece] = []
    metadata: list[Piece] = []
    thin_pool: str = ""
    active: bool = True
    when_full: str = ""
    held_open: bool = False
    origin: str = ""
    fill_percent: float = 0.0
    metadata_percent: float = 10.4
    merging: bool = False
    skipped: bool = False


class Vg(msgspec.Struct, kw_only=True):
    """A volume group; ``spare`` is what LVM keeps for the repair of a thin pool's metadata."""

    uuid: str
    name: str
    tags: list[str] = []
    pvs: list[str] = []
    lvs: list[Lv] = []
    spare: list[Piece] = []

    def lv(self, name: str) -> Lv | None:
        """Return the logical volume of that name."""
        return next((lv for lv in self.lvs if lv.name == name), None)

    def snapshots(self, origin: Lv, kind: str = "snapshot") -> list[Lv]:
        """Return the snapshots of a volume, the thick ones unless others are meant."""
        return [lv for lv in self.lvs if lv.origin == origin.name and lv.kind == kind]

    def merging(self, origin: Lv) -> Lv | None:
        """Return the snapshot that is becoming this volume."""
        return next((lv for lv in self.lvs if lv.merging and lv.origin == origin.name), None)

    def pieces(self) -> Iterator[Piece]:
        """Yield everything that is taken."""
        yield from self.spare
        for lv in self.lvs:
            yield from lv.pieces
            yield from lv.metadata


class Mapped(msgspec.Struct, kw_only=True):
    """A device over all of ``below``, the uuid of a logical volume or of another such device.

    One of dm-crypt, which ``path`` leads to from below, else of dm-linear. ``frozen``: somebody has
    frozen the filesystem on it, so that it cannot be suspended.
    """

    name: str
    uuid: str
    minor: int
    below: str
    sectors: int
    loaded_sectors: int = 0
    loaded_below: str = ""
    read_only: bool = False
    suspended: bool = False
    frozen: bool = False
    held_open: bool = False
    path: str = ""

    def resume(self) -> None:
        """Have it go on, by the table that was loaded if there is one."""
        self.sectors = self.loaded_sectors or self.sectors
        self.below = self.loaded_below or self.below
        self.suspended = False
        self.clear()

    def clear(self) -> None:
        """Have no table but the one in use."""
        self.loaded_sectors, self.loaded_below = 0, ""

    @property
    def is_crypt(self) -> bool:
        """Whether it is the plain side of what is below."""
        return bool(self.path)

    @property
    def size_bytes(self) -> int:
        """How large it is."""
        return self.sectors * SECTOR_BYTES


class Moved(msgspec.Struct, kw_only=True):
    """What a device has counted since it was made, as the machine's so-manyeth: its ``life``."""

    life: int
    written_bytes: int = 0
    read_bytes: int = 0


class Cgroup(msgspec.Struct, kw_only=True):
    """A control group; ``io_max`` is what stands in its file, by device number."""

    controllers: list[str] = []
    io_max: dict[str, str] = {}


class Mount(msgspec.Struct, kw_only=True, frozen=True):
    """A filesystem in use: ``device`` is a disk's key or the uuid of what is mapped."""

    device: str
    target: str
    busy: bool = False


class KeptBackup(msgspec.Struct, kw_only=True):
    """A backup in the bucket that this machine alone can see."""

    manifest: Manifest
    content: Content


class State(msgspec.Struct, kw_only=True):
    """Everything about one machine. ``contents`` lies where the extents lie, not on volumes.

    So a volume made on extents that another left behind finds what was not wiped, as in life.
    ``copied`` is how far each copy is, by its journal; ``backups`` is the only bucket there is.
    ``let_go``: LVM is so slow that devices do not stand still until it is done. ``files`` are those
    that DRBD and who watches it read, by path; ``legs`` what its kernel has, once it is
    ``drbd_loaded``.
    """

    machine: str
    disks: dict[str, Disk] = {}
    pvs: dict[str, Pv] = {}
    vgs: list[Vg] = []
    contents: dict[str, Content] = {}
    mounts: list[Mount] = []
    mapped: list[Mapped] = []
    links: dict[str, str] = {}
    copied: dict[str, int] = {}
    backups: dict[str, KeptBackup] = {}
    cgroups: dict[str, Cgroup] = {}
    let_go: bool = False
    files: dict[str, str] = {}
    drbd_loaded: bool = False
    legs: list[Leg] = []
    counter: int = 0
    lives: int = 0
    moved: dict[str, Moved] = {}

    def fresh_uuid(self) -> str:
        """Return an identity in LVM's spelling that this machine has not given yet."""
        self.counter += 1
        digest = hashlib.sha256(f"{self.machine}/{self.counter}".encode()).hexdigest()
        return "-".join((digest[:6], digest[6:10], digest[10:14], digest[14:18], digest[18:24]))

    def fresh_minor(self) -> int:
        """Return the least number that no mapped device has."""
        taken = {lv.minor for vg in self.vgs for lv in vg.lvs} | {one.minor for one in self.mapped}
        return next(number for number in range(len(taken) + 1) if number not in taken)

    def count_anew(self, uuid: str) -> None:
        """Have a device that was just made count from nought."""
        self.lives += 1
        self.moved[uuid] = Moved(life=self.lives)

    def mapped_as(self, name: str) -> Mapped | None:
        """Return the stable device of that name."""
        return next((one for one in self.mapped if one.name == name), None)

    def on_top_of(self, below: str) -> Mapped | Leg | None:
        """Return what lies on a logical volume or another device (uuid), if anything does."""
        found: list[Mapped | Leg] = [*self.all_on_top_of(below), *self.legs_on(below)]
        return next(iter(found), None)

    def all_on_top_of(self, below: str) -> list[Mapped]:
        """Return the mapped devices over a logical volume, another device or a replicated one."""
        return [one for one in self.mapped if one.below == below]

    def legs_on(self, below: str) -> list[Leg]:
        """Return the legs that DRBD has on a mapped device."""
        return [leg for leg in self.legs if leg.attached and leg.backing == below]

    def chain(self, mapped: Mapped) -> list[Mapped]:
        """Return a device and those below it, down to the one on the logical volume."""
        wanted = mapped.below
        if wanted.startswith(REPLICATED):
            wanted = next((leg.backing for leg in self.legs if device_of(leg) == wanted), "")
        below = next((one for one in self.mapped if one.uuid == wanted), None)
        return [mapped] if below is None else [mapped, *self.chain(below)]

    def vg(self, name: str) -> Vg | None:
        """Return the volume group of that name."""
        return next((vg for vg in self.vgs if vg.name == name), None)

    def vg_of(self, pv: str) -> Vg | None:
        """Return the group that a physical volume is in."""
        return next((vg for vg in self.vgs if pv in vg.pvs), None)

    def pv_on(self, disk: Disk) -> Pv | None:
        """Return the physical volume on a disk."""
        return next((pv for pv in self.pvs.values() if pv.disk == disk.key), None)

    def is_missing(self, pv: Pv) -> bool:
        """Whether the disk of a physical volume is not plugged in."""
        return pv.disk not in self.disks

    def free_extents(self, vg: Vg) -> int:
        """Return how many extents are nobody's."""
        total = sum(self.pvs[pv].extents for pv in vg.pvs)
        return total - sum(piece.count for piece in vg.pieces())

    def gaps(self, vg: Vg, pv: str) -> Iterator[Piece]:
        """Yield the runs of free extents on one physical volume, in order."""
        position = 0
        taken = sorted((p for p in vg.pieces() if p.pv == pv), key=lambda piece: piece.start)
        for piece in taken:
            if piece.start > position:
                yield Piece(pv=pv, start=position, count=piece.start - position)
            position = piece.start + piece.count
        if position < self.pvs[pv].extents:
            yield Piece(pv=pv, start=position, count=self.pvs[pv].extents - position)

    def metadata_free_bytes(self, vg: Vg) -> int:
        """Return what is left for LVM's own records: half an area is one version of them."""
        smallest = min(self.pvs[pv].start_bytes - 4096 for pv in vg.pvs)
        used = _METADATA_BYTES_A_GROUP + _METADATA_BYTES_A_VOLUME * len(vg.lvs)
        return max(0, smallest // 2 - used)

    def content_key(self, lv: Lv) -> str:
        """Return where in ``contents`` the start of a logical volume lies."""
        if lv.kind in {"thin", "snapshot"}:
            return f"{lv.kind}:{lv.uuid}"
        return f"{lv.pieces[0].pv}:{lv.pieces[0].start}"

    def mounts_of(self, device: str) -> list[str]:
        """Return the mount points of a disk (key) or logical volume (uuid)."""
        return [mount.target for mount in self.mounts if mount.device == device]


def device_of(leg: Leg) -> str:
    """Return by what mounts and mapped devices name a replicated device."""
    return f"{REPLICATED}{leg.minor}"
