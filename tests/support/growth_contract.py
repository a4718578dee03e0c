"""What every Storage must do when snapshots and thin pools are to have more room, in use or not."""

from typing import Any

import pytest

from node_workers.ports import THIN_POOL_NAME, Filesystem, Layout, NotThereError, UnsuitableError
from tests.support.snapshot_contract import snapshot
from tests.support.storage_bench import CAUSE, MIB, POOL, UID, Play, Story, spec

EXT4: dict[str, Any] = {"filesystem": Filesystem.EXT4}


async def written(on: Story, **more: Any) -> None:
    await on.volume(spec(mib=104, **more))
    await on.bench.write("fast/v1", "before")


async def thin_pool(on: Story) -> tuple[int, float]:
    """Return how large the thin pool is, and what is free beside it."""
    seen = await on.look()
    (pool,) = [one for one in seen.volumes if one.name == THIN_POOL_NAME]
    return pool.size_bytes, seen.pools[0].free_bytes


class GrowthContract:
    """Inherit it and give a ``play`` fixture: ``play_on`` a fresh bench for every test."""

    def test_a_snapshot_is_given_more_room_while_its_volume_is_written_to(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            await written(on)
            await on.storage.ensure_snapshot(UID, snapshot(mib=8), cause=CAUSE)
            await on.bench.change("fast/v1", 4)
            free = (await on.look()).pools[0].free_bytes
            for _ in range(2):
                kept = await on.storage.ensure_snapshot_kept(UID, snapshot(mib=30), cause=CAUSE)
                assert kept is not None
                assert kept.size_bytes == 32 * MIB
            assert free - (await on.look()).pools[0].free_bytes == 24 * MIB
            await on.bench.change("fast/v1", 20)
            seen = await on.seen("s1")
            assert seen is not None
            assert seen.data_percent is not None
            assert not seen.invalid
            assert 50 < seen.data_percent < 90
            assert await on.bench.read("fast/s1") == "before"

        play(story)

    def test_what_has_overflowed_is_not_given_more_room(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            await written(on)
            await on.storage.ensure_snapshot(UID, snapshot(mib=8), cause=CAUSE)
            await on.bench.change("fast/v1", 20)
            before = await on.seen("s1")
            with pytest.raises(UnsuitableError) as caught:
                await on.storage.ensure_snapshot_kept(UID, snapshot(mib=30), cause=CAUSE)
            assert caught.value.reason == "snapshot-lost"
            assert await on.seen("s1") == before

        play(story)

    def test_a_thin_pool_grows_with_its_volumes_in_use(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            await on.storage.ensure_thin_pool(UID, POOL, 200 * MIB, cause=CAUSE)
            await written(on, layout=Layout.THIN)
            size, free = await thin_pool(on)
            for _ in range(2):
                state = await on.storage.ensure_thin_pool_size(
                    UID, POOL, 300 * MIB, 20 * MIB, cause=CAUSE
                )
                assert (state.size_bytes, state.metadata_bytes) == (300 * MIB, 20 * MIB)
                # Data, metadata, and the spare copy that LVM keeps of it.
                assert state.taken_bytes == 340 * MIB
            assert size == 200 * MIB
            assert await thin_pool(on) == (300 * MIB, free - 100 * MIB - 2 * 12 * MIB)
            assert await on.bench.read("fast/v1") == "before"
            less = await on.storage.ensure_thin_pool_size(UID, POOL, 200 * MIB, 0, cause=CAUSE)
            assert (less.size_bytes, less.metadata_bytes) == (300 * MIB, 20 * MIB)

        play(story)

    def test_a_thin_pool_that_is_missing_is_not_made_by_growing_it(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            with pytest.raises(NotThereError) as caught:
                await on.storage.ensure_thin_pool_size(UID, POOL, 300 * MIB, 0, cause=CAUSE)
            assert caught.value.reason == "thin-pool-missing"
            assert await on.seen(THIN_POOL_NAME) is None

        play(story)

    def test_a_look_shows_how_full_a_mounted_filesystem_is(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            await on.volume(spec(mib=104, **EXT4))
            seen = await on.seen()
            assert seen is not None
            assert seen.room is None
            await on.bench.console("mount", "-o", "X-mount.mkdir", "/dev/fast/v1", "/mnt/v1")
            seen = await on.seen()
            await on.bench.console("umount", "/mnt/v1")
            assert seen is not None
            assert seen.room is not None
            assert seen.room.used_bytes < 10 * MIB
            assert 80 * MIB < seen.room.free_bytes <= 104 * MIB

        play(story)
