"""Making a volume with several replicas: the first as ever, and the others beside it, blank."""

from typing import Self

from msgspec.structs import replace

from aggregates.processes import add_replica
from aggregates.processes.add_replica import AddReplicaProcess
from aggregates.processes.parts import conclusion, evolved, joined, over, step
from aggregates.processes.process import Due, GivingUp
from aggregates.processes.provision import Provision, kind_of
from schemas.grammar import Event
from schemas.legs import AddReplica, ReplicaAdditionBegan
from schemas.operation import (
    CancelWanted,
    OperationExpired,
    Outcome,
    ReportConcluded,
    StepRefused,
)
from schemas.replica import (
    RemoveReplica,
    ReplicaRemovalWanted,
    ReplicaRemoved,
    ReplicaTroubled,
)
from schemas.volume import (
    ConcludeVolume,
    Filesystem,
    VolumeProvisioned,
    VolumeProvisioningBegan,
    VolumeProvisioningFailed,
)

_BESIDE = "beside"


class ProvisionReplicated(Provision, frozen=True, kw_only=True):
    """Nothing was written to any of them, so nothing is to be copied: the filesystem comes last.

    ``part`` adds the replica whose turn it is, ``beside`` are the nodes that have one besides the
    first; ``leaving`` those that were asked to remove it again, and ``left`` those that did.
    ``unfinished`` is what a replica that came to nothing has left behind.
    """

    part: AddReplicaProcess | None = None
    beside: tuple[str, ...] = ()
    leaving: frozenset[str] = frozenset()
    left: frozenset[str] = frozenset()
    unfinished: tuple[str, ...] = ()

    @property
    def filesystem(self) -> Filesystem:
        """What the first leg gets before it has a peer: nothing."""
        return Filesystem.NONE

    @property
    def bare(self) -> bool:
        """Whether also its header is yet to come: it is one for all replicas."""
        return bool(self.wish.key_ref)

    def forward(self) -> Due | None:
        """Have the first leg, then the others, then say that the volume is there."""
        first = self.created_bytes and self.settled and not self.succeeded
        if self.part is not None:
            return step(self._turn, self.part)
        if not first or len(self.beside) >= self.wish.replicas - 1:
            return super().forward()
        more = AddReplica(
            volume=self.volume,
            made_on=self.here.node,
            made_in=self.here.pool,
            operation=self.operation,
            apart=self.wish.apart,
        )
        return Due(self._turn, more)

    def back(self, why: GivingUp) -> Due | None:
        """Undo what was added, last first."""
        if self.part is not None:
            return step(self._turn, self.part)
        for number, node in enumerate(self.beside):
            if node not in self.leaving:
                gone = RemoveReplica(volume=self.volume, node=node, operation=self.operation)
                return Due("leave", gone, number)
        if self.leaving - self.left and not self.out_of_time:
            return None
        due = super().back(why)
        end = None if due is None else due.command
        if due is None or not isinstance(end, ReportConcluded):
            return due
        more = (f"replica/{node}/{self.volume}" for node in sorted(self.leaving - self.left))
        left = dict.fromkeys((*end.leftovers, *self.unfinished, *more))
        return Due(due.step, replace(end, leftovers=tuple(left)), due.attempt)

    @property
    def _turn(self) -> str:
        """The name of the steps of the replica whose turn it is: no two replicas share one."""
        return f"{_BESIDE}-{len(self.beside) + 1}"

    def refused(self, refusal: StepRefused) -> Self:
        """Tell the part whose step it was."""
        name, _, inner = refusal.step.partition(".")
        if name == "leave":
            node = self.beside[refusal.attempt]
            return replace(self, leaving=self.leaving | {node}, left=self.left | {node})
        if not name.startswith(_BESIDE):
            return super().refused(refusal)
        if self.part is None or not inner:
            return self.give_up(refusal.code, refusal.because)
        return self._settle(evolved(self.part, replace(refusal, step=inner)))

    def evolve(self, event: Event) -> Self:
        """Apply what happened, also to the part that is under way."""
        after = super().evolve(event)
        told = isinstance(event, OperationExpired | CancelWanted)
        if not told or after.part is None:
            return after
        return after._settle(evolved(after.part, event))  # noqa: SLF001  (it is one of us)

    def note(self, event: Event) -> Self:
        """Let the part take note while it is under way."""
        if isinstance(event, ReplicaAdditionBegan):
            return replace(self, part=joined(add_replica.begin(event), self))
        if isinstance(event, VolumeProvisioned | VolumeProvisioningFailed):
            return super().note(event)
        if self.part is not None:
            return self._settle(evolved(self.part, event))
        if getattr(event, "node", self.here.node) != self.here.node:
            return self._note_beside(event)
        return super().note(event)

    def _note_beside(self, event: Event) -> Self:
        """Note what is said of the others, also of one that came to nothing and goes late."""
        match event:
            case ReplicaRemovalWanted() if event.node in self.beside:
                return replace(self, leaving=self.leaving | {event.node})
            case ReplicaRemoved() if event.node in self.beside:
                return replace(self, left=self.left | {event.node})
            case ReplicaRemoved():
                gone = f"replica/{event.node}/{self.volume}"
                rest = tuple(one for one in self.unfinished if one != gone)
                return replace(self, unfinished=rest)
            case ReplicaTroubled(permanent=True):
                return self.give_up(event.code, event.because)
            case _:
                return self

    def _settle(self, part: AddReplicaProcess) -> Self:
        end = conclusion(part)
        if not over(part) or end is None:
            why = part.giving_up
            here = replace(self, part=part)
            return here if why is None else here.give_up(why.code, why.because, why.outcome)
        added = end.outcome is Outcome.COMPLETED
        beside = (*self.beside, part.here.node) if added else self.beside
        after = replace(self, part=None, beside=beside)
        # What could not be undone of one more is named in the end like what was left of the others.
        return replace(after, unfinished=(*self.unfinished, *end.leftovers))

    def ready(self) -> ConcludeVolume:
        """Return that the volume is there, exactly as large as asked for."""
        return replace(super().ready(), size_bytes=self.wish.size_bytes)


def begin(event: VolumeProvisioningBegan) -> Provision:
    """Return the operation that *event* began."""
    return ProvisionReplicated(
        operation=event.operation,
        kind=kind_of(event),
        object=f"volume/{event.volume}",
        deadline=event.deadline,
        volume=event.volume,
        wish=event,
        candidates=tuple(c for c in event.candidates if c.code is None),
    )
