"""Making a volume larger while it is in use: set room aside, grow the leg, book what it takes."""

from msgspec.structs import replace

from aggregates.processes.enlarging import Enlarging
from aggregates.processes.process import Due, GivingUp
from schemas.grammar import Event
from schemas.operation import OperationKind
from schemas.pool import Reserve
from schemas.replica import ResizeReplica
from schemas.volume import (
    ConcludeVolume,
    Layout,
    VolumeGrown,
    VolumeGrowthBegan,
    VolumeGrowthFailed,
)


class GrowVolumeProcess(Enlarging, frozen=True, kw_only=True):
    """The wish tells sizes of the volume; its leg is larger by the header."""

    wish: VolumeGrowthBegan
    concluded: bool = False

    @property
    def from_bytes(self) -> int:
        """How large the leg is."""
        return self.wish.from_bytes + self.wish.header_bytes

    @property
    def to_bytes(self) -> int:
        """How large it shall become."""
        return self.wish.size_bytes + self.wish.header_bytes

    def forward(self) -> Due | None:
        """Reserve, have the leg grown, wait for the node and the ledger, conclude."""
        if self.succeeded:
            return self.completed()
        return self._conclude(None) if self.enlarged else self.enlarge()

    def conclude_back(self, why: GivingUp) -> Due:
        """Keep the volume in use."""
        if not self.concluded:
            return self._conclude(why)
        left = (f"pool/{self.wish.node}/{self.wish.pool}",) if self.waits_for_node else ()
        return self.given_up(why, *left)

    def note(self, event: Event) -> "GrowVolumeProcess":
        """Note what volume, pool and node say."""
        match event:
            case VolumeGrown():
                return self.success()
            case VolumeGrowthFailed():
                return replace(self, concluded=True)
            case _:
                return self.note_leg(event)

    def reserve(self) -> Reserve:
        """Return what sets aside what is missing."""
        return Reserve(
            pool=self.wish.pool,
            node=self.wish.node,
            claim=self.wish.uid,
            size_bytes=self.to_bytes - self.from_bytes,
            operation=self.operation,
            thin=self.wish.layout is Layout.THIN,
            stripes=self.wish.stripes,
            first=False,
        )

    def resize(self, size_bytes: int) -> ResizeReplica:
        """Return what wants the leg that large."""
        return ResizeReplica(
            volume=self.wish.volume,
            node=self.wish.node,
            operation=self.operation,
            size_bytes=size_bytes,
        )

    def _conclude(self, why: GivingUp | None) -> Due:
        return Due(
            "grown" if why is None else "failed",
            ConcludeVolume(
                volume=self.wish.volume,
                operation=self.operation,
                size_bytes=(self.actual_bytes or self.from_bytes) - self.wish.header_bytes,
                code=why.code if why else None,
                because=why.because[:1000] if why else "",
            ),
        )


def begin(event: VolumeGrowthBegan) -> GrowVolumeProcess:
    """Return the operation that *event* began."""
    return GrowVolumeProcess(
        operation=event.operation,
        kind=OperationKind.VOLUME_GROW,
        object=f"volume/{event.volume}",
        deadline=event.deadline,
        wish=event,
    )
