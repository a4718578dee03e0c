"""What people may ask about: one row each, flat, in base units, and nothing computed by the asker.

Rows are read, never written, by anybody but the projectors. ``seq`` is the sequence of the last
commit that changed the row, ``version`` how many commits its aggregate has (what
``Hwbus-Expected-Version`` expects). Sizes are bytes, moments are UTC, an absent thing is empty.
"""

from enum import StrEnum

import msgspec

from schemas.attachment import Limits
from schemas.disk import Content, DiskClass, Health
from schemas.mending import SeenVolume
from schemas.node import Capability, Drift
from schemas.refusals import Refusal
from schemas.replica_view import LegRole, ReplicasCompared, VolumeHealth, VolumeLeg
from schemas.replication import LegDisk, PeerSeen
from schemas.settling import Verb
from schemas.units import Moment
from schemas.volume import Candidate, Filesystem, Layout


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a view."""


class Tracked(Row, frozen=True, kw_only=True):
    """A row that stands for an aggregate: when it came, when it changed last, and by what."""

    created_at: Moment
    changed_at: Moment
    seq: int
    version: int = 0


class NodeState(StrEnum):
    """How it is with a node; the first that is true, from the last to the first."""

    READY = "ready"
    CORDONED = "cordoned"
    SILENT = "silent"
    DRAINING = "draining"
    REMOVING = "removing"
    REMOVED = "removed"
    ADMITTED = "admitted"


class NodeRow(Tracked, frozen=True, kw_only=True):
    """One node. ``drifts`` counts open findings; ``last_heard`` is set while it is silent."""

    name: str
    state: NodeState
    why: str = ""
    address: str = ""
    zone: str = ""
    capabilities: tuple[Capability, ...] = ()
    worker_version: str = ""
    cordoned: bool = False
    draining: bool = False
    silent: bool = False
    last_heard: Moment | None = None
    pools: tuple[str, ...] = ()
    disks: int = 0
    drifts: int = 0
    operation: str = ""
    deadline: Moment | None = None


class DiskState(StrEnum):
    """Whether a disk can be taken. ``occupied``: it carries something and is never claimed.

    ``failing``: it says so itself, in a pool or not.
    """

    FREE = "free"
    OCCUPIED = "occupied"
    RESERVED = "reserved"
    CLAIMED = "claimed"
    FAILING = "failing"
    SEEN_TWICE = "seen-twice"
    GONE = "gone"


class DiskRow(Tracked, frozen=True, kw_only=True):
    """One disk. ``media`` is what counts, ``media_seen`` what the node believes it to be.

    ``also_on`` lists further nodes that see a disk of the same identity; ``volume`` is the one
    that it is, if it is in no pool.
    """

    id: str
    node: str
    path: str
    state: DiskState
    why: str = ""
    size_bytes: int
    media: DiskClass
    media_seen: DiskClass
    overridden: bool = False
    content: Content
    detail: str = ""
    serial: str = ""
    wwn: str = ""
    model: str = ""
    pool: str = ""
    operation: str = ""
    reserved: bool = False
    gone: bool = False
    also_on: tuple[str, ...] = ()
    health: Health = Health.UNKNOWN
    health_reasons: tuple[str, ...] = ()
    volume: str = ""


class PoolState(StrEnum):
    """What is being done with a pool."""

    FORMING = "forming"
    READY = "ready"
    GROWING = "growing"
    REMOVING = "removing"
    SHRINKING = "shrinking"


class PoolRow(Tracked, frozen=True, kw_only=True):
    """One pool and its ledger, as LVM counts.

    ``size = allocated + free``; ``allocated`` is thick volumes and the whole thin pool with its
    overhead; ``available = free - reserved`` is what a new thick volume may get, less
    ``leaving``, what goes with disks that are on their way out. The thin pool:
    ``thin_committed`` is the sum of what its volumes were promised, reservations included,
    ``thin_fill_percent`` and ``thin_metadata_percent`` how full it was when a mark was passed last;
    ``thin_growing`` is set aside while it is being made larger, and not ``available`` either.
    """

    name: str
    node: str
    uid: str
    state: PoolState
    why: str = ""
    code: Refusal | None = None
    size_bytes: int = 0
    allocated_bytes: int = 0
    reserved_bytes: int = 0
    free_bytes: int = 0
    available_bytes: int = 0
    leaving_bytes: int = 0
    extent_bytes: int = 0
    thin_bytes: int = 0
    thin_overhead_bytes: int = 0
    thin_committed_bytes: int = 0
    thin_committed_ratio: float = 0.0
    thin_ratio_percent: int = 100
    thin_fill_percent: int = 0
    thin_metadata_percent: int = 0
    thin_growing_bytes: int = 0
    volumes: int = 0
    volumes_max: int = 0
    metadata_bytes: int = 0
    metadata_used_ratio: float = 0.0
    disks: tuple[str, ...] = ()
    operation: str = ""
    deadline: Moment | None = None


class VolumeState(StrEnum):
    """What is being done with a volume. ``locked``: something with one of its snapshots.

    ``settling``: what somebody changed of it by hand is being put right.
    """

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
    REKEYING = "rekeying"
    LOCKED = "locked"
    SETTLING = "settling"
    ADDING_REPLICA = "adding-replica"
    REMOVING_REPLICA = "removing-replica"
    HANDING_OVER = "handing-over"
    FAILING_OVER = "failing-over"
    MIGRATING = "migrating"
    SETTLING_SPLIT = "settling-split"
    REPAIRING = "repairing"


class VolumeRow(Tracked, frozen=True, kw_only=True):
    """One volume. ``wanted_bytes`` is what a running operation is making of ``size_bytes``.

    ``fill_percent`` is how full its mounted filesystem was when it passed a mark last, with
    ``used_bytes`` of ``filesystem_bytes`` taken then; 0: nothing is known since it has grown.

    While a consumer has it, ``attached_device`` is what it uses, and ``limits`` hold in ``cgroup``;
    ``kernel_limits`` are those that its node said last that the kernel has, ``kernel_since`` then.
    One with the class ``qos`` has the limits of that class; while nobody has it, it carries none.
    One that is deleted and ``held`` goes for good after ``held_until``. One that is ``encrypted``
    opens by the key that its node finds under ``key_ref``; no key is in any view.

    ``defects`` are the open findings about its leg; the view ``drift`` tells them in full.
    ``candidates``, the pools that were looked at when it was placed, with their scores, and
    ``wanted_limits``, its own or those of its class, are filled by the view ``volume`` only.
    One that is a whole ``disk`` is in no pool. ``labels`` are what people sort it by.
    ``written_bytes`` and ``read_bytes`` went through its devices, as far as nodes have told.

    ``replicas`` are told where there are several, with their ``health``; ``node`` has the one that
    is written to, in that ``epoch``. Of ``replicas_wanted`` those are made anew that were lost with
    their node. ``survives`` is how many more may be lost. The one that is least filled is so to
    ``sync_percent``, and was last at ``sync_bytes_per_s``. ``failover``: another goes on by itself
    when that node falls silent. ``migrating_from`` is the node whose replica moves.
    """

    name: str
    uid: str
    state: VolumeState
    why: str = ""
    code: Refusal | None = None
    size_bytes: int = 0
    wanted_bytes: int = 0
    layout: Layout = Layout.LINEAR
    stripes: int = 1
    filesystem: Filesystem = Filesystem.NONE
    encrypted: bool = False
    key_ref: str = ""
    pool: str = ""
    node: str = ""
    device: str = ""
    consumer: str = ""
    attached_device: str = ""
    mount_point: str = ""
    read_only: bool = False
    cgroup: str = ""
    limits: Limits = Limits()
    qos: str = ""
    wanted_limits: Limits | None = None
    kernel_limits: Limits | None = None
    kernel_since: Moment | None = None
    fill_percent: int = 0
    used_bytes: int = 0
    filesystem_bytes: int = 0
    operation: str = ""
    deadline: Moment | None = None
    held_until: Moment | None = None
    defects: tuple[Drift, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    disk: str = ""
    replicas: tuple[VolumeLeg, ...] = ()
    replicas_wanted: int = 1
    health: VolumeHealth | None = None
    survives: int = 0
    epoch: int = 0
    failover: bool = True
    sync_percent: int | None = None
    sync_bytes_per_s: int | None = None
    migrating_from: str = ""
    compared: ReplicasCompared | None = None
    written_bytes: int = 0
    read_bytes: int = 0
    labels: dict[str, str] = msgspec.field(default_factory=dict)


class ReplicaState(StrEnum):
    """What the node shall have, and has, of a leg."""

    WANTED = "wanted"
    PRESENT = "present"
    RESIZING = "resizing"
    HOLDING = "holding"
    HELD = "held"
    REMOVING = "removing"
    MERGING = "merging"
    MENDING = "mending"
    TYING = "tying"


class ReplicaRow(Tracked, frozen=True, kw_only=True):
    """One leg of a volume on one node.

    ``size_bytes`` includes the header of an encrypted one; each of ``keys``, which are references,
    may open it: more than one while its key is being changed, or where that was given up.

    What follows ``operation`` is of a leg among several, by the last word of its node: given at
    ``seen_at``, when that knew the volume to be in the epoch ``seen_in``; ``epoch`` is the latest
    that it was told. ``out_of_sync_bytes`` is the most it differs by from a peer, and
    ``sync_bytes_per_s`` how fast that became less. ``outdated`` is the word of the log.
    """

    volume: str
    node: str
    pool: str
    uid: str
    state: ReplicaState
    why: str = ""
    code: Refusal | None = None
    permanent: bool = False
    size_bytes: int = 0
    wanted_bytes: int = 0
    layout: Layout = Layout.LINEAR
    stripes: int = 1
    filesystem: Filesystem = Filesystem.NONE
    keys: tuple[str, ...] = ()
    device: str = ""
    operation: str = ""
    role: LegRole | None = None
    disk_state: LegDisk | None = None
    peers: tuple[PeerSeen, ...] = ()
    frozen: bool = False
    split: bool = False
    out_of_sync_bytes: int = 0
    sync_bytes_per_s: int | None = None
    seen_at: Moment | None = None
    seen_in: int = 0
    epoch: int = 0
    outdated: bool = False


class DriftRow(Row, frozen=True, kw_only=True):
    """One open difference between what was decided and what is, and since when it is known.

    ``seen`` is the mark of its present state, ``last_seen`` when that was told; it is so for as
    long as its node is heard. ``quiet``: it is in quarantine. ``operation`` settles it, or has, by
    ``verb`` and for ``by``; ``why`` and ``code`` tell why that was given up the last time.
    """

    node: str
    drift: Drift
    object: str
    wanted: str = ""
    observed: str = ""
    settle: tuple[str, ...] = ()
    since: Moment
    last_seen: Moment | None = None
    seen: str = ""
    lv: SeenVolume | None = None
    quiet: bool = False
    operation: str = ""
    verb: Verb | None = None
    by: str = ""
    why: str = ""
    code: Refusal | None = None
    seq: int


class PastDriftRow(Row, frozen=True, kw_only=True):
    """A difference that is no more. Without ``by`` it went away without a command of ours."""

    node: str
    drift: Drift
    object: str
    wanted: str = ""
    observed: str = ""
    since: Moment
    until: Moment
    verb: Verb | None = None
    by: str = ""
    operation: str = ""
    seq: int


class ParkedRow(Row, frozen=True, kw_only=True):
    """A message that the projectors could not read. It stopped nothing."""

    stream: str
    seq: int
    subject: str
    at: Moment
    because: str
    data: str = ""


class StatusRow(Row, frozen=True, kw_only=True):
    """How far the views have followed one stream."""

    stream: str
    position: int
    head: int
    lag_events: int
    lag_s: float
    parked: int
    unknown: int = 0
