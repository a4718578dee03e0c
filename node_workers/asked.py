"""What is wanted, in the words of the log, as what storage is asked for."""

from msgspec.structs import replace

from node_workers.ports import (
    Attachment,
    Filesystem,
    Layout,
    Limits,
    SnapshotSpec,
    VolumeSpec,
)
from node_workers.replication_spec import Member, ReplicationSpec
from schemas.attachment import AttachmentSpec
from schemas.replica import ReplicaSpec, SnapshotOf
from schemas.replication import Replication


def snapshot_spec(name: str, spec: ReplicaSpec, of: SnapshotOf) -> SnapshotSpec:
    """Return the snapshot as storage takes it."""
    return SnapshotSpec(
        uid=spec.uid,
        name=name,
        pool=spec.pool,
        size_bytes=spec.size_bytes,
        volume=of.volume,
        volume_uid=of.uid,
        thin=spec.layout.value == Layout.THIN,
    )


def volume_spec(name: str, spec: ReplicaSpec) -> VolumeSpec:
    """Return the volume as storage takes it."""
    return VolumeSpec(
        uid=spec.uid,
        name=name,
        pool=spec.pool,
        size_bytes=spec.size_bytes,
        layout=Layout.LINEAR if spec.disk is not None else Layout(spec.layout.value),
        stripes=spec.stripes,
        filesystem=Filesystem(spec.filesystem.value),
        keys=spec.encryption.known if spec.encryption is not None else (),
        leg=spec.bare,
    )


def bare(spec: VolumeSpec) -> VolumeSpec:
    """Return the leg of a replicated volume: what is on the volume is no business of its."""
    return replace(spec, filesystem=Filesystem.NONE, leg=True)


def replication_spec(name: str, uid: str, pool: str, wanted: Replication) -> ReplicationSpec:
    """Return how a leg shall be tied, as storage takes it."""
    return ReplicationSpec(
        volume=name,
        uid=uid,
        pool=pool,
        size_bytes=wanted.size_bytes,
        members=tuple(
            Member(
                node=one.node,
                index=one.index,
                address=one.link.address,
                port=one.link.port,
                minor=one.link.minor,
                key=one.link.key,
                since=one.link.since or "",
            )
            for one in wanted.members
        ),
        resync_bytes_per_s=wanted.resync_bytes_per_s or 0,
    )


def attachment_of(
    name: str,
    spec: AttachmentSpec,
    keys: tuple[str, ...] = (),
    tied: Replication | None = None,
) -> Attachment:
    """Return the attachment as storage takes it; one of *keys* opens the volume."""
    uid, pool = spec.volume_uid, spec.pool
    return Attachment(
        replication=None if tied is None else replication_spec(name, uid, pool, tied),
        volume=name,
        volume_uid=spec.volume_uid,
        pool=spec.pool,
        filesystem=Filesystem(spec.filesystem.value),
        mount_point=spec.mount_point or "",
        read_only=spec.read_only,
        cgroup=spec.cgroup or "",
        limits=Limits(
            read_iops=spec.limits.read_iops,
            write_iops=spec.limits.write_iops,
            read_bytes_per_s=spec.limits.read_bytes_per_s,
            write_bytes_per_s=spec.limits.write_bytes_per_s,
        ),
        keys=keys,
    )
