"""How full things are, told by marks: once for each mark passed, and not for every byte."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

from node_workers.observation import Observation, ObservedVolume, Room
from node_workers.ports import THIN_POOL_NAME
from node_workers.wanted import Wanted, WantedPool, WantedReplica
from schemas.filling import ReportVolumeFill
from schemas.grammar import Report
from schemas.pool import ReportThinFill
from schemas.snapshot import ReportSnapshotFill
from schemas.volume import Filesystem

_FULL = 100
_FIRST_MARK, _APART = 50, 5
_BACK = 2
"""What goes up and down around a mark is told again only that far below it."""

THIN, SNAPSHOT, VOLUME = "thin/", "snapshot/", "fill/"

Told = tuple[str, bytes | None, Report]
"""Under which key it is remembered, as what (None: as nothing worth telling), and what to say."""


def fills(
    node: str,
    everything: Mapping[str, Wanted],
    seen: Observation,
    said: Mapping[str, bytes],
    unsure: AbstractSet[str],
) -> Iterator[Told]:
    """Yield how full each thin pool, thick snapshot and mounted filesystem of ours is.

    A leg that was worked on while it was looked at (*unsure*), and a thin pool that is growing,
    are left for the next look: size and level may be of two different moments.
    """
    by_uid = {one.uid: one for one in seen.volumes if one.uid}
    devices = {one.volume: one for one in seen.devices}
    for one in everything.values():
        if isinstance(one, WantedPool) and not one.thin_growing:
            yield from _thin_pool(node, one, seen, said)
        if isinstance(one, WantedReplica) and one.key not in unsure and one.uid in by_uid:
            found = by_uid[one.uid]
            device = devices.get(one.volume)
            attached = None if device is None else device.room
            yield from _leg(one, found, found.room or attached, said)


def forgotten(everything: Mapping[str, Wanted], said: Mapping[str, bytes]) -> dict[str, None]:
    """Return the keys of what was told about legs that are wanted no more."""
    names = {key.partition("/")[2] for key in everything if key.startswith("replica/")}
    told = (key for key in said if key.startswith((SNAPSHOT, VOLUME)))
    return {key: None for key in told if key.partition("/")[2] not in names}


def mark_of(percent: int, before: int) -> int:
    """Return the last mark passed, or the one *before* if it has hardly been left; 0: none."""
    now = percent // _APART * _APART if percent >= _FIRST_MARK else 0
    return before if now < before and percent >= before - _BACK else now


def _thin_pool(
    node: str, pool: WantedPool, seen: Observation, said: Mapping[str, bytes]
) -> Iterator[Told]:
    if not any(one.uid == pool.uid and one.name == pool.name for one in seen.pools):
        return
    thin = next((v for v in seen.volumes if (v.pool, v.name) == (pool.name, THIN_POOL_NAME)), None)
    data, metadata = (0, 0) if thin is None else (_percent(thin), _whole(thin.metadata_percent))
    size_bytes = 0 if thin is None else thin.size_bytes
    key = THIN + pool.name
    before = said.get(key, b"").split()
    marks = [
        mark_of(percent, int(before[number]) if len(before) > number else 0)
        for number, percent in enumerate((data, metadata))
    ]
    report = ReportThinFill(
        pool=pool.name,
        node=node,
        data_percent=data,
        metadata_percent=metadata,
        thin_bytes=size_bytes,
    )
    yield key, f"{marks[0]} {marks[1]} {size_bytes}".encode() if any(marks) else None, report


def _leg(
    leg: WantedReplica, found: ObservedVolume, room: Room | None, said: Mapping[str, bytes]
) -> Iterator[Told]:
    if leg.spec.snapshot_of is not None:
        if not found.thin_pool and found.origin:
            yield _snapshot(leg, found, said)
    elif room is not None and leg.spec.filesystem is not Filesystem.NONE:
        yield _volume(leg, found, room, said)


def _snapshot(leg: WantedReplica, found: ObservedVolume, said: Mapping[str, bytes]) -> Told:
    key, percent = SNAPSHOT + leg.volume, _percent(found)
    mark = mark_of(percent, _before(said.get(key), leg.uid))
    report = ReportSnapshotFill(
        snapshot=leg.volume,
        uid=leg.uid,
        data_percent=percent,
        overflowed=found.invalid,
        reserve_bytes=found.size_bytes,
    )
    value = f"{leg.uid} {mark} {found.size_bytes}{' overflowed' if found.invalid else ''}"
    return key, value.encode() if mark else None, report


def _volume(
    leg: WantedReplica, found: ObservedVolume, room: Room, said: Mapping[str, bytes]
) -> Told:
    # As df counts it: rounded up, of what an ordinary user may write.
    key, size_bytes = VOLUME + leg.volume, room.used_bytes + room.free_bytes
    percent = min(-(-_FULL * room.used_bytes // size_bytes), _FULL) if size_bytes else 0
    mark = mark_of(percent, _before(said.get(key), leg.uid))
    report = ReportVolumeFill(
        volume=leg.volume,
        uid=leg.uid,
        data_percent=percent,
        used_bytes=room.used_bytes,
        filesystem_bytes=size_bytes,
        size_bytes=found.size_bytes,
    )
    value = f"{leg.uid} {mark} {found.size_bytes} {size_bytes}"
    return key, value.encode() if mark else None, report


def _before(said: bytes | None, uid: str) -> int:
    """Return the mark that was told last of the leg with that uid."""
    whose, mark, *_ = (*(said or b"").decode().split(), "", "0")
    return int(mark) if whose == uid else 0


def _percent(volume: ObservedVolume) -> int:
    return _whole(volume.data_percent)


def _whole(percent: float | None) -> int:
    return min(int(percent or 0), _FULL)
