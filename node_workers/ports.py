"""What the hands ask of the machine: run a tool, and make storage so, whatever it is now."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from node_workers.replication_spec import ReplicationSpec

Bytes = Annotated[int, Meta(ge=0, description="A size in bytes, never in GiB.")]

THIN_POOL_NAME = "hwbus-thin"


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one tool, as the audit keeps it.

    ``exit_status`` is negative when a signal ended the tool, and 127 when there is no such tool.
    """

    argv: tuple[str, ...]
    exit_status: int
    stdout: str
    stderr: str
    duration_ms: float
    cause: str
    started_at: datetime


class StorageError(Exception):
    """A machine that is not as it must be; ``reason`` is the slug that travels on the wire."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.sentence = sentence


class ToolFailedError(StorageError):
    """A tool said no and nothing better is known about why; repeating may help."""

    def __init__(self, execution: Execution) -> None:
        said = execution.stderr.strip() or execution.stdout.strip() or "it said nothing"
        super().__init__(
            "tool-failed",
            f"{' '.join(execution.argv[:2])} ended with {execution.exit_status}: {said[-400:]}",
        )
        self.execution = execution


class ToolTimedOutError(StorageError):
    """A tool was killed because it took too long; what it did is unknown: look again."""

    def __init__(self, execution: Execution, timeout_s: float, ending: str = "killed") -> None:
        super().__init__(
            "tool-timed-out", f"{execution.argv[0]} took longer than {timeout_s:g} s: {ending}"
        )
        self.execution = execution


class ToolStuckError(ToolTimedOutError):
    """A tool took too long and cannot even be killed; it may go on whenever its device answers."""

    def __init__(self, execution: Execution, timeout_s: float, pid: int) -> None:
        super().__init__(execution, timeout_s, f"it cannot be killed, {_hangs(pid)}")


class ToolNotStartedError(StorageError):
    """A tool did not run at all: the machine had no room for it, or the last such one hangs."""

    def __init__(self, tool: str, because: str) -> None:
        super().__init__("tool-failed", f"{tool} was not started: {because}")

    @classmethod
    def after_stuck(cls, tool: str, pid: int) -> "ToolNotStartedError":
        """Return that *tool* was not started with arguments with which it hangs already."""
        return cls(tool, f"the same command is not over yet, {_hangs(pid)}")


def _hangs(pid: int) -> str:
    return (
        f"process {pid} or one that it started hangs in the kernel; see /proc/{pid}/stack and the "
        "kernel's log for the device that does not answer; take that device away, or boot anew"
    )


class Refusal(StrEnum):
    """Why a device was left alone. Slugs are permanent: add, never rename."""

    DISK_MISSING = "disk-missing"
    DISK_PARTITIONED = "disk-partitioned"
    DISK_HAS_FILESYSTEM = "disk-has-filesystem"
    DISK_HAS_RAID = "disk-has-raid"
    DISK_HAS_FOREIGN_LVM = "disk-has-foreign-lvm"
    DISK_IN_OTHER_POOL = "disk-in-other-pool"
    DISK_MOUNTED = "disk-mounted"
    DISK_IN_USE = "disk-in-use"
    DISK_IS_SYSTEM = "disk-is-system"
    DISK_UNREADABLE = "disk-unreadable"
    FOREIGN_POOL = "foreign-pool"
    RENAMED_POOL = "renamed-pool"
    FOREIGN_VOLUME = "foreign-volume"
    RENAMED_VOLUME = "renamed-volume"
    FOREIGN_SIGNATURE = "foreign-signature"
    RESERVED_NAME = "reserved-name"
    FOREIGN_DEVICE = "foreign-device"
    MOUNT_POINT_TAKEN = "mount-point-taken"
    MOUNT_POINT_ELSEWHERE = "mount-point-elsewhere"


class RefusedToTouchError(StorageError):
    """Something that is not ours, or may hold data, is in the way; nothing was changed."""

    def __init__(self, reason: Refusal, sentence: str) -> None:
        super().__init__(reason.value, sentence)
        self.refusal = reason


class InUseError(StorageError):
    """Somebody uses it; ``mount_point`` names where, or is empty when only a holder is known."""

    def __init__(self, sentence: str, mount_point: str = "") -> None:
        super().__init__("in-use", sentence)
        self.mount_point = mount_point


class NoSpaceError(StorageError):
    """The pool has no room: ``reason`` is no-space or no-metadata-space."""


class NotThereError(StorageError):
    """What the step builds on is gone.

    ``reason`` is pool-missing, thin-pool-missing, volume-missing, snapshot-missing, header-lost, or
    disk-missing for a pool of which a disk is gone: nothing is made or grown in it until the disk
    is back or given up.
    """


class UnsuitableError(StorageError):
    """The machine can never do this as asked.

    ``reason`` is too-few-disks, filesystem-too-small, snapshot-lost for one that overflowed,
    copy-differs for a device that gives back something else than was written to it,
    verify-broken for a comparison that was,
    cannot-encrypt, wrong-key, same-key or no-key-slot, used-beside or not-still for volumes that
    could not be held still until the end, not-as-seen for what somebody decided on and is otherwise
    by now, and backup-exists, backup-missing, backup-damaged,
    backup-foreign, backup-changed, target-denied, target-no-bucket and target-unfit for what a
    target has, or does not let us do.
    """


class LoanError(StorageError):
    """What is to be copied from another node cannot be had now; it is worth asking again.

    ``reason`` is source-silent (its worker), source-not-lent, or source-unreachable (its data).
    """


class LimitsError(StorageError):
    """Limits cannot hold: ``reason`` is no-cgroup or no-io-controller."""


class Layout(StrEnum):
    """How the extents of a volume lie on its disks."""

    LINEAR = "linear"
    STRIPED = "striped"
    THIN = "thin"


class Filesystem(StrEnum):
    """What is made on a new volume."""

    NONE = "none"
    EXT4 = "ext4"
    XFS = "xfs"


class Consistency(StrEnum):
    """In what state a snapshot caught its volume."""

    FILESYSTEM = "filesystem"
    CRASH = "crash"


class PoolDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk to be taken into a pool: its cluster-wide identity and where it is now."""

    disk: str
    path: str


class VolumeSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A volume as it shall be. ``stripes`` counts only for the striped layout.

    With ``keys`` it is encrypted, and ``size_bytes`` includes its header: references of which one
    opens it, the first of them the one to make it with. With ``leg`` it is one of several that hold
    the same: header and filesystem are made above it, so nothing is made on it.
    """

    uid: str
    name: str
    pool: str
    size_bytes: Bytes
    layout: Layout = Layout.LINEAR
    stripes: int = 1
    filesystem: Filesystem = Filesystem.NONE
    keys: tuple[str, ...] = ()
    leg: bool = False


class CopyOf(msgspec.Struct, frozen=True, kw_only=True):
    """The snapshot that a new volume is to hold; *rate* in bytes/s.

    It is in a pool of this machine unless it is on another *node*, which lends it to *operation*.
    """

    snapshot: str
    uid: str
    pool: str
    pool_uid: str
    size_bytes: Bytes
    thin: bool = False
    rate_bytes_per_s: int = 0
    node: str = ""
    operation: str = ""


class SnapshotSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot as it shall be; ``size_bytes`` is the room a thick one has for what changes."""

    uid: str
    name: str
    pool: str
    size_bytes: Bytes
    volume: str
    volume_uid: str
    thin: bool = False


class PoolState(msgspec.Struct, frozen=True, kw_only=True):
    """A pool as LVM has it; ``disks`` are the stamps of its members, in LVM's order."""

    uid: str
    name: str
    size_bytes: Bytes
    free_bytes: Bytes
    extent_bytes: Bytes
    metadata_bytes: Bytes
    metadata_free_bytes: Bytes
    disks: tuple[str, ...]


class ThinPoolState(msgspec.Struct, frozen=True, kw_only=True):
    """A thin pool; ``taken_bytes`` is what the pool gave for data, metadata and the spare."""

    pool: str
    size_bytes: Bytes
    metadata_bytes: Bytes
    taken_bytes: Bytes


class VolumeState(msgspec.Struct, frozen=True, kw_only=True):
    """A volume as LVM has it. It may be larger than asked: whole extents, and never shrunk."""

    uid: str
    name: str
    pool: str
    size_bytes: Bytes
    path: str
    changed: bool


class CopyState(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a copy is there, verified; ``volume`` is set when it is whole and in use."""

    done_bytes: Bytes
    volume: VolumeState | None = None


class SnapshotState(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot as LVM has it, and how it caught its volume.

    ``turn`` is when it was taken, if those of other replicas were taken with it, and ``followed``
    the nodes that have those.
    """

    size_bytes: Bytes
    path: str
    consistency: Consistency
    changed: bool
    turn: str = ""
    followed: tuple[str, ...] = ()


class Lead(Protocol):
    """What has other nodes take the snapshots of their replicas, in a turn of this name."""

    @property
    def turn(self) -> str:
        """What the turn is called; another one is called otherwise."""
        ...

    async def ready(self) -> tuple[str, ...]:
        """Return the nodes that can take theirs at once."""
        ...

    async def take(
        self, nodes: tuple[str, ...], caught: Mapping[str, Consistency]
    ) -> tuple[str, ...]:
        """Have theirs taken by *nodes* now; return those that have, in good time.

        *caught* tells, by the uids of volumes, in what state this node holds them.
        """
        ...


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How fast a device may be used; None: as fast as it goes."""

    read_iops: int | None = None
    write_iops: int | None = None
    read_bytes_per_s: int | None = None
    write_bytes_per_s: int | None = None

    @property
    def any(self) -> bool:
        """Whether anything is limited."""
        return self != Limits()


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """A volume in use: ``mount_point`` empty, the device alone; limits hold in ``cgroup``.

    One of ``keys``, which are references, opens it, if it is encrypted. With ``replication`` this
    node becomes primary first, and the device lies on the replicated one.
    """

    volume: str
    volume_uid: str
    pool: str
    filesystem: Filesystem = Filesystem.NONE
    mount_point: str = ""
    read_only: bool = False
    cgroup: str = ""
    limits: Limits = Limits()
    keys: tuple[str, ...] = ()
    replication: ReplicationSpec | None = None


class StableDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A device as its consumer sees it; ``path`` leads to ``node``, ``number`` is "254:3"."""

    path: str
    node: str
    number: str
    suspended: bool = False
    open: bool = False


class BlockFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel itself says about a disk; empty or None where it says nothing."""

    serial: str = ""
    wwn: str = ""
    model: str = ""
    rotational: bool | None = None
    holders: tuple[str, ...] = ()


class DeviceIo(msgspec.Struct, frozen=True, kw_only=True):
    """What a device has counted in its ``life``, which no other device has, nor had."""

    life: str
    written_bytes: Bytes
    read_bytes: Bytes


class Sysfs(Protocol):
    """The kernel's own facts about block devices, which lsblk only knows through udev."""

    async def facts(self, names: Sequence[str]) -> Mapping[str, BlockFacts]:
        """Return the facts of the named devices; a name that is gone is left out."""
        ...


class Counters(Protocol):
    """What the kernel has counted of the I/O of block devices."""

    async def io(self, number: str, uid: str) -> DeviceIo | None:
        """Return what the stable device "254:3" has counted; None: that volume (uid) has it not."""
        ...


class Runner(Protocol):
    """Runs tools. Every execution has a cause, a bound, and ends up on the audit stream."""

    async def run(
        self, argv: Sequence[str], *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        """Run *argv* to its end and return what it left, whatever its exit status.

        A program that does not exist gives exit status 127. When cancelled, the tool and all it
        started are killed and reaped before the cancellation goes on, unless they hang in the
        kernel.

        Raises:
            ToolTimedOutError: it took longer than *timeout_s*; it and all it started are killed.
            ToolStuckError: the same, and it could not be killed.
            ToolNotStartedError: the machine could not start it, or it hangs since it was run last.
            ValueError: *cause* or *argv* is empty: no tool runs without a cause.
        """
        ...
