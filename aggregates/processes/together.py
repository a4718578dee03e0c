"""Standing rules: a volume that is gone leaves its group, a run that ended is told of."""

from collections.abc import Iterator

from aggregates.decision import World
from aggregates.operation import Operation
from schemas.deleting import VolumeDeleted, VolumeHeld
from schemas.grammar import Event, Message
from schemas.operation import OperationEnded, Outcome
from schemas.refusals import Refusal
from schemas.schedule import ReportScheduleRunEnded
from schemas.volume import VolumeGone, VolumeProvisioningFailed
from schemas.volume_group import ConcludeGroup, ReportVolumeLeft


def follows(event: Event, world: World) -> Iterator[Message]:
    """Return the reports that follow from *event*, of which *world* knows already."""
    match event:
        case VolumeDeleted() | VolumeGone() | VolumeProvisioningFailed() | VolumeHeld():
            for name, group in world.groups.items():
                member = group.members.get(event.volume)
                if member is not None and member.uid == event.uid:
                    yield ReportVolumeLeft(
                        group=name, volume=event.volume, uid=event.uid, because="it was deleted"
                    )
        case OperationEnded():
            for name, schedule in world.schedules.items():
                if schedule.running == event.operation:
                    yield ReportScheduleRunEnded(
                        schedule=name,
                        uid=schedule.uid,
                        operation=event.operation,
                        outcome=event.outcome,
                        code=event.code,
                        because=event.because[:1000],
                    )
        case _:
            return


def owed(world: World) -> Iterator[Message]:
    """Return what *world* as it is still owes to these rules."""
    yield from _left(world)
    yield from _in_two(world)
    for name, group in world.groups.items():
        operation = world.operations.get(group.operation)
        if operation is not None and operation.outcome is not None:
            because = "its operation ended without a word"
            yield ConcludeGroup(
                group=name, operation=group.operation, code=Refusal.DEADLINE, because=because
            )
    for name, schedule in world.schedules.items():
        if schedule.running and (end := _end(world, schedule.running)) is not None:
            yield ReportScheduleRunEnded(
                schedule=name,
                uid=schedule.uid,
                operation=schedule.running,
                outcome=end.outcome or Outcome.FAILED,
                code=None if end.outcome is Outcome.COMPLETED else Refusal.DEADLINE,
                because="" if end.outcome is Outcome.COMPLETED else "its operation has ended",
            )


def _end(world: World, name: str) -> Operation | None:
    """Return the operation if it has ended; one of which nothing is known ended long ago."""
    operation = world.operations.get(name)
    if operation is not None:
        return operation if operation.outcome is not None else None
    begun = {one.operation for one in world.snapshots.values()}
    begun |= {one.operation for one in world.groups.values()}
    return None if name in begun else Operation()


def _left(world: World) -> Iterator[Message]:
    for name, group in world.groups.items():
        for volume_name, member in sorted(group.members.items()):
            volume = world.volumes.get(volume_name)
            if volume is None or volume.uid != member.uid:
                yield ReportVolumeLeft(
                    group=name, volume=volume_name, uid=member.uid, because="it is gone"
                )


def _in_two(world: World) -> Iterator[Message]:
    """Two desks can let a volume into two groups in one instant: it stays where it came first."""
    first: dict[str, str] = {}
    groups = world.groups
    joined = (
        (one.at, name, volume) for name, g in groups.items() for volume, one in g.members.items()
    )
    for _at, name, volume in sorted(joined):
        stays = first.setdefault(volume, name)
        if stays != name:
            yield ReportVolumeLeft(
                group=name,
                volume=volume,
                uid=groups[name].members[volume].uid,
                because=f"it has been in {stays} for longer",
            )
