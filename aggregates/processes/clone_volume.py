"""Cloning a volume: a snapshot of its own, a volume out of that, and the snapshot goes again."""

from typing import ClassVar

from msgspec.structs import replace

from aggregates.processes import provision
from aggregates.processes.parts import BySnapshot
from aggregates.processes.process import Due, GivingUp, Process
from schemas.copying import RestoreVolume, VolumeCloneBegan, VolumeCloneFailed
from schemas.grammar import Event
from schemas.operation import OperationKind
from schemas.snapshot import CreateSnapshot
from schemas.volume import ConcludeVolume, VolumeProvisioned, VolumeProvisioningBegan


class Clone(BySnapshot, frozen=True, kw_only=True):
    """What is made out of the snapshot is a volume, which says itself what becomes of it."""

    MAKING: ClassVar[str] = "restore"

    wish: VolumeCloneBegan
    said_unmade: bool = False

    def take(self) -> CreateSnapshot:
        """Return what takes the snapshot."""
        return CreateSnapshot(
            snapshot=self.wish.snapshot,
            volume=self.wish.source,
            reserve_bytes=self.wish.reserve_bytes,
            operation=self.operation,
        )

    def make(self) -> Due:
        """Return what begins to make the volume."""
        restore = RestoreVolume(
            volume=self.wish.volume,
            snapshot=self.wish.snapshot,
            size_bytes=self.wish.size_bytes,
            layout=self.wish.layout,
            stripes=self.wish.stripes,
            pool=self.wish.pool,
            node=self.wish.node,
            rate_bytes_per_s=self.wish.rate_bytes_per_s,
            operation=self.operation,
            labels=self.wish.labels,
        )
        return Due("restore", restore)

    def made(self) -> Due | None:
        """Return nothing: the volume has said that it is there."""
        return None

    def unmade(self, why: GivingUp) -> Due | None:
        """Return what says that there is no volume, if it was not begun to be made."""
        if self.making is not None or self.said_unmade:
            return None
        failed = ConcludeVolume(
            volume=self.wish.volume,
            operation=self.operation,
            code=why.code,
            because=why.because[:1000],
        )
        return Due("failed", failed)

    def begun(self, event: Event) -> Process | None:
        """Return the making of the volume."""
        return provision.begin(event) if isinstance(event, VolumeProvisioningBegan) else None

    @property
    def going(self) -> str | None:
        """The snapshot that was taken."""
        return self.wish.snapshot

    def note(self, event: Event) -> "Clone":
        """Note what volume, pool, snapshot and node say."""
        if isinstance(event, VolumeCloneFailed):
            return replace(self, said_unmade=True)
        after = super().note(event)
        return after.success() if isinstance(event, VolumeProvisioned) else after


def begin(event: VolumeCloneBegan) -> Clone:
    """Return the operation that *event* began."""
    return Clone(
        operation=event.operation,
        kind=OperationKind.VOLUME_CLONE,
        object=f"volume/{event.volume}",
        deadline=event.deadline,
        wish=event,
    )
