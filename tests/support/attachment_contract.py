"""What every Storage must do with volumes in use, whatever machine it is on."""

from typing import Any

import pytest

from node_workers.filesystems import PRIVATE_MOUNTS
from node_workers.observation import ObservedDevice
from node_workers.ports import (
    Attachment,
    Filesystem,
    InUseError,
    Limits,
    LimitsError,
    NotThereError,
    Refusal,
    RefusedToTouchError,
)
from tests.support.storage_bench import CAUSE, MIB, POOL, UID, Play, Story, spec

DEVICE = "/dev/hwbus/v1"
TARGET = "/mnt/v1"
GROUP = "hwbus-test"


def wish(name: str = "v1", **more: Any) -> Attachment:
    about: dict[str, Any] = {"volume": name, "volume_uid": f"uid-{name}", "pool": POOL}
    return Attachment(**{**about, **more})


def mounted(kind: Filesystem = Filesystem.EXT4, **more: Any) -> Attachment:
    return wish(filesystem=kind, mount_point=TARGET, **more)


async def attach(on: Story, wanted: Attachment) -> None:
    device = await on.storage.ensure_attached(UID, wanted, cause=CAUSE)
    assert device.path == f"/dev/hwbus/{wanted.volume}"


async def detach(on: Story, wanted: Attachment) -> None:
    await on.storage.ensure_detached(wanted, cause=CAUSE)


async def devices(on: Story) -> list[ObservedDevice]:
    return list((await on.look()).devices)


async def made(on: Story, **more: Any) -> None:
    await on.pool()
    await on.volume(spec(**more))


class AttachmentContract:
    """Inherit it and give a ``play`` fixture: ``play_on`` a fresh bench for every test.

    Each test tells of several things that are close to one another: on a real kernel it is the
    pool under them that takes the time.
    """

    def test_a_volume_is_attached_once_and_detached_once(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await made(on, filesystem=Filesystem.EXT4)
            await on.bench.write("fast/v1", "precious")
            for _ in range(2):
                await attach(on, mounted())
                (device,) = await devices(on)
                assert (device.volume, device.size_bytes) == ("v1", 100 * MIB)
                assert device.mount_points == (TARGET,)
            seen = await on.seen()
            assert seen is not None
            assert seen.open
            for _ in range(2):
                await detach(on, mounted())
                assert await devices(on) == []
            await attach(on, mounted(read_only=True))
            assert [device.mount_points for device in await devices(on)] == [(TARGET,)]
            await detach(on, mounted(read_only=True))
            assert await on.bench.read("fast/v1") == "precious"

        play(story)

    @pytest.mark.parametrize("kind", [Filesystem.EXT4, Filesystem.XFS])
    def test_an_attached_volume_grows_with_what_lies_on_it_mounted_or_not(
        self, play: Play, kind: Filesystem
    ) -> None:
        async def story(on: Story) -> None:
            await made(on, mib=320, filesystem=kind)
            await attach(on, wish())
            larger = spec(mib=360, filesystem=kind)
            await on.storage.ensure_volume_size(UID, larger, cause=CAUSE)
            assert [device.mount_points for device in await devices(on)] == [()]
            await attach(on, mounted(kind))
            before = await on.bench.mounted_bytes(TARGET)
            assert before > 280 * MIB  # the log of xfs takes its part
            # As growth leaves it that died above the logical volume.
            await on.bench.console("lvextend", "--extents", "110", "fast/v1")
            largest = spec(mib=440, filesystem=kind)
            await on.storage.ensure_volume_size(UID, largest, cause=CAUSE)
            (device,) = await devices(on)
            assert device.size_bytes == 440 * MIB
            assert await on.bench.mounted_bytes(TARGET) > before + 60 * MIB
            await detach(on, mounted(kind))

        play(story)

    def test_what_is_in_use_is_neither_detached_nor_removed(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await made(on, filesystem=Filesystem.EXT4)
            await attach(on, mounted())
            await on.bench.keep_busy(TARGET, busy=True)
            with pytest.raises(InUseError):
                await detach(on, mounted())
            assert [device.mount_points for device in await devices(on)] == [(TARGET,)]
            await on.bench.keep_busy(TARGET, busy=False)
            await on.bench.console("mount", "-o", "X-mount.mkdir", DEVICE, "/mnt/mine")
            with pytest.raises(InUseError) as caught:
                await detach(on, mounted())
            assert caught.value.mount_point == "/mnt/mine"
            assert TARGET in (await devices(on))[0].mount_points
            await on.bench.console("umount", "/mnt/mine")
            with pytest.raises(InUseError):
                await on.remove()
            private = f"{PRIVATE_MOUNTS}/left"  # as growth leaves one that died half way
            await on.bench.console("mount", "-o", "X-mount.mkdir", DEVICE, private)
            await detach(on, mounted())
            assert await devices(on) == []
            await on.remove()

        play(story)

    def test_what_is_not_ours_is_left_alone(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await made(on, filesystem=Filesystem.EXT4)
            await on.volume(spec("v2", filesystem=Filesystem.EXT4))
            await on.bench.console("mount", "-o", "X-mount.mkdir", "/dev/fast/v2", TARGET)
            with pytest.raises(RefusedToTouchError) as caught:
                await attach(on, mounted())
            assert caught.value.refusal is Refusal.MOUNT_POINT_TAKEN
            with pytest.raises(InUseError):
                await attach(on, wish("v2"))
            await on.bench.console("umount", TARGET)
            with pytest.raises(RefusedToTouchError) as caught:
                await detach(on, wish(volume_uid="uid-v2"))
            assert caught.value.refusal is Refusal.FOREIGN_DEVICE
            assert [device.volume for device in await devices(on)] == ["v1"]
            await on.bench.console("ln", "-sfn", "/mnt/mine", "/mnt/link")
            with pytest.raises(RefusedToTouchError) as caught:
                await attach(on, wish(filesystem=Filesystem.EXT4, mount_point="/mnt/link"))
            assert caught.value.refusal is Refusal.MOUNT_POINT_ELSEWHERE
            with pytest.raises(NotThereError) as missing:
                await attach(on, wish("v3"))
            assert missing.value.reason == "volume-missing"
            await detach(on, mounted())

        play(story)

    def test_limits_are_set_changed_and_lifted_and_never_a_silent_success(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await made(on)
            slow = Limits(read_iops=100, write_bytes_per_s=4 * MIB)
            with pytest.raises(LimitsError) as caught:
                await attach(on, wish(cgroup="hwbus-nobody", limits=slow))
            assert caught.value.reason == "no-cgroup"
            await on.bench.make_cgroup(f"{GROUP}/deep")
            with pytest.raises(LimitsError) as caught:
                await attach(on, wish(cgroup=f"{GROUP}/deep", limits=slow))
            assert caught.value.reason == "no-io-controller"
            await on.bench.make_cgroup(GROUP)
            (device,) = await devices(on)
            await attach(on, wish(cgroup=GROUP, limits=slow))
            first = f"{device.number} rbps=max wbps={4 * MIB} riops=100 wiops=max"
            assert await on.bench.io_max(GROUP) == [first]
            await attach(on, wish(cgroup=GROUP, limits=Limits(write_iops=7)))
            second = f"{device.number} rbps=max wbps=max riops=max wiops=7"
            assert await on.bench.io_max(GROUP) == [second]
            await attach(on, wish(cgroup=GROUP))
            assert await on.bench.io_max(GROUP) == []
            await attach(on, wish(cgroup=GROUP, limits=slow))
            await detach(on, wish(cgroup=GROUP, limits=slow))
            assert await on.bench.io_max(GROUP) == []
            await detach(on, wish(cgroup="hwbus-nobody", limits=slow))

        play(story)
