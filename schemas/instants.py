"""What is said about snapshots of one instant: who takes them together, and when that was."""

import msgspec

from schemas.grammar import Event, Request
from schemas.units import Id, Name


class Together(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The ``snapshots`` of one instant on this node: none is made unless all of them are wanted.

    Of replicated volumes, those of other replicas are of the same instant. The node that writes,
    ``leader``, holds everything still and has the ``followers`` take theirs meanwhile. Each time
    it does is a ``turn`` of its own; until it is known which one counts, a follower has nothing.
    """

    instant: Id
    snapshots: tuple[Name, ...]
    leader: Name | None = None
    followers: tuple[Name, ...] = ()
    turn: Id | None = None

    @property
    def follows(self) -> bool:
        """Whether another node says when they are taken, and which turn counts is not known."""
        return self.leader is not None and not self.followers and self.turn is None


class SettleInstant(Request, frozen=True, kw_only=True, tag="replica.settle-instant.v1"):
    """Step of taking snapshots of all replicas: in that turn nobody wrote, so that is the one."""

    volume: Name
    node: Name
    operation: Id
    turn: Id


class InstantSettled(Event, frozen=True, kw_only=True, tag="replica.instant-settled.v1"):
    """The snapshot on that node is the one that was taken in that turn, and no other."""

    volume: Name
    node: Name
    operation: Id
    uid: Id
    turn: Id
