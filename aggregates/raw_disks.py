"""Volumes that are one whole disk: which disk becomes one, and what such a volume cannot do."""

from aggregates.decision import World
from aggregates.disk import Disk, unclaimable
from aggregates.node import unfit
from schemas.answers import Refused, refuse
from schemas.refusals import Refusal
from schemas.units import readable
from schemas.volume import Candidate, Layout, ProvisionVolume

CANDIDATES_MAX = 64
EXTENT_BYTES = 4 << 20
KEPT_BYTES = 2 << 20
"""What LVM needs before the first extent: one MiB, and another one where disks ask for alignment.

Its label there is how the disk is known again, wherever it is plugged in and whatever its user
writes: all that is the user's lies behind it.
"""
ZEROED_BYTES_PER_S = 50 << 20

_FIT_POINTS = 1000


def group_of(uid: str) -> str:
    """Return the name of the volume group on the disk of the volume *uid*, and on no other."""
    return f"disk-{uid}"


def given_bytes(disk_bytes: int) -> int:
    """Return how large a volume is that is a disk of *disk_bytes*; 0: it is too small for one."""
    return max(0, disk_bytes - KEPT_BYTES) // EXTENT_BYTES * EXTENT_BYTES


def unclear(request: ProvisionVolume) -> Refused | None:
    """Return why a wish contradicts itself about disks, or None."""
    whole = request.layout is Layout.DISK
    if not whole and (request.disk or request.media):
        odd = f"layout {request.layout.value} with a disk or a class"
        return refuse(Refusal.UNCLEAR_DISK, odd)
    if whole and (request.pool or request.stripes != 1 or request.key_ref):
        return refuse(Refusal.UNCLEAR_DISK, "layout disk with a pool, stripes or a key")
    return None


def no_whole_disk(layout: Layout, name: str, wish: str) -> Refused | None:
    """Refuse *wish* ("grow", "be cloned") if the volume is a whole disk."""
    if layout is not Layout.DISK:
        return None
    return refuse(Refusal.IS_RAW_DISK, f"{name} is a whole disk: it cannot {wish}")


def rank(request: ProvisionVolume, world: World, uid: str) -> tuple[Candidate, ...]:
    """Return the disks in the order in which they are to be tried; those that cannot come last.

    The smallest that is large enough comes first, so that larger ones stay for larger wishes.
    """
    looked_at = [
        candidate
        for name, disk in world.disks.items()
        if disk.known and _asked_for(request, name, disk)
        for candidate in (_candidate(request, world, name, disk, uid),)
    ]
    looked_at.sort(key=lambda c: (c.code is not None, c.room_bytes, c.node, c.disk))
    return tuple(looked_at[:CANDIDATES_MAX])


def nowhere(request: ProvisionVolume, candidates: tuple[Candidate, ...]) -> Refused | None:
    """Return the refusal if no disk can be the volume, or None if one can."""
    if any(candidate.code is None for candidate in candidates):
        return None
    if not candidates:
        media = f" {request.media.value}" if request.media else ""
        where = f" on {request.node}" if request.node else ""
        named = f" {request.disk}" if request.disk else ""
        code = Refusal.UNKNOWN_DISK if request.disk else Refusal.NO_FREE_DISK
        return refuse(code, f"there is no{media} disk{named}{where}")
    codes = {candidate.code for candidate in candidates if candidate.code is not None}
    code = codes.pop() if len(codes) == 1 else Refusal.NO_FREE_DISK
    return refuse(code, "; ".join(candidate.because for candidate in candidates)[:1000])


def _asked_for(request: ProvisionVolume, name: str, disk: Disk) -> bool:
    node = _node_of(disk)
    return (
        request.disk in {None, name}
        and request.node in {None, node}
        and request.media in {None, disk.media}
    )


def _node_of(disk: Disk) -> str:
    return next(iter(sorted(disk.sightings)), disk.last_node)


def _candidate(
    request: ProvisionVolume, world: World, name: str, disk: Disk, uid: str
) -> Candidate:
    node = _node_of(disk)
    sighting = disk.sightings.get(node)
    room = 0 if sighting is None else given_bytes(sighting.size_bytes)
    no = unclaimable(disk, name, node) or unfit(world.nodes.get(node), node)
    if no is None and room < max(1, request.size_bytes):
        asked = readable(request.size_bytes)
        less = f"{name} on {node} would give {readable(room)}, {asked} are asked for"
        no = refuse(Refusal.DISK_TOO_SMALL, less)
    if no is not None:
        return Candidate(
            node=node,
            pool=group_of(uid),
            disk=name,
            room_bytes=room,
            code=no.code,
            because=no.because,
        )
    parts = {"fit": _FIT_POINTS * request.size_bytes // room}
    return Candidate(
        node=node,
        pool=group_of(uid),
        disk=name,
        room_bytes=room,
        score=sum(parts.values()),
        parts=parts,
    )
