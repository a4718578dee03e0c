"""A replica that moves, event by event: given up at the last moment, nothing is lost by that."""

from typing import Any

import pytest

from aggregates.processes import migrate, remove_replica
from aggregates.processes.migrate import MigrateProcess
from schemas.grammar import Event
from schemas.legs import (
    MigrationBegan,
    RemoveReplicaOf,
    ReplicaAdded,
    ReplicaAdditionBegan,
    ReplicaRemovalBegan,
    VolumeMigrated,
    VolumeReplicaRemoved,
)
from schemas.linking import LinkReturned, LinkTaken
from schemas.operation import (
    CancelWanted,
    OperationExpired,
    OperationKind,
    OperationStarted,
    Outcome,
    ReportConcluded,
)
from schemas.pool import RoomReleased, RoomReserved, RoomSettled
from schemas.replica import (
    RemoveReplica,
    ReplicaCreated,
    ReplicaRemovalWanted,
    ReplicaRemoved,
    ReplicaResized,
    ReplicaSpec,
    ReplicaWanted,
)
from schemas.replication import ReplicaTieWanted, Replication
from schemas.volume import Candidate
from tests.support.given import GIB, NOON, OPERATION, UID
from tests.support.legs_words import LEG_BYTES, good, link, members, tells
from tests.support.words import DEADLINE

_IT: dict[str, Any] = {"volume": "pg", "operation": OPERATION}
_LEG: dict[str, Any] = {"volume": "pg", "uid": UID}
_BEGAN: dict[str, Any] = {**_IT, "uid": UID, "deadline": DEADLINE}
REMOVING = ReplicaRemovalBegan(
    **_BEGAN, node="n2", pool="fast", home="n1", size_bytes=GIB, members=members("n1", "n2")
)
MOVING = MigrationBegan(
    **_BEGAN, home="n1", source="n2", node="n3", pool="fast", members=members("n1", "n2")
)
PLAIN = ReplicaTieWanted(**_IT, uid=UID, node="n1", size_bytes=LEG_BYTES)
UNTIED = ReplicaResized(**_LEG, node="n1", pool="fast", size_bytes=LEG_BYTES)
CANCEL = CancelWanted(operation=OPERATION)
LATE = OperationExpired(operation=OPERATION, at=NOON)
REMOVED: tuple[Event, ...] = (
    REMOVING,
    PLAIN,
    UNTIED,
    ReplicaRemovalWanted(**_IT, node="n2", uid=UID),
    ReplicaRemoved(**_LEG, node="n2", pool="fast"),
    RoomReleased(pool="fast", node="n2", claim=UID),
    LinkReturned(node="n1", uid=UID),
    VolumeReplicaRemoved(**_IT, node="n2", members=(), size_bytes=LEG_BYTES),
)
NEW = members("n1", "n3")
SPEC = ReplicaSpec(
    uid=UID, pool="fast", size_bytes=LEG_BYTES, replication=Replication(members=NEW, size_bytes=GIB)
)
ADDED: tuple[Event, ...] = (
    ReplicaAdditionBegan(
        **_BEGAN,
        node="n1",
        pool="fast",
        size_bytes=GIB,
        leg_bytes=LEG_BYTES,
        candidates=(Candidate(node="n3", pool="fast"),),
        members=(),
    ),
    *(
        LinkTaken(node=at, volume="pg", uid=UID, operation=OPERATION, link=link(at))
        for at in ("n1", "n3")
    ),
    RoomReserved(pool="fast", node="n3", claim=UID, size_bytes=LEG_BYTES, operation=OPERATION),
    ReplicaWanted(**_IT, node="n3", spec=SPEC),
    ReplicaTieWanted(**_IT, uid=UID, node="n1", size_bytes=LEG_BYTES, replication=SPEC.replication),
    ReplicaCreated(**_LEG, node="n3", pool="fast", size_bytes=LEG_BYTES, device="/dev/fast/pg"),
    RoomSettled(pool="fast", node="n3", claim=UID, size_bytes=LEG_BYTES),
    UNTIED,
    tells("n3"),
    tells("n1", peers=(good("n3"),)),
)
IS_IN = ReplicaAdded(**_IT, members=NEW)


def started(kind: OperationKind) -> OperationStarted:
    return OperationStarted(operation=OPERATION, kind=kind, object="volume/pg", deadline=DEADLINE)


def moved(*events: Event) -> MigrateProcess:
    process = migrate.begin(MOVING).evolve(started(OperationKind.VOLUME_MIGRATE))
    for event in (*REMOVED, *ADDED, *events):
        process = process.evolve(event)
    return process


@pytest.mark.parametrize("why", [(CANCEL,), (LATE,), (LATE, LATE)])
@pytest.mark.parametrize("added", [True, False], ids=["after", "before"])
def test_once_the_new_replica_is_in_it_stays(why: tuple[Event, ...], *, added: bool) -> None:
    process = moved(IS_IN, *why) if added else moved(*why, IS_IN)
    due = process.due()
    assert due is not None
    assert due.step == "migrated"
    due = process.evolve(VolumeMigrated(**_IT, source="n2")).due()
    assert due is not None
    assert isinstance(due.command, ReportConcluded)
    assert (due.command.outcome, due.command.leftovers) == (Outcome.COMPLETED, ())


def test_before_that_it_is_taken_away_again() -> None:
    due = moved(CANCEL).due()
    assert due is not None
    assert not isinstance(due.command, RemoveReplicaOf)  # the part under way sees to that itself
    assert due.step.startswith("add.")


@pytest.mark.parametrize("why", [(CANCEL,), (LATE,)])
@pytest.mark.parametrize("told", [True, False])
def test_who_may_have_written_without_a_replica_is_not_tied_to_it_as_before(
    why: tuple[Event, ...], *, told: bool
) -> None:
    process = remove_replica.begin(REMOVING).evolve(started(OperationKind.VOLUME_REMOVE_REPLICA))
    for event in (PLAIN, *why):
        process = process.evolve(event)
    assert process.due() is None, "its node is waited for"
    process = process.evolve(UNTIED if told else LATE).evolve(LATE)
    due = process.due()
    assert due is not None
    assert isinstance(due.command, RemoveReplica)
    assert due.command.node == "n2"
