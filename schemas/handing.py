"""What is said about which replica is written to: handed over, failed over, fenced, back again."""

from schemas.attachment import AttachmentSpec
from schemas.grammar import Event, Report, Request
from schemas.refusals import Refusal
from schemas.replication import Epoch, Member
from schemas.units import Id, Moment, Name, Seconds


class HandOverVolume(
    Request, frozen=True, kw_only=True, omit_defaults=True, tag="volume.hand-over.v1"
):
    """Have the replica on ``node`` be the one that is written to; its consumer goes there too.

    While it goes it cannot use the volume: it is detached here and attached there. ``apart``: a
    volume of a group may go where the others are not written to.
    """

    volume: Name
    node: Name
    deadline_s: Seconds = 600
    operation: Id | None = None
    apart: bool = False


class FailVolumeOver(
    Request, frozen=True, kw_only=True, omit_defaults=True, tag="volume.fail-over.v1"
):
    """Go on with another replica, since the node that has the volume is silent.

    That node may write no more from that moment, whether or not it is still there.
    """

    volume: Name
    node: Name | None = None
    deadline_s: Seconds = 600


class SetFailover(Request, frozen=True, kw_only=True, tag="volume.set-failover.v1"):
    """Let another replica go on by itself when the node that has the volume is silent, or not."""

    volume: Name
    auto: bool


class FencePeer(Request, frozen=True, kw_only=True, tag="volume.fence-peer.v1"):
    """The node has lost ``peer``: may it go on without? Its writes wait for the answer."""

    volume: Name
    uid: Id
    node: Name
    peer: Name


class MoveHome(Request, frozen=True, kw_only=True, tag="volume.move-home.v1"):
    """Step of handing over: nobody writes to the volume now, and the next will, there.

    It is refused if that replica has missed something since the hand-over began.
    """

    volume: Name
    operation: Id
    node: Name


class TieAnew(Request, frozen=True, kw_only=True, tag="volume.tie-anew.v1"):
    """Step of rolling back: what is on ``node`` counts, and all others are to be filled from it."""

    volume: Name
    operation: Id
    node: Name


class ReportPeerBack(Report, frozen=True, kw_only=True, tag="volume.report-peer-back.v1"):
    """The replica on ``peer`` has all that was written, seen from the one that is written to."""

    volume: Name
    uid: Id
    node: Name
    peer: Name
    epoch: Epoch


class HandOverBegan(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="volume.hand-over-began.v1"
):
    """The volume shall be written to on that node, and no more ``from_node``.

    ``attachment`` is how its consumer shall have it there, ``back`` how again here if that fails.
    """

    volume: Name
    uid: Id
    operation: Id
    deadline: Moment
    from_node: Name
    node: Name
    attachment: AttachmentSpec | None = None
    back: AttachmentSpec | None = None


class FailoverBegan(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="volume.failover-began.v1"
):
    """From now on only that node may write to the volume: a new epoch has begun.

    ``from_node`` is silent; what it had written last, that node has. ``attached``: it is attached
    there still, for its consumer or left behind by an earlier operation.
    """

    volume: Name
    uid: Id
    operation: Id
    deadline: Moment
    from_node: Name
    node: Name
    epoch: Epoch
    attached: bool = False
    attachment: AttachmentSpec | None = None


class VolumeFailoverSet(Event, frozen=True, kw_only=True, tag="volume.failover-set.v1"):
    """Another replica goes on by itself when the node that has the volume is silent, or not."""

    volume: Name
    auto: bool


class VolumeHomeMoved(Event, frozen=True, kw_only=True, tag="volume.home-moved.v1"):
    """A new epoch has begun: only that node may write to the volume."""

    volume: Name
    operation: Id
    node: Name
    epoch: Epoch


class VolumeTiedAnew(Event, frozen=True, kw_only=True, tag="volume.tied-anew.v1"):
    """A new epoch has begun: what the replica on ``node`` holds counts, and no other does.

    ``members`` are tied by that operation; what an earlier tie has left is worth nothing.
    """

    volume: Name
    operation: Id
    node: Name
    epoch: Epoch
    members: tuple[Member, ...]


class VolumeHandedOver(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="volume.handed-over.v1"
):
    """The volume is written to there; its consumer, if it has one, has it there."""

    volume: Name
    operation: Id
    node: Name
    attachment: AttachmentSpec | None = None


class HandOverFailed(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="volume.hand-over-failed.v1"
):
    """The volume was not handed over; ``attachment`` is how its consumer has it, if it does.

    ``kept``: it has it as before.
    """

    volume: Name
    operation: Id
    code: Refusal
    because: str
    attachment: AttachmentSpec | None = None
    kept: bool = False


class PeerFenced(Event, frozen=True, kw_only=True, tag="volume.peer-fenced.v1"):
    """A new epoch has begun: ``node`` goes on without ``peer``, which may not become primary."""

    volume: Name
    node: Name
    peer: Name
    epoch: Epoch


class PeerReturned(Event, frozen=True, kw_only=True, tag="volume.peer-returned.v1"):
    """The replica of ``peer`` has all that was written again."""

    volume: Name
    peer: Name


HandingCommand = (
    HandOverVolume | FailVolumeOver | SetFailover | FencePeer | MoveHome | TieAnew | ReportPeerBack
)
HandingEvent = (
    HandOverBegan
    | FailoverBegan
    | VolumeFailoverSet
    | VolumeHomeMoved
    | VolumeTiedAnew
    | VolumeHandedOver
    | HandOverFailed
    | PeerFenced
    | PeerReturned
)
