"""What every Storage must do, whatever machine it is on: the executable side of the port."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

import pytest

from node_workers.inventory import observe
from node_workers.lvm import LvmStorage
from node_workers.observation import ContentKind, Observation, ObservedVolume
from node_workers.ports import (
    Execution,
    Filesystem,
    InUseError,
    Layout,
    NoSpaceError,
    NotThereError,
    PoolDisk,
    Refusal,
    RefusedToTouchError,
    Runner,
    StorageError,
    Sysfs,
    UnsuitableError,
    VolumeSpec,
)

T = TypeVar("T")

MIB = 1 << 20
EXTENT = 4 * MIB
NODE = "n1"
POOL, UID = "fast", "01pool"
CAUSE = "01command"


class Bench(Protocol):
    """A machine with at least four blank disks of about 1 GiB, and a person at its console."""

    @property
    def runner(self) -> Runner: ...

    @property
    def sysfs(self) -> Sysfs: ...

    @property
    def disks(self) -> Sequence[str]: ...

    async def console(self, *argv: str) -> Execution:
        """Run a tool as a person would; it must succeed."""
        ...

    async def put_partition_table(self, disk: str) -> None: ...

    async def put_raid(self, disk: str) -> None: ...

    async def write(self, volume: str, data: str) -> None:
        """Write beyond the reach of signatures, straight on the device of "pool/name"."""
        ...

    async def read(self, volume: str) -> str: ...

    async def mounted_bytes(self, target: str) -> int:
        """Return the size of the filesystem mounted at *target*."""
        ...

    async def reboot(self) -> None: ...


def spec(name: str = "v1", mib: int = 100, **more: Any) -> VolumeSpec:
    wanted: dict[str, Any] = {"uid": f"uid-{name}", "name": name, "pool": POOL}
    return VolumeSpec(**{**wanted, "size_bytes": mib * MIB, **more})


class Story:
    """One test's view of a bench: a storage, and shorthand for what is asked of it."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.storage = LvmStorage(bench.runner, bench.sysfs, node=NODE)

    async def look(self) -> Observation:
        return await observe(self.bench.runner, self.bench.sysfs, node=NODE, cause=CAUSE)

    async def disks(self, *indices: int) -> list[PoolDisk]:
        seen = {disk.path: disk.identity for disk in (await self.look()).disks}
        paths = [self.bench.disks[index] for index in indices]
        return [PoolDisk(disk=seen[path], path=path) for path in paths]

    async def pool(self, *indices: int) -> list[PoolDisk]:
        disks = await self.disks(*(indices or (0, 1)))
        await self.storage.ensure_pool(UID, POOL, disks, cause=CAUSE)
        return disks

    async def volume(self, wanted: VolumeSpec) -> None:
        await self.storage.ensure_volume(UID, wanted, cause=CAUSE)

    async def remove(self, name: str = "v1", uid: str = "") -> None:
        uid = uid or f"uid-{name}"
        await self.storage.ensure_volume_removed(UID, POOL, uid, name, cause=CAUSE)

    async def seen(self, name: str = "v1") -> ObservedVolume | None:
        volumes = (await self.look()).volumes
        return next((one for one in volumes if (one.pool, one.name) == (POOL, name)), None)

    async def refused(self, asked: Awaitable[object]) -> Refusal:
        with pytest.raises(RefusedToTouchError) as caught:
            await asked
        return caught.value.refusal

    async def content(self, index: int) -> ContentKind:
        path = self.bench.disks[index]
        return next(one for one in (await self.look()).disks if one.path == path).content.kind


Play = Callable[[Callable[[Story], Awaitable[None]]], None]


def play_on(bench: Bench) -> Play:
    def play(story: Callable[[Story], Awaitable[None]]) -> None:
        async def act() -> None:
            await story(Story(bench))

        asyncio.run(act())

    return play


class StorageContract:
    """Inherit it and give a ``play`` fixture: ``play_on`` a fresh bench for every test."""

    def test_a_pool_is_made_of_blank_disks_and_stamps_them(self, play: Play) -> None:
        async def story(on: Story) -> None:
            disks = await on.pool(0, 1)
            pool = next(one for one in (await on.look()).pools if one.name == POOL)
            assert (pool.uid, pool.missing_disks) == (UID, 0)
            assert [member.disk for member in pool.members] == [one.disk for one in disks]
            assert pool.metadata_free_bytes > 8 * MIB
            there = [one for one in (await on.look()).disks if one.stamped]
            assert [one.identity for one in there] == [one.disk for one in disks]

        play(story)

    def test_saying_a_pool_again_changes_nothing(self, play: Play) -> None:
        async def story(on: Story) -> None:
            disks = await on.pool(0, 1)
            before = await on.look()
            await on.storage.ensure_pool(UID, POOL, disks, cause=CAUSE)
            assert await on.look() == before

        play(story)

    def test_a_pool_grows_by_a_disk(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await on.pool(0)
            both = await on.disks(0, 1)
            state = await on.storage.ensure_pool_disks(UID, POOL, both, cause=CAUSE)
            assert list(state.disks) == [one.disk for one in both]
            again = await on.storage.ensure_pool_disks(UID, POOL, both, cause=CAUSE)
            assert again == state

        play(story)

    def test_there_is_nothing_to_extend_without_a_pool(self, play: Play) -> None:
        async def story(on: Story) -> None:
            with pytest.raises(NotThereError, match="no pool"):
                await on.storage.ensure_pool_disks(UID, POOL, await on.disks(0), cause=CAUSE)
            assert await on.content(0) is ContentKind.BLANK

        play(story)

    def test_a_disk_that_carries_anything_is_never_claimed(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await on.bench.console("mkfs.ext4", "-q", on.bench.disks[0])
            await on.bench.put_partition_table(on.bench.disks[1])
            await on.bench.put_raid(on.bench.disks[2])
            await on.bench.console("vgcreate", "strange", on.bench.disks[3])
            before = await on.look()
            expected = [
                Refusal.DISK_HAS_FILESYSTEM,
                Refusal.DISK_PARTITIONED,
                Refusal.DISK_HAS_RAID,
                Refusal.DISK_HAS_FOREIGN_LVM,
            ]
            for index, reason in enumerate(expected):
                disks = await on.disks(index)
                asked = on.storage.ensure_pool(UID, POOL, disks, cause=CAUSE)
                assert await on.refused(asked) is reason
            assert await on.look() == before

        play(story)

    def test_one_bad_disk_keeps_the_good_ones_untouched(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await on.bench.console("mkfs.ext4", "-q", on.bench.disks[1])
            asked = on.storage.ensure_pool(UID, POOL, await on.disks(0, 1), cause=CAUSE)
            assert await on.refused(asked) is Refusal.DISK_HAS_FILESYSTEM
            assert await on.content(0) is ContentKind.BLANK

        play(story)

    def test_a_disk_of_another_pool_and_a_mounted_one_are_refused(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await on.pool(0)
            taken = on.storage.ensure_pool("01other", "other", await on.disks(0), cause=CAUSE)
            assert await on.refused(taken) is Refusal.DISK_IN_OTHER_POOL
            await on.bench.console("mkfs.ext4", "-q", on.bench.disks[1])
            await on.bench.console(
                *("mount", "-o", "X-mount.mkdir", on.bench.disks[1], "/mnt/mine")
            )
            used = on.storage.ensure_pool("01other", "other", await on.disks(1), cause=CAUSE)
            assert await on.refused(used) is Refusal.DISK_MOUNTED

        play(story)

    def test_the_system_disk_is_shown_and_refused(self, play: Play) -> None:
        async def story(on: Story) -> None:
            system = [
                one for one in (await on.look()).disks if one.content.kind is ContentKind.SYSTEM
            ]
            assert len(system) == 1
            disks = [PoolDisk(disk=system[0].identity, path=system[0].path)]
            asked = on.storage.ensure_pool(UID, POOL, disks, cause=CAUSE)
            assert await on.refused(asked) is Refusal.DISK_IS_SYSTEM

        play(story)

    def test_a_disk_that_is_elsewhere_now_is_not_taken_for_the_one_at_its_path(
        self, play: Play
    ) -> None:
        async def story(on: Story) -> None:
            disks = [PoolDisk(disk="wwn-gone", path=on.bench.disks[0])]
            asked = on.storage.ensure_pool(UID, POOL, disks, cause=CAUSE)
            assert await on.refused(asked) is Refusal.DISK_MISSING
            assert await on.content(0) is ContentKind.BLANK

        play(story)

    def test_a_foreign_group_of_the_same_name_is_not_ours(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await on.bench.console("vgcreate", POOL, on.bench.disks[3])
            before = await on.look()
            asked = on.storage.ensure_pool(UID, POOL, await on.disks(0), cause=CAUSE)
            assert await on.refused(asked) is Refusal.FOREIGN_POOL
            wanted = on.storage.ensure_volume(UID, spec(), cause=CAUSE)
            assert await on.refused(wanted) is Refusal.FOREIGN_POOL
            assert await on.look() == before

        play(story)

    def test_a_removed_pool_leaves_blank_disks(self, play: Play) -> None:
        async def story(on: Story) -> None:
            disks = await on.pool(0, 1)
            await on.storage.ensure_thin_pool(UID, POOL, 200 * MIB, cause=CAUSE)
            for _ in range(2):
                await on.storage.ensure_pool_removed(UID, POOL, disks, cause=CAUSE)
                assert not (await on.look()).pools
                assert [await on.content(index) for index in (0, 1)] == [ContentKind.BLANK] * 2

        play(story)

    def test_a_pool_with_volumes_is_not_removed(self, play: Play) -> None:
        async def story(on: Story) -> None:
            disks = await on.pool()
            await on.volume(spec())
            with pytest.raises(InUseError, match="v1"):
                await on.storage.ensure_pool_removed(UID, POOL, disks, cause=CAUSE)
            assert await on.seen() is not None

        play(story)

    @pytest.mark.parametrize(
        ("more", "layout", "stripes", "size"),
        [
            ({}, "linear", 1, 104 * MIB),
            ({"layout": Layout.STRIPED, "stripes": 2}, "striped", 2, 104 * MIB),
        ],
    )
    def test_a_thick_volume_has_whole_extents_and_tags(
        self, play: Play, more: dict[str, Any], layout: str, stripes: int, size: int
    ) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            wanted = spec(mib=101, **more)
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

    def test_after_a_restart_our_volumes_are_activated(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            await on.storage.ensure_thin_pool(UID, POOL, 200 * MIB, cause=CAUSE)
            await on.volume(spec("v1"))
            await on.volume(spec("v2", layout=Layout.THIN))
            await on.bench.reboot()
            fresh = LvmStorage(on.bench.runner, on.bench.sysfs, node=NODE)
            assert await fresh.ensure_active({POOL: "01another"}, cause=CAUSE) == ()
            activated = await fresh.ensure_active({POOL: UID}, cause=CAUSE)
            assert sorted(activated) == ["uid-v1", "uid-v2"]
            assert await fresh.ensure_active({POOL: UID}, cause=CAUSE) == ()
            volumes = (await on.look()).volumes
            assert all(volume.active for volume in volumes if volume.uid)

        play(story)

    def test_a_look_costs_one_lvm_process(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            await on.volume(spec())
            counting = CountingRunner(on.bench.runner)
            await observe(counting, on.bench.sysfs, node=NODE, cause=CAUSE)
            assert sorted(counting.tools) in (["lsblk", "lvm"], ["lsblk", "lvm", "wipefs"])

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

    def test_nothing_runs_without_a_cause(self, play: Play) -> None:
        async def story(on: Story) -> None:
            with pytest.raises(ValueError, match="no tool runs without a cause"):
                await observe(on.bench.runner, on.bench.sysfs, node=NODE, cause=" ")

        play(story)


class CountingRunner:
    """Remembers which tools another runner ran."""

    def __init__(self, inner: Runner) -> None:
        self._inner = inner
        self.tools: list[str] = []

    async def run(
        self, argv: Sequence[str], *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        self.tools.append(argv[0])
        return await self._inner.run(argv, cause=cause, timeout_s=timeout_s, stdin=stdin)


__all__ = ["Bench", "Play", "StorageContract", "StorageError", "play_on"]
