"""Cloning a volume: a snapshot of its own, a volume out of that, and the snapshot goes again."""

from typing import TypeVar

from msgspec.structs import replace

from aggregates.processes import end_snapshot, provision, snapshot
from aggregates.processes.end_snapshot import EndSnapshot
from aggregates.processes.process import Due, GivingUp, Process
from aggregates.processes.provision import Provision
from aggregates.processes.snapshot import TakeSnapshot
from schemas.copying import RestoreVolume, VolumeCloneBegan, VolumeCloneFailed
from schemas.grammar import Event
from schemas.operation import (
    CancelWanted,
    OperationExpired,
    OperationKind,
    Outcome,
    ReportConcluded,
    StepRefused,
)
from schemas.snapshot import (
    CreateSnapshot,
    DeleteSnapshot,
    SnapshotCreationBegan,
    SnapshotDeletionBegan,
)
from schemas.volume import ConcludeVolume, VolumeProvisioned, VolumeProvisioningBegan

P = TypeVar("P", bound=Process)


class Clone(Process, frozen=True, kw_only=True):
    """One operation made of three others, each begun by a step of this one and under its id.

    ``taking`` is over when the snapshot is there or was given up, ``making`` when the volume is,
    and ``ending`` when the snapshot is gone. Whatever fails: what was taken is ended.
    """

    wish: VolumeCloneBegan
    taking: TakeSnapshot | None = None
    making: Provision | None = None
    ending: EndSnapshot | None = None
    unmade: bool = False
    kept: bool = False

    def forward(self) -> Due | None:
        """Take the snapshot, make the volume, end the snapshot."""
        if self.taking is None:
            return Due("snapshot", self._snapshot())
        if not _over(self.taking):
            return _step("snapshot", self.taking)
        if self.making is None:
            return Due("restore", self._restore())
        if not _over(self.making):
            return _step("restore", self.making)
        return self._completed() if self._cleared else self._end_snapshot()

    def back(self, why: GivingUp) -> Due | None:
        """Undo what was begun, last first, and say that there is no volume."""
        for name, part in (("restore", self.making), ("snapshot", self.taking)):
            if part is not None and not _over(part):
                return _step(name, part)
        if self.making is None and not self.unmade:
            return Due(
                "failed",
                ConcludeVolume(
                    volume=self.wish.volume,
                    operation=self.operation,
                    code=why.code,
                    because=why.because[:1000],
                ),
            )
        return self.given_up(why, *self._leftovers()) if self._cleared else self._end_snapshot()

    def refused(self, refusal: StepRefused) -> "Clone":
        """Tell the part whose step it was; a part that could not even begin is given up."""
        name, _, step = refusal.step.partition(".")
        if not step:
            if name == "end":
                return replace(self, kept=True)
            return self.give_up(refusal.code, refusal.because)
        inner = replace(refusal, step=step)
        match name:
            case "snapshot" if self.taking is not None:
                return self._follow(replace(self, taking=_evolved(self.taking, inner)))
            case "restore" if self.making is not None:
                return self._follow(replace(self, making=_evolved(self.making, inner)))
            case "end" if self.ending is not None:
                return replace(self, ending=_evolved(self.ending, inner))
            case _:
                return self

    def evolve(self, event: Event) -> "Clone":
        """Apply what happened, also to the part that is under way."""
        after = super().evolve(event)
        told = isinstance(event, OperationExpired) or (
            isinstance(event, CancelWanted) and not self.succeeded
        )
        return after._tell(event) if told else after  # noqa: SLF001  (it is one of us)

    def note(self, event: Event) -> "Clone":
        """Note what volume, pool, snapshot and node say."""
        match event:
            case SnapshotCreationBegan():
                return replace(self, taking=_under_way(snapshot.begin(event)))
            case VolumeProvisioningBegan():
                return replace(self, making=_under_way(provision.begin(event)))
            case SnapshotDeletionBegan():
                return replace(self, ending=_under_way(end_snapshot.begin_deletion(event)))
            case VolumeCloneFailed():
                return replace(self, unmade=True)
            case VolumeProvisioned():
                return self._tell(event).success()
            case _:
                return self._follow(self._tell(event))

    def _tell(self, event: Event) -> "Clone":
        """Return the clone after the part whose turn it is has taken note."""
        if self.ending is not None:
            return replace(self, ending=_evolved(self.ending, event))
        if self.making is not None:
            return replace(self, making=_evolved(self.making, event))
        if self.taking is not None:
            return replace(self, taking=_evolved(self.taking, event))
        return self

    def _follow(self, after: "Clone") -> "Clone":
        """Give up when the part whose turn it is does."""
        part = after.making or after.taking
        why = None if part is None else part.giving_up
        return after if why is None else after.give_up(why.code, why.because, why.outcome)

    def _snapshot(self) -> CreateSnapshot:
        return CreateSnapshot(
            snapshot=self.wish.snapshot,
            volume=self.wish.source,
            reserve_bytes=self.wish.reserve_bytes,
            operation=self.operation,
        )

    def _restore(self) -> RestoreVolume:
        return RestoreVolume(
            volume=self.wish.volume,
            snapshot=self.wish.snapshot,
            size_bytes=self.wish.size_bytes,
            layout=self.wish.layout,
            stripes=self.wish.stripes,
            pool=self.wish.pool,
            rate_bytes_per_s=self.wish.rate_bytes_per_s,
            operation=self.operation,
        )

    @property
    def _cleared(self) -> bool:
        """Whether the snapshot was never taken, is gone, or will not go."""
        taken = self.taking is not None and self.taking.succeeded
        return not taken or self.kept or (self.ending is not None and _over(self.ending))

    def _end_snapshot(self) -> Due | None:
        if self.ending is None:
            drop = DeleteSnapshot(snapshot=self.wish.snapshot, operation=self.operation)
            return Due("end", drop)
        return _step("end", self.ending)

    def _completed(self) -> Due:
        done = ReportConcluded(
            operation=self.operation, outcome=Outcome.COMPLETED, leftovers=self._leftovers()
        )
        return Due("conclude", done)

    def _leftovers(self) -> tuple[str, ...]:
        conclusions = (_conclusion(part) for part in (self.taking, self.making, self.ending))
        left = tuple(one for end in conclusions if end is not None for one in end.leftovers)
        return (*left, *((f"snapshot/{self.wish.snapshot}",) if self.kept else ()))


def _under_way(part: P) -> P:
    """Return a part that needs no beginning of its own."""
    return replace(part, started=True)


def _evolved(part: P, event: Event) -> P:
    return part.evolve(event)


def _step(name: str, part: Process) -> Due | None:
    """Return what is due in a part, under a name that tells whose step it is."""
    due = part.due()
    return None if due is None else Due(f"{name}.{due.step}", due.command, due.attempt)


def _conclusion(part: Process | None) -> ReportConcluded | None:
    """Return how a part has ended, or None while it has not: that is what is due last."""
    due = None if part is None else part.due()
    command = None if due is None else due.command
    return command if isinstance(command, ReportConcluded) else None


def _over(part: Process) -> bool:
    return _conclusion(part) is not None


def begin(event: VolumeCloneBegan) -> Clone:
    """Return the operation that *event* began."""
    return Clone(
        operation=event.operation,
        kind=OperationKind.VOLUME_CLONE,
        object=f"volume/{event.volume}",
        deadline=event.deadline,
        wish=event,
    )
