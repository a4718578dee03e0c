"""What every Storage must do with volumes that are whole disks, whatever machine it is on."""

from typing import Any

import pytest
from msgspec.structs import replace

from aggregates.raw_disks import given_bytes
from node_workers.observation import ContentKind, ObservedDisk
from node_workers.ports import (
    Attachment,
    Filesystem,
    InUseError,
    PoolDisk,
    Refusal,
    VolumeSpec,
)
from schemas.disk import Wiping
from tests.support.storage_bench import CAUSE, MIB, Play, Story


async def whole(on: Story, index: int, name: str = "r1", **more: Any) -> VolumeSpec:
    """Return the volume that all of a disk would be."""
    seen = await seen_at(on, index)
    return VolumeSpec(
        uid=f"uid-{name}",
        name=name,
        pool=f"disk-{name}",
        size_bytes=given_bytes(seen.size_bytes),
        **more,
    )


async def seen_at(on: Story, index: int) -> ObservedDisk:
    path = on.bench.disks[index]
    return next(one for one in (await on.look()).disks if one.path == path)


async def made(on: Story, index: int, name: str = "r1", **more: Any) -> tuple[VolumeSpec, PoolDisk]:
    [disk], wanted = await on.disks(index), await whole(on, index, name, **more)
    state = await on.storage.ensure_whole_disk(wanted, disk, cause=CAUSE)
    assert (state.size_bytes, state.path) == (wanted.size_bytes, f"/dev/disk-{name}/{name}")
    return wanted, disk


async def freed(
    on: Story, wanted: VolumeSpec, disk: PoolDisk, wiping: Wiping = Wiping.DISCARD
) -> None:
    await on.storage.ensure_disk_freed(wanted, disk, wiping=wiping, cause=CAUSE)


class RawDiskContract:
    """Inherit it and give a ``play`` fixture: ``play_on`` a fresh bench for every test.

    Each test tells of several things that are close to one another: it is the disks that take the
    time on a real kernel.
    """

    def test_a_blank_disk_becomes_a_volume_and_is_blank_again_without_its_data(
        self, play: Play
    ) -> None:
        async def story(on: Story) -> None:
            before = await seen_at(on, 0)
            wanted, disk = await made(on, 0)
            there = await seen_at(on, 0)
            assert before.size_bytes - wanted.size_bytes < 6 * MIB
            assert (there.identity, there.stamped) == (before.identity, True)
            assert there.content.pool_uid == wanted.uid
            again = await on.storage.ensure_whole_disk(wanted, disk, cause=CAUSE)
            assert (again.size_bytes, again.changed) == (wanted.size_bytes, False)
            await on.bench.write("disk-r1/r1", "secret")
            # Whatever its user puts there: it lies behind our label, and the disk stays ours.
            await on.bench.console("mkfs.ext4", "-q", "/dev/disk-r1/r1")
            assert (await seen_at(on, 0)).content == there.content
            # A person has removed the volume: what was on it goes with the disk all the same.
            await on.bench.console("lvremove", "--yes", "disk-r1/r1")
            assert not await on.storage.is_disk_going(wanted, disk, cause=CAUSE)
            for _ in range(2):
                await freed(on, wanted, disk)
                assert await seen_at(on, 0) == before
            assert await on.storage.is_disk_going(wanted, disk, cause=CAUSE)
            await made(on, 0)
            assert await on.bench.read("disk-r1/r1") == ""

        play(story)

    def test_it_is_formatted_once_used_held_and_not_wiped_while_it_is_used(
        self, play: Play
    ) -> None:
        async def story(on: Story) -> None:
            wanted, disk = await made(on, 0, filesystem=Filesystem.EXT4)
            use = Attachment(
                volume="r1",
                volume_uid=wanted.uid,
                pool=wanted.pool,
                filesystem=Filesystem.EXT4,
                mount_point="/mnt/v1",
            )
            device = await on.storage.ensure_attached(wanted.uid, use, cause=CAUSE)
            assert device.path == "/dev/hwbus/r1"
            assert await on.bench.mounted_bytes("/mnt/v1") > wanted.size_bytes * 9 // 10
            with pytest.raises(InUseError):
                await freed(on, wanted, disk)
            await on.storage.ensure_detached(use, cause=CAUSE)
            await on.bench.write("disk-r1/r1", "precious")
            await on.storage.ensure_volume_unused(wanted.uid, wanted, cause=CAUSE)
            assert await on.storage.ensure_active({wanted.pool: "01other"}, cause=CAUSE) == ()
            woken = await on.storage.ensure_volume_awake(wanted.uid, wanted, cause=CAUSE)
            assert woken.changed
            assert await on.bench.read("disk-r1/r1") == "precious"
            await freed(on, wanted, disk)
            assert await on.content(0) is ContentKind.BLANK

        play(story)

    def test_no_disk_is_taken_or_wiped_for_another(self, play: Play) -> None:
        async def story(on: Story) -> None:
            wanted, disk = await made(on, 0)
            await on.bench.write("disk-r1/r1", "precious")
            other, before = await whole(on, 0, "r2"), await on.look()
            # The disk of the volume r2 is gone; another one is at its path now.
            swapped = replace(disk, disk="wwn-gone")
            asked = on.storage.ensure_whole_disk(other, swapped, cause=CAUSE)
            assert await on.refused(asked) is Refusal.DISK_MISSING
            assert await on.refused(freed(on, other, swapped)) is Refusal.DISK_MISSING
            await freed(on, other, swapped, Wiping.LOST)
            # Nor is a disk that is another volume's, or carries anything, taken or wiped.
            asked = on.storage.ensure_whole_disk(other, disk, cause=CAUSE)
            assert await on.refused(asked) is Refusal.DISK_IN_OTHER_POOL
            await freed(on, other, disk)
            assert await on.look() == before
            await on.bench.console("mkfs.ext4", "-q", on.bench.disks[1])
            [filled] = await on.disks(1)
            asked = on.storage.ensure_whole_disk(other, filled, cause=CAUSE)
            assert await on.refused(asked) is Refusal.DISK_HAS_FILESYSTEM
            await freed(on, other, filled)
            assert await on.content(1) is ContentKind.FILESYSTEM
            # What a person has put beside it stays too, and nothing is wiped then.
            await on.bench.console("pvcreate", on.bench.disks[2])
            await on.bench.console("vgextend", wanted.pool, on.bench.disks[2])
            with pytest.raises(InUseError, match="alone"):
                await freed(on, wanted, disk)
            assert await on.bench.read("disk-r1/r1") == "precious"

        play(story)
