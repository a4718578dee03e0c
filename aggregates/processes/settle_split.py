"""Ending a split brain: one side keeps its data, the other gives its up and is filled anew."""

from typing import Self

from msgspec.structs import replace

from aggregates.processes.process import Due, GivingUp, Process
from schemas.grammar import Event
from schemas.legs import ConcludeReplicas, SplitSettled, SplitSettlingBegan, SplitSettlingFailed
from schemas.operation import OperationKind
from schemas.replica import ReplicaTroubled
from schemas.replication import (
    LegDisk,
    ReplicationChanged,
    SettleSplit,
    SplitSettlingWanted,
    Tie,
)


class SettleSplitProcess(Process, frozen=True, kw_only=True):
    """What one side has given up cannot be had again: there is no way back, only an end."""

    wish: SplitSettlingBegan
    asked: frozenset[str] = frozenset()
    settled: bool = False
    concluded: bool = False

    def forward(self) -> Due | None:
        """Have the loser connect, then the winner, and wait until both hold the same."""
        if self.succeeded:
            return self.completed()
        for number, node in enumerate((self.wish.loses, self.wish.node)):
            if node not in self.asked:
                loses = node == self.wish.loses
                side = SettleSplit(
                    volume=self.wish.volume, node=node, operation=self.operation, loses=loses
                )
                return Due("settle", side, number)
        return self._conclude("settled", None) if self.settled else None

    def back(self, why: GivingUp) -> Due | None:
        """Say that it is not so."""
        return self.given_up(why) if self.concluded else self._conclude("failed", why)

    def note(self, event: Event) -> Self:
        """Note what the nodes say."""
        match event:
            case SplitSettlingWanted():
                return replace(self, asked=self.asked | {event.node})
            case ReplicationChanged() if event.node == self.wish.node:
                peer = event.seen.peer(self.wish.loses)
                same = peer is not None and peer.disk is LegDisk.UP_TO_DATE
                tied = peer is not None and peer.tie is Tie.CONNECTED
                return replace(self, settled=same and tied and not event.seen.split)
            case ReplicaTroubled(permanent=True):
                return self.give_up(event.code, event.because)
            case SplitSettled():
                return self.success()
            case SplitSettlingFailed():
                return replace(self, concluded=True)
            case _:
                return self

    def _conclude(self, step: str, why: GivingUp | None) -> Due:
        return Due(
            step,
            ConcludeReplicas(
                volume=self.wish.volume,
                operation=self.operation,
                code=why.code if why else None,
                because=why.because[:1000] if why else "",
            ),
        )


def begin(event: SplitSettlingBegan) -> SettleSplitProcess:
    """Return the operation that *event* began."""
    return SettleSplitProcess(
        operation=event.operation,
        kind=OperationKind.VOLUME_SETTLE_SPLIT,
        object=f"volume/{event.volume}",
        deadline=event.deadline,
        wish=event,
    )
