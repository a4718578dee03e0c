"""What is said about nodes: who is in the cluster, who is heard, what drifted there."""

from enum import StrEnum
from typing import Annotated

import msgspec

from schemas.grammar import Event, Report, Request
from schemas.mending import SeenVolume
from schemas.units import Id, Moment, Name, Seconds, Text

NODES = "node"


class Capability(StrEnum):
    """What a node's kernel, tools and worker can do.

    ``lending``: it lets other nodes read its snapshots, and can read theirs. ``replication``: it
    has DRBD, with one peer; ``replication-many``: with several.
    """

    LVM = "lvm"
    THIN = "thin"
    EXT4 = "ext4"
    XFS = "xfs"
    ENCRYPTION = "encryption"
    SIMULATED = "simulated"
    LENDING = "lending"
    REPLICATION = "replication"
    REPLICATION_MANY = "replication-many"


class Drift(StrEnum):
    """How a node may differ from what was decided."""

    VOLUME_MISSING = "volume-missing"
    VOLUME_RESIZED = "volume-resized"
    VOLUME_RENAMED = "volume-renamed"
    VOLUME_FOREIGN = "volume-foreign"
    VOLUME_DISK_MISSING = "volume-disk-missing"
    VOLUME_QUARANTINED = "volume-quarantined"
    POOL_MISSING = "pool-missing"
    POOL_DISK_MISSING = "pool-disk-missing"
    ATTACHMENT_MISSING = "attachment-missing"


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One difference between what was decided and what is, with both sides.

    ``object`` is the address it concerns (``pool/n1/fast``, ``replica/n1/pg``, ``lv/n1/fast/x``);
    ``settle`` names commands that would end it, ``lv`` is the logical volume that was seen, if any
    was. Nothing is ever repaired by deleting. What is in quarantine is known, and nobody's worry.
    """

    drift: Drift
    object: Text
    wanted: Text = ""
    observed: Text = ""
    settle: tuple[Text, ...] = ()
    lv: SeenVolume | None = None

    @property
    def quiet(self) -> bool:
        """Whether somebody has seen to it, so that nobody need be told."""
        return self.drift is Drift.VOLUME_QUARANTINED


class AdmitNode(Request, frozen=True, kw_only=True, tag="node.admit.v1"):
    """Let a removed node in again."""

    node: Name


class CordonNode(Request, frozen=True, kw_only=True, tag="node.cordon.v1"):
    """Place nothing new on the node."""

    node: Name
    because: Text = ""


class UncordonNode(Request, frozen=True, kw_only=True, tag="node.uncordon.v1"):
    """Place things on the node again."""

    node: Name


class RemoveNode(Request, frozen=True, kw_only=True, tag="node.remove.v1"):
    """Take the node out of the cluster. It must carry no pool."""

    node: Name
    deadline_s: Seconds = 600


class AttachPool(Request, frozen=True, kw_only=True, omit_defaults=True, tag="node.attach-pool.v1"):
    """Step of forming a pool: the node carries it from now on.

    With ``volume`` it is the group on a disk that is that volume.
    """

    node: Name
    pool: Name
    operation: Id
    volume: Name | None = None


class DetachPool(Report, frozen=True, kw_only=True, tag="node.report-pool-detached.v1"):
    """Step of removing a pool: the node no longer carries it."""

    node: Name
    pool: Name


class ConcludeNode(Report, frozen=True, kw_only=True, tag="node.report-concluded.v1"):
    """The operation on the node has ended; ``removed`` says whether it is out of the cluster."""

    node: Name
    operation: Id
    removed: bool


class ReportNodeJoined(Report, frozen=True, kw_only=True, tag="node.report-joined.v1"):
    """A worker started on the node, which others reach at ``address`` for replication.

    ``public_key`` is the node's own, X25519, base64.
    """

    node: Name
    address: Text = ""
    zone: Text = ""
    capabilities: tuple[Capability, ...] = ()
    worker_version: Text = ""
    public_key: Text = ""


class ReportNodeSilent(Report, frozen=True, kw_only=True, tag="node.report-silent.v1"):
    """The worker of the node has not been heard since ``last_heard``."""

    node: Name
    last_heard: Moment


class ReportNodeHeard(Report, frozen=True, kw_only=True, tag="node.report-heard.v1"):
    """The worker of a silent node is heard again."""

    node: Name


class ReportDrift(Report, frozen=True, kw_only=True, tag="node.report-drift.v1"):
    """All differences that the node sees now; what is not listed has been settled."""

    node: Name
    findings: Annotated[tuple[Finding, ...], msgspec.Meta(max_length=256)] = ()


class NodeJoined(Event, frozen=True, kw_only=True, tag="node.joined.v1"):
    """The node is a member of the cluster, with these properties."""

    node: Name
    address: str = ""
    zone: str = ""
    capabilities: tuple[Capability, ...] = ()
    worker_version: str = ""
    public_key: str = ""


class NodeAdmitted(Event, frozen=True, kw_only=True, tag="node.admitted.v1"):
    """The removed node may join again."""

    node: Name


class NodeCordoned(Event, frozen=True, kw_only=True, tag="node.cordoned.v1"):
    """Nothing new is placed on the node."""

    node: Name
    because: str = ""


class NodeUncordoned(Event, frozen=True, kw_only=True, tag="node.uncordoned.v1"):
    """Things are placed on the node again."""

    node: Name


class NodeFellSilent(Event, frozen=True, kw_only=True, tag="node.fell-silent.v1"):
    """Nothing was heard of the node's worker since ``last_heard``."""

    node: Name
    last_heard: Moment


class NodeHeard(Event, frozen=True, kw_only=True, tag="node.heard.v1"):
    """The node's worker is heard again."""

    node: Name


class PoolAttached(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="node.pool-attached.v1"
):
    """The node carries the pool; with ``volume`` it is the group on a disk that is that volume."""

    node: Name
    pool: Name
    volume: Name | None = None


class PoolDetached(Event, frozen=True, kw_only=True, tag="node.pool-detached.v1"):
    """The node no longer carries the pool."""

    node: Name
    pool: Name


class DriftFound(Event, frozen=True, kw_only=True, tag="node.drift-found.v1"):
    """The node differs from what was decided."""

    node: Name
    finding: Finding


class DriftSettled(Event, frozen=True, kw_only=True, tag="node.drift-settled.v1"):
    """That difference is no more."""

    node: Name
    finding: Finding


class NodeRemovalBegan(Event, frozen=True, kw_only=True, tag="node.removal-began.v1"):
    """The node is being taken out of the cluster."""

    node: Name
    operation: Id
    deadline: Moment
    disks: tuple[Name, ...] = ()


class NodeRemovalEnded(Event, frozen=True, kw_only=True, tag="node.removal-ended.v1"):
    """The node stays: its removal was given up."""

    node: Name
    operation: Id


class NodeRemoved(Event, frozen=True, kw_only=True, tag="node.removed.v1"):
    """The node is out of the cluster."""

    node: Name
    operation: Id


NodeCommand = (
    AdmitNode
    | CordonNode
    | UncordonNode
    | RemoveNode
    | AttachPool
    | DetachPool
    | ConcludeNode
    | ReportNodeJoined
    | ReportNodeSilent
    | ReportNodeHeard
    | ReportDrift
)
NodeEvent = (
    NodeJoined
    | NodeAdmitted
    | NodeCordoned
    | NodeUncordoned
    | NodeFellSilent
    | NodeHeard
    | PoolAttached
    | PoolDetached
    | DriftFound
    | DriftSettled
    | NodeRemovalBegan
    | NodeRemovalEnded
    | NodeRemoved
)
