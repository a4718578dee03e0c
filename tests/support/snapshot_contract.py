"""What every Storage must do with snapshots, whatever machine it is on."""

from typing import Any

import pytest

from node_workers.ports import (
    Consistency,
    Filesystem,
    InUseError,
    Layout,
    NotThereError,
    Refusal,
    SnapshotSpec,
    UnsuitableError,
)
from tests.support.storage_bench import CAUSE, MIB, POOL, UID, Play, Story, spec

THICK: dict[str, Any] = {"layout": Layout.LINEAR}
STRIPED: dict[str, Any] = {"layout": Layout.STRIPED, "stripes": 2}
THIN: dict[str, Any] = {"layout": Layout.THIN}
either = pytest.mark.parametrize("layout", [THICK, THIN], ids=["thick", "thin"])


def snapshot(
    name: str = "s1", mib: int = 20, *, thin: bool = False, volume: str = "v1"
) -> SnapshotSpec:
    return SnapshotSpec(
        uid=f"uid-{name}",
        name=name,
        pool=POOL,
        size_bytes=mib * MIB,
        volume=volume,
        volume_uid=f"uid-{volume}",
        thin=thin,
    )


async def volume(on: Story, layout: dict[str, Any], **more: Any) -> bool:
    """Make a volume on which something is written; return whether it is thin."""
    await on.pool()
    thin = layout is THIN
    if thin:
        await on.storage.ensure_thin_pool(UID, POOL, 400 * MIB, cause=CAUSE)
    await on.volume(spec(mib=104, **layout, **more))
    await on.bench.write("fast/v1", "before")
    return thin


async def shapes(on: Story) -> list[tuple[object, ...]]:
    """Return what there is, without how full it is: a mounted filesystem writes when it likes."""
    seen = (await on.look()).volumes
    return [(v.name, v.uid, v.origin, v.size_bytes, v.active, v.open) for v in seen]


class SnapshotContract:
    """Inherit it and give a ``play`` fixture: ``play_on`` a fresh bench for every test."""

    @pytest.mark.parametrize("layout", [STRIPED, THIN], ids=["striped", "thin"])
    def test_a_snapshot_holds_what_was_there_and_takes_what_it_was_given(
        self, play: Play, layout: dict[str, Any]
    ) -> None:
        async def story(on: Story) -> None:
            thin = await volume(on, layout)
            free = (await on.look()).pools[0].free_bytes
            wanted = snapshot(thin=thin, mib=104 if thin else 18)
            made = await on.storage.ensure_snapshot(UID, wanted, cause=CAUSE)
            await on.bench.write("fast/v1", "after")
            assert await on.bench.read("fast/s1") == "before"
            size = (104 if thin else 20) * MIB
            assert (made.size_bytes, made.path, made.changed) == (size, "/dev/fast/s1", True)
            seen = await on.seen("s1")
            assert seen is not None
            assert (seen.uid, seen.origin, seen.size_bytes) == ("uid-s1", "v1", size)
            assert (seen.active, seen.invalid, seen.cause) == (True, False, CAUSE)
            assert free - (await on.look()).pools[0].free_bytes == (0 if thin else size)
            again = await on.storage.ensure_snapshot(UID, wanted, cause="01later")
            assert (again.size_bytes, again.changed) == (size, False)
            assert again.consistency is made.consistency
            assert await on.bench.read("fast/s1") == "before"
            await on.remove("s1")
            await on.remove("s1")
            assert await on.seen("s1") is None
            assert await on.bench.read("fast/v1") == "after"

        play(story)

    def test_a_snapshot_says_whether_it_caught_the_filesystem_or_only_a_crash(
        self, play: Play
    ) -> None:
        async def story(on: Story) -> None:
            await volume(on, THICK, filesystem=Filesystem.EXT4)

            async def caught(name: str) -> Consistency:
                state = await on.storage.ensure_snapshot(UID, snapshot(name), cause=CAUSE)
                again = await on.storage.ensure_snapshot_kept(UID, snapshot(name), cause=CAUSE)
                assert again is not None
                assert again.consistency is state.consistency
                return state.consistency

            assert await caught("idle") is Consistency.FILESYSTEM
            await on.bench.console("mount", "-o", "X-mount.mkdir", "/dev/fast/v1", "/mnt/v1")
            assert await caught("mounted") is Consistency.FILESYSTEM
            await on.bench.console("umount", "/mnt/v1")
            await on.bench.hold("fast/v1")
            assert await caught("open") is Consistency.CRASH
            await on.bench.let_go("fast/v1")

        play(story)

    @either
    def test_a_rollback_brings_back_what_was_there_and_uses_the_snapshot_up(
        self, play: Play, layout: dict[str, Any]
    ) -> None:
        async def story(on: Story) -> None:
            thin = await volume(on, layout)
            before = await on.seen()
            mib = 104 if thin else 20
            for name, data in (("s1", "later"), ("s2", "latest")):
                wanted = snapshot(name, mib, thin=thin)
                await on.storage.ensure_snapshot(UID, wanted, cause=CAUSE)
                await on.bench.write("fast/v1", data)
            wanted = snapshot(thin=thin, mib=mib)
            await on.storage.ensure_rolled_back(UID, wanted, cause=CAUSE)
            assert await on.bench.read("fast/v1") == "before"
            assert await on.seen() == before
            assert await on.seen("s1") is None
            assert await on.bench.read("fast/s2") == "later"
            await on.bench.write("fast/v1", "new life")
            await on.storage.ensure_rolled_back(UID, wanted, cause=CAUSE)
            assert await on.storage.ensure_snapshot_kept(UID, wanted, cause=CAUSE) is None
            assert await on.bench.read("fast/v1") == "new life"

        play(story)

    @either
    def test_what_is_in_use_is_not_rolled_back_and_nothing_is_changed(
        self, play: Play, layout: dict[str, Any]
    ) -> None:
        async def story(on: Story) -> None:
            thin = await volume(on, layout, filesystem=Filesystem.EXT4)
            wanted = snapshot(thin=thin)
            await on.storage.ensure_snapshot(UID, wanted, cause=CAUSE)
            await on.bench.write("fast/v1", "after")
            for used in ("v1", "s1"):
                await on.bench.console(
                    "mount", "-o", "X-mount.mkdir", f"/dev/fast/{used}", "/mnt/v1"
                )
                before = await shapes(on)
                with pytest.raises(InUseError) as caught:
                    await on.storage.ensure_rolled_back(UID, wanted, cause=CAUSE)
                assert caught.value.mount_point == "/mnt/v1"
                assert await shapes(on) == before
                await on.bench.console("umount", "/mnt/v1")
            await on.bench.hold("fast/v1")
            with pytest.raises(InUseError):
                await on.storage.ensure_rolled_back(UID, wanted, cause=CAUSE)
            await on.bench.let_go("fast/v1")
            assert await on.bench.read("fast/v1") == "after"
            assert await on.bench.read("fast/s1") == "before"

        play(story)

    def test_a_snapshot_that_somebody_removed_is_never_taken_for_merged(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await volume(on, THICK)
            await on.storage.ensure_snapshot(UID, snapshot(), cause=CAUSE)
            await on.bench.write("fast/v1", "after")
            await on.bench.console("lvremove", "--yes", "fast/s1")
            with pytest.raises(NotThereError) as caught:
                await on.storage.ensure_rolled_back(UID, snapshot(), cause=CAUSE)
            assert caught.value.reason == "snapshot-missing"
            with pytest.raises(NotThereError) as caught:
                await on.storage.ensure_snapshot_kept(UID, snapshot(), cause=CAUSE)
            assert caught.value.reason == "volume-missing"
            assert await on.bench.read("fast/v1") == "after"

        play(story)

    def test_a_merge_that_was_begun_is_seen_through_whatever_is_wanted_then(
        self, play: Play
    ) -> None:
        async def story(on: Story) -> None:
            wanted = snapshot(thin=await volume(on, THIN))
            await on.storage.ensure_snapshot(UID, wanted, cause=CAUSE)
            await on.bench.write("fast/v1", "after")
            # As a worker leaves it that died right after the point of no return, while somebody
            # looked into the snapshot: else LVM would have merged a thin one at once.
            await on.bench.console("lvchange", "--addtag", "hwbus.merged=uid-s1", "fast/v1")
            await on.bench.console("lvchange", "--activate", "n", "fast/v1")
            await on.bench.hold("fast/s1")
            await on.bench.console("lvconvert", "--yes", "--merge", "fast/s1")
            await on.bench.let_go("fast/s1")
            with pytest.raises(InUseError):
                await on.remove("s1")
            with pytest.raises(InUseError):
                await on.remove("v1")
            assert await on.storage.ensure_snapshot_kept(UID, wanted, cause=CAUSE) is None
            assert await on.bench.read("fast/v1") == "before"
            seen = await on.seen()
            assert seen is not None
            assert seen.active
            await on.remove("s1")
            await on.remove("v1")

        play(story)

    def test_a_snapshot_that_overflows_is_lost_and_the_volume_is_not(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await volume(on, THICK)
            await on.storage.ensure_snapshot(UID, snapshot(mib=8), cause=CAUSE)
            await on.bench.change("fast/v1", 4)
            seen = await on.seen("s1")
            assert seen is not None
            assert seen.data_percent is not None
            assert 40 < seen.data_percent < 70
            await on.bench.change("fast/v1", 20)
            seen = await on.seen("s1")
            assert seen is not None
            assert seen.invalid
            with pytest.raises(UnsuitableError) as caught:
                await on.storage.ensure_rolled_back(UID, snapshot(mib=8), cause=CAUSE)
            assert caught.value.reason == "snapshot-lost"
            assert await on.bench.read("fast/v1") == "before"
            await on.remove("s1")
            assert await on.seen("s1") is None

        play(story)

    def test_no_volume_takes_snapshots_with_it_not_even_those_of_others(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await volume(on, THICK)
            theirs = ("--snapshot", "--extents", "2", "--name", "theirs")
            await on.bench.console("lvcreate", "--yes", *theirs, "fast/v1")
            with pytest.raises(InUseError, match="theirs"):
                await on.remove()
            taken = on.storage.ensure_snapshot(UID, snapshot("theirs"), cause=CAUSE)
            assert await on.refused(taken) is Refusal.FOREIGN_VOLUME
            await on.bench.console("lvremove", "--yes", "fast/theirs")
            await on.remove()
            with pytest.raises(NotThereError):
                await on.storage.ensure_snapshot(UID, snapshot(), cause=CAUSE)

        play(story)

    def test_after_a_reboot_snapshots_are_active_with_their_volumes(self, play: Play) -> None:
        async def story(on: Story) -> None:
            thin = await volume(on, THIN)
            await on.volume(spec("v2", mib=40))
            await on.storage.ensure_snapshot(UID, snapshot(thin=thin), cause=CAUSE)
            await on.storage.ensure_snapshot(UID, snapshot("s2", volume="v2"), cause=CAUSE)
            await on.bench.reboot()
            await on.storage.ensure_active({POOL: UID}, cause=CAUSE)
            seen = [one for one in (await on.look()).volumes if not one.is_thin_pool]
            assert {one.name: one.active for one in seen} == dict.fromkeys(
                ("v1", "v2", "s1", "s2"), True
            )
            assert await on.bench.read("fast/s1") == "before"

        play(story)
