"""The disks as people ask about them: whether one can be taken, and if not, why."""

from msgspec.structs import replace

from projectors.nodes import counted
from projectors.reading import Seen
from projectors.rows import Changes, Rows, drop, put
from projectors.tables import DISKS, SIGHTINGS, SightingsRow
from schemas.disk import (
    Content,
    DiskChanged,
    DiskClaimed,
    DiskClassOverridden,
    DiskForgotten,
    DiskFound,
    DiskGone,
    DiskHealthChanged,
    DiskReleased,
    DiskReserved,
    DiskSeenTwice,
    DiskUnreserved,
    Health,
    Sighting,
)
from schemas.grammar import Event
from schemas.views import DiskRow, DiskState


def disks(rows: Rows, seen: Seen, event: Event) -> Changes:
    """Change the row of the disk that *event* is about, and how many its node sees."""
    name = seen.address.id
    known = rows.get(SIGHTINGS, name) or SightingsRow(seen={})
    sightings = known.seen
    row = rows.get(DISKS, name)
    match event:
        case DiskFound() | DiskChanged() | DiskSeenTwice():
            after = {**sightings, event.node: event.sighting}
            yield put(SIGHTINGS, name, replace(known, seen=after))
            yield put(DISKS, name, _ailing(_seen_at(row, seen, event.node, after), known, seen))
            if event.node not in sightings:
                yield from counted(rows, event.node, 1)
        case DiskGone() | DiskForgotten():
            after = {node: s for node, s in sightings.items() if node != event.node}
            if event.node in sightings:
                yield from counted(rows, event.node, -1)
            owner = known.owner
            forgotten = isinstance(event, DiskForgotten) and not after
            if forgotten and not owner:
                yield drop(SIGHTINGS, name)
                yield drop(DISKS, name)
            elif row is not None:
                node = owner if forgotten else next(iter(after), event.node)
                yield put(SIGHTINGS, name, replace(known, seen=after))
                yield put(DISKS, name, _seen_at(row, seen, node, after))
        case DiskHealthChanged():
            # It may be told before the disk is: then there is no row to show it in yet.
            told = replace(known, health=event.health, reasons=event.reasons)
            yield put(SIGHTINGS, name, told)
            if row is not None:
                yield put(DISKS, name, _ailing(row, told, seen))
        case _ if row is not None:
            yield from _owned(name, known, event)
            yield put(DISKS, name, _stamped(_marked(row, event), seen))
        case _:
            return


def _owned(name: str, known: SightingsRow, event: Event) -> Changes:
    if isinstance(event, DiskClaimed | DiskReleased):
        owner = event.node if isinstance(event, DiskClaimed) else ""
        yield put(SIGHTINGS, name, replace(known, owner=owner))


def _seen_at(row: DiskRow | None, seen: Seen, node: str, sightings: dict[str, Sighting]) -> DiskRow:
    """Return the row with *node* as the place that counts, as that node sees the disk."""
    others = tuple(sorted(other for other in sightings if other != node))
    sighting = sightings.get(node)
    if row is None:
        if sighting is None:
            raise AssertionError("a disk without a row has just been seen")
        row = DiskRow(
            id=seen.address.id,
            node=node,
            path=sighting.path,
            state=DiskState.FREE,
            size_bytes=sighting.size_bytes,
            media=sighting.media,
            media_seen=sighting.media,
            content=sighting.content,
            created_at=seen.at,
            changed_at=seen.at,
            seq=seen.seq,
        )
    if sighting is not None:
        row = replace(
            row,
            path=sighting.path,
            size_bytes=sighting.size_bytes,
            media=row.media if row.overridden else sighting.media,
            media_seen=sighting.media,
            content=sighting.content,
            detail=sighting.detail,
            serial=sighting.serial,
            wwn=sighting.wwn,
            model=sighting.model,
        )
    return _stamped(replace(row, node=node, also_on=others, gone=not sightings), seen)


def _ailing(row: DiskRow, known: SightingsRow, seen: Seen) -> DiskRow:
    return _stamped(replace(row, health=known.health, health_reasons=known.reasons), seen)


def _marked(row: DiskRow, event: Event) -> DiskRow:
    match event:
        case DiskReserved():
            return replace(row, reserved=True, why=event.because)
        case DiskUnreserved():
            return replace(row, reserved=False, why="")
        case DiskClassOverridden():
            overridden = event.media is not None
            return replace(row, overridden=overridden, media=event.media or row.media_seen)
        case DiskClaimed():
            pool = "" if event.volume else f"{event.node}/{event.pool}"
            volume = event.volume or ""
            return replace(row, pool=pool, volume=volume, operation=event.operation)
        case DiskReleased():
            return replace(row, pool="", volume="", operation="")
        case _:
            return row


def _stamped(row: DiskRow, seen: Seen) -> DiskRow:
    return replace(
        row, state=_state(row), seq=seen.seq, version=seen.commit.version, changed_at=seen.at
    )


def _state(row: DiskRow) -> DiskState:
    if row.gone:
        return DiskState.GONE
    if row.also_on:
        return DiskState.SEEN_TWICE
    if row.health is Health.FAILING:
        return DiskState.FAILING
    if row.pool or row.volume:
        return DiskState.CLAIMED
    if row.reserved:
        return DiskState.RESERVED
    return DiskState.FREE if row.content is Content.BLANK else DiskState.OCCUPIED
