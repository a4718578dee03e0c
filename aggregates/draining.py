"""Nodes that are emptied, volume by volume, and nodes that are lost for good."""

from datetime import timedelta
from typing import assert_never

from msgspec.structs import replace

from aggregates import group_moves, legs, linking
from aggregates.decision import Decision, Facts
from aggregates.node import Node, NodePhase, unheard
from aggregates.peers import member_on
from aggregates.volume import VolumePhase
from schemas.answers import Refused, refuse
from schemas.draining import (
    ConcludeDrain,
    DrainBegan,
    DrainEnded,
    DrainingCommand,
    DrainingEvent,
    DrainNode,
    ForgetNode,
    ForgettingBegan,
    Stuck,
)
from schemas.legs import MigrateVolume, RemoveReplicaOf
from schemas.linking import LinkingCommand, LinkingEvent
from schemas.node import NodeCommand, NodeEvent
from schemas.refusals import Refusal
from schemas.settling import SettlingCommand, SettlingEvent

_Command = NodeCommand | SettlingCommand | LinkingCommand | DrainingCommand
_Event = NodeEvent | SettlingEvent | LinkingEvent | DrainingEvent
_THERE = frozenset({NodePhase.MEMBER, NodePhase.REMOVING})


def decide(node: Node, command: _Command, facts: Facts) -> Decision[_Event]:
    """Say what shall happen. May refuse a request; never refuses a report."""
    match command:
        case DrainNode():
            return _busy(node, command.node) or _drain(node, command, facts)
        case ForgetNode():
            return _busy(node, command.node) or _forget(node, command, facts)
        case ConcludeDrain():
            ended = DrainEnded(node=command.node, operation=command.operation, left=command.left)
            return (ended,) if node.operation == command.operation else ()
        case _:
            return linking.decide(node, command, facts)


def _busy(node: Node, name: str) -> Refused | None:
    if node.phase not in _THERE:
        return unheard(replace(node, silent=False), name)
    if node.operation:
        return refuse(Refusal.NODE_BUSY, f"operation {node.operation} runs on {name}")
    return None


def _drain(node: Node, command: DrainNode, facts: Facts) -> Decision[_Event]:
    no = unheard(node, command.node)
    if no is not None:
        return no
    going: list[str] = []
    stuck: list[Stuck] = []
    for name in _volumes_on(command.node, facts):
        volume = facts.world.volumes[name]
        move = MigrateVolume(volume=name, source=command.node, operation=facts.operation)
        no = _cannot_move(legs.decide(volume, move, facts))
        if no is None:
            going.append(name)
        else:
            stuck.append(Stuck(volume=name, code=no.code, because=no.because))
    targets, apart = group_moves.emptied(going, command.node, facts)
    stuck += [Stuck(volume=one, code=no.code, because=no.because) for one, no in apart.items()]
    return (
        DrainBegan(
            node=command.node,
            operation=facts.operation,
            deadline=facts.at + timedelta(seconds=command.deadline_s),
            volumes=tuple(name for name in going if name not in apart),
            at_once=command.at_once,
            stuck=tuple(stuck),
            resync_bytes_per_s=command.resync_bytes_per_s,
            targets=targets,
        ),
    )


def _cannot_move(answer: object) -> Refused | None:
    """Return why a volume cannot move; one that is busy now may be free when its turn comes."""
    if not isinstance(answer, Refused) or answer.code is Refusal.VOLUME_BUSY:
        return None
    return answer


def _volumes_on(node: str, facts: Facts) -> tuple[str, ...]:
    volumes = facts.world.volumes.items()
    gone = {VolumePhase.ABSENT, VolumePhase.CLONING, VolumePhase.PROVISIONING}
    here = (
        name
        for name, volume in volumes
        if volume.phase not in gone and (volume.node == node or member_on(volume, node) is not None)
    )
    return tuple(sorted(here))


def _forget(node: Node, command: ForgetNode, facts: Facts) -> Decision[_Event]:
    name = command.node
    if not node.silent:
        return refuse(Refusal.NODE_NOT_SILENT, f"{name} is heard")
    volumes = _volumes_on(name, facts)
    for one in volumes:
        less = RemoveReplicaOf(volume=one, node=name, lost=True)
        answer = legs.decide(facts.world.volumes[one], less, facts)
        if isinstance(answer, Refused):
            return refuse(Refusal.NODE_NEEDED, f"{one}: {answer.because}")
    disks = (
        disk
        for disk, one in facts.world.disks.items()
        if name in one.sightings or name == one.last_node
    )
    left = (one for on, one in facts.world.replicas if on == name and one not in volumes)
    return (
        ForgettingBegan(
            node=name,
            operation=facts.operation,
            deadline=facts.at + timedelta(seconds=command.deadline_s),
            pools=tuple(sorted(node.pools)),
            disks=tuple(sorted(disks)),
            legs=tuple(sorted(left)),
            volumes=volumes,
        ),
    )


def evolve(node: Node, event: _Event) -> Node:
    """Apply what happened. Never refuses: the past cannot be wrong."""
    if not isinstance(event, DrainingEvent):
        return linking.evolve(node, event)
    match event:
        case DrainBegan():
            return replace(node, cordoned=True, operation=event.operation)
        case DrainEnded():
            return replace(node, operation="")
        case ForgettingBegan():
            return replace(node, phase=NodePhase.REMOVING, operation=event.operation)
        case _:
            assert_never(event)
