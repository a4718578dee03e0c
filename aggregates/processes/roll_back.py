"""Rolling back: the volume becomes what it was; of several replicas one does, and fills the others.

The metadata of the replication are in the end of the leg, and become what they were as well. They
could look to the others as if nothing had happened. So all are tied anew: what the earlier tie has
left, wherever it is, is worth nothing from then on.
"""

from typing import Self

from msgspec.structs import replace

from aggregates.peers import tied_by
from aggregates.processes.end_snapshot import EndSnapshot
from aggregates.processes.process import Due, GivingUp
from schemas.grammar import Event
from schemas.handing import TieAnew, VolumeTiedAnew
from schemas.operation import OperationKind, Outcome, ReportConcluded, StepRefused
from schemas.replica import ReplicaResized, ReplicaTroubled
from schemas.replicating import head_room_bytes
from schemas.replication import (
    LegDisk,
    Member,
    ReplicaTieWanted,
    Replication,
    ReplicationChanged,
    Start,
    TieReplica,
)
from schemas.snapshot import SnapshotRollbackBegan


class RollBackReplicated(EndSnapshot, frozen=True, kw_only=True):
    """Nothing is taken from another replica before the one that is rolled back runs again.

    ``asked`` are the nodes whose legs were asked to be tied, ``changed`` those that said so of what
    was asked last, ``behind`` those that will not, and are left so. ``anew``: the volume knows that
    what the others hold counts no more; ``whole``: the one that is rolled back was seen to be good.
    """

    wish: SnapshotRollbackBegan
    asked: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()
    behind: frozenset[str] = frozenset()
    anew: bool = False
    whole: bool = False
    stuck: bool = False

    @property
    def _home(self) -> Member:
        return next(one for one in self.wish.members if one.node == self.wish.node)

    @property
    def _others(self) -> tuple[Member, ...]:
        return tuple(one for one in self.wish.members if one.node != self.wish.node)

    def forward(self) -> Due | None:
        """Have the leg merged as one alone is, then all tied anew, wait for them, conclude."""
        if self.succeeded and self.unlocked:
            return self._completed()
        if self.done and self.released and not self.succeeded:
            return self._tie_anew(None)
        return super().forward()

    def back(self, why: GivingUp) -> Due | None:
        """Have the leg kept and running as before; what has been merged is seen through."""
        if self.done:
            return self._tie_anew(why)
        if self.kept or self.removed:
            if not self.asked:
                before = Replication(members=self.wish.members, size_bytes=self.wish.device_bytes)
                return Due("again", self._tie(self._home, before))
            if not self.asked <= self.changed and not (self.stuck or self.out_of_time):
                return None
        due = super().back(why)
        left = self.asked - self.changed
        concludes = due is not None and isinstance(due.command, ReportConcluded)
        return self.given_up(why, *self._legs(left)) if concludes and left else due

    def _tie_anew(self, why: GivingUp | None) -> Due | None:
        """Return the next step once the leg is what it was: from there the way leads forward."""
        home = self.wish.node
        if home not in self.asked:
            return Due("tie-home", self._tie(self._home, self._replication(Start.ROLLED_BACK)))
        if self.stuck or (home not in self.changed and self.out_of_time):
            return None if why is None else self._failed(why)
        if home not in self.changed:
            return None
        if not self.anew:
            return Due("anew", self._count())
        for number, one in enumerate(self._others):
            if one.node not in self.asked | self.behind:
                return Due("tie", self._tie(one, self._replication(Start.NOTHING)), number)
        joined = self.whole and self.asked <= self.changed
        # Whoever gives it up waits no longer for the others: they come when they come.
        return self._done() if joined or self.behind or why is not None else None

    def _failed(self, why: GivingUp) -> Due | None:
        """Return the next step when the leg is what it was, and does not run any more."""
        if not self.concluded:
            return Due("failed", self._conclude(why))
        if not self.unlocked:
            return self._unlock(gone=True)
        return self.given_up(why, *self._legs(frozenset({self.wish.node})))

    def refused(self, refusal: StepRefused) -> Self:
        """Leave another replica behind that cannot be tied; without the first all is in vain."""
        if refusal.step == "tie":
            return replace(self, behind=self.behind | {self._others[refusal.attempt].node})
        because = f"{refusal.step}: {refusal.because}"
        given_up = self.give_up(refusal.code, because)
        if refusal.step in {"again", "tie-home", "anew"}:
            asked = self.asked | {self.wish.node}
            return replace(given_up, asked=asked, stuck=True)
        return given_up

    def note(self, event: Event) -> Self:
        """Note what volume, pools and nodes say."""
        match event:
            case ReplicaTieWanted():
                asked, changed = self.asked | {event.node}, self.changed - {event.node}
                return replace(self, asked=asked, changed=changed)
            case ReplicaResized() if event.volume == self.wish.volume:
                return replace(self, changed=self.changed | {event.node})
            case ReplicationChanged() if event.node == self.wish.node:
                good = event.seen.disk is LegDisk.UP_TO_DATE
                return replace(self, whole=good and event.node in self.asked)
            case VolumeTiedAnew():
                return replace(self, anew=True)
            case ReplicaTroubled(permanent=True) if event.volume == self.wish.volume:
                return self._troubled(event)
            case _:
                return super().note(event)

    def _troubled(self, event: ReplicaTroubled) -> Self:
        if event.node != self.wish.node:
            return replace(self, behind=self.behind | {event.node})
        # One that runs, and is whole but for what comes later, is not undone by that.
        given_up = self.give_up(event.code, event.because)
        return replace(given_up, stuck=not self.anew)

    def _replication(self, start: Start) -> Replication:
        return Replication(
            members=tied_by(self.wish.members, self.operation),
            size_bytes=self.wish.device_bytes,
            start=start,
        )

    def _tie(self, one: Member, tied: Replication) -> TieReplica:
        device_bytes = self.wish.device_bytes
        return TieReplica(
            volume=self.wish.volume,
            node=one.node,
            operation=self.operation,
            size_bytes=device_bytes + head_room_bytes(device_bytes, len(self.wish.members)),
            replication=tied,
        )

    def _count(self) -> TieAnew:
        return TieAnew(volume=self.wish.volume, operation=self.operation, node=self.wish.node)

    def _completed(self) -> Due:
        left = frozenset(one.node for one in self._others) - (self.changed - self.behind)
        done = ReportConcluded(
            operation=self.operation, outcome=Outcome.COMPLETED, leftovers=self._legs(left)
        )
        return Due("conclude", done)

    def _legs(self, nodes: frozenset[str]) -> tuple[str, ...]:
        return tuple(f"replica/{node}/{self.wish.volume}" for node in sorted(nodes))


def begin(event: SnapshotRollbackBegan) -> EndSnapshot:
    """Return the operation that makes a volume what it was, of however many replicas."""
    word = RollBackReplicated if event.members else EndSnapshot
    return word(
        operation=event.operation,
        kind=OperationKind.SNAPSHOT_ROLL_BACK,
        object=f"snapshot/{event.snapshot}",
        deadline=event.deadline,
        wish=event,
    )
