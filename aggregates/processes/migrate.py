"""A replica on another node instead: added there, handed over, removed here, one after another."""

from typing import Self

from msgspec.structs import replace

from aggregates.processes import add_replica, hand_over, remove_replica
from aggregates.processes.add_replica import AddReplicaProcess
from aggregates.processes.parts import conclusion, evolved, joined, over, step, under_way
from aggregates.processes.process import Due, GivingUp, Process
from aggregates.processes.remove_replica import RemoveReplicaProcess
from schemas.grammar import Event, Message
from schemas.handing import HandOverBegan, HandOverVolume
from schemas.legs import (
    AddReplica,
    ConcludeReplicas,
    MigrationBegan,
    MigrationFailed,
    RemoveReplicaOf,
    ReplicaAdded,
    ReplicaAdditionBegan,
    ReplicaRemovalBegan,
    VolumeMigrated,
)
from schemas.operation import (
    CancelWanted,
    OperationExpired,
    OperationKind,
    Outcome,
    ReportConcluded,
    StepRefused,
)

ADD, HAND_OVER, REMOVE, UNDO = "add", "hand-over", "remove", "undo"


class MigrateProcess(Process, frozen=True, kw_only=True):
    """What is done last is undone first; once it is where it shall be there is no way back.

    ``plan`` are the stages, ``done`` how many of them are over, ``part`` the one under way.
    ``added`` is the node that has the new replica. A replica that was removed first is added again
    when no other comes in its place.
    """

    wish: MigrationBegan
    plan: tuple[str, ...]
    done: int = 0
    part: Process | None = None
    added: str = ""
    undone: bool = False
    left: tuple[str, ...] = ()
    concluded: bool = False

    @property
    def stage(self) -> str:
        """The stage whose turn it is; empty when all are over."""
        return self.plan[self.done] if self.done < len(self.plan) else ""

    def forward(self) -> Due | None:
        """Go through the stages, then say that it is done."""
        if self.part is not None:
            return step(self.stage, self.part)
        if self.stage:
            return Due(self.stage, self._begin())
        if not self.concluded:
            return self._conclude("migrated", None)
        done = ReportConcluded(
            operation=self.operation, outcome=Outcome.COMPLETED, leftovers=self.left
        )
        return Due("conclude", done)

    def back(self, why: GivingUp) -> Due | None:
        """Undo the stage under way, then those that are over, then say so."""
        if self.part is not None:
            return step(UNDO if self.undone else self.stage, self.part)
        undo = None if self.undone else self._undo()
        if undo is not None and not self.out_of_time:
            return Due(UNDO, undo)
        if not self.concluded:
            return self._conclude("failed", why)
        not_undone = () if undo is None else (self.object,)
        return self.given_up(why, *self.left, *not_undone)

    def refused(self, refusal: StepRefused) -> Self:
        """Tell the part whose step it was; a stage that could not begin is given up."""
        name, _, inner = refusal.step.partition(".")
        if self.part is not None and inner:
            return self._settle(evolved(self.part, replace(refusal, step=inner)))
        if name == UNDO:
            return replace(self, undone=True, left=(*self.left, self.object))
        if self.succeeded:
            return replace(self, done=self.done + 1, left=(*self.left, self._source))
        return self.give_up(refusal.code, refusal.because)

    def evolve(self, event: Event) -> Self:
        """Apply what happened, also to the part that is under way."""
        after = super().evolve(event)
        told = isinstance(event, OperationExpired) or (
            isinstance(event, CancelWanted) and not self.succeeded
        )
        if not told or after.part is None:
            return after
        return after._settle(evolved(after.part, event))  # noqa: SLF001  (it is one of us)

    def note(self, event: Event) -> Self:
        """Note what the volume says, and let the part take note."""
        match event:
            case ReplicaAdditionBegan():
                return self._start(add_replica.begin(event))
            case HandOverBegan():
                return self._start(hand_over.begin(event))
            case ReplicaRemovalBegan():
                return self._start(remove_replica.begin(event))
            case VolumeMigrated() | MigrationFailed():
                return replace(self, concluded=True)
            case ReplicaAdded():
                before = {one.node for one in self.wish.members} | {self.wish.home}
                new = [one.node for one in event.members if one.node not in before]
                added = replace(self, added=new[-1] if new else "")
                part = self.part
                return added if part is None else added._settle(evolved(part, event))  # noqa: SLF001
            case _:
                return self if self.part is None else self._settle(evolved(self.part, event))

    def _start(self, part: Process) -> Self:
        if self.part is not None:
            return self
        if not self._undoes(part):
            return replace(self, part=joined(part, self))
        begun = replace(under_way(part), expiries=self.expiries)
        late = self.giving_up if self.out_of_time else None
        if late is not None:
            begun = begun.give_up(late.code, late.because, late.outcome)
        return replace(self, part=begun, undone=True)

    def _undoes(self, part: Process) -> bool:
        """Whether that undoes a stage: one may have begun before it was known that all goes back.

        A replica that comes again where one was removed is put where it was.
        """
        if self.giving_up is None:
            return False
        if isinstance(part, RemoveReplicaProcess):
            return part.wish.node == self.added
        if isinstance(part, AddReplicaProcess) and self.wish.members:
            return {one.node for one in part.candidates} == {self.wish.source}
        return False

    def _settle(self, part: Process) -> Self:
        """Return the operation after its part has come so far."""
        end = conclusion(part)
        if not over(part) or end is None:
            why = part.giving_up
            here = replace(self, part=part)
            return here if why is None else here.give_up(why.code, why.because, why.outcome)
        left = replace(self, part=None, left=(*self.left, *end.leftovers))
        if self.undone:
            undone = end.outcome is Outcome.COMPLETED
            return left if undone else replace(left, left=(*left.left, self.object))
        if end.outcome is Outcome.COMPLETED:
            onward = replace(left, done=self.done + 1)
            return onward.success() if self.stage == self._goal else onward
        if self.succeeded:
            return replace(left, done=self.done + 1, left=(*left.left, self._source))
        return left

    @property
    def _goal(self) -> str:
        """The stage that it is all about, from which there is no way back."""
        return ADD if self.wish.members else HAND_OVER

    @property
    def _source(self) -> str:
        return f"replica/{self.wish.source}/{self.wish.volume}"

    def _begin(self) -> Message:
        volume, operation = self.wish.volume, self.operation
        match self.stage:
            case "add":
                return AddReplica(
                    volume=volume,
                    node=self.wish.node,
                    pool=self.wish.pool,
                    resync_bytes_per_s=self.wish.resync_bytes_per_s,
                    operation=operation,
                    apart=self.wish.apart,
                )
            case "hand-over":
                others = (one.node for one in self.wish.members if one.node != self.wish.source)
                there = self.added or next(others, self.wish.source)
                return HandOverVolume(volume=volume, node=there, operation=operation)
            case _:
                gone = self.wish.source
                return RemoveReplicaOf(volume=volume, node=gone, operation=operation)

    def _undo(self) -> Message | None:
        """Return what undoes the stages that are over, if anything does."""
        over_ = self.plan[: self.done]
        volume, operation = self.wish.volume, self.operation
        if ADD in over_ and self.added:
            return RemoveReplicaOf(volume=volume, node=self.added, operation=operation)
        if REMOVE in over_:
            return self._back(operation)
        return None

    def _back(self, operation: str) -> AddReplica:
        """Return what puts the replica where it was: at the pace that was asked for, too."""
        source = self.wish.source
        return AddReplica(
            volume=self.wish.volume,
            node=source,
            pool=next((one.pool for one in self.wish.members if one.node == source), None),
            resync_bytes_per_s=self.wish.resync_bytes_per_s,
            operation=operation,
        )

    def _conclude(self, step_: str, why: GivingUp | None) -> Due:
        return Due(
            step_,
            ConcludeReplicas(
                volume=self.wish.volume,
                operation=self.operation,
                code=why.code if why else None,
                because=why.because[:1000] if why else "",
            ),
        )


def begin(event: MigrationBegan) -> MigrateProcess:
    """Return the operation that *event* began.

    Of several replicas one goes before the new one comes: the DRBD of the kernel takes one peer.
    """
    first = (HAND_OVER,) if event.source == event.home else ()
    plan = (*first, REMOVE, ADD) if event.members else (ADD, HAND_OVER, REMOVE)
    return MigrateProcess(
        operation=event.operation,
        kind=OperationKind.VOLUME_MIGRATE,
        object=f"volume/{event.volume}",
        deadline=event.deadline,
        wish=event,
        plan=plan,
    )
