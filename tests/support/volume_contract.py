"""What every Storage must do with volumes, whatever machine it is on."""

from typing import Any

import pytest

from node_workers.lvm import LvmStorage
from node_workers.ports import (
    Filesystem,
    InUseError,
    Layout,
    NoSpaceError,
    NotThereError,
    Refusal,
    UnsuitableError,
)
from tests.support.storage_bench import (
    CAUSE,
    MIB,
    NODE,
    POOL,
    UID,
    CountingRunner,
    Play,
    Story,
    spec,
)


class VolumeContract:
    """Inherit it and give a ``play`` fixture: ``play_on`` a fresh bench for every test."""

    @pytest.mark.parametrize(
        ("more", "layout", "stripes", "size"),
        [
            ({}, "linear", 1, 100 * MIB),
            ({"layout": Layout.STRIPED, "stripes": 2}, "striped", 2, 104 * MIB),
        ],
    )
    def test_a_thick_volume_has_whole_extents_and_tags(
        self, play: Play, more: dict[str, Any], layout: str, stripes: int, size: int
    ) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            wanted = spec(mib=98, **more)
            state = await on.storage.ensure_volume(UID, wanted, cause=CAUSE)
            seen = await on.seen()
            assert seen is not None
            assert (seen.layout, seen.stripes, seen.size_bytes) == (layout, stripes, size)
            assert (seen.uid, seen.cause, seen.active) == ("uid-v1", CAUSE, True)
            assert (state.size_bytes, state.path) == (size, "/dev/fast/v1")
            again = await on.storage.ensure_volume(UID, wanted, cause="01later")
            assert (again.size_bytes, again.changed) == (size, False)
            assert await on.seen() == seen

        play(story)

    def test_a_thin_volume_may_be_larger_than_its_pool(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            free = (await on.look()).pools[0].free_bytes
            made = await on.storage.ensure_thin_pool(UID, POOL, 200 * MIB, cause=CAUSE)
            assert (await on.look()).pools[0].free_bytes == free - made.taken_bytes
            wanted = spec(mib=1000, layout=Layout.THIN)
            assert (await on.storage.ensure_volume(UID, wanted, cause=CAUSE)).changed
            seen, pool = await on.seen(), await on.seen("hwbus-thin")
            assert seen is not None
            assert pool is not None
            assert (seen.layout, seen.thin_pool) == ("thin", "hwbus-thin")
            assert seen.data_percent is not None
            assert (pool.is_thin_pool, pool.size_bytes) == (True, 200 * MIB)

        play(story)

    def test_a_thin_pool_grows_and_never_shrinks(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            for asked, expected in ((200, 200), (400, 400), (300, 400)):
                state = await on.storage.ensure_thin_pool(UID, POOL, asked * MIB, cause=CAUSE)
                assert state.size_bytes == expected * MIB
            pool = await on.seen("hwbus-thin")
            assert pool is not None
            assert pool.size_bytes == 400 * MIB

        play(story)

    def test_a_thin_volume_needs_a_thin_pool(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            with pytest.raises(NotThereError) as caught:
                await on.volume(spec(layout=Layout.THIN))
            assert caught.value.reason == "thin-pool-missing"

        play(story)

    @pytest.mark.parametrize("kind", [Filesystem.EXT4, Filesystem.XFS])
    def test_a_filesystem_is_made_once_and_grows_mounted_or_not(
        self, play: Play, kind: Filesystem
    ) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            await on.volume(spec(mib=320, filesystem=kind))
            await on.bench.console("mount", "-o", "X-mount.mkdir", "/dev/fast/v1", "/mnt/v1")
            before = await on.bench.mounted_bytes("/mnt/v1")
            larger = spec(mib=400, filesystem=kind)
            state = await on.storage.ensure_volume_size(UID, larger, cause=CAUSE)
            assert state.size_bytes == 400 * MIB
            assert await on.bench.mounted_bytes("/mnt/v1") > before + 60 * MIB
            await on.bench.console("umount", "/mnt/v1")
            largest = spec(mib=480, filesystem=kind)
            await on.storage.ensure_volume_size(UID, largest, cause=CAUSE)
            await on.volume(largest)
            seen = await on.seen()
            assert seen is not None
            assert not seen.open
            await on.bench.console("mount", "-o", "X-mount.mkdir", "/dev/fast/v1", "/mnt/v1")
            assert await on.bench.mounted_bytes("/mnt/v1") > before + 130 * MIB

        play(story)

    def test_growth_that_died_before_the_filesystem_is_completed(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            await on.volume(spec(filesystem=Filesystem.EXT4))
            await on.bench.console("mount", "-o", "X-mount.mkdir", "/dev/fast/v1", "/mnt/v1")
            before = await on.bench.mounted_bytes("/mnt/v1")
            await on.bench.console("lvextend", "--extents", "50", "fast/v1")
            wanted = spec(mib=200, filesystem=Filesystem.EXT4)
            await on.storage.ensure_volume_size(UID, wanted, cause=CAUSE)
            assert await on.bench.mounted_bytes("/mnt/v1") > before + 80 * MIB

        play(story)

    def test_a_volume_never_shrinks(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            await on.volume(spec(mib=100))
            state = await on.storage.ensure_volume_size(UID, spec(mib=40), cause=CAUSE)
            assert state.size_bytes == 100 * MIB
            assert not state.changed

        play(story)

    def test_data_survives_being_ensured_again(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            wanted = spec(filesystem=Filesystem.EXT4)
            await on.volume(wanted)
            await on.bench.write("fast/v1", "precious")
            fresh = LvmStorage(on.bench.runner, on.bench.sysfs, node=NODE)
            await fresh.ensure_volume(UID, wanted, cause=CAUSE)
            await fresh.ensure_volume_size(UID, spec(mib=200), cause=CAUSE)
            assert await on.bench.read("fast/v1") == "precious"

        play(story)

    def test_another_filesystem_is_not_formatted_over(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            await on.volume(spec())
            await on.bench.console("mkfs.ext4", "-q", "/dev/fast/v1")
            wanted = on.storage.ensure_volume(UID, spec(filesystem=Filesystem.EXT4), cause=CAUSE)
            assert await on.refused(wanted) is Refusal.FOREIGN_SIGNATURE

        play(story)

    def test_foreign_and_renamed_volumes_are_left_alone(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            await on.bench.console(*("lvcreate", "--yes", "--extents", "5", "--name", "v1", POOL))
            await on.bench.write("fast/v1", "theirs")
            wanted = on.storage.ensure_volume(UID, spec(), cause=CAUSE)
            assert await on.refused(wanted) is Refusal.FOREIGN_VOLUME
            await on.remove("v1")
            assert await on.bench.read("fast/v1") == "theirs"
            await on.volume(spec("v2"))
            moved = on.storage.ensure_volume(UID, spec("v3", uid="uid-v2"), cause=CAUSE)
            assert await on.refused(moved) is Refusal.RENAMED_VOLUME
            assert await on.refused(on.remove("v3", "uid-v2")) is Refusal.RENAMED_VOLUME
            assert await on.seen("v2") is not None

        play(story)

    def test_more_than_there_is_changes_nothing(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            before = await on.look()
            with pytest.raises(NoSpaceError):
                await on.volume(spec(mib=9000))
            assert await on.look() == before
            await on.volume(spec())
            with pytest.raises(NoSpaceError):
                await on.storage.ensure_volume_size(UID, spec(mib=9000), cause=CAUSE)

        play(story)

    def test_what_can_never_be_is_said_before_anything_is_made(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await on.pool(0)
            with pytest.raises(UnsuitableError):
                await on.volume(spec(filesystem=Filesystem.XFS))
            with pytest.raises(UnsuitableError):
                await on.volume(spec(layout=Layout.STRIPED, stripes=2))
            asked = on.storage.ensure_volume(UID, spec("snapshot1"), cause=CAUSE)
            assert await on.refused(asked) is Refusal.RESERVED_NAME
            assert not (await on.look()).volumes

        play(story)

    def test_a_volume_in_use_is_not_removed(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            await on.volume(spec(filesystem=Filesystem.EXT4))
            await on.bench.console("mount", "-o", "X-mount.mkdir", "/dev/fast/v1", "/mnt/v1")
            with pytest.raises(InUseError) as caught:
                await on.remove()
            assert caught.value.mount_point == "/mnt/v1"
            seen = await on.seen()
            assert seen is not None
            assert (seen.open, seen.mount_points) == (True, ("/mnt/v1",))

        play(story)

    def test_a_new_volume_does_not_inherit_the_filesystem_of_a_removed_one(
        self, play: Play
    ) -> None:
        async def story(on: Story) -> None:
            await on.pool(0)
            await on.volume(spec(filesystem=Filesystem.EXT4))
            await on.remove()
            await on.remove()
            assert await on.seen() is None
            # Without wiping of its own, so that only the removal can have wiped.
            await on.bench.console("lvcreate", "--extents", "25", "--name", "raw", POOL)
            found = await on.bench.console("wipefs", "-J", "-n", "/dev/fast/raw")
            assert "ext4" not in found.stdout

        play(story)

    def test_a_first_volume_costs_no_more_than_the_bare_tool(self, play: Play) -> None:
        async def story(on: Story) -> None:
            counting = CountingRunner(on.bench.runner)
            storage = LvmStorage(counting, on.bench.sysfs, node=NODE)
            await storage.ensure_pool(UID, POOL, await on.disks(0), cause=CAUSE)
            counting.tools.clear()
            await storage.ensure_volume(UID, spec(), cause=CAUSE)
            assert counting.tools == ["lvcreate"]

        play(story)
