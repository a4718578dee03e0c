"""Which replica is written to: handed over, failed over, fenced, back again.

Who may write is an epoch of the volume. It is this aggregate that begins one, by one append: so of
two nodes that have lost each other exactly one can go on.
"""

from datetime import timedelta

from msgspec.structs import replace

from aggregates import common_nodes
from aggregates.common_nodes import Place
from aggregates.decision import Decision, Facts
from aggregates.node import unheard
from aggregates.peers import member_on, successor, tied_by, unwritable
from aggregates.volume import Volume, VolumePhase
from schemas.answers import Refused, refuse
from schemas.attachment import AttachmentSpec
from schemas.handing import (
    FailoverBegan,
    FailVolumeOver,
    FencePeer,
    HandingEvent,
    HandOverBegan,
    HandOverVolume,
    MoveHome,
    PeerFenced,
    PeerReturned,
    ReportPeerBack,
    TieAnew,
    VolumeHandedOver,
    VolumeHomeMoved,
    VolumeTiedAnew,
)
from schemas.refusals import Refusal


def hand_over(volume: Volume, command: HandOverVolume, facts: Facts) -> Decision[HandingEvent]:
    """Say whether the volume shall be written to on another of its nodes."""
    name = command.volume
    if command.node == volume.node:
        return _there_already(volume, command)
    no = unwritable(volume, name, command.node, facts.world)
    no = no or unheard(facts.world.nodes.get(volume.node), volume.node)
    no = no or _parted(volume, command, facts)
    there = member_on(volume, command.node)
    if no is not None or there is None:
        return no or ()
    # Each attachment has an identity of its own, also the one that is made here again.
    return (
        HandOverBegan(
            volume=name,
            uid=volume.uid,
            operation=command.operation or facts.operation,
            deadline=facts.at + timedelta(seconds=command.deadline_s),
            from_node=volume.node,
            node=there.node,
            attachment=_along(volume, there.pool, facts.uid),
            back=_along(volume, volume.pool, facts.operation),
        ),
    )


def _there_already(volume: Volume, command: HandOverVolume) -> tuple[VolumeHandedOver, ...]:
    """Return that it is so, to an operation that waits to be told; it was done meanwhile."""
    if command.operation is None or volume.phase is not VolumePhase.READY:
        return ()
    return (
        VolumeHandedOver(
            volume=command.volume,
            operation=command.operation,
            node=volume.node,
            attachment=volume.use.attachment,
        ),
    )


def _parted(volume: Volume, command: HandOverVolume, facts: Facts) -> Refused | None:
    """Return why the volume shall not be written to elsewhere than the others of its group."""
    if command.apart or command.operation is not None:
        return None
    name, company = command.volume, common_nodes.of_member(command.volume, volume, facts.world)
    nodes = frozenset(one.node for one in volume.members)
    here, there = Place(volume.node, nodes), Place(command.node, nodes)
    no = common_nodes.unsettled(name, company, making=True)
    return no or common_nodes.parted(name, here, there, company)


def _along(volume: Volume, pool: str, uid: str) -> AttachmentSpec | None:
    now = volume.use.attachment
    return None if now is None else replace(now, uid=uid, pool=pool)


def fail_over(volume: Volume, command: FailVolumeOver, facts: Facts) -> Decision[HandingEvent]:
    """Say whether another replica goes on, since the node that has the volume is silent."""
    name, home = command.volume, facts.world.nodes.get(volume.node)
    if home is not None and not home.silent:
        return refuse(Refusal.NODE_NOT_SILENT, f"{volume.node} is heard")
    there = successor(volume, name, command.node, facts.world)
    if isinstance(there, Refused):
        return there
    # What an earlier operation could not take away there any more is to be taken by force, too.
    has = facts.world.attachments.get((volume.node, name))
    left = has is not None and has.spec is not None
    return (
        FailoverBegan(
            volume=name,
            uid=volume.uid,
            operation=facts.operation,
            deadline=facts.at + timedelta(seconds=command.deadline_s),
            from_node=volume.node,
            node=there.node,
            epoch=volume.epoch + 1,
            attached=left or volume.use.attachment is not None,
            attachment=_along(volume, there.pool, facts.uid),
        ),
    )


def fence(volume: Volume, command: FencePeer) -> Decision[HandingEvent]:
    """Say whether the node may go on without its peer: in a new epoch, or not at all."""
    name = command.volume
    if volume.phase is VolumePhase.ABSENT or volume.uid != command.uid:
        return refuse(Refusal.UNKNOWN_VOLUME, f"that volume {name} is no more")
    if command.node != volume.node:
        lost = f"in epoch {volume.epoch} only {volume.node} may write to {name}"
        return refuse(Refusal.NOT_PRIMARY, lost)
    if command.peer == command.node:
        return refuse(Refusal.NO_SUCH_REPLICA, f"{command.node} is no peer of its own")
    # One that is still being filled may have been filled by now: it is no less behind.
    coming = volume.phase is VolumePhase.ADDING_REPLICA
    if member_on(volume, command.peer) is None and not coming:
        return ()
    # Also of one that is outdated already: what was seen of it before must not bring it back.
    return (PeerFenced(volume=name, node=command.node, peer=command.peer, epoch=volume.epoch + 1),)


def note_back(volume: Volume, report: ReportPeerBack) -> Decision[HandingEvent]:
    """Say whether the peer has all that was written again; what is older than the epoch is not."""
    now = (volume.uid, volume.node, volume.epoch)
    if now != (report.uid, report.node, report.epoch) or report.peer not in volume.outdated:
        return ()
    if volume.phase is VolumePhase.REMOVING_REPLICA:
        return ()  # seen while it was still connected: the others are about to let it go
    return (PeerReturned(volume=report.volume, peer=report.peer),)


def move_home(volume: Volume, command: MoveHome) -> Decision[HandingEvent]:
    """Say whether the next epoch begins: the volume is written to there."""
    name, node = command.volume, command.node
    handing = volume.phase is VolumePhase.HANDING_OVER and volume.operation == command.operation
    if not handing:
        return refuse(Refusal.NOT_YOURS, f"{name} is not being handed over by that operation")
    if node == volume.node:
        return ()
    if member_on(volume, node) is None:
        return refuse(Refusal.NO_SUCH_REPLICA, f"{name} has no replica on {node}")
    if node in volume.outdated:
        return refuse(Refusal.NOT_UP_TO_DATE, f"the replica of {name} on {node} is outdated")
    return (
        VolumeHomeMoved(
            volume=name, operation=command.operation, node=node, epoch=volume.epoch + 1
        ),
    )


def tie_anew(volume: Volume, command: TieAnew) -> Decision[HandingEvent]:
    """Say whether one replica counts from now on, and nothing that the others hold."""
    name, node = command.volume, command.node
    if volume.phase is not VolumePhase.LOCKED or volume.operation != command.operation:
        return refuse(Refusal.NOT_YOURS, f"{name} is not being rolled back by that operation")
    if member_on(volume, node) is None:
        return refuse(Refusal.NO_SUCH_REPLICA, f"{name} has no replica on {node}")
    members = tied_by(volume.members, command.operation)
    if members == volume.members:
        return ()
    return (
        VolumeTiedAnew(
            volume=name,
            operation=command.operation,
            node=node,
            epoch=volume.epoch + 1,
            members=members,
        ),
    )
