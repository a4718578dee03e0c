"""One end of a replicated volume: a leg in the kernel of a machine, and what it lies on there."""

import hashlib

from node_workers.simulated import drbd_blocks
from node_workers.simulated.drbd_model import (
    CONNECTING,
    CONSISTENT,
    EXTENT_BLOCKS,
    INCONSISTENT,
    OUTDATED,
    STANDALONE,
    UNKNOWN,
    UP_TO_DATE,
    Leg,
    Metadata,
    older,
    room_sectors,
)
from node_workers.simulated.model import Content, Lv, Mapped, State


class Side:
    """A leg with its disk; what it does it does to itself alone."""

    def __init__(self, state: State, leg: Leg) -> None:
        self.state = state
        self.leg = leg

    @property
    def mapped(self) -> Mapped | None:
        """What the leg lies on."""
        return next((one for one in self.state.mapped if one.uuid == self.leg.backing), None)

    @property
    def lv(self) -> Lv | None:
        """The logical volume at the bottom."""
        mapped = self.mapped
        lvs = (lv for vg in self.state.vgs for lv in vg.lvs)
        return None if mapped is None else next((lv for lv in lvs if lv.uuid == mapped.below), None)

    @property
    def content(self) -> Content:
        """What lies on the leg."""
        lv = self.lv
        if lv is None:
            return Content()
        return self.state.contents.setdefault(self.state.content_key(lv), Content())

    @property
    def metadata(self) -> Metadata:
        """Its metadata; what is changed of that of a leg without a disk is lost."""
        found = self.content.metadata.get(self.leg.end_bytes) if self.leg.attached else None
        return found or Metadata()

    @property
    def room(self) -> int:
        """How many sectors the device could have."""
        mapped = self.mapped
        return 0 if mapped is None else room_sectors(mapped.size_bytes)

    def move(self, sectors: int) -> None:
        """Have the device so large, and its metadata in the end of what it lies on."""
        mapped, leg = self.mapped, self.leg
        if mapped is not None and mapped.size_bytes != leg.end_bytes:
            self.content.metadata[mapped.size_bytes] = self.content.metadata.pop(leg.end_bytes)
            leg.end_bytes = mapped.size_bytes
        leg.sectors = sectors
        self.keep()

    def fresh(self) -> int:
        """Return the number of a new generation."""
        digest = hashlib.sha256(self.state.fresh_uuid().encode()).digest()
        return int.from_bytes(digest[:8]) & ~1 | 1 << 63

    def begin_generation(self) -> None:
        """Have the peer miss what is written from now on, unless it does so already."""
        if not self.metadata.bitmap and self.leg.disk == UP_TO_DATE:
            self.metadata.new_current(self.fresh())

    def keep(self) -> None:
        """Write down what the disk shall know when the machine starts anew."""
        leg, metadata = self.leg, self.metadata
        metadata.consistent = leg.disk != INCONSISTENT
        metadata.was_up_to_date = leg.disk in {CONSISTENT, UP_TO_DATE}
        metadata.peer_outdated = leg.peer_disk in {INCONSISTENT, OUTDATED}
        metadata.was_primary = leg.primary
        metadata.sectors = leg.sectors

    def lose(self, *, then: str = CONNECTING) -> None:
        """Have no connection any more. A primary that has to ask for that stands still."""
        leg = self.leg
        if leg.connected:
            leg.losses += 1
        leg.connection, leg.link, leg.missed_since_s = then, 0, None
        leg.replication = "Off"
        if leg.peer_disk not in {INCONSISTENT, OUTDATED}:
            leg.peer_disk = UNKNOWN
            leg.suspended = leg.suspended or leg.primary
            leg.answered = False
        self.keep()

    def outdate_peer(self) -> None:
        """Know that the peer's data are old, and go on without it."""
        if older(self.leg.peer_disk, OUTDATED):
            return
        self.leg.peer_disk = OUTDATED
        if self.leg.primary:
            self.go_on()
        self.keep()

    def go_on(self) -> None:
        """Have nothing wait any more: what was not acknowledged by the peer it misses."""
        leg = self.leg
        if leg.primary and leg.attached:
            self.begin_generation()
        self.metadata.mark(set(leg.unsent))
        leg.suspended, leg.unsent = False, []

    def disconnect(self) -> None:
        """Have no connection, and look for none."""
        self.lose(then=STANDALONE)

    def written(self) -> set[int]:
        """Return the blocks that were written since the last look, and know them."""
        now = drbd_blocks.flat(self.content)
        blocks = drbd_blocks.differing(now, self.leg.known)
        self.leg.known = now
        return blocks if self.leg.primary else set()

    def touch(self, blocks: set[int]) -> None:
        """Have the extents of what is written in the activity log."""
        active = {*self.metadata.active, *(block // EXTENT_BLOCKS for block in blocks)}
        self.metadata.active = sorted(active)

    def take(self, source: "Side", blocks: set[int]) -> None:
        """Have these blocks as the source has them."""
        theirs = drbd_blocks.flat(source.content)
        for block in sorted(blocks):
            drbd_blocks.put(self.content, block, theirs.get(block))
        self.leg.known = drbd_blocks.flat(self.content)
