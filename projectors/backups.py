"""Backups and their targets as people ask about them: what is there, and whether it is whole."""

from msgspec.structs import replace

from projectors.reading import Seen
from projectors.rows import Changes, Rows, drop, put
from projectors.tables import BACKUPS, TARGETS
from schemas.backup_view import BackupRow, BackupState, TargetRow
from schemas.errand import Stored
from schemas.grammar import Event
from schemas.target import (
    BackupBegan,
    BackupFailed,
    BackupFoundDamaged,
    BackupMade,
    BackupsListed,
    BackupVerified,
    TargetAdded,
    TargetProbed,
    TargetRemoved,
    TargetSwept,
    TargetWorkFailed,
)


def targets(rows: Rows, seen: Seen, event: Event) -> Changes:
    """Change the row of the target that *event* is about."""
    name = seen.address.id
    row = rows.get(TARGETS, name)
    if isinstance(event, TargetAdded):
        yield put(TARGETS, name, _stamped(_added(seen, event), seen))
    elif row is not None and isinstance(event, TargetRemoved):
        yield drop(TARGETS, name)
        for backup in row.backups:
            yield drop(BACKUPS, f"{name}/{backup}")
    elif row is not None:
        yield put(TARGETS, name, _stamped(_changed(row, seen, event), seen))


def backups(rows: Rows, seen: Seen, event: Event) -> Changes:
    """Change the rows of the backups that *event* is about, and which ones their target has."""
    target = seen.address.id
    match event:
        case BackupBegan():
            yield from _put(rows, seen, _began(seen, event))
        case BackupsListed():
            yield from _listed(rows, seen, event)
        case TargetSwept() if event.backup is not None:
            yield from _dropped(rows, seen, event.backup)
        case BackupMade() | BackupFailed() | BackupVerified() | BackupFoundDamaged():
            key = f"{target}/{event.backup}"
            row = rows.get(BACKUPS, key) or _unknown(seen, event.backup)
            yield from _put(rows, seen, _told(row, seen, event))
        case _:
            return


def _added(seen: Seen, event: TargetAdded) -> TargetRow:
    return TargetRow(
        name=event.target,
        url=event.place.url,
        endpoint=event.place.endpoint,
        region=event.place.region,
        credentials=event.place.credentials,
        cluster=event.cluster,
        created_at=seen.at,
        changed_at=seen.at,
        seq=seen.seq,
    )


def _changed(row: TargetRow, seen: Seen, event: Event) -> TargetRow:
    match event:
        case TargetProbed():
            return replace(row, probed_at=seen.at, why="", code=None)
        case BackupsListed():
            listed = event.listed
            looked = replace(row, why="", code=None)
            if listed.part:
                return looked
            return replace(looked, listed_at=seen.at, more=listed.more, damaged=listed.damaged)
        case TargetSwept():
            freed_bytes = row.freed_bytes + event.swept.freed_bytes
            writers = event.swept.writers
            why = f"no chunk was removed: {writers} backups were being written" if writers else ""
            return replace(row, swept_at=seen.at, freed_bytes=freed_bytes, why=why, code=None)
        case TargetWorkFailed() | BackupFailed():
            return replace(row, why=event.because, code=event.code)
        case BackupMade():
            return replace(row, why="", code=None)
        case _:
            return row


def _began(seen: Seen, event: BackupBegan) -> BackupRow:
    return BackupRow(
        target=event.target,
        name=event.backup,
        state=BackupState.CREATING,
        cluster=event.cluster,
        volume=event.volume,
        volume_uid=event.volume_uid,
        size_bytes=event.size_bytes,
        layout=event.layout,
        filesystem=event.filesystem,
        at=event.at,
        operation=event.operation,
        created_at=seen.at,
        changed_at=seen.at,
        seq=seen.seq,
    )


def _unknown(seen: Seen, name: str) -> BackupRow:
    """Return the row of a backup that was not made here, and of which nothing was read yet."""
    return BackupRow(
        target=seen.address.id,
        name=name,
        state=BackupState.READY,
        created_at=seen.at,
        changed_at=seen.at,
        seq=seen.seq,
    )


def _told(
    row: BackupRow,
    seen: Seen,
    event: BackupMade | BackupFailed | BackupVerified | BackupFoundDamaged,
) -> BackupRow:
    match event:
        case BackupMade():
            return replace(
                row,
                state=BackupState.READY,
                operation="",
                size_bytes=event.size_bytes,
                consistency=event.consistency.value,
                manifest=event.uploaded.manifest,
                chunks=event.uploaded.chunks,
                stored_chunks=event.uploaded.stored_chunks,
                parent=event.uploaded.parent,
                read_bytes=event.uploaded.read_bytes,
                uploaded_bytes=event.uploaded.uploaded_bytes,
                kept=event.kept or "",
            )
        case BackupFailed():
            state, why, code = BackupState.FAILED, event.because, event.code
            return replace(row, state=state, operation="", why=why, code=code)
        case BackupVerified():
            whole = replace(row, state=BackupState.READY, why="", code=None)
            return replace(whole, verified_at=seen.at, bad_chunks=0, bad=())
        case BackupFoundDamaged():
            state, why, code = BackupState.DAMAGED, event.because, event.code
            bad = replace(row, state=state, why=why, code=code, verified_at=seen.at)
            return replace(bad, bad_chunks=event.bad_chunks, bad=event.bad)


def _listed(rows: Rows, seen: Seen, event: BackupsListed) -> Changes:
    """Have a row for each backup that is there, and none for those that are not any more."""
    target = seen.address.id
    names = {stored.backup for stored in event.listed.backups}
    known = rows.get(TARGETS, target)
    whole = not event.listed.more and not event.listed.part
    for name in known.backups if known is not None and whole else ():
        row = rows.get(BACKUPS, f"{target}/{name}")
        if name not in names and row is not None and row.state is not BackupState.CREATING:
            yield from _dropped(rows, seen, name)
    for stored in event.listed.backups:
        row = rows.get(BACKUPS, f"{target}/{stored.backup}") or _unknown(seen, stored.backup)
        if row.manifest != stored.manifest:
            yield from _put(rows, seen, _found(row, stored))


def _found(row: BackupRow, stored: Stored) -> BackupRow:
    """Return the row of a backup that was looked at; what is known of another one is void."""
    return BackupRow(
        target=row.target,
        name=row.name,
        state=BackupState.READY,
        cluster=stored.cluster,
        volume=stored.volume,
        volume_uid=stored.volume_uid,
        size_bytes=stored.size_bytes,
        layout=stored.layout,
        filesystem=stored.filesystem,
        consistency=stored.consistency,
        at=stored.at,
        manifest=stored.manifest,
        chunks=stored.chunks,
        stored_chunks=stored.stored_chunks,
        parent=stored.parent,
        created_at=row.created_at,
        changed_at=row.changed_at,
        seq=row.seq,
    )


def _put(rows: Rows, seen: Seen, row: BackupRow) -> Changes:
    yield put(BACKUPS, f"{row.target}/{row.name}", replace(row, seq=seen.seq, changed_at=seen.at))
    target = rows.get(TARGETS, row.target)
    if target is not None and row.name not in target.backups:
        yield put(TARGETS, row.target, replace(target, backups=(*target.backups, row.name)))


def _dropped(rows: Rows, seen: Seen, name: str) -> Changes:
    target = rows.get(TARGETS, seen.address.id)
    yield drop(BACKUPS, f"{seen.address.id}/{name}")
    if target is not None:
        left = tuple(one for one in target.backups if one != name)
        yield put(TARGETS, target.name, replace(target, backups=left))


def _stamped(row: TargetRow, seen: Seen) -> TargetRow:
    return replace(row, seq=seen.seq, version=seen.commit.version, changed_at=seen.at)
