"""What is due is taken, and what need not be kept is deleted, by ordinary operations."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta

import structlog

from aggregates.node import unheard
from aggregates.retention import Taken, to_delete
from aggregates.schedule import Due, Schedule, due
from aggregates.snapshot import Snapshot, SnapshotPhase
from aggregates.volume import VolumePhase
from aggregates.world import World
from hwbus.controller.looking import Looking
from hwbus.desk import CommandDesk
from hwbus.ports import Clock
from schemas.answers import Accepted, Answer, Undecided
from schemas.grammar import Message
from schemas.rhythm import BySchedule
from schemas.schedule import ReportScheduleRun
from schemas.snapshot import CreateSnapshot, DeleteSnapshot
from schemas.volume_group import SnapshotGroup

PATIENCE_S = 900.0
AGAIN_AFTER_S = 3600.0

_LOG = structlog.get_logger("hwbus.schedules")
Mine = dict[str, dict[datetime, dict[str, Snapshot]]]


class Schedules(Looking):
    """Looks at the clock, and asks the desk for what is due, in the name of the schedule.

    The id of each command is made of the moment it is for, so that whoever starts anew, or looks
    beside us, takes nothing twice. While a volume is busy or its node not heard, a run waits for
    ``PATIENCE_S``, but never for more than half of the time to the next; then it is asked for all
    the same, so that the log says why nothing was taken.

    One thing at a time is begun for each volume: it is locked a little later, and what was begun
    meanwhile would fail then.
    """

    def __init__(
        self, desk: CommandDesk, world: World, clock: Clock, mint: Callable[[], str]
    ) -> None:
        super().__init__(desk, world, clock, mint)
        self._asked: dict[str, datetime] = {}

    async def look(self) -> None:
        """Ask for what is due now, and for the end of what is not to be kept."""
        active = [(n, s) for n, s in self._world.schedules.items() if not s.paused]
        if not active:
            return
        now, busy = self._clock.now(), self._busy()
        for name, schedule in active:
            found = due(schedule, now)
            if found is not None and not self._waits(schedule, found, now, busy):
                await self._take(name, schedule, found)
                busy.update(self._volumes(schedule))
        mine = self._mine()
        known = {
            one.uid for dues in mine.values() for parts in dues.values() for one in parts.values()
        }
        self._asked = {uid: at for uid, at in self._asked.items() if uid in known}
        for name, schedule in active:
            for snapshot, one in self._too_many(schedule, mine.get(schedule.uid, {})):
                if one.volume not in busy and self._may_delete(one, now):
                    await self._delete(name, snapshot, one, now)
                    busy.add(one.volume)

    def _busy(self) -> set[str]:
        """Return the volumes that something is being done with, or is about to be."""
        world = self._world
        busy = {name for name, volume in world.volumes.items() if volume.operation}
        busy |= {one.volume for one in world.snapshots.values() if one.operation}
        return busy.union(*(group.members for group in world.groups.values() if group.operation))

    def _waits(self, schedule: Schedule, found: Due, now: datetime, busy: set[str]) -> bool:
        patience_s = min(PATIENCE_S, schedule.rhythm.every_s / 2)
        if now - found.at >= timedelta(seconds=patience_s):
            return False
        return any(
            name in busy or unheard(self._world.nodes.get(volume.node), volume.node) is not None
            for name in self._volumes(schedule)
            if (volume := self._world.volumes.get(name)) is not None
            and volume.phase is not VolumePhase.HELD
        )

    def _volumes(self, schedule: Schedule) -> tuple[str, ...]:
        if schedule.volume:
            return (schedule.volume,)
        group = self._world.groups.get(schedule.group)
        return () if group is None else tuple(group.members)

    async def _take(self, name: str, schedule: Schedule, found: Due) -> None:
        snapshot = snapshot_name(name, found.at)
        by = BySchedule(schedule=name, uid=schedule.uid, due=found.at)
        id_ = f"schedule.{schedule.uid}.{found.at:%Y%m%dT%H%M%SZ}"
        answer = await self._ask(name, id_, _wish(schedule, snapshot, by), cause="due")
        if isinstance(answer, Undecided):
            return
        accepted = isinstance(answer, Accepted)
        report = ReportScheduleRun(
            schedule=name,
            uid=schedule.uid,
            due=found.at,
            snapshot=snapshot,
            missed=min(found.missed, 1_000_000),
            operation=answer.operation if isinstance(answer, Accepted) else None,
            code=None if isinstance(answer, Accepted) else answer.code,
            because="" if isinstance(answer, Accepted) else answer.because[:1000],
        )
        await self._ask(name, f"{id_}.report", report, cause=f"command:{id_}")
        _LOG.info("due", schedule=name, due=str(found.at), missed=found.missed, taken=accepted)

    def _mine(self) -> Mine:
        """Return the snapshots by the uid of their schedule, the moment they are for, and name."""
        mine: Mine = {}
        for name, one in self._world.snapshots.items():
            if one.by is not None:
                mine.setdefault(one.by.uid, {}).setdefault(one.by.due, {})[name] = one
        return mine

    def _too_many(
        self, schedule: Schedule, dues: dict[datetime, dict[str, Snapshot]]
    ) -> Iterator[tuple[str, Snapshot]]:
        done = {
            at: parts
            for at, parts in dues.items()
            if all(one.phase is not SnapshotPhase.CREATING for one in parts.values())
        }
        taken = [Taken(at, _is_good(parts.values())) for at, parts in done.items()]
        for gone in to_delete(taken, schedule.keep):
            yield from sorted(done[gone.due].items())

    def _may_delete(self, one: Snapshot, now: datetime) -> bool:
        asked = self._asked.get(one.uid)
        if one.operation or (asked and now - asked < timedelta(seconds=AGAIN_AFTER_S)):
            return False
        return unheard(self._world.nodes.get(one.node), one.node) is None

    async def _delete(self, name: str, snapshot: str, one: Snapshot, now: datetime) -> None:
        command = DeleteSnapshot(snapshot=snapshot, uid=one.uid)
        answer = await self._ask(name, self._mint(), command, cause="retention")
        if isinstance(answer, Undecided):
            return
        # One that is in use is refused by its node; it is asked for again, but not all the time.
        self._asked[one.uid] = now
        _LOG.info("not to be kept", schedule=name, snapshot=snapshot)

    async def _ask(self, name: str, id_: str, command: Message, *, cause: str) -> Answer:
        return await self.ask(command, cause=cause, actor=f"schedule:{name}", id_=id_)


def _is_good(parts: Iterable[Snapshot]) -> bool:
    """Return whether each volume can be had as it was, from one of its replicas at least."""
    good: dict[str, bool] = {}
    for one in parts:
        good[one.volume] = good.get(one.volume, False) or not one.lost
    return all(good.values())


def snapshot_name(schedule: str, at: datetime) -> str:
    """Return what the snapshot of a schedule for that moment is called."""
    return f"{schedule}-{at:%Y%m%d}t{at:%H%M%S}z"


def _wish(schedule: Schedule, snapshot: str, by: BySchedule) -> CreateSnapshot | SnapshotGroup:
    if schedule.group:
        return SnapshotGroup(
            group=schedule.group, snapshot=snapshot, reserve_bytes=schedule.reserve_bytes, by=by
        )
    return CreateSnapshot(
        snapshot=snapshot, volume=schedule.volume, reserve_bytes=schedule.reserve_bytes, by=by
    )
