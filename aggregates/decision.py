"""What every decider is told besides its own past: the hour, new ids, and the rest of the world."""

from datetime import datetime
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from schemas.answers import Refused
from schemas.grammar import Event

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from aggregates.approval import Approval
    from aggregates.attachment import Attachment
    from aggregates.disk import Disk
    from aggregates.errand import Errand
    from aggregates.node import Node
    from aggregates.operation import Operation
    from aggregates.placement import Weights
    from aggregates.policy import Policy
    from aggregates.pool import Pool
    from aggregates.protection import Protection
    from aggregates.qos import QosClass
    from aggregates.replica import Replica
    from aggregates.schedule import Schedule
    from aggregates.snapshot import Snapshot
    from aggregates.target import Target
    from aggregates.volume import Volume
    from aggregates.volume_group import VolumeGroup

E = TypeVar("E", bound=Event)
Decision = tuple[E, ...] | Refused


class World(Protocol):
    """The other aggregates as they are now: good enough to advise, never to guard.

    What a decision takes from here it writes into its event, so that replaying gives the same.
    """

    @property
    def nodes(self) -> "Mapping[str, Node]":
        """All nodes by name."""
        ...

    @property
    def disks(self) -> "Mapping[str, Disk]":
        """All disks by id."""
        ...

    @property
    def pools(self) -> "Mapping[tuple[str, str], Pool]":
        """All pools by node and name."""
        ...

    @property
    def volumes(self) -> "Mapping[str, Volume]":
        """All volumes by name."""
        ...

    @property
    def replicas(self) -> "Mapping[tuple[str, str], Replica]":
        """All replicas by node and volume."""
        ...

    @property
    def attachments(self) -> "Mapping[tuple[str, str], Attachment]":
        """All attachments by node and volume."""
        ...

    @property
    def snapshots(self) -> "Mapping[str, Snapshot]":
        """All snapshots by name."""
        ...

    @property
    def qos(self) -> "Mapping[str, QosClass]":
        """All QoS classes by name."""
        ...

    @property
    def groups(self) -> "Mapping[str, VolumeGroup]":
        """All volume groups by name."""
        ...

    @property
    def schedules(self) -> "Mapping[str, Schedule]":
        """All schedules by name."""
        ...

    @property
    def operations(self) -> "Mapping[str, Operation]":
        """All operations by id."""
        ...

    @property
    def policies(self) -> "Mapping[str, Policy]":
        """All policies by name."""
        ...

    @property
    def protections(self) -> "Mapping[str, Protection]":
        """All protections by name."""
        ...

    @property
    def approvals(self) -> "Mapping[str, Approval]":
        """All approvals by id."""
        ...

    @property
    def errands(self) -> "Mapping[tuple[str, str], Errand]":
        """All errands by node and operation."""
        ...

    @property
    def targets(self) -> "Mapping[str, Target]":
        """All backup targets by name."""
        ...

    @property
    def weights(self) -> "Weights":
        """How places are weighed."""
        ...

    @property
    def provisioning(self) -> "Collection[str]":
        """The names of the volumes that are being made."""
        ...


class Facts(msgspec.Struct, frozen=True):
    """What came from outside with one command.

    ``at`` is the desk's clock, ``operation`` and ``uid`` are new identities that a decision may
    use, ``world`` is the rest of the cluster, ``actor`` who asks.
    """

    at: datetime
    operation: str
    uid: str
    world: World
    actor: str = ""
