"""Double entry for room: what is set aside, what is taken, and what may still be promised."""

import msgspec
from msgspec.structs import replace

from schemas.answers import Refused, refuse
from schemas.pool import PoolFacts, Reserve
from schemas.refusals import Refusal
from schemas.units import readable

METADATA_PER_VOLUME_BYTES = 1024
"""What LVM's text grows by with one tagged volume: 367 bytes measured, and room to spare."""


class Posting(msgspec.Struct, frozen=True):
    """So much room under one claim; ``thin`` room is a promise of the thin pool.

    ``operation`` is the one for which it is set aside; what is taken is nobody's.
    """

    size_bytes: int
    thin: bool
    operation: str = ""


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """The room of one pool. The sums are kept beside the postings, so that asking is cheap."""

    reserved: dict[str, Posting] = {}
    settled: dict[str, Posting] = {}
    thick_reserved_bytes: int = 0
    thick_settled_bytes: int = 0
    thin_promised_bytes: int = 0

    @property
    def claims(self) -> int:
        """How many volumes there are or will be."""
        return (
            len(self.settled.keys() | self.reserved.keys()) if self.reserved else len(self.settled)
        )

    @property
    def empty(self) -> bool:
        """Whether nothing is set aside and nothing taken."""
        return not self.reserved and not self.settled

    def reserve(self, claim: str, posting: Posting) -> "Ledger":
        """Return the ledger with *posting* set aside."""
        return _moved(self, claim, posting, self.settled.get(claim))

    def unreserve(self, claim: str) -> "Ledger":
        """Return the ledger with nothing set aside for *claim*."""
        return _moved(self, claim, None, self.settled.get(claim))

    def settle(self, claim: str, posting: Posting) -> "Ledger":
        """Return the ledger with *claim* taking exactly *posting*."""
        return _moved(self, claim, None, posting)

    def release(self, claim: str) -> "Ledger":
        """Return the ledger without *claim*."""
        return _moved(self, claim, None, None)


def unsettled(ledger: Ledger, wish: Reserve) -> Refused | None:
    """Return why nothing is added for the claim: an earlier operation has not come to its end.

    Its room would count for both, and be given back for both.
    """
    where = f"in {wish.node}/{wish.pool} for {wish.claim}"
    held = ledger.reserved.get(wish.claim)
    if held is not None and held.operation != wish.operation:
        why = f"room {where} is still set aside by operation {held.operation}"
        return refuse(Refusal.REPLICA_BUSY, why)
    if wish.first and wish.claim in ledger.settled:
        return refuse(Refusal.REPLICA_BUSY, f"what there is {where} has not been removed yet")
    return None


def room_bytes(ledger: Ledger, facts: PoolFacts) -> int:
    """Return what thick volumes may still be promised; never below 0."""
    taken = facts.thin_bytes + facts.thin_overhead_bytes
    taken += ledger.thick_settled_bytes + ledger.thick_reserved_bytes
    return max(0, facts.size_bytes - taken)


def thin_room_bytes(ledger: Ledger, facts: PoolFacts, ratio_percent: int) -> int:
    """Return what thin volumes may still be promised; never below 0."""
    return max(0, facts.thin_bytes * ratio_percent // 100 - ledger.thin_promised_bytes)


def rounded_bytes(size_bytes: int, extent_bytes: int, stripes: int) -> int:
    """Return what LVM takes for *size_bytes*: whole extents, the same number on every stripe."""
    unit = extent_bytes * stripes
    return -(-size_bytes // unit) * unit


def short_of(
    ledger: Ledger, facts: PoolFacts, ratio_percent: int, volumes_max: int, wish: Reserve
) -> Refused | None:
    """Return why the ledger cannot set room aside for *wish*, or None if it can."""
    name = f"{wish.node}/{wish.pool}"
    if wish.first:
        count = ledger.claims + 1
        if count > volumes_max:
            full = f"{name} holds {volumes_max} volumes, as many as it may"
            return refuse(Refusal.VOLUME_LIMIT, full)
        if count * METADATA_PER_VOLUME_BYTES > facts.metadata_bytes:
            full = f"the metadata area of {name} ({facts.metadata_bytes} bytes) is full"
            return refuse(Refusal.METADATA, full)
    if wish.stripes > len(facts.disks):
        few = f"{name} has {len(facts.disks)} disks, {wish.stripes} stripes are asked for"
        return refuse(Refusal.TOO_FEW_DISKS, few)
    size = rounded_bytes(wish.size_bytes, facts.extent_bytes, wish.stripes)
    if not wish.thin:
        room = room_bytes(ledger, facts)
        short = f"{name} has {readable(room)} free, {readable(size)} are asked for"
        return refuse(Refusal.CAPACITY, short) if size > room else None
    if not facts.thin_bytes:
        return refuse(Refusal.NO_THIN_POOL, f"{name} has no thin pool")
    room = thin_room_bytes(ledger, facts, ratio_percent)
    short = (
        f"the thin pool of {name} may promise {readable(room)} more, {readable(size)} are asked for"
    )
    return refuse(Refusal.THIN_RATIO, short) if size > room else None


def _moved(ledger: Ledger, claim: str, reserved: Posting | None, settled: Posting | None) -> Ledger:
    """Return the ledger with exactly these postings under *claim*, and its sums carried on."""
    was_reserved, was_settled = ledger.reserved.get(claim), ledger.settled.get(claim)
    thin = _thin(reserved) + _thin(settled) - _thin(was_reserved) - _thin(was_settled)
    return replace(
        ledger,
        reserved=_with(ledger.reserved, claim, reserved),
        settled=_with(ledger.settled, claim, settled),
        thick_reserved_bytes=ledger.thick_reserved_bytes + _thick(reserved) - _thick(was_reserved),
        thick_settled_bytes=ledger.thick_settled_bytes + _thick(settled) - _thick(was_settled),
        thin_promised_bytes=ledger.thin_promised_bytes + thin,
    )


def _with(postings: dict[str, Posting], claim: str, posting: Posting | None) -> dict[str, Posting]:
    if postings.get(claim) == posting:
        return postings
    if posting is not None:
        return {**postings, claim: posting}
    return {name: other for name, other in postings.items() if name != claim}


def _thick(posting: Posting | None) -> int:
    return 0 if posting is None or posting.thin else posting.size_bytes


def _thin(posting: Posting | None) -> int:
    return 0 if posting is None or not posting.thin else posting.size_bytes
