"""The whole cluster as one pure fold: every aggregate's state by its kind and key."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

from aggregates import (
    attachment,
    disk,
    errand,
    mending,
    node,
    operation,
    policy,
    pool,
    pool_past,
    qos,
    replica,
    schedule,
    settling,
    snapshot,
    snapshot_past,
    target,
    volume,
    volume_group,
    volume_past,
    volume_settling,
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
        rows: dict[K, S],
        initial: S,
        decide: Callable[[S, Any, Facts], tuple[Event, ...] | Refused],
        evolve: Callable[[S, Any], S],
    ) -> None:
        self.rows = rows
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
        self.nodes: dict[str, node.Node] = {}
        self.disks: dict[str, disk.Disk] = {}
        self.pools: dict[OnNode, pool.Pool] = {}
        self.volumes: dict[str, volume.Volume] = {}
        self.replicas: dict[OnNode, replica.Replica] = {}
        self.attachments: dict[OnNode, attachment.Attachment] = {}
        self.snapshots: dict[str, snapshot.Snapshot] = {}
        self.groups: dict[str, volume_group.VolumeGroup] = {}
        self.schedules: dict[str, schedule.Schedule] = {}
        self.operations: dict[str, operation.Operation] = {}
        self.policies: dict[str, policy.Policy] = {}
        self.targets: dict[str, target.Target] = {}
        self.errands: dict[OnNode, errand.Errand] = {}
        self.qos: dict[str, qos.QosClass] = {}
        self.provisioning: set[str] = set()
        self._tables: dict[str, Table[Any, Any]] = {
            "node": Table(self.nodes, node.Node(), settling.decide, settling.evolve),
            "disk": Table(self.disks, disk.Disk(), disk.decide, disk.evolve),
            "pool": Table(self.pools, pool.Pool(), pool.decide, pool_past.evolve),
            "volume": Table(
                self.volumes, volume.Volume(), volume_settling.decide, volume_past.evolve
            ),
            "replica": Table(self.replicas, replica.Replica(), mending.decide, mending.evolve),
            "attachment": Table(
                self.attachments, attachment.Attachment(), attachment.decide, attachment.evolve
            ),
            "snapshot": Table(
                self.snapshots, snapshot.Snapshot(), snapshot.decide, snapshot_past.evolve
            ),
            "group": Table(
                self.groups, volume_group.VolumeGroup(), volume_group.decide, volume_group.evolve
            ),
            "schedule": Table(
                self.schedules, schedule.Schedule(), schedule.decide, schedule.evolve
            ),
            "operation": Table(
                self.operations, operation.Operation(), operation.decide, operation.evolve
            ),
            "policy": Table(self.policies, policy.Policy(), policy.decide, policy.evolve),
            "target": Table(self.targets, target.Target(), target.decide, target.evolve),
            "qos": Table(self.qos, qos.QosClass(), qos.decide, qos.evolve),
            "errand": Table(self.errands, errand.Errand(), errand.decide, errand.evolve),
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


def _key(place: str, id_: str) -> Hashable:
    return id_ if place == CLUSTER else (place, id_)
