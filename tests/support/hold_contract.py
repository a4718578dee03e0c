"""What every Storage must do with volumes that nobody shall use, whatever machine it is on."""

import pytest

from node_workers.lvm import LvmStorage
from node_workers.ports import Filesystem, InUseError, Layout
from tests.support.storage_bench import CAUSE, NODE, POOL, UID, Play, Story, spec

MOUNT = ("mount", "-o", "X-mount.mkdir", "/dev/fast/v1", "/mnt/v1")


class HoldContract:
    """Inherit it and give a ``play`` fixture: ``play_on`` a fresh bench for every test."""

    def test_volumes_sleep_through_a_boot_and_wake_with_all_that_was_on_them(
        self, play: Play
    ) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            await on.storage.ensure_thin_pool(UID, POOL, 200 << 20, cause=CAUSE)
            held = (spec(), spec("v2", layout=Layout.THIN))
            for one in (*held, spec("v3")):
                await on.volume(one)
                await on.bench.write(f"fast/{one.name}", f"precious {one.name}")
            for one in (*held, *held):
                await on.storage.ensure_volume_unused(UID, one, cause=CAUSE)
                seen = await on.seen(one.name)
                assert seen is not None
                assert (seen.active, seen.size_bytes) == (False, one.size_bytes)
            await on.bench.reboot()
            fresh = LvmStorage(on.bench.runner, on.bench.sysfs, node=NODE)
            at_rest = {one.uid for one in held}
            woken = await fresh.ensure_active({POOL: UID}, cause=CAUSE, at_rest=at_rest)
            assert woken == ("uid-v3",)
            for one in held:
                state = await fresh.ensure_volume_awake(UID, one, cause=CAUSE)
                assert (state.size_bytes, state.changed) == (one.size_bytes, True)
                assert not (await fresh.ensure_volume_awake(UID, one, cause=CAUSE)).changed
                assert await on.bench.read(f"fast/{one.name}") == f"precious {one.name}"

        play(story)

    def test_a_volume_in_use_is_not_put_to_sleep(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            await on.volume(spec(filesystem=Filesystem.EXT4))
            await on.bench.console(*MOUNT)
            with pytest.raises(InUseError) as caught:
                await on.storage.ensure_volume_unused(UID, spec(), cause=CAUSE)
            assert caught.value.mount_point == "/mnt/v1"
            seen = await on.seen()
            assert seen is not None
            assert (seen.active, seen.open) == (True, True)
            await on.bench.console("umount", "/mnt/v1")
            await on.storage.ensure_volume_unused(UID, spec(), cause=CAUSE)
            await on.remove()
            assert await on.seen() is None

        play(story)
