"""A node is forgotten while something is being made there: nothing waits for its leg to go."""

from aggregates.processes import provision, snapshot
from aggregates.processes.process import Process
from schemas.grammar import Event
from schemas.operation import (
    OperationExpired,
    OperationStarted,
    Outcome,
    ReportConcluded,
    StepRefused,
)
from schemas.pool import RoomReserved
from schemas.refusals import Refusal
from schemas.replica import RemoveReplica, ReplicaSpec, ReplicaWanted
from schemas.snapshot import SnapshotCreationBegan, SnapshotCreationFailed
from schemas.volume import Layout, VolumeProvisioningFailed
from tests.support.given import GIB, NOON, OPERATION, UID
from tests.support.legs_words import began
from tests.support.words import DEADLINE

LATE = OperationExpired(operation=OPERATION, at=NOON)
SNAPSHOT = SnapshotCreationBegan(
    snapshot="pg-1",
    uid=UID,
    operation=OPERATION,
    deadline=DEADLINE,
    volume="pg",
    volume_uid=UID,
    node="n1",
    pool="fast",
    size_bytes=GIB,
    layout=Layout.LINEAR,
    reserve_bytes=GIB,
)


def late(process: Process, leg: str) -> Process:
    """The leg is wanted on the node, then the time is up, and the leg is nowhere."""
    spec = ReplicaSpec(uid=UID, pool="fast", size_bytes=GIB)
    past: tuple[Event, ...] = (
        OperationStarted(
            operation=OPERATION, kind=process.kind, object=process.object, deadline=DEADLINE
        ),
        RoomReserved(pool="fast", node="n1", claim=UID, size_bytes=GIB, operation=OPERATION),
        ReplicaWanted(volume=leg, node="n1", operation=OPERATION, spec=spec),
        LATE,
    )
    for event in past:
        process = process.evolve(event)
    due = process.due()
    assert due is not None
    assert isinstance(due.command, RemoveReplica)
    no = Refusal.UNKNOWN_REPLICA
    return process.evolve(
        StepRefused(operation=OPERATION, step="remove", code=no, because="no such leg")
    )


def ends(process: Process, said: Event) -> None:
    due = process.evolve(said).due()
    assert due is not None
    assert isinstance(due.command, ReportConcluded)
    about = (due.command.outcome, due.command.code, due.command.leftovers)
    assert about == (Outcome.FAILED, Refusal.DEADLINE, ())


def test_a_volume_that_was_being_made_there_comes_to_nothing_at_once() -> None:
    process = late(provision.begin(began("n1")), "pg")
    failed = VolumeProvisioningFailed(
        volume="pg", uid=UID, operation=OPERATION, code=Refusal.DEADLINE, because="late"
    )
    ends(process, failed)


def test_a_snapshot_that_was_being_taken_there_comes_to_nothing_at_once() -> None:
    process = late(snapshot.begin(SNAPSHOT), "pg-1")
    failed = SnapshotCreationFailed(
        snapshot="pg-1", uid=UID, operation=OPERATION, code=Refusal.DEADLINE, because="late"
    )
    ends(process, failed)
