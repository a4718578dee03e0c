"""The volumes as people ask about them: what each is becoming, and what stands in its way."""

from datetime import datetime

from msgspec.structs import replace

from projectors.attaching import used
from projectors.health import forgotten, settled
from projectors.legs import left_of, replicated
from projectors.reading import Seen
from projectors.rows import Changes, Rows, drop, put
from projectors.tables import OWNERS, PLACEMENTS, VOLUMES, OwnerRow, PlacementRow
from schemas.counting import VolumeIoCounted
from schemas.deleting import (
    VolumeDeleted,
    VolumeDeletionBegan,
    VolumeDeletionFailed,
    VolumeHeld,
    VolumeHoldBegan,
    VolumeUndeleted,
    VolumeUndeletionBegan,
    VolumeUndeletionFailed,
)
from schemas.encrypting import VolumeRekeyed, VolumeRekeyingBegan, VolumeRekeyingFailed
from schemas.filling import VolumeFilled
from schemas.grammar import Event
from schemas.keys import header_bytes
from schemas.labels import VolumeLabelled, with_labels
from schemas.mending import ReplicaMended
from schemas.replica import (
    ReplicaCreated,
    ReplicaKept,
    ReplicaRemoved,
    ReplicaResized,
    ReplicaResizeWanted,
    ReplicaTroubled,
    ReplicaWanted,
)
from schemas.replica_view import VolumeLeg
from schemas.replication import (
    EpochNoted,
    ReplicaForgotten,
    ReplicaTieWanted,
    ReplicationChanged,
    SplitSettlingWanted,
)
from schemas.settling import VolumeSettled, VolumeSettlingBegan, VolumeSettlingFailed
from schemas.views import VolumeRow, VolumeState
from schemas.volume import (
    VolumeGone,
    VolumeGrown,
    VolumeGrowthBegan,
    VolumeGrowthFailed,
    VolumeLocked,
    VolumeProvisioned,
    VolumeProvisioningBegan,
    VolumeProvisioningFailed,
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
            if row is not None:
                yield from forgotten(rows, row)
        case _ if row is not None:
            yield from settled(rows, row, _stamped(_changed(row, event), seen))
        case _:
            return


def of_leg(rows: Rows, seen: Seen, event: Event) -> Changes:
    """Change the row of the volume whose leg *event* is about: its device, or its trouble."""
    row = rows.get(VOLUMES, seen.address.id)
    if row is None:
        return
    match event:
        case ReplicaWanted() if event.spec.uid == row.uid:
            after = _joined(row, event)
        case ReplicaRemoved() | ReplicaForgotten() if event.uid == row.uid:
            stay = (one for one in row.replicas if not (one.joining and one.node == event.node))
            after = replace(row, replicas=left_of(tuple(stay)))
        case ReplicationChanged() | EpochNoted() if event.uid == row.uid:
            after = row
        case ReplicaTroubled() if event.uid == row.uid:
            because = f"{event.node}: {event.because}" if row.replicas else event.because
            after = replace(row, why=because, code=event.code)
        case (
            ReplicaCreated()
            | ReplicaResized()
            | ReplicaMended()
            | ReplicaResizeWanted()
            | ReplicaKept()
            | ReplicaTieWanted()
            | SplitSettlingWanted()
        ) if event.uid == row.uid:
            after = _sized(row, event)
            # Trouble with one replica is not over because another has none.
            if not row.replicas or row.why.startswith(f"{event.node}: "):
                after = replace(after, why="", code=None)
        case _:
            return
    yield from settled(rows, row, replace(after, seq=seen.seq, changed_at=seen.at))


def _joined(row: VolumeRow, event: ReplicaWanted) -> VolumeRow:
    """Return the row with a replica on its way; the first leg of all has no peer yet."""
    nodes = {one.node for one in row.replicas} | {row.node}
    if event.spec.replication is None or event.node in nodes:
        return row
    here = row.replicas or (VolumeLeg(node=row.node, pool=row.pool),)
    there = VolumeLeg(node=event.node, pool=event.spec.pool, joining=True)
    return replace(row, replicas=(*here, there))


def _sized(row: VolumeRow, event: Event) -> VolumeRow:
    """Return the row with what its only leg tells; one of several is larger than the volume."""
    if row.replicas:
        return row
    match event:
        case ReplicaCreated():
            return replace(
                row,
                node=event.node,
                pool="" if event.disk else event.pool,
                disk=event.disk or "",
                device=event.device,
                size_bytes=event.size_bytes - header_bytes(row.key_ref),
            )
        case ReplicaResized() | ReplicaMended():
            return replace(row, size_bytes=event.size_bytes - header_bytes(row.key_ref))
        case _:
            return row


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
        replicas_wanted=event.replicas,
        failover=event.failover,
        labels=event.labels,
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
            return used(_rekeyed(_kept(_told(replicated(row, event), event), event), event), event)


def _told(row: VolumeRow, event: Event) -> VolumeRow:
    match event:
        case VolumeFilled():
            return replace(
                row,
                fill_percent=event.data_percent,
                used_bytes=event.used_bytes,
                filesystem_bytes=event.filesystem_bytes,
            )
        case VolumeIoCounted():
            return replace(
                row,
                written_bytes=row.written_bytes + event.more_written_bytes,
                read_bytes=row.read_bytes + event.more_read_bytes,
            )
        case VolumeLabelled():
            return replace(row, labels=with_labels(row.labels, event))
        case _:
            return row


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
