"""Who is in the cluster, who is heard, and what drifted there."""

from datetime import timedelta
from enum import StrEnum
from typing import assert_never

import msgspec
from msgspec.structs import replace

from aggregates.decision import Decision, Facts
from schemas.answers import Refused, refuse
from schemas.node import (
    AdmitNode,
    AttachPool,
    Capability,
    ConcludeNode,
    CordonNode,
    DetachPool,
    DriftFound,
    DriftSettled,
    Finding,
    NodeAdmitted,
    NodeCommand,
    NodeCordoned,
    NodeEvent,
    NodeFellSilent,
    NodeHeard,
    NodeJoined,
    NodeRemovalBegan,
    NodeRemovalEnded,
    NodeRemoved,
    NodeUncordoned,
    PoolAttached,
    PoolDetached,
    RemoveNode,
    ReportDrift,
    ReportNodeHeard,
    ReportNodeJoined,
    ReportNodeSilent,
    UncordonNode,
)
from schemas.refusals import Refusal
from schemas.settling import Verb


class NodePhase(StrEnum):
    """Whether the node belongs to the cluster."""

    UNKNOWN = "unknown"
    MEMBER = "member"
    REMOVING = "removing"
    REMOVED = "removed"


class Settling(msgspec.Struct, frozen=True, kw_only=True):
    """A finding that somebody decided about, and the operation that sees to it."""

    operation: str
    uid: str
    verb: Verb
    finding: Finding


class Quarantined(msgspec.Struct, frozen=True, kw_only=True):
    """A volume of nobody's, the room of which is taken under ``claim``; ``seen``: also there."""

    claim: str
    object: str
    pool: str
    seen: bool = False


class NodeLink(msgspec.Struct, frozen=True, kw_only=True):
    """A volume that is replicated with the node, and the minor of its device there.

    ``operation`` is the last that asked for it, ``since`` the one that tied the leg.
    """

    uid: str
    volume: str
    minor: int
    operation: str = ""
    since: str | None = None


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One node as its events tell it. ``operation`` is the one that is running, if any.

    ``settling`` are those about its findings, which run beside it.
    """

    phase: NodePhase = NodePhase.UNKNOWN
    address: str = ""
    zone: str = ""
    capabilities: tuple[Capability, ...] = ()
    worker_version: str = ""
    public_key: str = ""
    links: tuple[NodeLink, ...] = ()
    cordoned: bool = False
    silent: bool = False
    pools: frozenset[str] = frozenset()
    findings: tuple[Finding, ...] = ()
    operation: str = ""
    settling: tuple[Settling, ...] = ()
    quarantined: tuple[Quarantined, ...] = ()


def unfit(node: Node | None, name: str) -> Refused | None:
    """Return why nothing new can be placed on *node*, or None if it can."""
    match node:
        case None | Node(phase=NodePhase.UNKNOWN):
            return refuse(Refusal.UNKNOWN_NODE, f"there is no node {name}")
        case Node(phase=NodePhase.REMOVED):
            return refuse(Refusal.NODE_REMOVED, f"{name} was removed from the cluster")
        case Node(cordoned=True) | Node(phase=NodePhase.REMOVING):
            return refuse(Refusal.NODE_CORDONED, f"{name} takes nothing new")
        case _:
            return unheard(node, name)


def unheard(node: Node | None, name: str) -> Refused | None:
    """Return why nothing can be done on *node* now, or None if its worker is there."""
    if node is None or node.phase is NodePhase.UNKNOWN:
        return refuse(Refusal.UNKNOWN_NODE, f"there is no node {name}")
    if node.phase is NodePhase.REMOVED:
        return refuse(Refusal.NODE_REMOVED, f"{name} was removed from the cluster")
    if node.silent:
        return refuse(Refusal.NODE_SILENT, f"nothing has been heard of {name} for a while")
    return None


def cannot_replicate(node: Node | None, name: str, members: int) -> Refused | None:
    """Return why no volume of so many *members* can have one on the node, or None."""
    if node is None:
        return refuse(Refusal.UNKNOWN_NODE, f"there is no node {name}")
    if Capability.REPLICATION not in node.capabilities:
        return refuse(Refusal.CANNOT_REPLICATE, f"{name} has no DRBD")
    if members > 2 and Capability.REPLICATION_MANY not in node.capabilities:  # noqa: PLR2004
        few = f"the DRBD of {name} takes one peer, and {members - 1} are asked for"
        return refuse(Refusal.CANNOT_REPLICATE, few)
    if not node.address or not node.public_key:
        return refuse(Refusal.NO_STORAGE_ADDRESS, f"{name} has told no address for its peers")
    return None


def decide(node: Node, command: NodeCommand, facts: Facts) -> Decision[NodeEvent]:
    """Say what shall happen. May refuse a request; never refuses a report."""
    match command:
        case ReportNodeJoined():
            return _join(node, command)
        case ReportNodeSilent():
            return _note_silence(node, command)
        case ReportNodeHeard():
            return (NodeHeard(node=command.node),) if node.silent else ()
        case ReportDrift():
            return _note_drift(node, command)
        case DetachPool():
            known = command.pool in node.pools
            return (PoolDetached(node=command.node, pool=command.pool),) if known else ()
        case ConcludeNode():
            return _conclude(node, command)
        case AdmitNode():
            return _admit(node, command)
        case CordonNode() | UncordonNode() | RemoveNode() | AttachPool():
            if node.phase in {NodePhase.UNKNOWN, NodePhase.REMOVED}:
                return unheard(node, command.node) or ()
            return _change_member(node, command, facts)
        case _:
            assert_never(command)


def _change_member(
    node: Node, command: CordonNode | UncordonNode | RemoveNode | AttachPool, facts: Facts
) -> Decision[NodeEvent]:
    match command:
        case CordonNode():
            if node.cordoned:
                return ()
            return (NodeCordoned(node=command.node, because=command.because),)
        case UncordonNode():
            return (NodeUncordoned(node=command.node),) if node.cordoned else ()
        case RemoveNode():
            return _remove(node, command, facts)
        case AttachPool():
            if command.pool in node.pools:
                return ()
            no = unfit(node, command.node)
            attached = PoolAttached(node=command.node, pool=command.pool, volume=command.volume)
            return no or (attached,)
        case _:
            assert_never(command)


def _join(node: Node, report: ReportNodeJoined) -> Decision[NodeEvent]:
    if node.phase is NodePhase.REMOVED:
        return ()
    joined = NodeJoined(
        node=report.node,
        address=report.address,
        zone=report.zone,
        capabilities=report.capabilities,
        worker_version=report.worker_version,
        public_key=report.public_key,
    )
    heard = (NodeHeard(node=report.node),) if node.silent else ()
    return heard if node == evolve(node, joined) else (joined, *heard)


def _note_silence(node: Node, report: ReportNodeSilent) -> Decision[NodeEvent]:
    if node.silent or node.phase in {NodePhase.UNKNOWN, NodePhase.REMOVED}:
        return ()
    return (NodeFellSilent(node=report.node, last_heard=report.last_heard),)


def _note_drift(node: Node, report: ReportDrift) -> Decision[NodeEvent]:
    if node.phase in {NodePhase.UNKNOWN, NodePhase.REMOVED}:
        return ()
    now = {(f.drift, f.object): f for f in report.findings}
    before = {(f.drift, f.object): f for f in node.findings}
    settled = [DriftSettled(node=report.node, finding=f) for k, f in before.items() if k not in now]
    found = [DriftFound(node=report.node, finding=f) for k, f in now.items() if before.get(k) != f]
    return (*settled, *found)


def _admit(node: Node, command: AdmitNode) -> Decision[NodeEvent]:
    match node.phase:
        case NodePhase.REMOVED:
            return (NodeAdmitted(node=command.node),)
        case NodePhase.UNKNOWN:
            return refuse(
                Refusal.UNKNOWN_NODE,
                f"there is no node {command.node}",
                "A new node needs no leave: start its worker.",
            )
        case NodePhase.MEMBER | NodePhase.REMOVING:
            return refuse(Refusal.NODE_KNOWN, f"{command.node} is a member")
        case _:
            assert_never(node.phase)


def _remove(node: Node, command: RemoveNode, facts: Facts) -> Decision[NodeEvent]:
    if node.operation:
        return refuse(Refusal.NODE_BUSY, f"operation {node.operation} runs on {command.node}")
    if node.pools:
        return _carries(node, command.node, facts)
    seen = (
        name
        for name, disk in facts.world.disks.items()
        if command.node in disk.sightings or command.node == disk.last_node
    )
    return (
        NodeRemovalBegan(
            node=command.node,
            operation=facts.operation,
            deadline=facts.at + timedelta(seconds=command.deadline_s),
            disks=tuple(sorted(seen)),
        ),
    )


def _carries(node: Node, name: str, facts: Facts) -> Refused:
    owners = (disk.owner for disk in facts.world.disks.values())
    whole = {one.pool: one.volume for one in owners if one and one.node == name and one.volume}
    pools = sorted(node.pools - whole.keys())
    if pools:
        return refuse(Refusal.NODE_HAS_POOLS, f"{name} carries {', '.join(pools)}")
    volumes = ", ".join(sorted(whole[pool] for pool in node.pools))
    carries = f"{name} carries the raw disk volumes {volumes}"
    return refuse(Refusal.NODE_HAS_RAW_DISKS, carries[:1000])


def _conclude(node: Node, report: ConcludeNode) -> Decision[NodeEvent]:
    if node.operation != report.operation:
        return ()
    if report.removed:
        return (NodeRemoved(node=report.node, operation=report.operation),)
    return (NodeRemovalEnded(node=report.node, operation=report.operation),)


def evolve(node: Node, event: NodeEvent) -> Node:
    """Apply what happened. Never refuses: the past cannot be wrong."""
    match event:
        case NodeJoined():
            return _joined(node, event)
        case NodeAdmitted():
            return Node()
        case NodeCordoned():
            return replace(node, cordoned=True)
        case NodeUncordoned():
            return replace(node, cordoned=False)
        case NodeFellSilent():
            return replace(node, silent=True)
        case NodeHeard():
            return replace(node, silent=False)
        case PoolAttached():
            return replace(node, pools=node.pools | {event.pool})
        case PoolDetached():
            return replace(node, pools=node.pools - {event.pool})
        case DriftFound():
            return replace(node, findings=(*_without(node, event.finding), event.finding))
        case DriftSettled():
            return replace(node, findings=_without(node, event.finding))
        case NodeRemovalBegan():
            return replace(node, phase=NodePhase.REMOVING, operation=event.operation)
        case NodeRemovalEnded():
            return replace(node, phase=NodePhase.MEMBER, operation="")
        case NodeRemoved():
            return Node(phase=NodePhase.REMOVED)
        case _:
            assert_never(event)


def _joined(node: Node, event: NodeJoined) -> Node:
    return replace(
        node,
        phase=node.phase if node.phase is NodePhase.REMOVING else NodePhase.MEMBER,
        address=event.address,
        zone=event.zone,
        capabilities=event.capabilities,
        worker_version=event.worker_version,
        public_key=event.public_key,
    )


def _without(node: Node, finding: Finding) -> tuple[Finding, ...]:
    key = (finding.drift, finding.object)
    return tuple(f for f in node.findings if (f.drift, f.object) != key)
