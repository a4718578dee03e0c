"""Changing the key of a volume with several replicas: all nodes have it before the header does."""

from typing import Self

from msgspec.structs import replace

from aggregates.processes import rekey_volume
from aggregates.processes.process import Due, GivingUp, Process
from aggregates.processes.rekey_volume import RekeyVolumeProcess
from schemas.encrypting import VolumeRekeyingBegan
from schemas.grammar import Event
from schemas.operation import OperationKind, StepRefused
from schemas.replica import RekeyReplica, ReplicaRekeyed, ReplicaRekeyWanted, ReplicaTroubled

_LAST = frozenset({"settle", "calm"})


class RekeyReplicatedProcess(RekeyVolumeProcess, frozen=True, kw_only=True):
    """There is one header, and it is changed where the volume is written to.

    The log knows a key for each of ``others`` that opens the volume, whichever of them it may be
    written to on next: both from before the header changes until it is known to have changed, or
    to be as it was. ``asked`` and ``ready`` are those asked to have both, and those that have;
    ``settling`` and ``settled`` the same of the one that stays.
    """

    others: tuple[str, ...]
    asked: frozenset[str] = frozenset()
    ready: frozenset[str] = frozenset()
    settling: frozenset[str] = frozenset()
    settled: frozenset[str] = frozenset()

    def forward(self) -> Due | None:
        """Have all nodes know both keys, change the header, have the others forget the old one."""
        if self.succeeded:
            return super().forward()
        for number, node in enumerate(self.others):
            if node not in self.asked:
                return Due("tell", self._tell(node, self.new, self.old), number)
        if not self.ready >= self.asked:
            return None
        if self.held != (self.new,):
            return super().forward()
        due = self._settle("settle", self.new)
        done = self.settled >= self.settling
        return due or (self._conclude("rekeyed", None) if done else None)

    def back(self, why: GivingUp) -> Due | None:
        """Have the header as it was; only then are the others to forget the new key."""
        due = super().back(why)
        as_before = not self.wanted or self.held == (self.old,)
        if due is None or due.step == "undo" or not as_before or self.concluded:
            return due
        unsure = bool(self.asked - self.settled) and not self.out_of_time
        return self._settle("calm", self.old) or (None if unsure else due)

    def refused(self, refusal: StepRefused) -> Self:
        """Leave to one that will not forget a key that it knows both: that does no harm."""
        if refusal.step not in _LAST:
            return super().refused(refusal)
        node = frozenset({self.others[refusal.attempt]})
        return replace(self, settling=self.settling | node, settled=self.settled | node)

    def note(self, event: Event) -> Self:
        """Note what the nodes say."""
        mine = getattr(event, "node", self.node) == self.node
        if mine:
            return super().note(event)
        match event:
            case ReplicaRekeyWanted(node=node) if node in self.asked:
                return replace(self, settling=self.settling | {node})
            case ReplicaRekeyWanted(node=node):
                return replace(self, asked=self.asked | {node})
            case ReplicaRekeyed(node=node) if node in self.settling:
                return replace(self, settled=self.settled | {node})
            case ReplicaRekeyed(node=node):
                return replace(self, ready=self.ready | {node})
            case ReplicaTroubled(permanent=True, node=node) if node in self.settling:
                return replace(self, settled=self.settled | {node})
            case ReplicaTroubled(permanent=True):
                return self.give_up(event.code, event.because)
            case _:
                return self

    def _settle(self, step: str, key: str) -> Due | None:
        """Have the others know the key that stays, and no other."""
        for number, node in enumerate(self.others):
            if node in self.asked - self.settling:
                return Due(step, self._tell(node, key), number)
        return None

    def _tell(self, node: str, *keys: str) -> RekeyReplica:
        return RekeyReplica(
            volume=self.volume, node=node, operation=self.operation, keys=keys, elsewhere=True
        )


def begin(event: VolumeRekeyingBegan) -> Process:
    """Return the operation that *event* began, of however many replicas."""
    if not event.others:
        return rekey_volume.begin(event)
    return RekeyReplicatedProcess(
        operation=event.operation,
        kind=OperationKind.VOLUME_REKEY,
        object=f"volume/{event.volume}",
        deadline=event.deadline,
        volume=event.volume,
        node=event.node,
        old=event.from_key_ref,
        new=event.key_ref,
        others=event.others,
    )
