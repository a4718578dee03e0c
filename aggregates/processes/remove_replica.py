"""One replica less, with the volume in use: the others let it go, then its leg does."""

from typing import Self

from msgspec.structs import replace

from aggregates.processes.process import Due, GivingUp, Process
from schemas.grammar import Event
from schemas.legs import (
    ConcludeReplicas,
    ReplicaRemovalBegan,
    ReplicaRemovalFailed,
    VolumeReplicaRemoved,
)
from schemas.linking import LinkReturned, ReportLinkReturned
from schemas.operation import OperationKind, Outcome, ReportConcluded, StepRefused
from schemas.pool import RoomReleased
from schemas.refusals import Refusal
from schemas.replica import (
    RemoveReplica,
    ReplicaRemovalWanted,
    ReplicaRemoved,
    ReplicaResized,
    ReplicaTroubled,
)
from schemas.replicating import head_room_bytes
from schemas.replication import (
    ForgetReplica,
    Member,
    ReplicaForgotten,
    ReplicaTieWanted,
    Replication,
    TieReplica,
)

_SEVERAL = 2


class RemoveReplicaProcess(Process, frozen=True, kw_only=True):
    """Once there is no way back it is seen through; before, all are tied as they were.

    ``tied`` and ``untied`` are the nodes that stay and were asked to do without it, and with it
    again; ``changed`` those that said so of what was asked last, ``stuck`` those that cannot do it.
    """

    wish: ReplicaRemovalBegan
    tied: frozenset[str] = frozenset()
    untied: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()
    asked: bool = False
    removed: bool = False
    released: bool = False
    returned: frozenset[str] = frozenset()
    stuck: frozenset[str] = frozenset()
    concluded: bool = False

    @property
    def staying(self) -> tuple[Member, ...]:
        """The replicas that stay."""
        return tuple(one for one in self.wish.members if one.node != self.wish.node)

    @property
    def left(self) -> tuple[Member, ...]:
        """The replicas that stay, as long as they are tied to one another."""
        return self.staying if len(self.staying) >= _SEVERAL else ()

    @property
    def no_way_back(self) -> bool:
        """Whether the leg is on its way out, or one that stays may be written to without it.

        Tied again as they were the two would take each other for equal, whatever one lacks.
        """
        return self.asked or (bool(self.tied) and not self.left)

    def forward(self) -> Due | None:
        """Have the others do without it, then have it removed, and give its link back."""
        if self.succeeded:
            return self._completed()
        for number, one in enumerate(self.staying):
            if one.node not in self.tied:
                return Due("tie", self._tie(one, self.left), number)
        return self._remove()

    def _remove(self) -> Due | None:
        if not (self.asked or self.out_of_time or self.tied <= self.changed | self.stuck):
            return None
        if not self.asked:
            return Due("remove", self._going())
        waits = not (self.removed and self.released)
        if waits and not self.out_of_time and self.wish.node not in self.stuck:
            return None
        # The others do without it, whether or not its node has come to removing it; what a leg
        # that is gone was linked by is given back by rule.
        loose = set() if self.left else {one.node for one in self.staying}
        for number, node in enumerate(sorted(loose)):
            if node not in self.returned:
                back = ReportLinkReturned(node=node, uid=self.wish.uid)
                return Due("unlink", back, number)
        return self._conclude("removed", None)

    def back(self, why: GivingUp) -> Due | None:
        """Have all tied as before, unless there is no way back: then it is seen through."""
        if self.no_way_back:
            return self._remove()
        for number, one in enumerate(self.staying):
            if one.node in self.tied - self.untied:
                return Due("untie", self._tie(one, self.wish.members), number)
        if not (self.out_of_time or self.untied <= self.changed | self.stuck):
            return None
        if not self.concluded:
            return self._conclude("failed", why)
        return self.given_up(why, *self._leftovers())

    def refused(self, refusal: StepRefused) -> Self:
        """Take a leg that is not there for removed; what is refused on the way back is left."""
        if refusal.step == "remove" and refusal.code is Refusal.UNKNOWN_REPLICA:
            return replace(self, asked=True, removed=True, released=True)
        if refusal.step == "untie":
            return replace(self, untied=self.tied, stuck=self.stuck | self.tied)
        return self.give_up(refusal.code, refusal.because)

    def note(self, event: Event) -> Self:
        """Note what nodes and ledger say."""
        match event:
            case ReplicaTieWanted():
                # Asked for before it was given up, it may be told after that.
                members = () if event.replication is None else event.replication.members
                name = "untied" if members == self.wish.members else "tied"
                asked = getattr(self, name) | {event.node}
                return replace(self, **{name: asked}, changed=self.changed - {event.node})
            case ReplicaResized():
                return replace(self, changed=self.changed | {event.node})
            case ReplicaRemovalWanted():
                return replace(self, asked=True)
            case ReplicaForgotten():
                return replace(self, asked=True, removed=True)
            case ReplicaRemoved() if event.node == self.wish.node:
                return replace(self, removed=True)
            case RoomReleased() if event.node == self.wish.node:
                return replace(self, released=True)
            case LinkReturned():
                return replace(self, returned=self.returned | {event.node})
            case ReplicaTroubled(permanent=True):
                return self._troubled(event)
            case VolumeReplicaRemoved():
                return self.success()
            case ReplicaRemovalFailed():
                return replace(self, concluded=True)
            case _:
                return self

    def _troubled(self, event: ReplicaTroubled) -> Self:
        # Of one that is to be forgotten nothing is expected any more, nor is anything to be done.
        if self.wish.lost and event.node == self.wish.node:
            return self
        goes_on = self.no_way_back or bool(self.untied)
        stuck = self.stuck | ({event.node} if goes_on else set())
        return replace(self.give_up(event.code, event.because), stuck=stuck)

    def _completed(self) -> Due:
        done = ReportConcluded(
            operation=self.operation, outcome=Outcome.COMPLETED, leftovers=self._leftovers()
        )
        return Due("conclude", done)

    def _going(self) -> RemoveReplica | ForgetReplica:
        volume, node = self.wish.volume, self.wish.node
        if self.wish.lost:
            return ForgetReplica(volume=volume, node=node, operation=self.operation)
        return RemoveReplica(volume=volume, node=node, operation=self.operation)

    def _tie(self, one: Member, members: tuple[Member, ...]) -> TieReplica:
        device_bytes = self.wish.size_bytes
        tied = Replication(members=members, size_bytes=device_bytes) if members else None
        return TieReplica(
            volume=self.wish.volume,
            node=one.node,
            operation=self.operation,
            size_bytes=device_bytes + head_room_bytes(device_bytes, len(self.wish.members)),
            replication=tied,
        )

    def _conclude(self, step: str, why: GivingUp | None) -> Due:
        device_bytes = self.wish.size_bytes
        room = head_room_bytes(device_bytes, len(self.wish.members))
        return Due(
            step,
            ConcludeReplicas(
                volume=self.wish.volume,
                operation=self.operation,
                node=self.wish.node,
                members=self.left if why is None else self.wish.members,
                # What the replication took of the leg is there for the volume now.
                size_bytes=device_bytes + room - self.wish.header_bytes,
                lost=self.wish.lost and why is None,
                code=why.code if why else None,
                because=why.because[:1000] if why else "",
            ),
        )

    def _leftovers(self) -> tuple[str, ...]:
        legs = {node for node in self.tied | self.untied if node not in self.changed}
        if self.asked and not self.removed:
            legs.add(self.wish.node)
        return tuple(f"replica/{node}/{self.wish.volume}" for node in sorted(legs))


def begin(event: ReplicaRemovalBegan) -> RemoveReplicaProcess:
    """Return the operation that *event* began."""
    return RemoveReplicaProcess(
        operation=event.operation,
        kind=OperationKind.VOLUME_REMOVE_REPLICA,
        object=f"volume/{event.volume}",
        deadline=event.deadline,
        wish=event,
    )
