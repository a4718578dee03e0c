"""What every Storage must do with disks and pools, whatever machine it is on."""

import pytest

from node_workers.inventory import observe
from node_workers.lvm import LvmStorage
from node_workers.observation import ContentKind
from node_workers.ports import (
    InUseError,
    Layout,
    NoSpaceError,
    NotThereError,
    PoolDisk,
    Refusal,
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


class PoolContract:
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

    def test_an_empty_disk_leaves_a_pool_and_is_blank(self, play: Play) -> None:
        async def story(on: Story) -> None:
            first, second = await on.pool(0, 1)
            for _ in range(2):
                state = await on.storage.ensure_pool_disks_removed(UID, POOL, [second], cause=CAUSE)
                assert list(state.disks) == [first.disk]
                assert await on.content(1) is ContentKind.BLANK

        play(story)

    def test_a_disk_with_volumes_on_it_stays_in_its_pool(self, play: Play) -> None:
        async def story(on: Story) -> None:
            first, _ = await on.pool(0, 1)
            await on.volume(spec())
            with pytest.raises(InUseError, match="carries volumes"):
                await on.storage.ensure_pool_disks_removed(UID, POOL, [first], cause=CAUSE)
            pool = next(one for one in (await on.look()).pools if one.name == POOL)
            assert len(pool.members) == 2

        play(story)

    def test_a_disk_is_emptied_while_its_volumes_keep_their_data(self, play: Play) -> None:
        async def story(on: Story) -> None:
            (first,) = await on.pool(0)
            await on.storage.ensure_thin_pool(UID, POOL, 100 * MIB, cause=CAUSE)
            for wanted in (spec("v1", 20), spec("v2", 20), spec("v3", 20, layout=Layout.THIN)):
                await on.volume(wanted)
                await on.bench.write(f"{POOL}/{wanted.name}", f"of {wanted.name}")
            both = await on.disks(0, 1)
            await on.storage.ensure_pool_disks(UID, POOL, both, cause=CAUSE)
            for _ in range(10):
                if await on.storage.ensure_pool_disks_drained(UID, POOL, [first], cause=CAUSE):
                    break
            state = await on.storage.ensure_pool_disks_removed(UID, POOL, [first], cause=CAUSE)
            assert list(state.disks) == [both[1].disk]
            assert await on.content(0) is ContentKind.BLANK
            for name in ("v1", "v2", "v3"):
                assert await on.bench.read(f"{POOL}/{name}") == f"of {name}"
            await on.volume(spec("v4", 20))

        play(story)

    def test_nothing_new_is_put_on_a_disk_that_is_leaving_until_it_is_kept(
        self, play: Play
    ) -> None:
        async def story(on: Story) -> None:
            first, second = await on.pool(0, 1)
            await on.volume(spec("v1", 40))
            drained = on.storage.ensure_pool_disks_drained
            assert not await drained(UID, POOL, [first], cause=CAUSE)
            assert await drained(UID, POOL, [first], cause=CAUSE)
            await on.volume(spec("v2", 40))
            assert await drained(UID, POOL, [first], cause=CAUSE)
            for _ in range(2):
                await on.storage.ensure_pool_disks_kept(UID, POOL, [first, second], cause=CAUSE)
            await on.volume(spec("v3", 900))
            assert not await drained(UID, POOL, [second], cause=CAUSE)

        play(story)

    def test_a_disk_that_the_others_cannot_replace_is_not_emptied(self, play: Play) -> None:
        async def story(on: Story) -> None:
            first, _ = await on.pool(0, 1)
            await on.volume(spec("v1", 900))
            await on.volume(spec("v2", 900))
            with pytest.raises(NoSpaceError):
                await on.storage.ensure_pool_disks_drained(UID, POOL, [first], cause=CAUSE)
            pool = next(one for one in (await on.look()).pools if one.name == POOL)
            assert len(pool.members) == 2

        play(story)

    def test_no_disk_leaves_a_pool_that_is_not_there(self, play: Play) -> None:
        async def story(on: Story) -> None:
            disks = await on.disks(0)
            with pytest.raises(NotThereError, match="no pool"):
                await on.storage.ensure_pool_disks_removed(UID, POOL, disks, cause=CAUSE)

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

    def test_nothing_runs_without_a_cause(self, play: Play) -> None:
        async def story(on: Story) -> None:
            with pytest.raises(ValueError, match="no tool runs without a cause"):
                await observe(on.bench.runner, on.bench.sysfs, node=NODE, cause=" ")

        play(story)
