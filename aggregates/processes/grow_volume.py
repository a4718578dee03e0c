"""Making a volume larger while it is in use: set room aside, grow the leg, book what it takes."""

from msgspec.structs import replace

from aggregates.processes.process import Due, GivingUp, Process
from schemas.grammar import Event
from schemas.operation import OperationKind
from schemas.pool import ReportUnreserved, Reserve, RoomReserved, RoomSettled, RoomUnreserved
from schemas.replica import ReplicaResized, ReplicaResizeWanted, ReplicaTroubled, ResizeReplica
from schemas.volume import (
    ConcludeVolume,
    Layout,
    VolumeGrown,
    VolumeGrowthBegan,
    VolumeGrowthFailed,
)


class GrowVolumeProcess(Process, frozen=True, kw_only=True):
    """What cannot be undone is never pretended away: a leg that has grown stays grown.

    Sizes are the volume's; its leg is larger by ``header_bytes``.
    """

    volume: str
    uid: str
    node: str
    pool: str
    from_bytes: int
    to_bytes: int
    stripes: int
    thin: bool
    header_bytes: int = 0
    reserved: bool = False
    wanted_bytes: int = 0
    actual_bytes: int = 0
    settled: bool = False
    concluded: bool = False

    def forward(self) -> Due | None:
        """Reserve, have the leg grown, wait for the node and the ledger, conclude."""
        if self.succeeded:
            return self.completed()
        if not (self.reserved or self.wanted_bytes):
            return Due("reserve", self._reserve())
        if not self.wanted_bytes:
            return Due("resize", self._resize(self.to_bytes))
        if self.actual_bytes < self.to_bytes or not self.settled:
            return None
        return self._conclude(None)

    def back(self, why: GivingUp) -> Due | None:
        """Withdraw the wish, give back what was set aside, keep the volume in use."""
        if self.wanted_bytes == self.to_bytes:
            return Due("withdraw", self._resize(self.from_bytes))
        waits_for_node = self.wanted_bytes and not (self.actual_bytes and self.settled)
        if waits_for_node and not self.out_of_time:
            return None
        if self.reserved and not self.wanted_bytes:
            return Due(
                "unreserve",
                ReportUnreserved(pool=self.pool, node=self.node, claim=self.uid),
            )
        if not self.concluded:
            return self._conclude(why)
        left = (f"pool/{self.node}/{self.pool}",) if waits_for_node else ()
        return self.given_up(why, *left)

    def note(self, event: Event) -> "GrowVolumeProcess":
        """Note what pool and node say."""
        match event:
            case RoomReserved():
                return replace(self, reserved=True)
            case RoomUnreserved():
                return replace(self, reserved=False)
            case ReplicaResizeWanted():
                wanted = event.size_bytes - self.header_bytes
                return replace(self, wanted_bytes=wanted, actual_bytes=0, settled=False)
            case ReplicaResized():
                return replace(self, actual_bytes=event.size_bytes - self.header_bytes)
            case RoomSettled():
                return replace(self, settled=True, reserved=False)
            case ReplicaTroubled(permanent=True):
                return self.give_up(event.code, event.because)
            case VolumeGrown():
                return self.success()
            case VolumeGrowthFailed():
                return replace(self, concluded=True)
            case _:
                return self

    def _reserve(self) -> Reserve:
        return Reserve(
            pool=self.pool,
            node=self.node,
            claim=self.uid,
            size_bytes=self.to_bytes - self.from_bytes,
            operation=self.operation,
            thin=self.thin,
            stripes=self.stripes,
            first=False,
        )

    def _resize(self, size_bytes: int) -> ResizeReplica:
        return ResizeReplica(
            volume=self.volume,
            node=self.node,
            operation=self.operation,
            size_bytes=size_bytes + self.header_bytes,
        )

    def _conclude(self, why: GivingUp | None) -> Due:
        return Due(
            "grown" if why is None else "failed",
            ConcludeVolume(
                volume=self.volume,
                operation=self.operation,
                size_bytes=self.actual_bytes or self.from_bytes,
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
        volume=event.volume,
        uid=event.uid,
        node=event.node,
        pool=event.pool,
        from_bytes=event.from_bytes,
        to_bytes=event.size_bytes,
        stripes=event.stripes,
        thin=event.layout is Layout.THIN,
        header_bytes=event.header_bytes,
    )
