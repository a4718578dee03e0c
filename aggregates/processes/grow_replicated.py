"""Making a volume with several replicas larger, in use: room and leg on each node, then all."""

from typing import Self

from msgspec.structs import replace

from aggregates.processes import grow_volume
from aggregates.processes.process import Due, GivingUp, Process
from schemas.grammar import Event
from schemas.operation import OperationKind, StepRefused
from schemas.pool import ReportUnreserved, Reserve, RoomReserved, RoomSettled, RoomUnreserved
from schemas.replica import ReplicaResized, ReplicaResizeWanted, ReplicaTroubled, ResizeReplica
from schemas.volume import (
    ConcludeVolume,
    Layout,
    Leg,
    VolumeGrown,
    VolumeGrowthBegan,
    VolumeGrowthFailed,
)


class GrowReplicatedProcess(Process, frozen=True, kw_only=True):
    """The replicated device is as large as its smallest leg: it grows when all of them have.

    What is told of each node is kept by name; a leg that has grown stays grown.
    """

    wish: VolumeGrowthBegan
    reserved: frozenset[str] = frozenset()
    asked: frozenset[str] = frozenset()
    withdrawn: frozenset[str] = frozenset()
    resized: frozenset[str] = frozenset()
    settled: frozenset[str] = frozenset()
    stuck: bool = False
    concluded: bool = False

    @property
    def legs(self) -> tuple[Leg, ...]:
        """Where the replicas are, the one that is written to first."""
        return (Leg(node=self.wish.node, pool=self.wish.pool), *self.wish.others)

    @property
    def grown(self) -> bool:
        """Whether all legs are as large as asked, and the ledgers know."""
        nodes = frozenset(leg.node for leg in self.legs)
        return nodes <= self.resized & self.settled and not self.withdrawn

    def forward(self) -> Due | None:
        """Reserve everywhere, then have all legs grown, wait for nodes and ledgers, conclude."""
        if self.succeeded:
            return self.completed()
        for number, leg in enumerate(self.legs):
            if leg.node not in self.reserved | self.asked:
                return Due("reserve", self._room(leg), number)
        for number, leg in enumerate(self.legs):
            if leg.node not in self.asked:
                return Due("resize", self._resize(leg, larger=True), number)
        return self._conclude(None) if self.grown else None

    def back(self, why: GivingUp) -> Due | None:
        """Withdraw the wishes, give back what was set aside, then say what there is."""
        if self.grown:
            return self._conclude(None)
        for number, leg in enumerate(self.legs):
            if leg.node in self.asked - self.withdrawn:
                return Due("withdraw", self._resize(leg, larger=False), number)
        unsure = self.withdrawn - (self.resized & self.settled)
        if unsure and not (self.out_of_time or self.stuck):
            return None
        for number, leg in enumerate(self.legs):
            if leg.node in self.reserved - self.asked:
                room = ReportUnreserved(pool=leg.pool, node=leg.node, claim=self.wish.uid)
                return Due("unreserve", room, number)
        if not self.concluded:
            return self._conclude(why)
        volume = self.wish.volume
        return self.given_up(why, *(f"replica/{node}/{volume}" for node in sorted(unsure)))

    def refused(self, refusal: StepRefused) -> Self:
        """Go back; a leg that cannot be asked for less is left as it is."""
        if refusal.step == "withdraw":
            return replace(self, withdrawn=self.asked, stuck=True)
        return self.give_up(refusal.code, f"{refusal.step}: {refusal.because}")

    def note(self, event: Event) -> Self:
        """Note what volume, pools and nodes say."""
        match event:
            case RoomReserved():
                return replace(self, reserved=self.reserved | {event.node})
            case RoomUnreserved():
                return replace(self, reserved=self.reserved - {event.node})
            case ReplicaResizeWanted():
                return self._asked(event.node)
            case ReplicaResized():
                return replace(self, resized=self.resized | {event.node})
            case RoomSettled():
                left = self.reserved - {event.node}
                return replace(self, settled=self.settled | {event.node}, reserved=left)
            case ReplicaTroubled(permanent=True):
                return self.give_up(event.code, event.because)
            case VolumeGrown():
                return self.success()
            case VolumeGrowthFailed():
                return replace(self, concluded=True)
            case _:
                return self

    def _asked(self, node: str) -> Self:
        again = node in self.asked
        return replace(
            self,
            asked=self.asked | {node},
            withdrawn=self.withdrawn | {node} if again else self.withdrawn,
            resized=self.resized - {node},
            settled=self.settled - {node},
        )

    def _leg_bytes(self, *, larger: bool) -> int:
        if larger:
            return self.wish.size_bytes + self.wish.header_bytes + self.wish.more_bytes
        return self.wish.from_bytes + self.wish.header_bytes

    def _room(self, leg: Leg) -> Reserve:
        more = self._leg_bytes(larger=True) - self._leg_bytes(larger=False)
        return Reserve(
            pool=leg.pool,
            node=leg.node,
            claim=self.wish.uid,
            size_bytes=more,
            operation=self.operation,
            thin=self.wish.layout is Layout.THIN,
            stripes=self.wish.stripes,
            first=False,
        )

    def _resize(self, leg: Leg, *, larger: bool) -> ResizeReplica:
        wish = self.wish
        return ResizeReplica(
            volume=wish.volume,
            node=leg.node,
            operation=self.operation,
            size_bytes=self._leg_bytes(larger=larger),
            device_bytes=(wish.size_bytes if larger else wish.from_bytes) + wish.inside_bytes,
            filesystem=wish.filesystem,
        )

    def _conclude(self, why: GivingUp | None) -> Due:
        wish = self.wish
        return Due(
            "grown" if why is None else "failed",
            ConcludeVolume(
                volume=wish.volume,
                operation=self.operation,
                size_bytes=wish.size_bytes if why is None else wish.from_bytes,
                code=why.code if why else None,
                because=why.because[:1000] if why else "",
            ),
        )


def begin(event: VolumeGrowthBegan) -> Process:
    """Return the operation that *event* began, of however many replicas."""
    if not event.others:
        return grow_volume.begin(event)
    return GrowReplicatedProcess(
        operation=event.operation,
        kind=OperationKind.VOLUME_GROW,
        object=f"volume/{event.volume}",
        deadline=event.deadline,
        wish=event,
    )
