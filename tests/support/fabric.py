"""Legs of volumes on nodes that lose each other: what DRBD keeps of what was written, as a model.

A write is a number. It is acknowledged when the primary and every peer that it may not go on
without have it. What must never happen is asserted here, at the moment it would.
"""

import itertools
from random import Random

import msgspec

from aggregates.world import World
from schemas.instants import Together
from schemas.replication import LegDisk, LegSeen, PeerSeen, Replication, Start, Sync, Tie


class Leg:
    """One leg, as its kernel has it. It outlives its worker, and a crash but for being primary.

    ``past`` are the generations of its data, oldest first; None: it has none yet. ``missed`` are
    peers that are known to have missed something, ``connects`` counts connections by peer.
    ``spent``: it is to be rolled back, or was, and its metadata are of another day. ``untied``: as
    what it was tied before it was not tied any more; ``remade``: so it is tied again, and takes
    whoever has data of that tie for equal.
    """

    def __init__(self, tied: Replication | None) -> None:
        self.tied = tied
        blank = tied is not None and tied.start is Start.NOTHING
        self.disk = LegDisk.INCONSISTENT if blank else LegDisk.UP_TO_DATE
        self.past: tuple[int, ...] | None = None if blank else ()
        self.have: set[int] = set()
        self.primary = False
        self.frozen = False
        self.epoch = 0
        self.missed: set[str] = set()
        self.peers: set[str] = set()
        self.connects: dict[str, int] = {}
        self.source = ""
        self.left = 0
        self.spent = False
        self.untied: str | None = None
        self.remade = False

    def members(self, me: str) -> list[str]:
        """The nodes of its peers."""
        return [] if self.tied is None else [m.node for m in self.tied.members if m.node != me]


class Fabric:
    """All legs, the network between them, and which nodes are up.

    ``headers`` are the keys that open an encrypted volume, wherever that is written to.
    """

    def __init__(self, chance: Random) -> None:
        self.legs: dict[tuple[str, str], Leg] = {}
        self.names: dict[str, str] = {}
        self.headers: dict[str, frozenset[str]] = {}
        self.down: set[str] = set()
        self.apart: set[frozenset[str]] = set()
        self.acknowledged: dict[str, set[int]] = {}
        self.kept: dict[str, set[int]] = {}
        self.turns: dict[tuple[str, str], set[int]] = {}
        self.slow_sync = 8
        self.writes = 0
        self.fences = 0
        self._chance = chance
        self._numbers = itertools.count(1)

    def leg(self, uid: str, node: str) -> Leg | None:
        """The leg of that volume on that node."""
        return self.legs.get((uid, node))

    def crash(self, node: str) -> None:
        """The node loses its power: what is written stays, who was primary is forgotten."""
        self.down.add(node)
        for (_uid, at), leg in self.legs.items():
            if at == node:
                leg.primary = leg.frozen = False

    def promote(self, uid: str, node: str) -> bool:
        """Have the leg be primary; whether it is, and need not wait for anybody."""
        leg = self.leg(uid, node)
        if leg is None:
            return False
        if not leg.primary:
            others = (self.leg(uid, peer) for peer in leg.peers)
            rival = any(other is not None and other.primary for other in others)
            if rival or leg.disk is not LegDisk.UP_TO_DATE or leg.source or leg.spent:
                return False
            leg.primary = True
            leg.frozen = bool(self._unsure(uid, node, leg))
            self._one_writes(uid)
        return not leg.frozen

    def demote(self, uid: str, node: str, *, forced: bool) -> bool:
        """Have the leg be primary no more; whether it is so. One that waits must be forced."""
        leg = self.leg(uid, node)
        if leg is None or not leg.primary:
            return True
        if leg.frozen and not forced:
            return False
        leg.primary = leg.frozen = False
        return True

    def tie(self, uid: str, node: str, tied: Replication | None) -> None:
        """Have the leg be tied so."""
        leg = self.legs[uid, node]
        before, leg.tied = leg.tied, tied
        leg.missed &= set(leg.members(node))
        if before and tied is None:
            leg.untied = _since(before, node)
        if tied and not before:
            leg.remade = _since(tied, node) == leg.untied
        if before and tied and _since(before, node) != _since(tied, node):
            self._begin(uid, node, leg, tied.start)
        if tied is None:
            leg.frozen = False

    def keep(self, uid: str, node: str, snapshot: str) -> None:
        """Keep what the leg holds now."""
        self.kept.setdefault(snapshot, set(self.legs[uid, node].have))

    def keep_twins(self, uid: str, together: Together) -> None:
        """Have what the others hold in this turn kept, for whoever is told that it counts."""
        for node in together.followers:
            leg = self.leg(uid, node)
            if leg is not None:
                self.turns[together.instant, node] = set(leg.have)

    def settle(self, node: str, turn: str, snapshot: str) -> None:
        """Have the snapshot be what was kept there in that turn."""
        self.kept.setdefault(snapshot, self.turns[turn, node])

    def spend(self, uid: str, node: str) -> None:
        """Have the leg not running, whatever its metadata say, if it has any."""
        leg = self.legs[uid, node]
        if leg.tied is None:
            return
        assert not leg.primary, f"{node} is to be rolled back under whoever uses it"
        leg.spent, leg.missed = True, set()
        self._let_go(uid, node, leg)

    def roll_back(self, uid: str, node: str, snapshot: str) -> None:
        """Have the leg hold what was kept of it, and nothing else count any more."""
        leg = self.legs[uid, node]
        assert leg.spent or leg.tied is None, f"{node} could still run by its metadata"
        leg.have = set(self.kept[snapshot])
        self.acknowledged[uid] = set(leg.have)

    def granted(self, uid: str, node: str, peer: str, connects: int) -> None:
        """Let the log's leave to go on without *peer* come to the leg that asked for it."""
        leg = self.leg(uid, node)
        if leg is None or not leg.primary or peer in leg.peers:
            return
        if leg.connects.get(peer, 0) != connects:
            return  # asked about another connection than the one that is lost now
        leg.missed.add(peer)
        self.fences += 1
        if not self._unsure(uid, node, leg):
            self._go_on(uid, node, leg)

    def denied(self, uid: str, node: str) -> None:
        """Let the log's word that another may write come to the leg that asked."""
        leg = self.leg(uid, node)
        if leg is not None and not leg.peers:
            leg.disk = LegDisk.OUTDATED

    def asks(self, node: str) -> list[tuple[str, str, int]]:
        """Return for which volumes which peers are to be fenced, as which connection."""
        return [
            (uid, peer, leg.connects.get(peer, 0))
            for (uid, at), leg in self.legs.items()
            if at == node and leg.primary and leg.frozen
            for peer in self._unsure(uid, node, leg)
        ]

    def tick(self) -> None:
        """Let a moment pass: connections, syncs, writes."""
        for (uid, node), leg in list(self.legs.items()):
            for peer in sorted(set(leg.members(node)) | leg.peers):
                self._connect(uid, node, peer)
        for (uid, node), leg in list(self.legs.items()):
            self._sync(uid, node, leg)
        for (uid, node), leg in list(self.legs.items()):
            if leg.primary and not leg.frozen and node not in self.down:
                self._write(uid, node, leg)

    def seen(self, uid: str, node: str) -> LegSeen:
        """Return the leg as its node has it."""
        leg = self.legs[uid, node]
        peers = tuple(self._peer(uid, node, leg, peer) for peer in leg.members(node))
        return LegSeen(primary=leg.primary, disk=leg.disk, peers=peers, frozen=leg.frozen)

    def _peer(self, uid: str, node: str, leg: Leg, peer: str) -> PeerSeen:
        other = self.leg(uid, peer)
        if peer not in leg.peers or other is None:
            disk = LegDisk.OUTDATED if peer in leg.missed else LegDisk.UNKNOWN
            return PeerSeen(node=peer, tie=Tie.CONNECTING, disk=disk)
        sync = Sync.TARGET if leg.source == peer else Sync.NONE
        sync = Sync.SOURCE if other.source == node else sync
        # Of three, one may have missed what the one that writes gave to the other.
        whole = self._behind(leg, other) is None
        disk = other.disk if whole or leg.source else LegDisk.INCONSISTENT
        return PeerSeen(node=peer, tie=Tie.CONNECTED, primary=other.primary, disk=disk, sync=sync)

    def _unsure(self, uid: str, node: str, leg: Leg) -> list[str]:
        """Return the peers that may go on by themselves, for all the leg knows."""
        del uid
        return [p for p in leg.members(node) if p not in leg.peers and p not in leg.missed]

    def _reach(self, uid: str, node: str, peer: str) -> bool:
        one, other = self.leg(uid, node), self.leg(uid, peer)
        up = not self.down & {node, peer} and frozenset({node, peer}) not in self.apart
        if one is None or other is None or one.tied is None or other.tied is None:
            return False
        known = peer in one.members(node) and node in other.members(peer)
        # What they prove to each other is made of the ties of both.
        ties = [[_since(leg.tied, at) for at in (node, peer)] for leg in (one, other) if leg.tied]
        return up and known and ties[0] == ties[1] and not (one.spent or other.spent)

    def _connect(self, uid: str, node: str, peer: str) -> None:
        one, other = self.leg(uid, node), self.leg(uid, peer)
        if one is None or (other is None and peer not in one.peers):
            return
        connected, reach = peer in one.peers, self._reach(uid, node, peer)
        if connected and not reach:
            self._part(uid, node, one, peer)
            if other is not None:
                self._part(uid, peer, other, node)
        elif reach and not connected and other is not None:
            self._meet(uid, (node, one), (peer, other))
        elif connected and other is not None and not (one.source or other.source):
            target = self._behind(one, other)
            if target is None and one.disk is other.disk is LegDisk.UP_TO_DATE:
                self._whole(uid, node, peer)
            elif target is not None and not target.primary:
                self._fill(uid, target, node if target is other else peer)

    def _begin(self, uid: str, node: str, leg: Leg, start: Start) -> None:
        """Have nothing left of an earlier tie."""
        self._let_go(uid, node, leg)
        leg.missed, leg.source, leg.spent = set(), "", False
        if start is Start.NOTHING:
            assert not leg.primary, f"{node} is to be filled under whoever uses it"
            leg.disk, leg.past, leg.have = LegDisk.INCONSISTENT, None, set()
        elif start is Start.ROLLED_BACK:
            leg.disk, leg.past = LegDisk.UP_TO_DATE, ()

    def _let_go(self, uid: str, node: str, leg: Leg) -> None:
        for peer in sorted(leg.peers):
            other = self.leg(uid, peer)
            self._part(uid, node, leg, peer)
            if other is not None:
                self._part(uid, peer, other, node)

    def _part(self, uid: str, node: str, leg: Leg, peer: str) -> None:
        leg.peers.discard(peer)
        if leg.source == peer:
            leg.source = ""
        del uid
        if leg.primary and peer in leg.members(node) and peer not in leg.missed:
            leg.frozen = True

    def _meet(self, uid: str, one: tuple[str, Leg], other: tuple[str, Leg]) -> None:
        (node, a), (peer, b) = one, other
        target = self._behind(a, b)
        if (a.primary and b.primary) or (target is not None and target.primary):
            return  # they do not connect as long as somebody has the other one in use
        for leg, with_ in ((a, peer), (b, node)):
            leg.peers.add(with_)
            leg.connects[with_] = leg.connects.get(with_, 0) + 1
        if target is None:
            if LegDisk.UP_TO_DATE in {a.disk, b.disk}:
                self._whole(uid, node, peer)
        else:
            self._fill(uid, target, node if target is b else peer)
            source = a if target is b else b
            source.missed.add(peer if target is b else node)
        for leg, at in ((a, node), (b, peer)):
            if leg.primary and leg.frozen and not self._unsure(uid, at, leg):
                leg.frozen = False
        self._one_writes(uid)

    def _behind(self, a: Leg, b: Leg) -> Leg | None:
        """Return which of two legs that meet is to be filled from the other, if one is."""
        if a.past is None or b.past is None:
            return None if a.past is b.past else (a if a.past is None else b)
        bad = [leg for leg in (a, b) if leg.disk is LegDisk.INCONSISTENT]
        if bad:
            return bad[0] if len(bad) == 1 else None
        if a.past != b.past:
            short, long = sorted((a, b), key=lambda leg: len(leg.past or ()))
            assert (long.past or ())[: len(short.past or ())] == short.past, "they went two ways"
            return short
        if a.have == b.have:
            return None
        assert not any(leg.remade for leg in (a, b)), "what one lacks would not be copied"
        more, less = (a, b) if len(a.have) > len(b.have) else (b, a)
        assert less.have < more.have, "each has what the other has not"
        return less

    def _whole(self, uid: str, node: str, peer: str) -> None:
        for at, other in ((node, peer), (peer, node)):
            leg = self.legs[uid, at]
            leg.disk, leg.remade = LegDisk.UP_TO_DATE, False
            leg.missed.discard(other)

    def _sync(self, uid: str, node: str, leg: Leg) -> None:
        if not leg.source or leg.source not in leg.peers:
            return
        source = self.legs[uid, leg.source]
        if source.source or source.disk is not LegDisk.UP_TO_DATE:
            return
        leg.left -= 1
        if leg.left > 0:
            return
        leg.have, leg.past, peer, leg.source = set(source.have), source.past, leg.source, ""
        newer = [at for at in leg.peers if self._age(uid, at) > len(leg.past or ())]
        if newer:
            self._fill(uid, leg, newer[0])
            return
        self._whole(uid, node, peer)
        for at in leg.peers:
            if self._behind(leg, self.legs[uid, at]) is None:
                self._whole(uid, node, at)

    def _fill(self, uid: str, leg: Leg, source: str) -> None:
        """Have the leg be filled from that node, unless a newer one fills it already."""
        leg.disk = LegDisk.INCONSISTENT
        if not leg.source or self._age(uid, source) > self._age(uid, leg.source):
            leg.source, leg.left = source, self._chance.randrange(1, self.slow_sync)

    def _age(self, uid: str, node: str) -> int:
        """How many generations of data the leg on that node has; one without data has none."""
        leg = self.leg(uid, node)
        good = leg is not None and leg.disk is LegDisk.UP_TO_DATE
        return len(leg.past or ()) if leg is not None and good else -1

    def _go_on(self, uid: str, node: str, leg: Leg) -> None:
        leg.frozen = False
        generation = next(self._numbers)
        for at in (node, *leg.peers):
            other = self.legs[uid, at]
            if not other.source and other.past is not None:
                other.past = (*other.past, generation)
        self._one_writes(uid)

    def _one_writes(self, uid: str) -> None:
        legs = [(at, leg) for (of, at), leg in self.legs.items() if of == uid]
        writing = [at for at, leg in legs if leg.primary and not leg.frozen and at not in self.down]
        assert len(writing) <= 1, f"{writing} write to {self.names.get(uid)}"
        for at in writing:
            lost = self.acknowledged.get(uid, set()) - self.legs[uid, at].have
            assert not lost, f"{at} writes to {self.names.get(uid)} without {sorted(lost)[:5]}"

    def _write(self, uid: str, node: str, leg: Leg) -> None:
        self._one_writes(uid)
        if leg.tied is None and leg.past is not None and not leg.peers:
            # It is tied to nobody: were it tied again, whoever was its peer has missed this.
            leg.past = (*leg.past, next(self._numbers))
        number = next(self._numbers)
        for at in (node, *leg.peers):
            other = self.legs[uid, at]
            if not other.source:
                other.have.add(number)
        self.acknowledged.setdefault(uid, set()).add(number)
        self.writes += 1


def _since(tied: Replication, node: str) -> str | None:
    return next((one.link.since for one in tied.members if one.node == node), None)


class Loss(msgspec.Struct, frozen=True):
    """A replica that the log takes for good, and what it has not."""

    volume: str
    node: str
    lost: tuple[int, ...]


def losses(fabric: Fabric, world: World) -> list[Loss]:
    """Return which replicas might go on although they have missed what was acknowledged."""
    found = []
    for name, volume in world.volumes.items():
        acknowledged = fabric.acknowledged.get(volume.uid, set())
        for one in volume.members:
            leg = fabric.leg(volume.uid, one.node)
            if leg is None or one.node in volume.outdated or one.node == volume.node:
                continue
            lost = acknowledged - leg.have
            if lost:
                found.append(Loss(name, one.node, tuple(sorted(lost)[:5])))
    return found


def locked_out(fabric: Fabric, world: World) -> list[str]:
    """Return the replicas that no key opens which the log knows of for their nodes."""
    found = []
    for name, volume in world.volumes.items():
        header = fabric.headers.get(volume.uid)
        for node in {one.node for one in volume.members} or {volume.node}:
            leg = world.replicas.get((node, name))
            spec = None if leg is None else leg.spec
            if header is None or spec is None or spec.uid != volume.uid:
                continue
            known = () if spec.encryption is None else spec.encryption.known
            if not header & set(known):
                found.append(f"{name} on {node} opens by {sorted(header)}, not by {known}")
    return found
