"""A volume that cannot have all its replicas: what is left of one says nothing of another."""

from typing import Any

from aggregates.processes import provision_replicated
from aggregates.processes.provision_replicated import ProvisionReplicated
from schemas.grammar import Event
from schemas.legs import ReplicaAdditionBegan, ReplicaAdditionFailed
from schemas.operation import CancelWanted, OperationStarted
from schemas.pool import RoomReserved, RoomSettled
from schemas.refusals import Refusal
from schemas.replica import (
    RemoveReplica,
    ReplicaCreated,
    ReplicaRemovalWanted,
    ReplicaRemoved,
    ReplicaSpec,
    ReplicaTroubled,
    ReplicaWanted,
)
from schemas.volume import Candidate, VolumeProvisioningBegan
from tests.support.given import GIB, OPERATION, UID
from tests.support.words import DEADLINE

ON: dict[str, Any] = {"volume": "pg", "operation": OPERATION}
SPEC = ReplicaSpec(uid=UID, pool="fast", size_bytes=GIB)
BEGAN = VolumeProvisioningBegan(
    **ON,
    uid=UID,
    deadline=DEADLINE,
    size_bytes=GIB,
    replicas=2,
    candidates=(Candidate(node="n1", pool="fast"),),
)


def made_on(node: str) -> tuple[Event, ...]:
    about: dict[str, Any] = {"pool": "fast", "node": node, "claim": UID, "size_bytes": GIB}
    return (
        RoomReserved(**about, operation=OPERATION),
        ReplicaWanted(**ON, node=node, spec=SPEC),
        ReplicaCreated(
            volume="pg", node=node, uid=UID, pool="fast", size_bytes=GIB, device="/dev/fast/pg"
        ),
        RoomSettled(**about),
    )


def test_a_second_leg_that_goes_late_is_not_the_first() -> None:
    beside = ReplicaAdditionBegan(
        **ON,
        uid=UID,
        deadline=DEADLINE,
        node="n1",
        pool="fast",
        size_bytes=GIB,
        leg_bytes=GIB,
        candidates=(Candidate(node="n2", pool="fast"),),
        members=(),
        blank=True,
    )
    operation = provision_replicated.begin(BEGAN)
    for event in (
        OperationStarted(
            operation=OPERATION, kind=operation.kind, object="volume/pg", deadline=DEADLINE
        ),
        *made_on("n1"),
        beside,
        *made_on("n2"),
        CancelWanted(operation=OPERATION),
        ReplicaRemovalWanted(**ON, node="n2", uid=UID),
        ReplicaTroubled(
            volume="pg",
            node="n2",
            uid=UID,
            code=Refusal.TOOL_FAILED,
            because="it is in use",
            permanent=True,
        ),
        ReplicaAdditionFailed(**ON, code=Refusal.CANCELLED, because=""),
    ):
        operation = operation.evolve(event)
    assert isinstance(operation, ProvisionReplicated)
    assert operation.unfinished == ("replica/n2/pg",)
    gone = operation.evolve(ReplicaRemoved(volume="pg", node="n2", uid=UID, pool="fast"))
    assert gone.unfinished == ()
    due = gone.due()
    assert due is not None
    assert due.command == RemoveReplica(volume="pg", node="n1", operation=OPERATION)
