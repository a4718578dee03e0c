"""Emptying a node: each volume migrates, some at once, and what cannot move is named."""

from typing import Self

from msgspec.structs import replace

from aggregates.processes import migrate
from aggregates.processes.process import Due, GivingUp, Process
from aggregates.processes.several import Several
from schemas.draining import ConcludeDrain, DrainBegan, DrainEnded
from schemas.grammar import Event
from schemas.legs import MigrateVolume, MigrationBegan
from schemas.operation import OperationKind, Outcome, ReportConcluded
from schemas.refusals import Refusal


class DrainNodeProcess(Several, frozen=True, kw_only=True):
    """Each volume is moved by a migration of its own. What has moved stays where it is."""

    wish: DrainBegan
    concluded: bool = False

    def begin_with(self, volume: str) -> MigrateVolume:
        """Return what begins to move the volume."""
        return MigrateVolume(
            volume=volume,
            source=self.wish.node,
            node=self.wish.targets.get(volume),
            resync_bytes_per_s=self.wish.resync_bytes_per_s,
            operation=self.operation,
        )

    def begun(self, event: Event) -> tuple[str, str, Process] | None:
        """Return the migration that *event* begins."""
        if not isinstance(event, MigrationBegan):
            return None
        return event.volume, event.uid, migrate.begin(event)

    def rest(self) -> Due:
        """Say what is left, and why."""
        if not self.concluded:
            return self._said()
        reasons = {one.volume: f"{one.code.value} {one.because}" for one in self.wish.stuck}
        reasons |= self._stays | self.left
        if not reasons:
            return self.completed(*sorted(self.remains))
        why = "; ".join(f"{name}: {because}" for name, because in sorted(reasons.items()))
        return Due(
            "conclude",
            ReportConcluded(
                operation=self.operation,
                outcome=Outcome.FAILED,
                code=Refusal.NOT_DRAINED,
                because=why[:1000],
                leftovers=(*(f"volume/{name}" for name in sorted(reasons)), *sorted(self.remains)),
            ),
        )

    def undone(self, why: GivingUp) -> Due:
        """Say what is left."""
        if not self.concluded:
            return self._said()
        parts = {f"volume/{name}" for name in self.parts}
        return self.given_up(why, *sorted(parts | self.remains))

    def note(self, event: Event) -> Self:
        """Note that the node knows, and what the volumes say."""
        return (
            replace(self, concluded=True) if isinstance(event, DrainEnded) else super().note(event)
        )

    @property
    def _stays(self) -> dict[str, str]:
        """The volumes that have moved, and left behind what they had here."""
        here = f"replica/{self.wish.node}/"
        names = (one.removeprefix(here) for one in self.remains if one.startswith(here))
        return dict.fromkeys(names, "it has moved, and what it had here could not be removed")

    def _said(self) -> Due:
        stuck = (one.volume for one in self.wish.stuck)
        left = tuple(sorted({*self.unserved, *self._stays, *stuck}))
        said = ConcludeDrain(node=self.wish.node, operation=self.operation, left=left)
        return Due("ended", said)


def begin(event: DrainBegan) -> DrainNodeProcess:
    """Return the operation that *event* began."""
    return DrainNodeProcess(
        operation=event.operation,
        kind=OperationKind.NODE_DRAIN,
        object=f"node/{event.node}",
        deadline=event.deadline,
        wish=event,
        volumes=event.volumes,
        at_once=event.at_once,
        parts={},
        uids={},
        left={},
    )
