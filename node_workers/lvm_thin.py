"""Thin pools: sized so that the metadata never fills before the data, and failing loudly."""

from node_workers.lvm_pools import our_group
from node_workers.lvm_report import POOL_TAG, LogicalVolume, VolumeGroup, tag_value
from node_workers.ports import (
    THIN_POOL_NAME,
    NotThereError,
    Refusal,
    RefusedToTouchError,
    Runner,
    ThinPoolState,
)
from node_workers.tools import Tools

_KIB, _MIB, _GIB, _TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
_METADATA_BYTES_MIN = 8 * _MIB
_METADATA_BYTES_MAX = 15 * _GIB  # dm-thin addresses 15.81 GiB
# 64 bytes a chunk is the documented need; twice that leaves room for snapshots sharing chunks.
_METADATA_BYTES_A_CHUNK = 128


class ThinPools:
    """Makes and grows the one thin pool that a pool may have."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._tools = Tools(runner)

    async def ensure(
        self,
        uid: str,
        pool: str,
        size_bytes: int,
        metadata_bytes: int = 0,
        *,
        must_exist: bool = False,
        cause: str,
    ) -> tuple[ThinPoolState, VolumeGroup]:
        """Have the thin pool, and return it with the group as it was before.

        Raises ``NotThereError`` if it *must_exist* and does not.

        A full thin pool answers writes with errors at once: hanging for a minute and then
        failing (LVM's default) only hides from people what is wrong.
        """
        group = await our_group(self._runner, uid, pool, cause=cause)
        extent_bytes = group.extent_bytes
        extents = -(-size_bytes // extent_bytes)
        found = group.volume(THIN_POOL_NAME)
        metadata_extents = max(
            _metadata_extents(max(size_bytes, _size(found)), extent_bytes),
            -(-min(metadata_bytes, _METADATA_BYTES_MAX) // extent_bytes),
        )
        if found is None and must_exist:
            raise NotThereError("thin-pool-missing", f"there is no {pool}/{THIN_POOL_NAME}")
        if found is None:
            await self._create(uid, pool, extents, metadata_extents, extent_bytes, cause=cause)
        else:
            _refuse_foreign(found, uid, pool)
            await self._grow(found, pool, extents, metadata_extents, extent_bytes, cause=cause)
        data = max(extents * extent_bytes, _size(found))
        metadata = max(
            metadata_extents * extent_bytes, found.metadata_bytes if found is not None else 0
        )
        return (
            ThinPoolState(
                pool=pool,
                size_bytes=data,
                metadata_bytes=metadata,
                taken_bytes=data + 2 * metadata,  # LVM keeps a spare of the metadata for repair
            ),
            group,
        )

    async def _create(
        self, uid: str, pool: str, extents: int, metadata: int, extent_bytes: int, *, cause: str
    ) -> None:
        await self._tools.must(
            *("lvcreate", "--type", "thin-pool", "--extents", str(extents)),
            *("--name", THIN_POOL_NAME, "--poolmetadatasize", f"{metadata * extent_bytes}b"),
            *("--chunksize", f"{_chunk_bytes(extents * extent_bytes)}b", "--zero", "y"),
            # LVM 2.03.16 refuses --errorwhenfull when it makes a pool, but honours the setting.
            *("--config", "activation{error_when_full=1}"),
            *("--addtag", f"{POOL_TAG}{uid}", "--addtag", f"hwbus.cause={tag_value(cause)}"),
            pool,
            cause=cause,
        )

    async def _grow(
        self,
        found: LogicalVolume,
        pool: str,
        extents: int,
        metadata: int,
        extent_bytes: int,
        *,
        cause: str,
    ) -> None:
        target = f"{pool}/{THIN_POOL_NAME}"
        if not found.active:
            await self._tools.must("lvchange", "--activate", "y", target, cause=cause)
        if found.metadata_bytes < metadata * extent_bytes:
            more = metadata * extent_bytes - found.metadata_bytes
            await self._tools.must(
                "lvextend", "--poolmetadatasize", f"+{more}b", target, cause=cause
            )
        if found.size_bytes < extents * extent_bytes:
            await self._tools.must("lvextend", "--extents", str(extents), target, cause=cause)
        if found.when_full != "error":
            await self._tools.must("lvchange", "--errorwhenfull", "y", target, cause=cause)


def _size(found: LogicalVolume | None) -> int:
    return 0 if found is None else found.size_bytes


def _chunk_bytes(size_bytes: int) -> int:
    if size_bytes <= _TIB:
        return 64 * _KIB
    return 256 * _KIB if size_bytes <= 16 * _TIB else _MIB


def _metadata_extents(size_bytes: int, extent_bytes: int) -> int:
    needed = size_bytes // _chunk_bytes(size_bytes) * _METADATA_BYTES_A_CHUNK
    bounded = min(max(needed, _METADATA_BYTES_MIN), _METADATA_BYTES_MAX)
    return -(-bounded // extent_bytes)


def _refuse_foreign(found: LogicalVolume, uid: str, pool: str) -> None:
    if f"{POOL_TAG}{uid}" not in found.tags or not found.is_thin_pool:
        raise RefusedToTouchError(
            Refusal.FOREIGN_VOLUME, f"{pool}/{THIN_POOL_NAME} is there and is not ours"
        )
