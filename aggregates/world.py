"""The whole cluster as one pure fold: every aggregate's state by its kind and key."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

from aggregates import (
    attachment,
    copying,
    disk,
    errand,
    node,
    operation,
    policy,
    pool,
    pool_past,
    replica,
    schedule,
    snapshot,
    target,
    volume,
    volume_group,
    volume_past,
)
from aggregates.decision import Facts
from schemas.answers import Refused
from schemas.grammar import Event, Message
from schemas.place import CLUSTER, place_of
from schemas.volume import (
    VOLUMES,
    VolumeProvisioned,
    VolumeProvisioningBegan,
    VolumeProvisioningFailed,
)

S = TypeVar("S")
K = TypeVar("K", bound=Hashable)
OnNode = tuple[str, str]


class Table(Generic[K, S]):
    """All aggregates of one kind, and the two functions that make them what they are.

    The command and event types are those of the kind; that the right ones arrive is seen to by
    ``place_of``, which reads the kind from the word itself.
    """

    def __init__(
        self,
        initial: S,
        decide: Callable[[S, Any, Facts], tuple[Event, ...] | Refused],
        evolve: Callable[[S, Any], S],
    ) -> None:
        self.rows: dict[K, S] = {}
        self._initial = initial
        self._decide = decide
        self._evolve = evolve

    def decide(self, key: K, command: Message, facts: Facts) -> tuple[Event, ...] | Refused:
        """Let the aggregate under *key* decide."""
        return self._decide(self.rows.get(key, self._initial), command, facts)

    def evolve(self, key: K, event: Event) -> None:
        """Apply *event*; an aggregate that is as if it had never been takes no room."""
        state = self._evolve(self.rows.get(key, self._initial), event)
        if state == self._initial:
            self.rows.pop(key, None)
        else:
            self.rows[key] = state


class World:
    """Every aggregate there is. ``evolve`` is the only thing that changes it."""

    def __init__(self) -> None:
        nodes: Table[str, node.Node] = Table(node.Node(), node.decide, node.evolve)
        disks: Table[str, disk.Disk] = Table(disk.Disk(), disk.decide, disk.evolve)
        pools: Table[tuple[str, str], pool.Pool] = Table(pool.Pool(), pool.decide, pool_past.evolve)
        volumes: Table[str, volume.Volume] = Table(
            volume.Volume(), copying.decide, volume_past.evolve
        )
        replicas: Table[tuple[str, str], replica.Replica] = Table(
            replica.Replica(), replica.decide, replica.evolve
        )
        attachments: Table[tuple[str, str], attachment.Attachment] = Table(
            attachment.Attachment(), attachment.decide, attachment.evolve
        )
        snapshots: Table[str, snapshot.Snapshot] = Table(
            snapshot.Snapshot(), snapshot.decide, snapshot.evolve
        )
        groups, schedules = _groups_and_schedules()
        operations: Table[str, operation.Operation] = Table(
            operation.Operation(), operation.decide, operation.evolve
        )
        policies: Table[str, policy.Policy] = Table(policy.Policy(), policy.decide, policy.evolve)
        targets: Table[str, target.Target] = Table(target.Target(), target.decide, target.evolve)
        errands: Table[OnNode, errand.Errand] = Table(errand.Errand(), errand.decide, errand.evolve)
        self.nodes = nodes.rows
        self.disks = disks.rows
        self.pools = pools.rows
        self.volumes = volumes.rows
        self.replicas = replicas.rows
        self.attachments = attachments.rows
        self.snapshots = snapshots.rows
        self.groups = groups.rows
        self.schedules = schedules.rows
        self.operations = operations.rows
        self.policies = policies.rows
        self.targets = targets.rows
        self.errands = errands.rows
        self.provisioning: set[str] = set()
        self._tables: dict[str, Table[Any, Any]] = {
            "node": nodes,
            "disk": disks,
            "pool": pools,
            "volume": volumes,
            "replica": replicas,
            "attachment": attachments,
            "snapshot": snapshots,
            "group": groups,
            "schedule": schedules,
            "operation": operations,
            "policy": policies,
            "target": targets,
            "errand": errands,
        }

    def decide(self, command: Message, facts: Facts) -> tuple[Event, ...] | Refused:
        """Let the aggregate that *command* is about decide."""
        kind, place, id_ = place_of(command)
        return self._tables[kind].decide(_key(place, id_), command, facts)

    def evolve(self, kind: str, place: str, id_: str, events: Sequence[Event]) -> None:
        """Apply what one commit recorded about one aggregate."""
        table, key = self._tables[kind], _key(place, id_)
        for event in events:
            table.evolve(key, event)
            if kind == VOLUMES:
                self._note_provisioning(event)

    def _note_provisioning(self, event: Event) -> None:
        match event:
            case VolumeProvisioningBegan():
                self.provisioning.add(event.volume)
            case VolumeProvisioned() | VolumeProvisioningFailed():
                self.provisioning.discard(event.volume)
            case _:
                pass

    def is_over(self, kind: str, place: str, id_: str) -> bool:
        """Return whether an aggregate is as if it had never been, or an operation that ended."""
        row = self._tables[kind].rows.get(_key(place, id_))
        return row is None or (isinstance(row, operation.Operation) and row.outcome is not None)

    def forget(self, kind: str, place: str, id_: str) -> None:
        """Drop an aggregate that is over. Its past is in the log all the same."""
        self._tables[kind].rows.pop(_key(place, id_), None)


def _groups_and_schedules() -> tuple[
    Table[str, volume_group.VolumeGroup], Table[str, schedule.Schedule]
]:
    return (
        Table(volume_group.VolumeGroup(), volume_group.decide, volume_group.evolve),
        Table(schedule.Schedule(), schedule.decide, schedule.evolve),
    )


def _key(place: str, id_: str) -> Hashable:
    return id_ if place == CLUSTER else (place, id_)
