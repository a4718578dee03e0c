"""What is wanted, in the words of the log, as what storage is asked for."""

from node_workers.ports import (
    Attachment,
    Filesystem,
    Layout,
    Limits,
    SnapshotSpec,
    VolumeSpec,
)
from schemas.attachment import AttachmentSpec
from schemas.replica import ReplicaSpec, SnapshotOf


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
    )


def attachment_of(name: str, spec: AttachmentSpec, keys: tuple[str, ...] = ()) -> Attachment:
    """Return the attachment as storage takes it; one of *keys* opens the volume."""
    return Attachment(
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
