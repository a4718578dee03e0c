"""What every Storage must do with volumes that somebody changed, or made, by hand."""

from collections.abc import Awaitable

import pytest

from node_workers.observation import as_seen
from node_workers.ports import (
    Filesystem,
    InUseError,
    Layout,
    Refusal,
    StorageError,
    UnsuitableError,
    VolumeState,
)
from schemas.errand import Put, PutAside, PutBack
from schemas.mending import Mend, SeenVolume
from tests.support.storage_bench import CAUSE, MIB, POOL, UID, Play, Story, spec

CLAIM = "c" * 26


async def other_than_seen(asked: Awaitable[object]) -> str:
    with pytest.raises(UnsuitableError) as caught:
        await asked
    assert caught.value.reason == "not-as-seen"
    return caught.value.sentence


async def seen(on: Story, name: str) -> SeenVolume:
    volumes = (await on.look()).volumes
    return as_seen(next(one for one in volumes if (one.pool, one.name) == (POOL, name)), volumes)


async def mended(on: Story, mend: Mend, look: SeenVolume | None = None) -> VolumeState | None:
    return await on.storage.ensure_mended(UID, spec(), mend, look, cause=CAUSE)


async def made_by_hand(on: Story, *more: str) -> SeenVolume:
    await on.pool()
    argv = ("lvcreate", "--yes", "--extents", "8", *more, "--name", "theirs", "fast")
    await on.bench.console(*argv)
    await on.bench.write("fast/theirs", "precious")
    return await seen(on, "theirs")


class MendingContract:
    """Inherit it and give a ``play`` fixture: ``play_on`` a fresh bench for every test."""

    def test_a_size_by_hand_is_taken_over_and_only_what_is_nowhere_is_made_anew(
        self, play: Play
    ) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            wanted = spec(filesystem=Filesystem.EXT4)
            mend = on.storage.ensure_mended
            await on.volume(wanted)
            await on.bench.write("fast/v1", "precious")
            await on.bench.console("lvextend", "--extents", "30", "fast/v1")
            look = await seen(on, "v1")
            state = await mend(UID, wanted, Mend.SIZE, look, cause=CAUSE)
            assert state is not None
            assert state.size_bytes == look.size_bytes == 120 * MIB
            await on.bench.console("lvextend", "--extents", "31", "fast/v1")
            await other_than_seen(mended(on, Mend.SIZE, look))
            assert await on.bench.read("fast/v1") == "precious"
            await on.bench.console("lvrename", "fast", "v1", "mine")
            for way in (Mend.RECREATE, Mend.FORGET):
                assert "fast/mine" in await other_than_seen(mended(on, way))
            assert await on.seen("v1") is None
            await on.bench.console("lvremove", "--yes", "fast/mine")
            assert await mended(on, Mend.FORGET) is None
            for _ in range(2):
                state = await mend(UID, wanted, Mend.RECREATE, None, cause=CAUSE)
                assert state is not None
            assert (await seen(on, "v1")).uid == "uid-v1"
            await on.storage.ensure_volume_size(UID, wanted, cause=CAUSE)  # with its filesystem

        play(story)

    def test_what_was_made_by_hand_becomes_a_volume_with_all_that_is_on_it_or_what_it_was(
        self, play: Play
    ) -> None:
        async def story(on: Story) -> None:
            look = await made_by_hand(on)
            adopt = on.storage.ensure_adopted
            for _ in range(2):
                state = await adopt(UID, spec(mib=32), look, cause=CAUSE)
                assert (state.size_bytes, state.path) == (32 * MIB, "/dev/fast/v1")
            now = await seen(on, "v1")
            assert (now.lv, now.uid) == (look.lv, "uid-v1")
            assert await on.bench.read("fast/v1") == "precious"
            for _ in range(2):
                await on.storage.ensure_given_back(UID, spec(mib=32), look, cause=CAUSE)
            assert await seen(on, "theirs") == look
            assert await on.seen("v1") is None
            assert await on.bench.read("fast/theirs") == "precious"
            await on.storage.ensure_thin_pool(UID, POOL, 200 * MIB, cause=CAUSE)
            argv = ("--type", "thin", "--virtualsize", "64m", "--thinpool", "hwbus-thin")
            await on.bench.console("lvcreate", *argv, "--name", "thin", "fast")
            await on.bench.write("fast/thin", "precious, too")
            thin = spec(mib=64, layout=Layout.THIN)
            await adopt(UID, thin, await seen(on, "thin"), cause=CAUSE)
            assert await on.bench.read("fast/v1") == "precious, too"

        play(story)


class HandsOffContract:
    """More of it, for cheap machines; on a real one ``tests/lab/test_drift.py`` tells it."""

    def test_a_renamed_volume_gets_its_name_back_in_use_unless_that_is_taken_or_it_has_another(
        self, play: Play
    ) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            await on.volume(spec())
            await on.bench.write("fast/v1", "precious")
            await on.bench.console("lvrename", "fast", "v1", "mine")
            look = await seen(on, "mine")
            await on.bench.hold("fast/mine")
            await mended(on, Mend.UNDO, look)
            await on.bench.let_go("fast/v1")
            assert await on.bench.read("fast/v1") == "precious"
            assert (await seen(on, "v1")).lv == look.lv
            await mended(on, Mend.UNDO, look)  # as after a crash
            assert await on.seen("mine") is None
            await on.bench.console("lvrename", "fast", "v1", "mine")
            await on.bench.console("lvcreate", "--yes", "--extents", "4", "--name", "v1", "fast")
            assert await on.refused(mended(on, Mend.UNDO, look)) is Refusal.FOREIGN_VOLUME
            await on.bench.console("lvrename", "fast", "mine", "yours")
            assert "yours" in await other_than_seen(mended(on, Mend.UNDO, look))
            assert await on.bench.read("fast/yours") == "precious"

        play(story)

    def test_nothing_is_adopted_that_is_in_use_or_other_than_seen_or_not_of_our_kind(
        self, play: Play
    ) -> None:
        async def story(on: Story) -> None:
            look = await made_by_hand(on)
            adopt = on.storage.ensure_adopted
            await on.bench.hold("fast/theirs")
            with pytest.raises(InUseError):
                await adopt(UID, spec(mib=32), look, cause=CAUSE)
            await on.bench.let_go("fast/theirs")
            await on.volume(spec())
            assert (
                await on.refused(adopt(UID, spec(uid="other"), look, cause=CAUSE))
                is Refusal.FOREIGN_VOLUME
            )
            with_ext4 = spec("v2", 32, filesystem=Filesystem.EXT4)
            with pytest.raises(StorageError):
                await adopt(UID, with_ext4, look, cause=CAUSE)
            await on.bench.console("lvextend", "--extents", "9", "fast/theirs")
            await other_than_seen(adopt(UID, spec("v2", 32), look, cause=CAUSE))
            now = await seen(on, "theirs")
            assert (now.uid, now.name) == ("", "theirs")
            assert await on.bench.read("fast/theirs") == "precious"

        play(story)

    def test_what_is_in_quarantine_is_used_by_nobody_not_even_after_a_reboot(
        self, play: Play
    ) -> None:
        async def story(on: Story) -> None:
            look = await made_by_hand(on)
            do = on.storage.do_errand
            await on.bench.hold("fast/theirs")
            with pytest.raises(InUseError):
                await do("op", PutAside(seen=look, claim=CLAIM), UID, cause=CAUSE)
            await on.bench.let_go("fast/theirs")
            for _ in range(2):
                found = await do("op", PutAside(seen=look, claim=CLAIM), UID, cause=CAUSE)
                assert found == Put()
            assert (await seen(on, "theirs")).claim == CLAIM
            await on.bench.console("lvchange", "--activate", "y", "fast/theirs")
            await on.storage.ensure_active({POOL: UID}, cause=CAUSE)
            aside = await on.seen("theirs")
            assert aside is not None
            assert not aside.active
            for _ in range(2):
                await do("op", PutBack(seen=look, claim=CLAIM), UID, cause=CAUSE)
            assert await seen(on, "theirs") == look
            await on.bench.console("lvchange", "--activate", "y", "fast/theirs")
            assert await on.bench.read("fast/theirs") == "precious"
            wish = PutAside(seen=look, claim=CLAIM)
            await do("op", wish, UID, cause=CAUSE)
            await on.storage.ensure_no_errand("op", wish, UID, cause=CAUSE)
            assert await seen(on, "theirs") == look
            await on.bench.console("lvrename", "fast", "theirs", "yours")
            await other_than_seen(do("op", wish, UID, cause=CAUSE))
            assert (await seen(on, "yours")).claim == ""

        play(story)
