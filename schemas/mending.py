"""What is said about legs that were changed by hand: how they shall be put right, and found."""

from enum import StrEnum

import msgspec

from schemas.grammar import Event, Report, Request
from schemas.units import Bytes, Count, Id, Name, Path, SomeBytes, Text


class SeenVolume(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A logical volume as a look showed it: what a person decides on, and the node compares with.

    ``lv`` is LVM's own identity of it, ``uid`` our tag, ``layout`` as LVM names it. ``mixed``: its
    segments are not all alike. ``kept``: thick snapshots hang on it. ``unfinished``: a tag of ours
    says that it is half made or encrypted. ``claim`` is under what it is in quarantine.
    """

    pool: Text
    name: Text
    lv: Text
    size_bytes: SomeBytes
    layout: Text = "linear"
    stripes: Count = 1
    uid: Text = ""
    origin: Text = ""
    mixed: bool = False
    kept: bool = False
    unfinished: bool = False
    claim: Text = ""


class Mend(StrEnum):
    """What shall become of a leg that is not as decided.

    ``size``: what it was grown to by hand is its size. ``undo``: it is again called as decided, and
    no smaller than decided. ``forget``: it is nowhere, and not wanted any more. ``recreate``: it is
    nowhere, and made anew, empty.
    """

    SIZE = "size"
    UNDO = "undo"
    FORGET = "forget"
    RECREATE = "recreate"


class MendReplica(Request, frozen=True, kw_only=True, tag="replica.mend.v1"):
    """Step of settling drift: so shall the node put the leg right, if it is still as ``seen``."""

    volume: Name
    node: Name
    operation: Id
    mend: Mend
    seen: SeenVolume | None = None


class LeaveReplica(Request, frozen=True, kw_only=True, tag="replica.leave.v1"):
    """Step of giving up: the leg shall be left as it is, or given back as it was found.

    Nothing is removed for that: a leg that was just made anew is finished.
    """

    volume: Name
    node: Name
    operation: Id


class ReportReplicaLeft(Report, frozen=True, kw_only=True, tag="replica.report-left.v1"):
    """The node works on the leg no more; one that was being taken over is nobody's again."""

    volume: Name
    node: Name
    uid: Id


class ReplicaMendWanted(Event, frozen=True, kw_only=True, tag="replica.mend-wanted.v1"):
    """The node shall put the leg right so, if it is still as ``seen``."""

    volume: Name
    node: Name
    operation: Id
    uid: Id
    mend: Mend
    seen: SeenVolume | None = None


class ReplicaMendWithdrawn(Event, frozen=True, kw_only=True, tag="replica.mend-withdrawn.v1"):
    """The leg shall be left alone; ``give_back``: it shall be nobody's, as it was found."""

    volume: Name
    node: Name
    operation: Id
    uid: Id
    give_back: bool = False


class ReplicaMended(Event, frozen=True, kw_only=True, tag="replica.mended.v1"):
    """The leg is as decided, or it was decided that it be as it is."""

    volume: Name
    node: Name
    uid: Id
    pool: Name
    size_bytes: Bytes
    device: Path
    thin: bool = False


class ReplicaMendLeft(Event, frozen=True, kw_only=True, tag="replica.mend-left.v1"):
    """The leg is as it was before somebody wanted it put right."""

    volume: Name
    node: Name
    uid: Id


MendCommand = MendReplica | LeaveReplica | ReportReplicaLeft
MendEvent = ReplicaMendWanted | ReplicaMendWithdrawn | ReplicaMended | ReplicaMendLeft

_PLAIN = frozenset({"linear", "striped", "thin", "sparse", "snapshot", "origin", "thinorigin"})
_COPIED = frozenset({"mirror", "raid", "raid1", "raid10", "raid4", "raid5", "raid6"})
_LEGS_MIN = 2
_LEG_EXTRA_BYTES = 64 << 20


def is_thin(seen: SeenVolume) -> bool:
    """Return whether it takes room of the thin pool."""
    return "thin" in seen.layout.split(",")


def taken_bytes(seen: SeenVolume) -> int | None:
    """Return the room that it takes of its pool, never too little; None: nobody can say."""
    words = {word.partition("_")[0] for word in seen.layout.split(",")}
    if words <= _PLAIN:
        return seen.size_bytes
    if words <= _COPIED:
        legs = max(_LEGS_MIN, seen.stripes)
        return seen.size_bytes * legs + legs * _LEG_EXTRA_BYTES
    return None


def no_volume(seen: SeenVolume) -> str | None:
    """Return why it cannot become a volume of ours, or None."""
    words = tuple(seen.layout.split(","))
    if seen.claim:
        return "it is in quarantine"
    if seen.unfinished:
        return "a tag says that it is half made, or encrypted"
    if seen.origin or seen.kept:
        return "it has a snapshot, or is one"
    if words not in {("linear",), ("striped",), ("thin", "sparse"), ("thin",)}:
        return f"its layout is {seen.layout}"
    if seen.mixed or (words == ("striped",) and seen.stripes < _LEGS_MIN):
        return "its segments are not alike"
    return None
