"""The volumes as people ask about them: what each is becoming, and what stands in its way."""

from datetime import datetime

from msgspec.structs import replace

from projectors.attaching import used
from projectors.reading import Seen
from projectors.rows import Changes, Rows, drop, put
from projectors.tables import OWNERS, PLACEMENTS, VOLUMES, OwnerRow, PlacementRow
from schemas.encrypting import VolumeRekeyed, VolumeRekeyingBegan, VolumeRekeyingFailed
from schemas.filling import VolumeFilled
from schemas.grammar import Event
from schemas.keys import header_bytes
from schemas.mending import ReplicaMended
from schemas.replica import (
    ReplicaCreated,
    ReplicaKept,
    ReplicaResized,
    ReplicaResizeWanted,
    ReplicaTroubled,
)
from schemas.settling import VolumeSettled, VolumeSettlingBegan, VolumeSettlingFailed
from schemas.views import VolumeRow, VolumeState
from schemas.volume import (
    VolumeDeleted,
    VolumeDeletionBegan,
    VolumeDeletionFailed,
    VolumeGone,
    VolumeGrown,
    VolumeGrowthBegan,
    VolumeGrowthFailed,
    VolumeHeld,
    VolumeHoldBegan,
    VolumeLocked,
    VolumeProvisioned,
    VolumeProvisioningBegan,
    VolumeProvisioningFailed,
    VolumeUndeleted,
    VolumeUndeletionBegan,
    VolumeUndeletionFailed,
    VolumeUnlocked,
)


def volumes(rows: Rows, seen: Seen, event: Event) -> Changes:
    """Change the row of the volume that *event* is about; one that failed to be is not shown."""
    name = seen.address.id
    row = rows.get(VOLUMES, name)
    match event:
        case VolumeProvisioningBegan():
            yield put(OWNERS, event.uid, OwnerRow(volume=name))
            yield put(PLACEMENTS, name, PlacementRow(candidates=event.candidates))
            yield put(VOLUMES, name, _stamped(_began(seen, event), seen))
        case VolumeProvisioningFailed() | VolumeDeleted() | VolumeGone():
            yield drop(OWNERS, event.uid)
            yield drop(PLACEMENTS, name)
            yield drop(VOLUMES, name)
        case _ if row is not None:
            yield put(VOLUMES, name, _stamped(_changed(row, event), seen))
        case _:
            return


def of_leg(rows: Rows, seen: Seen, event: Event) -> Changes:
    """Change the row of the volume whose leg *event* is about: its device, or its trouble."""
    row = rows.get(VOLUMES, seen.address.id)
    if row is None:
        return
    match event:
        case ReplicaCreated() if event.uid == row.uid:
            row = replace(
                row,
                node=event.node,
                pool="" if event.disk else event.pool,
                disk=event.disk or "",
                device=event.device,
                size_bytes=event.size_bytes - header_bytes(row.key_ref),
                why="",
                code=None,
            )
        case ReplicaResized() | ReplicaMended() if event.uid == row.uid:
            size_bytes = event.size_bytes - header_bytes(row.key_ref)
            row = replace(row, size_bytes=size_bytes, why="", code=None)
        case ReplicaResizeWanted() | ReplicaKept() if event.uid == row.uid:
            row = replace(row, why="", code=None)
        case ReplicaTroubled() if event.uid == row.uid:
            row = replace(row, why=event.because, code=event.code)
        case _:
            return
    yield put(VOLUMES, seen.address.id, replace(row, seq=seen.seq, changed_at=seen.at))


def _began(seen: Seen, event: VolumeProvisioningBegan) -> VolumeRow:
    return VolumeRow(
        name=event.volume,
        uid=event.uid,
        state=VolumeState.PROVISIONING,
        wanted_bytes=event.size_bytes,
        layout=event.layout,
        stripes=event.stripes,
        filesystem=event.filesystem,
        encrypted=event.key_ref is not None,
        key_ref=event.key_ref or "",
        qos=event.qos or "",
        operation=event.operation,
        deadline=event.deadline,
        created_at=seen.at,
        changed_at=seen.at,
        seq=seen.seq,
    )


def _changed(row: VolumeRow, event: Event) -> VolumeRow:
    match event:
        case VolumeProvisioned():
            size = event.size_bytes
            disk, pool = event.disk or "", "" if event.disk else event.pool
            return replace(_ready(row, size), node=event.node, pool=pool, disk=disk)
        case VolumeGrown():
            return replace(_ready(row, event.size_bytes), fill_percent=0)
        case VolumeFilled():
            return replace(
                row,
                fill_percent=event.data_percent,
                used_bytes=event.used_bytes,
                filesystem_bytes=event.filesystem_bytes,
            )
        case VolumeGrowthFailed():
            size = event.size_bytes
            return replace(_ready(row, size), why=event.because, code=event.code)
        case VolumeDeletionFailed():
            size = row.size_bytes
            stays = _held(row, row.held_until) if row.held_until else _ready(row, size)
            return replace(stays, why=event.because, code=event.code)
        case VolumeGrowthBegan():
            growing = _working(row, VolumeState.GROWING, event)
            return replace(growing, wanted_bytes=event.size_bytes)
        case VolumeDeletionBegan():
            return _working(row, VolumeState.DELETING, event)
        case VolumeLocked():
            return replace(row, state=VolumeState.LOCKED, operation=event.operation)
        case VolumeUnlocked():
            return replace(row, state=VolumeState.READY, operation="")
        case _:
            return used(_rekeyed(_kept(row, event), event), event)


def _kept(row: VolumeRow, event: Event) -> VolumeRow:
    match event:
        case VolumeHoldBegan():
            return _working(row, VolumeState.HOLDING, event)
        case VolumeHeld():
            return _held(row, event.until)
        case VolumeUndeletionBegan():
            return _working(row, VolumeState.UNDELETING, event)
        case VolumeUndeletionFailed():
            return replace(_held(row, row.held_until), why=event.because, code=event.code)
        case VolumeUndeleted():
            return replace(_ready(row, row.size_bytes), held_until=None)
        case _:
            return row


def _rekeyed(row: VolumeRow, event: Event) -> VolumeRow:
    match event:
        case VolumeRekeyingBegan():
            return _working(row, VolumeState.REKEYING, event)
        case VolumeRekeyed():
            return replace(_ready(row, row.size_bytes), key_ref=event.key_ref)
        case VolumeRekeyingFailed():
            return replace(_ready(row, row.size_bytes), why=event.because, code=event.code)
        case VolumeSettlingBegan():
            settling = replace(row, state=VolumeState.SETTLING, operation=event.operation)
            return replace(settling, why="", code=None)
        case VolumeSettled():
            same = event.size_bytes == row.size_bytes
            fill_percent = row.fill_percent if same else 0
            return replace(_ready(row, event.size_bytes), fill_percent=fill_percent)
        case VolumeSettlingFailed():
            return replace(_ready(row, row.size_bytes), why=event.because, code=event.code)
        case _:
            return row


def _held(row: VolumeRow, until: datetime | None) -> VolumeRow:
    return replace(_ready(row, row.size_bytes), state=VolumeState.HELD, held_until=until)


def _ready(row: VolumeRow, size_bytes: int) -> VolumeRow:
    return replace(
        row,
        state=VolumeState.READY,
        size_bytes=size_bytes,
        wanted_bytes=size_bytes,
        operation="",
        deadline=None,
        why="",
        code=None,
    )


def _working(
    row: VolumeRow,
    state: VolumeState,
    event: VolumeGrowthBegan
    | VolumeHoldBegan
    | VolumeUndeletionBegan
    | VolumeDeletionBegan
    | VolumeRekeyingBegan,
) -> VolumeRow:
    return replace(
        row,
        state=state,
        operation=event.operation,
        deadline=event.deadline,
        why="",
        code=None,
    )


def _stamped(row: VolumeRow, seen: Seen) -> VolumeRow:
    return replace(row, seq=seen.seq, version=seen.commit.version, changed_at=seen.at)
