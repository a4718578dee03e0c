"""What is to be ensured, step by step: each says *shall be*, never *do*."""

import msgspec

from node_workers.wanted import (
    Origin,
)
from schemas.attachment import AttachmentSpec
from schemas.backups import FromBackup
from schemas.disk import Wiping
from schemas.errand import Errand, PutAside, PutBack
from schemas.keys import Encryption
from schemas.mending import Mend, SeenVolume
from schemas.pool import PoolFacts
from schemas.replica import ReplicaSpec
from schemas.replication import Replication
from schemas.volume import CopyOf


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to ensure for one object; ``key`` is its lane, ``group`` the volume group."""

    key: str
    group: str
    uid: str
    origin: Origin

    @property
    def alone(self) -> bool:
        """Whether nothing else may happen in the group meanwhile, and disks look other after it."""
        at_once = isinstance(self, HaveReplica) and bool(self.together)
        whole = isinstance(self, HaveReplica | HaveNoReplica) and self.spec.disk is not None
        return at_once or whole or isinstance(self, HavePool | HaveNoPool)

    @property
    def settles(self) -> bool:
        """Whether a finding is settled by it, so that a look is due to see whether it is gone."""
        if isinstance(self, HaveErrand | HaveNoErrand):
            return isinstance(self.errand, PutAside | PutBack)
        adopts = isinstance(self, HaveReplica) and self.may_create and self.spec.adopts is not None
        return adopts or isinstance(self, HaveMended | HaveLeft)

    @property
    def long(self) -> bool:
        """Whether it may take hours, and may be broken off anywhere without loss."""
        if isinstance(self, HaveReplica):
            return self.copied is not None
        if isinstance(self, HaveErrand):
            return not isinstance(self.errand, PutAside | PutBack)
        return isinstance(self, HavePool) and bool(self.leaving)

    @property
    def unready(self) -> bool:
        """Whether nobody was ever told that it is there, so that nobody but us can be at it."""
        if not isinstance(self, HaveReplica):
            return False
        others = self.spec.snapshot_of is not None or self.spec.adopts is not None
        return self.may_create and not others

    @property
    def destructive(self) -> bool:
        """Whether it takes data away, so that the log is asked once more before."""
        dropping = isinstance(self, HaveKeys) and bool(self.encryption.dropped)
        return dropping or isinstance(self, HaveNoPool | HaveNoReplica | HaveMerged)


class HavePool(Step, frozen=True, kw_only=True):
    """The group shall be there, on exactly these disks besides ``dropped``, with its thin pool.

    ``leaving`` shall be emptied and then go too; ``kept`` shall stay, and be used again.

    ``may_create`` is false for a group that was there once: it is not made anew; the same holds
    for its thin pool, of which ``facts`` tell the figures then, unless it is ``thin_growing``.
    """

    disks: tuple[str, ...]
    dropped: tuple[str, ...]
    leaving: tuple[str, ...]
    kept: tuple[str, ...]
    thin_bytes: int
    may_create: bool
    may_create_thin: bool
    facts: PoolFacts | None
    thin_growing: bool = False
    metadata_bytes: int = 0

    @property
    def unready(self) -> bool:
        """Whether only LVM itself can be at it: a move that was cut off has still to let go."""
        return bool(self.leaving)


class HaveNoPool(Step, frozen=True, kw_only=True):
    """Nothing of the group shall be left, and its disks shall be blank."""

    disks: tuple[str, ...]


class Leg(msgspec.Struct, frozen=True, kw_only=True):
    """One of several snapshots of one instant, and why it is wanted."""

    volume: str
    pool_uid: str
    spec: ReplicaSpec
    cause: str = ""
    correlation: str = ""


class HaveReplica(Step, frozen=True, kw_only=True):
    """The logical volume shall be there with all that its spec asks for.

    ``may_create`` is false for one that was there once; ``withdrawn``: it may be gone already.
    ``tied``: it was tied to its peers once, ``untie``: it shall be tied to nobody any more.
    ``source_pool_uid`` is the pool of the snapshot that it is to hold, if any.
    ``together`` are all snapshots of its instant, itself included; ``may_take`` is false if one of
    them was there once. ``of_tied``: it is the snapshot of a volume that is tied to peers.
    """

    volume: str
    pool_uid: str
    spec: ReplicaSpec
    may_create: bool
    withdrawn: bool = False
    source_pool_uid: str = ""
    tied: bool = False
    untie: bool = False
    of_tied: bool = False

    @property
    def copied(self) -> CopyOf | FromBackup | None:
        """The snapshot or backup that it is being filled from; None once it is there."""
        return (self.spec.copy_of or self.spec.from_backup) if self.may_create else None

    together: tuple[Leg, ...] = ()
    may_take: bool = True

    @property
    def instant(self) -> str:
        """What all snapshots of its instant have in common; empty for one of its own."""
        together = self.spec.together
        led = together is not None and together.turn is not None
        return together.instant if self.together and together is not None and not led else ""


class HaveSplitSettled(Step, frozen=True, kw_only=True):
    """The leg shall connect to its peers again after a split brain; ``loses``: without its data."""

    volume: str
    pool_uid: str
    spec: ReplicaSpec
    loses: bool


class HaveReplicaHeld(Step, frozen=True, kw_only=True):
    """The logical volume shall stay as it is, if it is there, and nobody shall use it.

    ``tied``: it may run in DRBD, whatever its spec says.
    """

    volume: str
    pool_uid: str
    spec: ReplicaSpec
    tied: bool = False


class HaveReplicaAwake(Step, frozen=True, kw_only=True):
    """The logical volume, with all that is on it, shall be in use again, if it is there."""

    volume: str
    pool_uid: str
    spec: ReplicaSpec


class HaveKeys(Step, frozen=True, kw_only=True):
    """The logical volume shall open by these keys, and by none of those that are dropped.

    ``elsewhere``: another node sees to that, and this one shall have the keys.
    """

    volume: str
    pool_uid: str
    spec: ReplicaSpec
    encryption: Encryption
    elsewhere: bool = False


class HaveMended(Step, frozen=True, kw_only=True):
    """The logical volume shall be put right so, if it is as ``seen``."""

    volume: str
    pool_uid: str
    spec: ReplicaSpec
    mend: Mend
    seen: SeenVolume | None


class HaveLeft(Step, frozen=True, kw_only=True):
    """Nobody shall work on it any more; ``mend`` is what was begun, ``give_back`` all of it."""

    volume: str
    pool_uid: str
    spec: ReplicaSpec
    mend: Mend | None
    give_back: bool


class HaveMerged(Step, frozen=True, kw_only=True):
    """The volume shall be what the snapshot kept of it, and the snapshot used up.

    ``of_tied``: the volume is tied to peers.
    """

    volume: str
    pool_uid: str
    spec: ReplicaSpec
    of_tied: bool = False


class HaveNoReplica(Step, frozen=True, kw_only=True):
    """Nothing of the logical volume shall be left; ``never_ready``: it was not even made.

    A whole disk shall be wiped in the way of ``wiping``. ``tied``: it may run in DRBD, whatever its
    spec says.
    """

    volume: str
    pool_uid: str
    spec: ReplicaSpec
    tied: bool = False
    never_ready: bool = False
    wiping: Wiping = Wiping.DISCARD

    @property
    def unready(self) -> bool:
        """Whether it is likely our own tool that is at it.

        Nobody was ever told that it is there; or it is a whole disk, and the tool that wipes it
        takes long and may outlive the worker that started it.
        """
        return self.never_ready or self.spec.disk is not None


class HaveAttachment(Step, frozen=True, kw_only=True):
    """The volume shall be in use as its spec says: device, mount and limits.

    One of ``keys`` opens it, if it is encrypted; it is tied by ``replication``, if it is.
    """

    volume: str
    pool_uid: str
    spec: AttachmentSpec
    keys: tuple[str, ...] = ()
    replication: Replication | None = None


class HaveNoAttachment(Step, frozen=True, kw_only=True):
    """Nothing of the attachment shall be left; the volume stays.

    ``forced``: also if somebody uses it, who gets I/O errors.
    """

    volume: str
    spec: AttachmentSpec
    keys: tuple[str, ...] = ()
    replication: Replication | None = None
    forced: bool = False


class HaveErrand(Step, frozen=True, kw_only=True):
    """The errand shall be done; ``pool_uid`` is the pool of what it reads, if it reads any."""

    pool_uid: str
    errand: Errand


class HaveNoErrand(Step, frozen=True, kw_only=True):
    """Nobody shall work on the errand, and nothing be kept of it."""

    pool_uid: str
    errand: Errand
