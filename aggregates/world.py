"""The whole cluster as one pure fold: every aggregate's state by its kind and key."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from aggregates import (
    approval,
    attachment,
    disk,
    draining,
    errand,
    forgetting,
    legs,
    legs_past,
    node,
    operation,
    policy,
    pool,
    protection,
    qos,
    replica,
    schedule,
    snapshot,
    snapshot_past,
    target,
    trail,
    tying,
    volume,
    volume_group,
)
from aggregates.decision import Facts
from aggregates.placement import Weights
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


class Held(NamedTuple):
    """What the world holds of one aggregate. Without ``state`` it is as if it had never been."""

    state: Any = None
    provisioning: bool = False


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
        self.type = type(initial)
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
        self.protections: dict[str, protection.Protection] = {}
        self.approvals: dict[str, approval.Approval] = {}
        self.trails: dict[str, trail.Trail] = {}
        self.provisioning: set[str] = set()
        self.weights = Weights()
        self._tables: dict[str, Table[Any, Any]] = {
            "node": Table(self.nodes, node.Node(), draining.decide, draining.evolve),
            "disk": Table(self.disks, disk.Disk(), disk.decide, disk.evolve),
            "pool": Table(self.pools, pool.Pool(), forgetting.decide, forgetting.evolve),
            "volume": Table(self.volumes, volume.Volume(), legs.decide, legs_past.evolve),
            "replica": Table(self.replicas, replica.Replica(), tying.decide, tying.evolve),
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
            "target": Table(self.targets, target.Target(), target.decide, target.evolve),
            "errand": Table(self.errands, errand.Errand(), errand.decide, errand.evolve),
            **self._rules(),
        }

    def forked(self) -> "World":
        """Return a world with the same past, that goes its own way from here on.

        States are never changed, only replaced: so the two may share them.
        """
        other = World()
        for kind, table in self._tables.items():
            other._tables[kind].rows.update(table.rows)
        other.provisioning |= self.provisioning
        other.weights = self.weights
        return other

    def _rules(self) -> dict[str, Table[Any, Any]]:
        """Return what people have laid down, and what it asks of them."""
        return {
            "qos": Table(self.qos, qos.QosClass(), qos.decide, qos.evolve),
            "policy": Table(self.policies, policy.Policy(), policy.decide, policy.evolve),
            "protection": Table(
                self.protections, protection.Protection(), protection.decide, protection.evolve
            ),
            "approval": Table(
                self.approvals, approval.Approval(), approval.decide, approval.evolve
            ),
            "trail": Table(self.trails, trail.Trail(), trail.decide, trail.evolve),
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

    def held(self, kind: str, place: str, id_: str) -> Held:
        """Return what is held of one aggregate, for ``hold``: states are never changed."""
        state = self._tables[kind].rows.get(_key(place, id_))
        return Held(state, kind == VOLUMES and id_ in self.provisioning)

    def hold(self, kind: str, place: str, id_: str, held: Held) -> None:
        """Let an aggregate be as it was, or as it is elsewhere."""
        rows, key = self._tables[kind].rows, _key(place, id_)
        if held.state is None:
            rows.pop(key, None)
        else:
            rows[key] = held.state
        if kind == VOLUMES:
            (self.provisioning.add if held.provisioning else self.provisioning.discard)(id_)

    def all_held(self) -> Iterator[tuple[str, str, str, Held]]:
        """Yield kind, place and id of every aggregate that is not as if it had never been."""
        for kind, table in self._tables.items():
            for key in table.rows:
                place, id_ = key if isinstance(key, tuple) else (CLUSTER, key)
                yield kind, place, id_, self.held(kind, place, id_)

    def type_of(self, kind: str) -> type[Any] | None:
        """Return what the states of that kind are, or None: there is no such kind."""
        table = self._tables.get(kind)
        return None if table is None else table.type

    def is_over(self, kind: str, place: str, id_: str) -> bool:
        """Return whether an aggregate is as if it had never been, or has come to its end."""
        match self._tables[kind].rows.get(_key(place, id_)):
            case None:
                return True
            case operation.Operation() as row:
                return row.outcome is not None
            case approval.Approval() as row:
                return row.phase not in approval.OPEN
            case _:
                return False

    def forget(self, kind: str, place: str, id_: str) -> None:
        """Drop an aggregate that is over. Its past is in the log all the same."""
        self._tables[kind].rows.pop(_key(place, id_), None)


def _key(place: str, id_: str) -> Hashable:
    return id_ if place == CLUSTER else (place, id_)
