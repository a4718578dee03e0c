"""Which device and port a replicated volume has on a node: no two have the same."""

from typing import assert_never

from msgspec.structs import replace

from aggregates import settling
from aggregates.decision import Decision, Facts
from aggregates.node import Node, NodeLink, cannot_replicate, unheard
from schemas.answers import refuse
from schemas.linking import (
    LinkingCommand,
    LinkingEvent,
    LinkReturned,
    LinkTaken,
    ReportLinkReturned,
    TakeLink,
)
from schemas.node import NodeCommand, NodeEvent
from schemas.refusals import Refusal
from schemas.replication import Link
from schemas.settling import SettlingCommand, SettlingEvent

MINOR_FIRST = 1000
"""Below are those that people give to resources of their own."""

PORT_FIRST = 7800
LINKS_MAX = 4000


def decide(
    node: Node, command: NodeCommand | SettlingCommand | LinkingCommand, facts: Facts
) -> Decision[NodeEvent | SettlingEvent | LinkingEvent]:
    """Say what shall happen. May refuse a request; never refuses a report."""
    match command:
        case TakeLink():
            return _take(node, command, facts)
        case ReportLinkReturned():
            by = {one.operation for one in node.links if one.uid == command.uid}
            # A step that waits for it is told, also if it was given back by rule meanwhile.
            known = command.taken_by is None or command.taken_by in by
            return (LinkReturned(node=command.node, uid=command.uid),) if known else ()
        case _:
            return settling.decide(node, command, facts)


def _take(node: Node, command: TakeLink, facts: Facts) -> Decision[LinkingEvent]:
    no = cannot_replicate(node, command.node, 2)
    known = next((one for one in node.links if one.uid == command.uid), None)
    # Also on a node that takes nothing new: what it has may get a replica elsewhere, and go.
    no = no or (unheard(node, command.node) if known is None else None)
    if no is not None:
        return no
    taken = {one.minor for one in node.links}
    free = (MINOR_FIRST + n for n in range(LINKS_MAX) if MINOR_FIRST + n not in taken)
    minor = known.minor if known is not None else next(free, None)
    if minor is None:
        return refuse(Refusal.CANNOT_REPLICATE, f"{command.node} replicates {LINKS_MAX} volumes")
    link = Link(
        minor=minor,
        port=PORT_FIRST + minor - MINOR_FIRST,
        address=node.address,
        key=node.public_key,
        since=_tied_by(command, known.since, facts) if known is not None else command.operation,
    )
    return (
        LinkTaken(
            node=command.node,
            volume=command.volume,
            uid=command.uid,
            operation=command.operation,
            link=link,
        ),
    )


def _tied_by(command: TakeLink, known: str | None, facts: Facts) -> str | None:
    """Return what the leg is tied by: it stays in that tie, which may be newer than its link."""
    leg = facts.world.replicas.get((command.node, command.volume))
    spec = None if leg is None else leg.spec
    if spec is None or spec.uid != command.uid or spec.replication is None:
        return command.operation
    here = (one for one in spec.replication.members if one.node == command.node)
    return next((one.link.since for one in here), known)


def evolve(node: Node, event: NodeEvent | SettlingEvent | LinkingEvent) -> Node:
    """Apply what happened. Never refuses: the past cannot be wrong."""
    if not isinstance(event, LinkingEvent):
        return settling.evolve(node, event)
    left = tuple(one for one in node.links if one.uid != event.uid)
    match event:
        case LinkTaken():
            taken = NodeLink(
                uid=event.uid,
                volume=event.volume,
                minor=event.link.minor,
                operation=event.operation,
                since=event.link.since,
            )
            return replace(node, links=(*left, taken))
        case LinkReturned():
            return replace(node, links=left)
        case _:
            assert_never(event)
