"""Changing the key of a volume: the new one is there before the old one goes."""

from typing import Self

from msgspec.structs import replace

from aggregates.processes.process import Due, GivingUp, Process
from schemas.encrypting import VolumeRekeyed, VolumeRekeyingBegan, VolumeRekeyingFailed
from schemas.grammar import Event
from schemas.operation import OperationKind
from schemas.replica import RekeyReplica, ReplicaRekeyed, ReplicaRekeyWanted, ReplicaTroubled
from schemas.volume import ConcludeVolume


class RekeyVolumeProcess(Process, frozen=True, kw_only=True):
    """Both keys open the volume before one is taken away; the leg knows both until it is done.

    ``wanted`` are the keys asked for last, ``held`` those the node has said of them.
    """

    volume: str
    node: str
    old: str
    new: str
    wanted: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    stuck: bool = False
    concluded: bool = False

    def forward(self) -> Due | None:
        """Have the new key added, then the old one dropped, wait for the node each time."""
        if self.succeeded:
            return self.completed()
        if not self.wanted:
            return Due("add", self._rekey(self.new, self.old))
        if self.held != self.wanted:
            return None
        if self.old in self.held:
            return Due("drop", self._rekey(self.new))
        return self._conclude("rekeyed", None)

    def back(self, why: GivingUp) -> Due | None:
        """Have the old key alone again, whichever the node has come to; done is done."""
        if self.held == (self.new,):
            return self._conclude("rekeyed", None)
        undone = self.wanted == (self.old,)
        if self.wanted and not undone:
            return Due("undo", self._rekey(self.old))
        waits_for_node = undone and self.held != self.wanted
        if waits_for_node and not (self.stuck or self.out_of_time):
            return None
        if not self.concluded:
            return self._conclude("failed", why)
        left = (f"replica/{self.node}/{self.volume}",) if waits_for_node else ()
        return self.given_up(why, *left)

    def note(self, event: Event) -> Self:
        """Note what the node says."""
        match event:
            case ReplicaRekeyWanted():
                return replace(self, wanted=event.encryption.keys, held=())
            case ReplicaRekeyed():
                return replace(self, held=event.keys)
            case ReplicaTroubled(permanent=True) if self.wanted == (self.old,):
                return replace(self, stuck=True)  # nobody is waited for; both keys stay known
            case ReplicaTroubled(permanent=True):
                return self.give_up(event.code, event.because)
            case VolumeRekeyed():
                return self.success()
            case VolumeRekeyingFailed():
                return replace(self, concluded=True)
            case _:
                return self

    def _rekey(self, *keys: str) -> RekeyReplica:
        return RekeyReplica(volume=self.volume, node=self.node, operation=self.operation, keys=keys)

    def _conclude(self, step: str, why: GivingUp | None) -> Due:
        return Due(
            step,
            ConcludeVolume(
                volume=self.volume,
                operation=self.operation,
                code=why.code if why else None,
                because=why.because[:1000] if why else "",
            ),
        )


def begin(event: VolumeRekeyingBegan) -> RekeyVolumeProcess:
    """Return the operation that *event* began."""
    return RekeyVolumeProcess(
        operation=event.operation,
        kind=OperationKind.VOLUME_REKEY,
        object=f"volume/{event.volume}",
        deadline=event.deadline,
        volume=event.volume,
        node=event.node,
        old=event.from_key_ref,
        new=event.key_ref,
    )
