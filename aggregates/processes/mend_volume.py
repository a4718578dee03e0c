"""Putting a volume right: held meanwhile, its leg put right by the node, the ledger kept true."""

from msgspec.structs import replace

from aggregates.processes.process import Due, GivingUp
from aggregates.processes.settling import Settle
from schemas.grammar import Event
from schemas.mending import (
    LeaveReplica,
    Mend,
    MendReplica,
    ReplicaMended,
    ReplicaMendLeft,
    ReplicaMendWanted,
    ReplicaMendWithdrawn,
)
from schemas.operation import StepRefused
from schemas.pool import (
    ReportUnreserved,
    Reserve,
    RoomReleased,
    RoomReserved,
    RoomSettled,
    RoomUnreserved,
)
from schemas.replica import ReplicaRemoved, ReplicaTroubled
from schemas.settling import (
    SettleVolume,
    VolumeLost,
    VolumeSettled,
    VolumeSettlingBegan,
    VolumeSettlingFailed,
)
from schemas.volume import ConcludeVolume


class MendVolume(Settle, frozen=True, kw_only=True):
    """What the node has done by the time it is given up counts: nothing of it is undone.

    ``lock`` is the volume's own beginning. ``leave_wanted``: the leg shall be left as it is.
    """

    volume: str
    mend: Mend
    lock: VolumeSettlingBegan | None = None
    reserved: bool = False
    mend_wanted: bool = False
    mended_bytes: int = 0
    booked: bool = False
    gone: bool = False
    released: bool = False
    leave_wanted: bool = False
    left: bool = False
    stuck: bool = False
    concluded: bool = False

    @property
    def done(self) -> bool:
        """Whether the node has said that it is so."""
        return bool(self.mended_bytes) or self.gone

    def do(self) -> Due | None:
        """Hold the volume, set room aside, have the leg put right, wait for node and ledger."""
        if self.lock is None:
            return Due(
                "lock", SettleVolume(**self._about(), mend=self.mend, seen=self.wish.finding.lv)
            )
        more_bytes = self.lock.size_bytes - self.lock.from_bytes
        if more_bytes > 0 and not (self.reserved or self.mend_wanted):
            return Due("reserve", self._reserve(self.lock, more_bytes))
        if not self.mend_wanted:
            return Due(
                "mend", MendReplica(**self._about(), mend=self.mend, seen=self.wish.finding.lv)
            )
        if not self.done or self._owed(self.lock):
            return None
        return self._conclude(self.lock, None)

    def undo(self, why: GivingUp) -> Due | None:
        """Have the leg left as it is, give back what was set aside, let go of the volume."""
        if self.lock is None or self.concluded:
            return None
        if self.done:
            waits = self._owed(self.lock) and not self.out_of_time
            return None if waits else self._conclude(self.lock, None)
        if self.mend_wanted and not self.left:
            if not self.leave_wanted:
                return Due("leave", LeaveReplica(**self._about()))
            if not (self.out_of_time or self.stuck):
                return None
        if self.reserved:
            unreserve = ReportUnreserved(
                pool=self.lock.pool, node=self.lock.node, claim=self.lock.uid
            )
            return Due("unreserve", unreserve)
        return self._conclude(self.lock, why)

    @property
    def waits(self) -> bool:
        """Whether the volume is held."""
        return self.lock is not None and not self.concluded

    def leftovers(self) -> tuple[str, ...]:
        """Return the leg, if the node has not said what became of it."""
        unsaid = self.mend_wanted and not (self.left or self.done)
        return (f"replica/{self.wish.node}/{self.volume}",) if unsaid else ()

    def refused(self, refusal: StepRefused) -> "MendVolume":
        """Know that there is nothing to be left, if that is refused."""
        if refusal.step == "leave":
            return replace(self, leave_wanted=True, left=True)
        return self.give_up(refusal.code, refusal.because)

    def noted(self, event: Event) -> "MendVolume":
        """Note what volume, pool and node say."""
        match event:
            case VolumeSettlingBegan():
                return replace(self, lock=event)
            case RoomReserved() | RoomUnreserved():
                return replace(self, reserved=isinstance(event, RoomReserved))
            case ReplicaMendWanted():
                return replace(self, mend_wanted=True)
            case ReplicaMended():
                return replace(self, mended_bytes=event.size_bytes)
            case RoomSettled():
                return replace(self, booked=True, reserved=False)
            case ReplicaRemoved():
                return replace(self, gone=True)
            case RoomReleased():
                return replace(self, released=True)
            case ReplicaMendWithdrawn():
                return replace(self, leave_wanted=True)
            case ReplicaMendLeft():
                return replace(self, left=True)
            case ReplicaTroubled(permanent=True):
                return replace(self.give_up(event.code, event.because), stuck=self.leave_wanted)
            case VolumeSettled() | VolumeLost():
                return replace(self, concluded=True).success()
            case VolumeSettlingFailed():
                return replace(self, concluded=True)
            case _:
                return self

    def _owed(self, lock: VolumeSettlingBegan) -> bool:
        """Whether the ledger does not have it yet."""
        if self.gone:
            return not self.released
        return lock.size_bytes > lock.from_bytes and not self.booked

    def _about(self) -> dict[str, str]:
        return {"volume": self.volume, "node": self.wish.node, "operation": self.operation}

    def _reserve(self, lock: VolumeSettlingBegan, more_bytes: int) -> Reserve:
        return Reserve(
            pool=lock.pool,
            node=lock.node,
            claim=lock.uid,
            size_bytes=more_bytes,
            operation=self.operation,
            thin=lock.thin,
            stripes=lock.stripes,
            first=False,
        )

    def _conclude(self, lock: VolumeSettlingBegan, why: GivingUp | None) -> Due:
        size_bytes = max(0, self.mended_bytes - lock.header_bytes)
        concluded = ConcludeVolume(
            volume=self.volume,
            operation=self.operation,
            size_bytes=size_bytes if why is None else 0,
            gone=self.gone,
            code=None if why is None else why.code,
            because="" if why is None else why.because[:1000],
        )
        return Due("mended" if why is None else "failed", concluded)
