"""A small cluster, as the views show it."""

from typing import Any

import msgspec

from schemas.attachment import Limits
from schemas.backup_view import BackupRow, BackupState, TargetRow
from schemas.disk import Content, DiskClass
from schemas.errand import BadChunk
from schemas.group_views import GroupRow, ScheduleRow, ScheduleState
from schemas.node import Capability, Drift
from schemas.operation import OperationKind
from schemas.operation_views import AuditKind, AuditRow, OperationRow, OperationState
from schemas.policy import PolicyKind
from schemas.policy_view import PolicyAlarm, PolicyRow, PolicyState
from schemas.qos_view import QosBehind, QosRow, QosState
from schemas.refusals import Refusal
from schemas.replica import Consistency
from schemas.rhythm import Keep
from schemas.snapshot_view import SnapshotRow, SnapshotState
from schemas.usage_view import UsageLevel, UsageRow
from schemas.views import (
    DiskRow,
    DiskState,
    DriftRow,
    NodeRow,
    NodeState,
    PoolRow,
    PoolState,
    ReplicaRow,
    ReplicaState,
    StatusRow,
    VolumeRow,
    VolumeState,
)
from schemas.volume import Candidate, Layout
from tests.support.cli import OPERATION, UID, Stage, ago

GIB = 1 << 30


STAMPS: Any = {"created_at": ago(hours=5), "changed_at": ago(minutes=3), "seq": 7}


def furnish(stage: Stage) -> None:
    """Let the stage show one node with two disks, a pool, a volume and what became of them."""
    stage.rows = {
        "nodes": _nodes(),
        "disks": _disks(),
        "pools": _pools(),
        "volumes": (msgspec.structs.replace(_volume(), candidates=()),),
        "volume": (_volume(),),
        "replicas": _replicas(),
        "snapshots": _snapshots(),
        "policies": _policies(),
        "groups": _groups(),
        "qos": _classes(),
        "schedules": _schedules(),
        "targets": _targets(),
        "backups": _backups(),
        "operations": (_operation(),),
        "operation": (_operation(),),
        "audit": _audit(),
        "usage": _usage(),
        "drift": _drift(),
        "status": _status(),
    }


def _policies() -> tuple[PolicyRow, ...]:
    full = PolicyAlarm(
        object="volume/pg",
        code=Refusal.CEILING_REACHED,
        because="volume/pg has 6 GiB; the ceiling is 6 GiB",
        since=ago(minutes=2),
    )
    return (
        PolicyRow(
            name="roomy",
            uid=UID,
            kind=PolicyKind.GROW_VOLUMES,
            state=PolicyState.ALARM,
            why=f"{full.code} {full.because}",
            node="n1",
            pool="fast",
            threshold_percent=80,
            step_percent=20,
            ceiling_bytes=6 * GIB,
            cool_down_s=600,
            alarms=(full,),
            acts=3,
            last_object="volume/pg",
            last_act_at=ago(minutes=9),
            last_operation=OPERATION,
            **STAMPS,
        ),
        PolicyRow(
            name="spares",
            uid=UID,
            kind=PolicyKind.ADD_DISKS,
            state=PolicyState.PAUSED,
            why="moving house",
            pool="fast",
            media=DiskClass.SSD,
            cool_down_s=600,
            **STAMPS,
        ),
    )


def _snapshots() -> tuple[SnapshotRow, ...]:
    return (
        SnapshotRow(
            name="monday",
            uid=UID,
            volume="pg",
            state=SnapshotState.FAILED,
            why="more has changed in pg than the snapshot had room for",
            code=Refusal.SNAPSHOT_LOST,
            lost=True,
            size_bytes=2 * GIB,
            reserve_bytes=GIB // 2,
            fill_percent=100,
            consistency=Consistency.FILESYSTEM,
            node="n1",
            pool="fast",
            device="/dev/fast/monday",
            **STAMPS,
        ),
    )


def _classes() -> tuple[QosRow, ...]:
    late = QosBehind(
        volume="pg",
        node="n1",
        limits=Limits(read_iops=100, write_bytes_per_s=10 << 20),
        code=Refusal.NO_IO_CONTROLLER,
        why="its io controller is not on",
    )
    gold = QosRow(
        name="gold",
        uid=UID,
        limits=Limits(read_iops=50, write_bytes_per_s=10 << 20),
        limits_since=ago(minutes=2),
        state=QosState.ALARM,
        volumes=3,
        attached=2,
        carrying=1,
        behind=(late,),
        **STAMPS,
    )
    return (gold,)


def _groups() -> tuple[GroupRow, ...]:
    return (
        GroupRow(
            name="shop",
            volumes=("pg", "wal"),
            nodes=("n1",),
            last_snapshot="monday",
            last_taken_at=ago(hours=1),
            **STAMPS,
        ),
    )


def _schedules() -> tuple[ScheduleRow, ...]:
    nightly = ScheduleRow(
        name="nightly",
        uid=UID,
        state=ScheduleState.FAILING,
        every_s=86_400,
        offset_s=7200,
        keep=Keep(daily=7, weekly=4),
        group="shop",
        last_due=ago(hours=3),
        last_snapshot="nightly-20260101t020000z",
        taken=4,
        missed=2,
        failed=1,
        why="operation x (growing) runs on pg",
        code=Refusal.VOLUME_BUSY,
        **STAMPS,
    )
    often = ScheduleRow(
        name="often",
        uid=UID,
        state=ScheduleState.PAUSED,
        every_s=1800,
        offset_s=0,
        keep=Keep(hourly=24),
        volume="pg",
        **STAMPS,
    )
    return (nightly, often)


def _targets() -> tuple[TargetRow, ...]:
    return (
        TargetRow(
            name="s3",
            url="s3://backups/berlin",
            endpoint="https://s3.example.org",
            region="eu-1",
            credentials="file:s3",
            cluster="berlin",
            probed_at=ago(hours=2),
            listed_at=ago(minutes=9),
            backups=("pg-1",),
            **STAMPS,
        ),
    )


def _backups() -> tuple[BackupRow, ...]:
    return (
        BackupRow(
            target="s3",
            name="pg-1",
            state=BackupState.DAMAGED,
            why="chunk 7 is missing",
            code=Refusal.BACKUP_DAMAGED,
            cluster="berlin",
            volume="pg",
            volume_uid=UID,
            size_bytes=2 * GIB,
            consistency="filesystem",
            at=ago(hours=30),
            manifest="ab" * 32,
            chunks=512,
            stored_chunks=100,
            uploaded_bytes=GIB // 4,
            read_bytes=2 * GIB,
            verified_at=ago(hours=1),
            bad_chunks=1,
            bad=(BadChunk(index=7, chunk="cd" * 32, why="missing"),),
            **STAMPS,
        ),
    )


def _nodes() -> tuple[NodeRow, ...]:
    return (
        NodeRow(
            name="n1",
            state=NodeState.READY,
            capabilities=(Capability.LVM, Capability.SIMULATED),
            pools=("fast",),
            disks=2,
            drifts=1,
            **STAMPS,
        ),
    )


def _disks() -> tuple[DiskRow, ...]:
    return (
        DiskRow(
            id="wwn-1",
            node="n1",
            path="/dev/vda",
            state=DiskState.CLAIMED,
            size_bytes=20 * GIB,
            media=DiskClass.SSD,
            media_seen=DiskClass.SSD,
            content=Content.OURS,
            pool="fast",
            **STAMPS,
        ),
        DiskRow(
            id="wwn-2",
            node="n1",
            path="/dev/vdb",
            state=DiskState.OCCUPIED,
            size_bytes=10 * GIB,
            media=DiskClass.HDD,
            media_seen=DiskClass.HDD,
            content=Content.FILESYSTEM,
            detail="ext4",
            **STAMPS,
        ),
    )


def _pools() -> tuple[PoolRow, ...]:
    return (
        PoolRow(
            name="fast",
            node="n1",
            uid=UID,
            state=PoolState.READY,
            size_bytes=20 * GIB,
            allocated_bytes=5 * GIB,
            reserved_bytes=GIB,
            free_bytes=15 * GIB,
            available_bytes=14 * GIB,
            volumes=1,
            disks=("wwn-1",),
            **STAMPS,
        ),
    )


def _volume() -> VolumeRow:
    """Return the volume as the view of one volume tells it: with where it could have been put."""
    return VolumeRow(
        name="pg",
        uid=UID,
        state=VolumeState.GROWING,
        size_bytes=5 * GIB,
        wanted_bytes=6 * GIB,
        layout=Layout.STRIPED,
        stripes=2,
        pool="fast",
        node="n1",
        device="/dev/fast/pg",
        consumer="pod/shop/pg-0",
        attached_device="/dev/hwbus/pg",
        mount_point="/mnt/pg",
        cgroup="shop/pg-0",
        limits=Limits(read_iops=100, write_bytes_per_s=10 << 20),
        qos="gold",
        wanted_limits=Limits(read_iops=50, write_bytes_per_s=10 << 20),
        labels={"team": "shop", "tier": "gold"},
        kernel_limits=Limits(read_iops=100, write_bytes_per_s=10 << 20),
        kernel_since=ago(hours=2),
        operation=OPERATION,
        candidates=(
            Candidate(node="n1", pool="fast", room_bytes=20 * GIB, score=9, parts={"a": 9}),
            Candidate(node="n2", pool="slow", code=Refusal.CAPACITY, because="full"),
        ),
        created_at=ago(hours=5),
        changed_at=ago(minutes=3),
        seq=7,
    )


def _replicas() -> tuple[ReplicaRow, ...]:
    return (
        ReplicaRow(
            volume="pg",
            node="n1",
            pool="fast",
            uid=UID,
            state=ReplicaState.PRESENT,
            size_bytes=5 * GIB,
            device="/dev/fast/pg",
            **STAMPS,
        ),
    )


def _usage() -> tuple[UsageRow, ...]:
    return (
        UsageRow(
            level=UsageLevel.POOL,
            name="n1/fast",
            node="n1",
            pool="fast",
            capacity_bytes=20 * GIB,
            allocated_bytes=5 * GIB,
            reserved_bytes=GIB,
            committed_bytes=6 * GIB,
            free_bytes=15 * GIB,
            available_bytes=14 * GIB,
            volumes=1,
            seq=7,
        ),
    )


def _drift() -> tuple[DriftRow, ...]:
    return (
        DriftRow(
            node="n1",
            drift=Drift.VOLUME_FOREIGN,
            object="lv/n1/fast/scratch",
            wanted="nothing",
            observed="1GiB",
            settle=("lvremove fast/scratch",),
            since=ago(minutes=2),
            seq=6,
        ),
    )


def _status() -> tuple[StatusRow, ...]:
    return (StatusRow(stream="HWBUS_EVENTS", position=7, head=7, lag_events=0, lag_s=0, parked=0),)


def _operation() -> OperationRow:
    return OperationRow(
        id=OPERATION,
        kind=OperationKind.VOLUME_GROW,
        object="volume/pg",
        state=OperationState.RUNNING,
        step="replica.resize-wanted",
        deadline=ago(minutes=-7),
        actor="ada",
        created_at=ago(seconds=30),
        changed_at=ago(seconds=29),
        seq=7,
        steps=_audit(),
    )


def _audit() -> tuple[AuditRow, ...]:
    return (
        AuditRow(
            kind=AuditKind.ACCEPTED,
            seq=5,
            at=ago(minutes=1),
            actor="ada",
            word="volume.grow.v1",
            object="volume/pg",
            events=("volume.growth-began.v1",),
        ),
        AuditRow(
            kind=AuditKind.REFUSED,
            seq=2,
            at=ago(minutes=1),
            actor="bob",
            word="volume.grow.v1",
            object="volume/pg",
            code=Refusal.VOLUME_BUSY,
            because="an operation is running",
        ),
        AuditRow(
            kind=AuditKind.TOOL,
            seq=3,
            at=ago(seconds=20),
            object="volume/pg",
            node="n1",
            argv=("lvextend", "-L", "6g", "fast/pg"),
            exit_status=5,
            duration_ms=41.7,
            stderr="no room",
        ),
    )
