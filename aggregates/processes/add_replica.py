"""One replica more, with the volume in use: room, a link, a leg, and all that is written on it."""

from typing import Self

from msgspec.structs import replace

from aggregates.processes.process import Due, GivingUp, Process
from schemas.grammar import Event
from schemas.keys import Encryption
from schemas.legs import (
    ConcludeReplicas,
    ReplicaAdded,
    ReplicaAdditionBegan,
    ReplicaAdditionFailed,
)
from schemas.linking import LinkReturned, LinkTaken, ReportLinkReturned, TakeLink
from schemas.operation import OperationKind, StepRefused
from schemas.pool import ReportUnreserved, Reserve, RoomReserved, RoomSettled, RoomUnreserved
from schemas.refusals import Refusal
from schemas.replica import (
    CreateReplica,
    RemoveReplica,
    ReplicaCreated,
    ReplicaRemovalWanted,
    ReplicaRemoved,
    ReplicaResized,
    ReplicaSpec,
    ReplicaTroubled,
    ReplicaWanted,
)
from schemas.replicating import head_room_bytes
from schemas.replication import (
    LegDisk,
    Link,
    Member,
    ReplicaTieWanted,
    Replication,
    ReplicationChanged,
    Start,
    Sync,
    Tie,
    TieReplica,
)
from schemas.volume import Candidate, Layout

_FORWARD = frozenset({"reserve", "link", "create"})


class AddReplicaProcess(Process, frozen=True, kw_only=True):
    """The candidates are tried in their order; the first that keeps its word has the replica.

    ``tied`` are the nodes of legs that are there already and shall have the new one for a peer,
    ``untied`` those that shall be as before; ``changed`` those that said so of what was asked last.
    ``whole`` are the two nodes that have to see the new one so: its own, and the one that is
    written to. With a third it may have everything that one had, and miss what is written now.
    ``home_bytes`` is how large the leg at home was said to be last.
    """

    wish: ReplicaAdditionBegan
    candidates: tuple[Candidate, ...]
    tried: int = 0
    home_link: Link | None = None
    link: Link | None = None
    reserved: bool = False
    room_at_home: bool = False
    wanted: bool = False
    created: bool = False
    settled: bool = False
    whole: frozenset[str] = frozenset()
    tied: frozenset[str] = frozenset()
    untied: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()
    removal_wanted: bool = False
    removed: bool = False
    home_bytes: int = 0
    stuck: bool = False
    concluded: bool = False

    @property
    def here(self) -> Candidate:
        """The candidate whose turn it is; the last one when all have been tried."""
        return self.candidates[min(self.tried, len(self.candidates) - 1)]

    @property
    def device_bytes(self) -> int:
        """How large the replicated device is."""
        return self.wish.size_bytes + self.wish.header_bytes

    @property
    def leg_bytes(self) -> int:
        """How large each leg is, with the head-room for what the replication itself needs."""
        members = max(2, len(self.wish.members) + 1)
        return self.device_bytes + head_room_bytes(self.device_bytes, members)

    @property
    def legs(self) -> tuple[tuple[str, str], ...]:
        """Node and pool of the legs that are there already."""
        members = tuple((one.node, one.pool) for one in self.wish.members)
        return members or ((self.wish.node, self.wish.pool),)

    def forward(self) -> Due | None:
        """Take links and room, have the leg made and all tied, wait until it is up to date."""
        if self.succeeded:
            return self.completed()
        if not self.wish.members and self.home_link is None:
            return self._take(self.wish.node, "link-home", 0)
        if not self.reserved:
            return Due("reserve", self._room(), self.tried)
        if self.link is None:
            return self._take(self.here.node, "link", self.tried)
        if not self.room_at_home and self.leg_bytes > self.wish.leg_bytes:
            return Due("room", self._more_room())
        if not self.wanted:
            return Due("create", self._create(), self.tried)
        for number, (node, _pool) in enumerate(self.legs):
            if node not in self.tied:
                return Due("tie", self._tie(node, self._replication()), number)
        synced = self.whole >= {self.wish.node, self.here.node}
        done = self.created and self.settled and synced and self._all_changed
        return self._conclude("added", None) if done else None

    def back(self, why: GivingUp) -> Due | None:
        """Have the legs tied as before, the new one removed, links and room given back."""
        for number, (node, _pool) in enumerate(self.legs):
            if node in self.tied - self.untied:
                return Due("untie", self._tie(node, self._before()), number)
        if self.wanted and not self.removal_wanted:
            gone = RemoveReplica(
                volume=self.wish.volume, node=self.here.node, operation=self.operation
            )
            return Due("remove", gone)
        waits = (self.wanted and not self.removed) or not self.untied <= self.changed
        if waits and not (self.out_of_time or self.stuck):
            return None
        there = None if self.wanted and not self.removed else self._give_back_there()
        due = there or self._give_back_home()
        if due is not None:
            return due
        if not self.concluded:
            return self._conclude("failed", why)
        return self.given_up(why, *self._leftovers())

    def refused(self, refusal: StepRefused) -> Self:
        """Go on with the next candidate when this one does not keep its word."""
        left = len(self.candidates) - self.tried - 1
        if refusal.step not in _FORWARD or self.wanted or not left:
            if refusal.step in {"untie", "remove"}:
                return self._left_behind(refusal)
            return self.give_up(refusal.code, refusal.because)
        if refusal.step == "reserve":
            return replace(self, tried=self.tried + 1)
        # What is reserved there by now is given back at the end: it is the law of the ledger.
        return self.give_up(refusal.code, refusal.because)

    def _left_behind(self, refusal: StepRefused) -> Self:
        if refusal.step == "untie":
            return replace(self, stuck=True, untied=self.tied)
        gone = refusal.code is Refusal.UNKNOWN_REPLICA
        return replace(self, removal_wanted=True, removed=gone, stuck=not gone)

    def note(self, event: Event) -> Self:
        """Note what volume, pools and nodes say."""
        match event:
            case LinkTaken():
                mine = event.node == self.wish.node
                return replace(self, **{"home_link" if mine else "link": event.link})
            case LinkReturned():
                mine = event.node == self.wish.node
                return replace(self, **{"home_link" if mine else "link": None})
            case RoomReserved() | RoomUnreserved():
                there = isinstance(event, RoomReserved)
                home = event.node == self.wish.node
                return replace(self, **{"room_at_home" if home else "reserved": there})
            case ReplicaAdded():
                return self.success()
            case ReplicaAdditionFailed():
                return replace(self, concluded=True)
            case ReplicaTroubled(permanent=True):
                goes_back = self.giving_up is not None and bool(self.untied or self.removal_wanted)
                given_up = self.give_up(event.code, event.because)
                return replace(given_up, stuck=self.stuck or goes_back)
            case _:
                return self._note_legs(event)

    def _note_legs(self, event: Event) -> Self:
        match event:
            case ReplicaTieWanted():
                # Asked for before it was given up, it may be told after that.
                name = "untied" if _nodes(event.replication) == _nodes(self._before()) else "tied"
                asked = getattr(self, name) | {event.node}
                return replace(self, **{name: asked}, changed=self.changed - {event.node})
            case ReplicaResized():
                home = event.node == self.wish.node
                home_bytes = event.size_bytes if home else self.home_bytes
                return replace(self, changed=self.changed | {event.node}, home_bytes=home_bytes)
            case ReplicaWanted():
                return replace(self, wanted=True)
            case ReplicaCreated() if event.node == self.here.node:
                return replace(self, created=True)
            case RoomSettled() if event.node == self.here.node:
                return replace(self, settled=True)
            case ReplicationChanged() if event.node in {self.wish.node, self.here.node}:
                seen = frozenset({event.node}) if self._sees_it_whole(event) else frozenset()
                return replace(self, whole=(self.whole - {event.node}) | seen)
            case ReplicaRemovalWanted():
                return replace(self, removal_wanted=True)
            case ReplicaRemoved() if event.node == self.here.node:
                return replace(self, removed=True)
            case _:
                return self

    def _sees_it_whole(self, event: ReplicationChanged) -> bool:
        if event.node == self.here.node:
            return event.seen.disk is LegDisk.UP_TO_DATE
        peer = event.seen.peer(self.here.node)
        if peer is None or peer.tie is not Tie.CONNECTED:
            return False
        return peer.disk is LegDisk.UP_TO_DATE and peer.sync is Sync.NONE

    @property
    def _all_changed(self) -> bool:
        return self.changed >= frozenset(node for node, _ in self.legs)

    @property
    def members(self) -> tuple[Member, ...]:
        """The replicas with the new one; it gets the lowest index that is free."""
        known = self.wish.members
        if not known and self.home_link is not None:
            known = (
                Member(node=self.wish.node, pool=self.wish.pool, index=0, link=self.home_link),
            )
        if self.link is None:
            return known
        taken = {one.index for one in known}
        index = next(n for n in range(len(known) + 1) if n not in taken)
        here = Member(node=self.here.node, pool=self.here.pool, index=index, link=self.link)
        return (*known, here)

    def _replication(self, start: Start = Start.DATA) -> Replication:
        return Replication(
            members=self.members,
            size_bytes=self.device_bytes,
            start=start,
            resync_bytes_per_s=self.wish.resync_bytes_per_s,
        )

    def _before(self) -> Replication | None:
        if not self.wish.members:
            return None
        return Replication(members=self.wish.members, size_bytes=self.device_bytes)

    def _take(self, node: str, step: str, attempt: int) -> Due:
        link = TakeLink(
            node=node, volume=self.wish.volume, uid=self.wish.uid, operation=self.operation
        )
        return Due(step, link, attempt)

    def _room(self) -> Reserve:
        return Reserve(
            pool=self.here.pool,
            node=self.here.node,
            claim=self.wish.uid,
            size_bytes=self.leg_bytes,
            operation=self.operation,
            thin=self.wish.layout is Layout.THIN,
            stripes=self.wish.stripes,
        )

    def _more_room(self) -> Reserve:
        return Reserve(
            pool=self.wish.pool,
            node=self.wish.node,
            claim=self.wish.uid,
            size_bytes=self.leg_bytes - self.wish.leg_bytes,
            operation=self.operation,
            thin=self.wish.layout is Layout.THIN,
            stripes=self.wish.stripes,
            first=False,
        )

    def _create(self) -> CreateReplica:
        start = Start.DATA if self.wish.blank else Start.NOTHING
        return CreateReplica(
            volume=self.wish.volume,
            node=self.here.node,
            operation=self.operation,
            spec=ReplicaSpec(
                uid=self.wish.uid,
                pool=self.here.pool,
                size_bytes=self.leg_bytes,
                layout=self.wish.layout,
                stripes=self.wish.stripes,
                encryption=self._encryption(),
                replication=self._replication(start),
            ),
        )

    def _encryption(self) -> Encryption | None:
        """Return by which keys its leg opens: by those that open the others."""
        known = self.wish.encryption
        return None if known is None else replace(known, generation=1)

    def _tie(self, node: str, replication: Replication | None) -> TieReplica:
        new = self.wish.blank and replication is not None and node == self.wish.node
        if replication is not None and new:
            replication = replace(
                replication,
                filesystem=self.wish.filesystem,
                header=self.wish.encryption is not None,
            )
        return TieReplica(
            volume=self.wish.volume,
            node=node,
            operation=self.operation,
            size_bytes=max(self.leg_bytes, self.wish.leg_bytes),
            replication=replication,
        )

    def _give_back_there(self) -> Due | None:
        uid = self.wish.uid
        if self.reserved and not self.wanted:
            room = ReportUnreserved(pool=self.here.pool, node=self.here.node, claim=uid)
            return Due("unreserve", room, self.tried)
        if self.link is not None:
            return Due("unlink", ReportLinkReturned(node=self.here.node, uid=uid))
        return None

    def _give_back_home(self) -> Due | None:
        uid = self.wish.uid
        if self.room_at_home and not self.tied:
            room = ReportUnreserved(pool=self.wish.pool, node=self.wish.node, claim=uid)
            return Due("unreserve-home", room)
        # While the leg at home may still be tied, device and port stay taken there.
        loose = self.untied <= self.changed
        if self.home_link is not None and not self.wish.members and loose:
            return Due("unlink-home", ReportLinkReturned(node=self.wish.node, uid=uid))
        return None

    def _conclude(self, step: str, why: GivingUp | None) -> Due:
        return Due(
            step,
            ConcludeReplicas(
                volume=self.wish.volume,
                operation=self.operation,
                members=self.members if why is None else self.wish.members,
                size_bytes=0 if why is None else self._left_bytes,
                code=why.code if why else None,
                because=why.because[:1000] if why else "",
            ),
        )

    @property
    def _left_bytes(self) -> int:
        """How large the volume is when its leg is tied to nobody again; 0: not known, or as before.

        What was made room for the replication is there for the volume then.
        """
        alone = not self.wish.members and not self.wish.blank
        if not (alone and self.home_bytes and self.wish.node in self.untied & self.changed):
            return 0
        return self.home_bytes - self.wish.header_bytes

    def _leftovers(self) -> tuple[str, ...]:
        legs = {node for node in self.untied if node not in self.changed}
        if self.wanted and not self.removed:
            legs.add(self.here.node)
        return tuple(f"replica/{node}/{self.wish.volume}" for node in sorted(legs))


def _nodes(tied: Replication | None) -> frozenset[str]:
    return frozenset() if tied is None else frozenset(one.node for one in tied.members)


def begin(event: ReplicaAdditionBegan) -> AddReplicaProcess:
    """Return the operation that *event* began."""
    return AddReplicaProcess(
        operation=event.operation,
        kind=OperationKind.VOLUME_ADD_REPLICA,
        object=f"volume/{event.volume}",
        deadline=event.deadline,
        wish=event,
        candidates=tuple(c for c in event.candidates if c.code is None),
    )
