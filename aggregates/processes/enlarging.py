"""Giving a leg more room, as larger volumes and larger snapshots do: reserve, resize, settle."""

from abc import abstractmethod
from typing import Self

from msgspec.structs import replace

from aggregates.processes.process import Due, GivingUp, Process
from schemas.grammar import Event
from schemas.pool import ReportUnreserved, Reserve, RoomReserved, RoomSettled, RoomUnreserved
from schemas.replica import ReplicaResized, ReplicaResizeWanted, ReplicaTroubled, ResizeReplica


class Enlarging(Process, frozen=True, kw_only=True):
    """What cannot be undone is never pretended away: a leg that has grown stays grown.

    ``wanted_bytes`` is what the node was asked for last, ``actual_bytes`` what it answered; all
    sizes are those of the leg.
    """

    reserved: bool = False
    wanted_bytes: int = 0
    actual_bytes: int = 0
    settled: bool = False

    @property
    @abstractmethod
    def from_bytes(self) -> int:
        """How large the leg is."""

    @property
    @abstractmethod
    def to_bytes(self) -> int:
        """How large it shall become."""

    @abstractmethod
    def reserve(self) -> Reserve:
        """Return what sets the room aside."""

    @abstractmethod
    def resize(self, size_bytes: int) -> ResizeReplica:
        """Return what wants the leg that large."""

    @property
    def enlarged(self) -> bool:
        """Whether the leg is as large as asked, and the ledger knows."""
        return self.actual_bytes >= self.to_bytes and self.settled

    @property
    def waits_for_node(self) -> bool:
        """Whether the node was asked for a size and has not said, or not booked, what there is."""
        return bool(self.wanted_bytes) and not (self.actual_bytes and self.settled)

    def enlarge(self) -> Due | None:
        """Return the next step until the leg is enlarged."""
        if not (self.reserved or self.wanted_bytes):
            return Due("reserve", self.reserve())
        return None if self.wanted_bytes else Due("resize", self.resize(self.to_bytes))

    def back(self, why: GivingUp) -> Due | None:
        """Withdraw the wish, give back what was set aside, then say what there is."""
        if self.wanted_bytes == self.to_bytes:
            return Due("withdraw", self.resize(self.from_bytes))
        if self.waits_for_node and not self.out_of_time:
            return None
        if self.reserved and not self.wanted_bytes:
            room = self.reserve()
            claim = ReportUnreserved(pool=room.pool, node=room.node, claim=room.claim)
            return Due("unreserve", claim)
        return self.conclude_back(why)

    @abstractmethod
    def conclude_back(self, why: GivingUp) -> Due:
        """Return what says that it was given up, and then the end."""

    def note_leg(self, event: Event) -> Self:
        """Note what pool and node say of room and leg."""
        match event:
            case RoomReserved() | RoomUnreserved():
                return replace(self, reserved=isinstance(event, RoomReserved))
            case ReplicaResizeWanted():
                return replace(self, wanted_bytes=event.size_bytes, actual_bytes=0, settled=False)
            case ReplicaResized():
                return replace(self, actual_bytes=event.size_bytes)
            case RoomSettled():
                return replace(self, settled=True, reserved=False)
            case ReplicaTroubled(permanent=True):
                return self.give_up(event.code, event.because)
            case _:
                return self
