"""What every Storage must do with volumes that hold what a snapshot holds."""

from collections.abc import Awaitable
from typing import Any

import pytest
from msgspec.structs import replace

from node_workers import lvm_copies
from node_workers.filesystems import filesystem_uuid
from node_workers.lvm import LvmStorage
from node_workers.ports import (
    CopyOf,
    CopyState,
    Filesystem,
    NotThereError,
    UnsuitableError,
    VolumeState,
)
from tests.support.snapshot_contract import THICK, THIN, either, snapshot, volume
from tests.support.storage_bench import CAUSE, MIB, NODE, POOL, UID, Play, Story, spec

SIZE_MIB = 104
# At the rates given here: enough for a chunk or two, not for all.
SHORT_TURN_S = 2.0


def source(*, thin: bool = False, **more: Any) -> CopyOf:
    wanted: dict[str, Any] = {"snapshot": "s1", "uid": "uid-s1", "pool": POOL, "pool_uid": UID}
    return CopyOf(**{**wanted, "size_bytes": SIZE_MIB * MIB, "thin": thin, **more})


async def taken(on: Story, layout: dict[str, Any], mib: int = 20, **more: Any) -> bool:
    """Make a volume with a snapshot of "before", and write "after" on it."""
    thin = await volume(on, layout, **more)
    wanted = snapshot(thin=thin, mib=SIZE_MIB if thin else mib)
    await on.storage.ensure_snapshot(UID, wanted, cause=CAUSE)
    await on.bench.write("fast/v1", "after")
    return thin


async def copied(on: Story, wanted: Any, of: CopyOf, storage: LvmStorage | None = None) -> Any:
    """Have it copied, turn by turn; each does more than the one before."""
    done_bytes = -1
    while True:
        ensure: Awaitable[CopyState] = (storage or on.storage).ensure_copied(
            UID, wanted, of, cause=CAUSE
        )
        state = await ensure
        assert state.done_bytes > done_bytes
        done_bytes = state.done_bytes
        if state.volume is not None:
            return state.volume


class CopyContract:
    """Inherit it and give a ``play`` fixture: ``play_on`` a fresh bench for every test."""

    @either
    def test_a_copy_holds_what_the_snapshot_holds_and_lives_without_it(
        self, play: Play, layout: dict[str, Any]
    ) -> None:
        async def story(on: Story) -> None:
            thin = await taken(on, layout)
            wanted = spec("v2", SIZE_MIB, **layout)
            made: VolumeState = await copied(on, wanted, source(thin=thin))
            assert (made.uid, made.size_bytes) == ("uid-v2", SIZE_MIB * MIB)
            assert await on.bench.read("fast/v2") == "before"
            await on.bench.write("fast/v2", "its own")
            again: VolumeState = await copied(on, wanted, source(thin=thin))
            assert (again.size_bytes, again.changed) == (made.size_bytes, False)
            assert await on.bench.read("fast/v1") == "after"
            assert await on.bench.read("fast/s1") == "before"
            await on.remove("s1")
            assert await on.bench.read("fast/v2") == "its own"
            await on.remove("v1")
            await on.remove("v2")
            assert await on.seen("v2") is None

        play(story)

    @pytest.mark.parametrize("layout", [THICK, THIN], ids=["thick", "thin"])
    @pytest.mark.parametrize("kind", [Filesystem.EXT4, Filesystem.XFS])
    def test_a_copied_filesystem_is_its_own_and_fills_a_larger_volume(
        self, play: Play, layout: dict[str, Any], kind: Filesystem
    ) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            thin = layout is THIN
            if thin:
                await on.storage.ensure_thin_pool(UID, POOL, 800 * MIB, cause=CAUSE)
            await on.volume(spec(mib=304, filesystem=kind, **layout))
            console = on.bench.console
            await console("mount", "-o", "X-mount.mkdir", "/dev/fast/v1", "/mnt/v1")
            mib = 304 if thin else 40
            await on.storage.ensure_snapshot(UID, snapshot(thin=thin, mib=mib), cause=CAUSE)
            wanted = spec("v2", 400, filesystem=kind, **layout)
            of = source(thin=thin, size_bytes=304 * MIB)
            made: VolumeState = await copied(on, wanted, of)
            assert made.size_bytes == 400 * MIB
            found = await console("wipefs", "-J", "-n", "/dev/fast/v2")
            assert filesystem_uuid("uid-v2") in found.stdout
            assert filesystem_uuid("uid-v1") not in found.stdout
            await console("mount", "-o", "X-mount.mkdir", "/dev/fast/v2", "/mnt/mine")
            assert await on.bench.mounted_bytes("/mnt/mine") > 330 * MIB
            await console("umount", "/mnt/mine")
            await console("umount", "/mnt/v1")

        play(story)

    def test_a_copy_goes_on_where_another_life_ended(
        self, play: Play, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lvm_copies, "_TURN_S", SHORT_TURN_S)

        async def story(on: Story) -> None:
            await taken(on, THICK)
            wanted = spec("v2", SIZE_MIB, **THICK)
            first = await on.storage.ensure_copied(
                UID, wanted, source(rate_bytes_per_s=12 * MIB), cause=CAUSE
            )
            assert first.volume is None
            assert 0 < first.done_bytes < SIZE_MIB * MIB
            await on.bench.reboot()
            fresh = LvmStorage(on.bench.runner, on.bench.sysfs, node=NODE)
            second = await fresh.ensure_copied(UID, wanted, source(), cause=CAUSE)
            assert second.done_bytes > first.done_bytes
            await copied(on, wanted, source(), fresh)
            assert await on.bench.read("fast/v2") == "before"

        play(story)

    def test_what_was_removed_half_copied_is_copied_from_the_beginning(
        self, play: Play, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lvm_copies, "_TURN_S", SHORT_TURN_S)

        async def story(on: Story) -> None:
            await taken(on, THICK)
            wanted = spec("v2", SIZE_MIB, **THICK)
            slowly = source(rate_bytes_per_s=12 * MIB)
            first = await on.storage.ensure_copied(UID, wanted, slowly, cause=CAUSE)
            await on.bench.console("lvremove", "--yes", "fast/v2")
            again = await on.storage.ensure_copied(UID, wanted, slowly, cause=CAUSE)
            assert again.done_bytes <= first.done_bytes
            await copied(on, wanted, source())
            assert await on.bench.read("fast/v2") == "before"

        play(story)

    def test_a_snapshot_that_is_missing_or_lost_is_not_copied(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await taken(on, THICK, mib=12)
            wanted = spec("v2", SIZE_MIB, **THICK)
            with pytest.raises(NotThereError) as missing:
                await copied(on, wanted, replace(source(), snapshot="s9", uid="uid-s9"))
            assert missing.value.reason == "snapshot-missing"
            await on.bench.change("fast/v1", 40)
            with pytest.raises(UnsuitableError) as lost:
                await copied(on, wanted, source())
            assert lost.value.reason == "snapshot-lost"

        play(story)
