"""Standing rules of comparing replicas: none goes on for nobody, nor waits for a node that fell."""

from collections.abc import Iterator

from aggregates.decision import World
from aggregates.processes.verify_volume import GONE, SILENT
from schemas.grammar import Message
from schemas.operation import OperationKind, ReportStepRefused
from schemas.refusals import Refusal
from schemas.verifying import ConcludeVerification


def owed(world: World) -> Iterator[Message]:
    """Return what is to be said of comparisons that nobody will end.

    A node that is silent may come back and end what it was doing: but whoever waits is told now,
    and it is the volume that has to go on, elsewhere perhaps.
    """
    yield from _of_volumes(world)
    at_work = {one.verifying.operation for one in world.volumes.values() if one.verifying}
    for id_, operation in world.operations.items():
        open_ = operation.kind is OperationKind.VOLUME_VERIFY and operation.outcome is None
        if open_ and id_ not in at_work:
            yield ReportStepRefused(
                operation=id_,
                step=GONE,
                code=Refusal.VERIFY_BROKEN,
                because=f"{operation.object} is not what it was",
            )


def _of_volumes(world: World) -> Iterator[Message]:
    for name, volume in world.volumes.items():
        verifying = volume.verifying
        if verifying is None:
            continue
        operation = world.operations.get(verifying.operation)
        if operation is None:
            continue
        if operation.outcome is not None:
            yield ConcludeVerification(
                volume=name,
                operation=verifying.operation,
                code=Refusal.DEADLINE,
                because="its operation ended without a word",
            )
            continue
        node = world.nodes.get(verifying.node)
        if node is None or node.silent:
            yield ReportStepRefused(
                operation=verifying.operation,
                step=SILENT,
                code=Refusal.VERIFY_BROKEN,
                because=f"{verifying.node}, which compares, is not heard any more",
            )
