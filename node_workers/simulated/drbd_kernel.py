"""DRBD in the kernel of a simulated machine: what happens by itself, between two legs.

Peers that reach each other meet at once. One that is out of reach is lost after some seconds, as
pings would have it. Copying and comparing take as long as their rate says; what is copied is there
at the end, all of it or nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec
from msgspec.structs import replace

from node_workers.drbd_config import SPLITS
from node_workers.simulated import drbd_blocks
from node_workers.simulated.drbd_files import handled
from node_workers.simulated.drbd_handshake import Outcome, meet
from node_workers.simulated.drbd_model import (
    BLOCK_BYTES,
    CONNECTED,
    CONNECTING,
    CONSISTENT,
    DISKLESS,
    ESTABLISHED,
    EXTENT_BLOCKS,
    INCONSISTENT,
    OUTDATED,
    SECTOR_BYTES,
    SOURCE,
    STANDALONE,
    TARGET,
    UNKNOWN,
    UP_TO_DATE,
    VERIFY_SOURCE,
    VERIFY_TARGET,
    VERIFYING,
    Leg,
)
from node_workers.simulated.drbd_side import Side
from node_workers.simulated.drbd_wire import Wire
from node_workers.simulated.model import State

_MISSED_S = 3.0
_RATE_BYTES_PER_S = 100 << 20  # where nobody says how fast, as the resource file has it begin


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What the handler of a leg is asked: may it go on without its peer? ``losses``: which time."""

    leg: str
    peer: str
    losses: int


class DrbdKernel:
    """The legs of one machine, as they are between two tools."""

    def __init__(self, state: State, wire: Wire, keep: Callable[[], None]) -> None:
        self._state = state
        self._keep = keep
        self.wire = wire
        self.waiting: list[str] = []

    @contextmanager
    def at_work(self, *, past: bool = False) -> Iterator[None]:
        """Have DRBD see what is done meanwhile; or not, if it is done *past* it.

        ``waiting`` are the legs, by name, on which something was written that waits for the peer.
        """
        with self.wire.held(self._state):
            self.advance()
            try:
                yield
            finally:
                self._note(past=past)
                self.advance()
                self._keep()

    def acknowledged(self, legs: Sequence[str]) -> bool:
        """Return whether nothing waits any more that was written to these legs."""
        with self.at_work():
            return not any(leg.unsent for leg in self._state.legs if leg.name in legs)

    def advance(self) -> None:
        """Have happen what has happened by now."""
        for leg in self._state.legs:
            here = Side(self._state, leg)
            there = self.peer(leg)
            if leg.connected:
                self._hold(here, there)
            if leg.connection == CONNECTING and there is not None:
                self._meet(here, there)
            if leg.connected and there is not None and there.leg.link == leg.link:
                self._copy(here, there)
                leg.peer_disk, leg.peer_primary = there.leg.disk, there.leg.primary

    def peer(self, leg: Leg) -> Side | None:
        """Return the other end, if it is reached and shows who it is."""
        wanted = (leg.options.there, leg.options.here, leg.options.secret)
        for state in self.wire.peers(self._state):
            for other in state.legs:
                told = (other.options.here, other.options.there, other.options.secret)
                if leg.options.there and other.name == leg.name and told == wanted:
                    return Side(state, other)
        return None

    def connected(self, leg: Leg) -> Side | None:
        """Return the other end of a connection that carries something at this moment."""
        there = self.peer(leg) if leg.connected else None
        return there if there is not None and there.leg.link == leg.link else None

    def questions(self) -> list[Question]:
        """Return what handlers are asking: of frozen primaries that have had no answer yet."""
        return [
            Question(leg=leg.name, peer=leg.options.peer, losses=leg.losses)
            for leg in self._state.legs
            if leg.primary and leg.suspended and not leg.connected and not leg.answered
        ]

    def answer(self, question: Question, *, granted: bool) -> None:
        """Have a handler end: the peer is outdated, or has gone on without this leg."""
        found = (leg for leg in self._state.legs if leg.name == question.leg)
        leg = next(found, None)
        if leg is None or leg.connected or leg.losses != question.losses:
            return
        side = Side(self._state, leg)
        if granted:
            if leg.disk == CONSISTENT:
                leg.disk = UP_TO_DATE
            side.outdate_peer()
            return
        leg.answered = True
        if not leg.primary and leg.disk in {CONSISTENT, UP_TO_DATE}:
            leg.disk = OUTDATED
            side.keep()

    def part(self, leg: Leg) -> None:
        """Have a leg leave its peer in order: who is not primary is outdated, and both know it."""
        here, there = Side(self._state, leg), self.connected(leg)
        if there is not None:
            for writer, reader in ((here, there), (there, here)):
                if not writer.leg.primary:
                    continue
                if reader.leg.disk in {CONSISTENT, UP_TO_DATE}:
                    reader.leg.disk = OUTDATED
                writer.outdate_peer()
            there.lose()
        here.disconnect()

    def resized(self, leg: Leg) -> None:
        """Have a leg as large as it may be; what is new is copied from the primary."""
        here, there = Side(self._state, leg), self.connected(leg)
        room = here.room if there is None else min(here.room, leg.room_sectors or here.room)
        here.move(min(leg.options.sectors or room, room))
        if there is None:
            return
        there.leg.room_sectors = here.room
        there.leg.options = replace(there.leg.options, sectors=leg.options.sectors)
        grown = leg.sectors - there.leg.sectors
        there.move(leg.sectors)
        if grown > 0:
            source, target = (here, there) if leg.primary else (there, here)
            since = (leg.sectors - grown) * SECTOR_BYTES // BLOCK_BYTES
            new = {block for block in drbd_blocks.flat(source.content) if block >= since}
            self._begin(source, target, new, grown * SECTOR_BYTES)

    def _note(self, *, past: bool) -> None:
        self.waiting = []
        for leg in self._state.legs:
            if not leg.attached:
                continue
            here = Side(self._state, leg)
            blocks = here.written()
            if past or not blocks:
                continue
            here.touch(blocks)
            there = self.connected(leg)
            if leg.suspended or (leg.connected and there is None):
                leg.unsent = sorted({*leg.unsent, *blocks})
                self.waiting.append(leg.name)
            elif there is None or not there.leg.attached:
                here.metadata.mark(blocks)
            else:
                there.take(here, blocks)

    def _hold(self, here: Side, there: Side | None) -> None:
        """Notice that a peer is gone: at once if it says so, else when it has not answered."""
        leg, now_s = here.leg, self.wire.now_s()
        if there is not None and there.leg.link != leg.link:
            here.lose()
        elif there is not None:
            leg.missed_since_s = None
            there.take(here, set(leg.unsent))
            leg.unsent = []
        elif leg.missed_since_s is None or leg.missed_since_s > now_s:
            leg.missed_since_s = now_s
        elif now_s - leg.missed_since_s >= _MISSED_S:
            here.lose()

    def _meet(self, here: Side, there: Side) -> None:
        if there.leg.connection != CONNECTING or not (here.leg.attached and there.leg.attached):
            return
        for one in (here, there):
            one.metadata.mark(set(one.leg.unsent))
        outcome = meet(here.leg, here.metadata, there.leg, there.metadata)
        rivals = here.leg.primary and there.leg.primary
        if rivals or outcome in {Outcome.SPLIT, Outcome.REFUSED}:
            self._refuse(here, there, split=outcome is Outcome.SPLIT)
            return
        link = max(here.state.counter, there.state.counter) + 1
        here.state.counter = there.state.counter = link
        self._size(here, there)
        if outcome is Outcome.EQUAL:
            self._resend(here, there)
        for one, other in ((here, there), (there, here)):
            leg = one.leg
            leg.connection, leg.link, leg.discard = CONNECTED, link, False
            leg.missed_since_s, leg.suspended, leg.unsent = None, False, []
            leg.replication = ESTABLISHED
            leg.disk = UP_TO_DATE if leg.disk in {CONSISTENT, OUTDATED} else leg.disk
            leg.room_sectors = other.room
        if outcome is Outcome.EQUAL:
            self._settled(here, there)
            return
        source, target = (here, there) if outcome > 0 else (there, here)
        self._fill(source, target, everything=abs(outcome) == Outcome.FULL_SOURCE)

    def _size(self, here: Side, there: Side) -> None:
        """Have both as large as the smaller may be; neither ever shrinks."""
        wanted = min(one.leg.options.sectors or one.room for one in (here, there))
        sectors = min(wanted, here.room, there.room)
        for one in (here, there):
            one.move(max(sectors, min(one.leg.sectors, one.room)))

    def _resend(self, here: Side, there: Side) -> None:
        """Have what was under way arrive: it was of this generation, and nobody else wrote."""
        for one, other in ((here, there), (there, here)):
            if one.leg.unsent:
                other.take(one, set(one.leg.unsent))
                left = set(one.metadata.blocks) - set(one.leg.unsent)
                one.metadata.blocks = sorted(left)

    def _fill(self, source: Side, target: Side, *, everything: bool) -> None:
        both = (source.metadata, target.metadata)
        everything = everything or any(one.everything for one in both)
        blocks = {*both[0].blocks, *both[1].blocks}
        for metadata in both:
            metadata.everything, metadata.blocks = everything, sorted(blocks)
        source.metadata.rotate()
        source.metadata.bitmap = source.fresh()
        target.metadata.current, target.metadata.bitmap = source.metadata.bitmap, 0
        self._begin(source, target, blocks, source.metadata.bits * BLOCK_BYTES)

    def _begin(self, source: Side, target: Side, blocks: set[int], total_bytes: int) -> None:
        for one, word in ((source, SOURCE), (target, TARGET)):
            leg = one.leg
            leg.replication, leg.total_bytes, leg.done_bytes = word, total_bytes, 0
            leg.since_s, leg.last_sync_bytes = self.wire.now_s(), total_bytes
            one.metadata.mark(blocks)
        target.leg.disk, target.leg.peer_disk = INCONSISTENT, UP_TO_DATE
        source.leg.peer_disk = INCONSISTENT
        for one in (source, target):
            one.keep()
        if not total_bytes:
            self._filled(source, target)

    def _copy(self, here: Side, there: Side) -> None:
        leg = here.leg
        if leg.replication == ESTABLISHED:
            return
        now_s = self.wire.now_s()
        rate = leg.options.rate_bytes_per_s or _RATE_BYTES_PER_S
        done = min(float(leg.total_bytes), leg.done_bytes + max(0.0, now_s - leg.since_s) * rate)
        for side in (here, there):
            side.leg.done_bytes, side.leg.since_s = done, now_s
        if leg.replication in VERIFYING:
            self._compare(here, there)
        elif done >= leg.total_bytes:
            source, target = (here, there) if leg.replication == SOURCE else (there, here)
            self._filled(source, target)

    def _compare(self, here: Side, there: Side) -> None:
        both = (drbd_blocks.flat(here.content), drbd_blocks.flat(there.content))
        seen = here.leg.done_bytes / BLOCK_BYTES
        found = {block for block in drbd_blocks.differing(*both) if block < seen}
        for side in (here, there):
            side.metadata.mark(found)
            if here.leg.done_bytes >= here.leg.total_bytes:
                side.leg.replication = ESTABLISHED

    def _filled(self, source: Side, target: Side) -> None:
        blocks = set(source.metadata.blocks)
        if source.metadata.everything:
            blocks = {*drbd_blocks.flat(source.content), *drbd_blocks.flat(target.content)}
        target.take(source, blocks)
        past = target.metadata.current
        target.metadata.current = source.metadata.current
        target.metadata.history = (past, source.metadata.history[0])
        source.metadata.rotate()
        target.leg.disk = UP_TO_DATE
        for side in (source, target):
            side.metadata.everything, side.metadata.blocks = False, []
            side.leg.replication = ESTABLISHED
        self._settled(source, target)

    def _settled(self, here: Side, there: Side) -> None:
        for one, other in ((here, there), (there, here)):
            one.leg.peer_disk = other.leg.disk
            one.metadata.crashed_primary = False
            one.keep()

    def _refuse(self, here: Side, there: Side, *, split: bool) -> None:
        for side in (here, there):
            side.leg.connection, side.leg.discard = STANDALONE, False
            _, uid = handled(side.state, side.leg.name)
            if split and uid:
                side.state.files[f"{SPLITS}/{uid}"] = ""

    def attach(self, leg: Leg, backing: str, end_bytes: int) -> None:
        """Have a leg on its disk, as good as its metadata say."""
        leg.backing, leg.end_bytes, leg.disk = backing, end_bytes, CONSISTENT
        here = Side(self._state, leg)
        metadata = here.metadata
        leg.known = drbd_blocks.flat(here.content)
        if metadata.was_primary:
            metadata.crashed_primary = True
            everything = range(EXTENT_BLOCKS)
            metadata.mark({e * EXTENT_BLOCKS + n for e in metadata.active for n in everything})
        metadata.active = []
        leg.peer_disk = OUTDATED if metadata.peer_outdated else UNKNOWN
        if not metadata.consistent:
            leg.disk = INCONSISTENT
        elif not metadata.was_up_to_date:
            leg.disk = OUTDATED
        elif metadata.peer_outdated:
            leg.disk = UP_TO_DATE
        leg.sectors = metadata.sectors
        if not metadata.sectors:
            metadata.everything = True
            self.resized(leg)
        here.keep()

    def detach(self, leg: Leg) -> None:
        """Have a leg without its disk, which keeps what it knew of itself."""
        leg.disk, leg.backing, leg.known = DISKLESS, "", {}

    def verify(self, leg: Leg, there: Side) -> None:
        """Begin to compare from the first block."""
        for side, word in ((Side(self._state, leg), VERIFY_SOURCE), (there, VERIFY_TARGET)):
            one = side.leg
            one.replication, one.total_bytes = word, leg.sectors * SECTOR_BYTES
            one.done_bytes, one.since_s = 0, self.wire.now_s()
