"""Backing a volume up: a snapshot of its own, an upload of that, and the snapshot goes again.

With ``keep`` it stays, and the one that was kept for this backup goes instead.
"""

from typing import ClassVar

from msgspec.structs import replace

from aggregates.processes.errand import RunningErrand, begin_part
from aggregates.processes.parts import BySnapshot
from aggregates.processes.process import Due, GivingUp, Process
from schemas.errand import ErrandDone, ErrandWanted, RunErrand, Upload
from schemas.grammar import Event
from schemas.operation import OperationKind
from schemas.replica import Consistency
from schemas.snapshot import (
    CreateSnapshot,
    ReadSnapshot,
    ReportSnapshotRead,
    SnapshotReadingBegan,
    SnapshotReadingEnded,
)
from schemas.target import BackupBegan, BackupFailed, BackupMade, ConcludeTarget


class BackUp(BySnapshot, frozen=True, kw_only=True):
    """What is made out of the snapshot lies elsewhere. Once the node has put the manifest, it is.

    The snapshot is held while it is read.
    """

    MAKING: ClassVar[str] = "upload"

    wish: BackupBegan
    reading: bool = False
    read: bool = False
    concluded: bool = False

    def take(self) -> CreateSnapshot:
        """Return what takes the snapshot."""
        return CreateSnapshot(
            snapshot=self.wish.snapshot,
            volume=self.wish.volume,
            reserve_bytes=self.wish.reserve_bytes,
            operation=self.operation,
            keep=self.wish.keep,
        )

    def make(self) -> Due:
        """Return what holds the snapshot, and then what has the node put it there."""
        wish = self.wish
        if not self.reading:
            snapshot, uid = wish.snapshot, self._uid
            return Due("read", ReadSnapshot(snapshot=snapshot, uid=uid, operation=self.operation))
        upload = Upload(
            place=wish.place,
            backup=wish.backup,
            cluster=wish.cluster,
            volume=wish.volume,
            volume_uid=wish.volume_uid,
            size_bytes=self._size_bytes,
            layout=wish.layout,
            filesystem=wish.filesystem,
            pool=wish.pool,
            snapshot=wish.snapshot,
            snapshot_uid=self._uid,
            consistency=self._consistency.value,
            at=wish.at,
            parent=wish.parent,
            parent_snapshot=wish.parent_snapshot,
            parent_snapshot_uid=wish.parent_snapshot_uid,
            rate_bytes_per_s=wish.rate_bytes_per_s,
        )
        run = RunErrand(operation=self.operation, node=wish.node, errand=upload)
        return Due("upload", run)

    def made(self) -> Due | None:
        """Return what says that the backup is there, and what lets the snapshot go."""
        if self.concluded:
            return self._let_go()
        found = self.making.found if isinstance(self.making, RunningErrand) else None
        made = ConcludeTarget(
            target=self.wish.target,
            operation=self.operation,
            found=found,
            snapshot_uid=self._uid,
            size_bytes=self._size_bytes,
            consistency=self._consistency,
        )
        return Due("made", made)

    def unmade(self, why: GivingUp) -> Due | None:
        """Return what says that there is no backup, and what lets the snapshot go."""
        if self.concluded:
            return self._let_go()
        failed = ConcludeTarget(
            target=self.wish.target,
            operation=self.operation,
            code=why.code,
            because=why.because[:1000],
        )
        return Due("failed", failed)

    def begun(self, event: Event) -> Process | None:
        """Return the upload."""
        return begin_part(event, self) if isinstance(event, ErrandWanted) else None

    @property
    def going(self) -> str | None:
        """The snapshot that was taken, or what was kept before it, if it is to be kept."""
        return self.wish.parent_snapshot if self._keeps else self.wish.snapshot

    def note(self, event: Event) -> "BackUp":
        """Note what target, snapshot and node say."""
        match event:
            case SnapshotReadingBegan() | SnapshotReadingEnded():
                return replace(self, reading=True, read=isinstance(event, SnapshotReadingEnded))
            case BackupMade() | BackupFailed():
                return replace(self, concluded=True)
            case ErrandDone() if not self.concluded:
                return super().note(event).success()
            case _:
                return super().note(event)

    @property
    def _keeps(self) -> bool:
        return self.wish.keep and self.succeeded

    @property
    def _uid(self) -> str:
        return "" if self.taking is None else self.taking.wish.uid

    @property
    def _size_bytes(self) -> int:
        return self.wish.size_bytes if self.taking is None else self.taking.wish.size_bytes

    @property
    def _consistency(self) -> Consistency:
        caught = None if self.taking is None else self.taking.consistency
        return caught or Consistency.CRASH

    def _let_go(self) -> Due | None:
        """Return what lets the snapshot go again, if it is held."""
        if not self.reading or self.read:
            return None
        done = ReportSnapshotRead(
            snapshot=self.wish.snapshot, uid=self._uid, operation=self.operation
        )
        return Due("let-go", done)


def begin(event: BackupBegan) -> BackUp:
    """Return the operation that *event* began."""
    return BackUp(
        operation=event.operation,
        kind=OperationKind.BACKUP_CREATE,
        object=f"target/{event.target}",
        deadline=event.deadline,
        wish=event,
    )
