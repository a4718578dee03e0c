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
from schemas.views import ReplicaRow, ReplicaState


def replicas(rows: Rows, seen: Seen, event: Event) -> Changes:
    """Change the row of the leg that *event* is about."""
    key = f"{seen.address.place}/{seen.address.id}"
    row = rows.get(REPLICAS, key)
    match event:
        case ReplicaWanted():
            yield put(REPLICAS, key, _stamped(_wanted(seen, event), seen))
        case ReplicaRemoved():
            yield drop(REPLICAS, key)
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
            return row


def _present(row: ReplicaRow, size_bytes: int) -> ReplicaRow:
    calm = _asked(row, ReplicaState.PRESENT)
    return replace(calm, size_bytes=size_bytes, wanted_bytes=size_bytes, operation="")


def _asked(row: ReplicaRow, state: ReplicaState) -> ReplicaRow:
    return replace(row, state=state, why="", code=None, permanent=False)


def _stamped(row: ReplicaRow, seen: Seen) -> ReplicaRow:
    return replace(row, seq=seen.seq, version=seen.commit.version, changed_at=seen.at)
