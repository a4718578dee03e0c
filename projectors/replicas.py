"""The legs of volumes: what each node shall have, and what it says that it has."""

from msgspec.structs import replace

from projectors.reading import Seen
from projectors.rows import Changes, Rows, drop, put
from projectors.tables import REPLICAS
from schemas.grammar import Event
from schemas.mending import (
    ReplicaMended,
    ReplicaMendLeft,
    ReplicaMendWanted,
    ReplicaMendWithdrawn,
)
from schemas.replica import (
    ReplicaCreated,
    ReplicaHeld,
    ReplicaHoldWanted,
    ReplicaKept,
    ReplicaMergeWanted,
    ReplicaRekeyed,
    ReplicaRekeyWanted,
    ReplicaRemovalWanted,
    ReplicaRemovalWithdrawn,
    ReplicaRemoved,
    ReplicaResized,
    ReplicaResizeWanted,
    ReplicaTroubled,
    ReplicaWanted,
)
from schemas.replica_view import LegRole
from schemas.replication import (
    EpochNoted,
    LegSeen,
    ReplicaForgotten,
    ReplicaTieWanted,
    ReplicationChanged,
    SplitSettlingWanted,
)
from schemas.views import ReplicaRow, ReplicaState


def replicas(rows: Rows, seen: Seen, event: Event) -> Changes:
    """Change the row of the leg that *event* is about."""
    key = f"{seen.address.place}/{seen.address.id}"
    row = rows.get(REPLICAS, key)
    match event:
        case ReplicaWanted():
            yield put(REPLICAS, key, _stamped(_wanted(seen, event), seen))
        case ReplicaRemoved() | ReplicaForgotten():
            yield drop(REPLICAS, key)
        case ReplicationChanged() if row is not None:
            told = _told(row, seen, event.seen)
            yield put(REPLICAS, key, _stamped(replace(told, seen_in=event.epoch), seen))
        case _ if row is not None:
            yield put(REPLICAS, key, _stamped(_changed(row, event), seen))
        case _:
            return


def _wanted(seen: Seen, event: ReplicaWanted) -> ReplicaRow:
    spec = event.spec
    return ReplicaRow(
        volume=event.volume,
        node=event.node,
        pool="" if spec.disk else spec.pool,
        uid=spec.uid,
        state=ReplicaState.WANTED,
        wanted_bytes=spec.size_bytes,
        layout=spec.layout,
        stripes=spec.stripes,
        filesystem=spec.filesystem,
        keys=spec.encryption.known if spec.encryption is not None else (),
        operation=event.operation,
        created_at=seen.at,
        changed_at=seen.at,
        seq=seen.seq,
    )


def _changed(row: ReplicaRow, event: Event) -> ReplicaRow:
    match event:
        case ReplicaCreated():
            return replace(_present(row, event.size_bytes), device=event.device)
        case ReplicaResized() | ReplicaKept():
            return _present(row, event.size_bytes)
        case ReplicaResizeWanted():
            asked = replace(_asked(row, ReplicaState.RESIZING), operation=event.operation)
            return replace(asked, wanted_bytes=event.size_bytes)
        case ReplicaHoldWanted():
            return replace(_asked(row, ReplicaState.HOLDING), operation=event.operation)
        case ReplicaHeld():
            return replace(_asked(row, ReplicaState.HELD), operation="")
        case ReplicaRemovalWanted():
            return replace(_asked(row, ReplicaState.REMOVING), operation=event.operation)
        case ReplicaMergeWanted():
            return replace(_asked(row, ReplicaState.MERGING), operation=event.operation)
        case ReplicaRemovalWithdrawn():
            return replace(_asked(row, ReplicaState.WANTED), operation=event.operation)
        case ReplicaTroubled():
            return replace(row, why=event.because, code=event.code, permanent=event.permanent)
        case _:
            return _rekeyed(row, event)


def _rekeyed(row: ReplicaRow, event: Event) -> ReplicaRow:
    match event:
        case ReplicaRekeyWanted():
            known = event.encryption.known
            return replace(_asked(row, row.state), keys=known, operation=event.operation)
        case ReplicaRekeyed():
            return replace(_asked(row, row.state), keys=event.keys, operation="")
        case ReplicaMendWanted() | ReplicaMendWithdrawn():
            return replace(_asked(row, ReplicaState.MENDING), operation=event.operation)
        case ReplicaMended():
            return _present(row, event.size_bytes)
        case ReplicaMendLeft():
            return _present(row, row.size_bytes)
        case _:
            return _tied(row, event)


def _tied(row: ReplicaRow, event: Event) -> ReplicaRow:
    match event:
        case ReplicaTieWanted():
            tying = replace(_asked(row, ReplicaState.TYING), operation=event.operation)
            tying = replace(tying, wanted_bytes=event.size_bytes)
            return tying if event.replication is not None else _alone(tying)
        case SplitSettlingWanted():
            return replace(_asked(row, row.state), operation=event.operation)
        case EpochNoted():
            return replace(row, epoch=event.epoch)
        case _:
            return row


def _alone(row: ReplicaRow) -> ReplicaRow:
    """Return the row of a leg that has no peers any more: what it said of them is of the past."""
    return replace(
        row,
        role=None,
        disk_state=None,
        peers=(),
        frozen=False,
        split=False,
        out_of_sync_bytes=0,
        sync_bytes_per_s=None,
        seen_at=None,
        seen_in=0,
        epoch=0,
        outdated=False,
    )


def _told(row: ReplicaRow, seen: Seen, leg: LegSeen) -> ReplicaRow:
    left_bytes = max((one.out_of_sync_bytes for one in leg.peers), default=0)
    rate = None
    since_s = (seen.at - row.seen_at).total_seconds() if row.seen_at is not None else 0.0
    # What is written meanwhile is more to be filled: then how fast it goes cannot be told.
    if since_s > 0 and left_bytes < row.out_of_sync_bytes:
        rate = int((row.out_of_sync_bytes - left_bytes) / since_s)
    return replace(
        row,
        role=LegRole.PRIMARY if leg.primary else LegRole.SECONDARY,
        disk_state=leg.disk,
        peers=leg.peers,
        frozen=leg.frozen,
        split=leg.split,
        out_of_sync_bytes=left_bytes,
        sync_bytes_per_s=rate,
        seen_at=seen.at,
    )


def _present(row: ReplicaRow, size_bytes: int) -> ReplicaRow:
    calm = _asked(row, ReplicaState.PRESENT)
    return replace(calm, size_bytes=size_bytes, wanted_bytes=size_bytes, operation="")


def _asked(row: ReplicaRow, state: ReplicaState) -> ReplicaRow:
    return replace(row, state=state, why="", code=None, permanent=False)


def _stamped(row: ReplicaRow, seen: Seen) -> ReplicaRow:
    return replace(row, seq=seen.seq, version=seen.commit.version, changed_at=seen.at)
