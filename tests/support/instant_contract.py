"""What every Storage must do with snapshots of one instant, whatever machine it is on."""

from typing import Any

import pytest

from node_workers.ports import (
    Consistency,
    Filesystem,
    Layout,
    NoSpaceError,
    NotThereError,
    SnapshotState,
    UnsuitableError,
)
from tests.support.attachment_contract import attach, detach, mounted, wish
from tests.support.beside import Beside
from tests.support.snapshot_contract import snapshot
from tests.support.storage_bench import CAUSE, MIB, UID, Play, Story, spec

MARK = "hwbus.consistency=filesystem"


async def furnish(on: Story, **more: Any) -> None:
    """Make two volumes on which something is written."""
    await on.pool()
    for name in ("v1", "v2"):
        await on.volume(spec(name, 104, **more))
        await on.bench.write(f"fast/{name}", "before")


async def take(
    on: Story, *, may_take: bool = True, thin: bool = False
) -> tuple[SnapshotState, ...]:
    mib = 104 if thin else 20
    wishes = [(UID, snapshot(f"s{n}", mib, thin=thin, volume=f"v{n}")) for n in (1, 2)]
    return await on.storage.ensure_snapshots(wishes, may_take=may_take, cause=CAUSE)


async def written(on: Story, data: str) -> None:
    for name in ("v1", "v2"):
        await on.bench.write(f"fast/{name}", data)


async def kept(on: Story) -> list[str]:
    return [await on.bench.read(f"fast/{name}") for name in ("s1", "s2")]


class InstantContract:
    """Inherit it and give a ``play`` fixture: ``play_on`` a fresh bench for every test."""

    def test_snapshots_of_one_instant_hold_what_was_there_and_all_goes_on(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await furnish(on, filesystem=Filesystem.EXT4)
            await attach(on, mounted())
            made = await take(on)
            assert await on.storage.ensure_moving(cause=CAUSE) == ()
            await on.bench.console("mkdir", "-p", "/mnt/v1/alive")
            assert [(one.size_bytes, one.changed) for one in made] == [(20 * MIB, True)] * 2
            assert {one.consistency for one in made} == {Consistency.FILESYSTEM}
            assert await kept(on) == ["before", "before"]
            again = await take(on)
            assert [one.changed for one in again] == [False, False]
            assert [one.consistency for one in again] == [one.consistency for one in made]
            await detach(on, mounted())
            await written(on, "after")
            assert await kept(on) == ["before", "before"]

        play(story)

    def test_thin_volumes_are_kept_at_one_instant_too(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            await on.storage.ensure_thin_pool(UID, "fast", 400 * MIB, cause=CAUSE)
            await furnish(on, layout=Layout.THIN)
            await attach(on, wish())
            made = await take(on, thin=True)
            assert {one.consistency for one in made} == {Consistency.FILESYSTEM}
            await detach(on, wish())
            await written(on, "after")
            assert await kept(on) == ["before", "before"]

        play(story)

    def test_an_instant_that_was_not_seen_to_its_end_is_had_anew(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await furnish(on)
            await take(on)
            # As a worker leaves it that died before the last one was made.
            await on.bench.console("lvchange", "--deltag", MARK, "fast/s1", "fast/s2")
            await on.bench.console("lvremove", "--yes", "fast/s2")
            await written(on, "after")
            with pytest.raises(NotThereError):
                await take(on, may_take=False)
            assert await on.bench.read("fast/s1") == "before"
            await take(on)
            assert await kept(on) == ["after", "after"]

        play(story)

    def test_an_instant_that_has_been_is_not_made_up(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await furnish(on)
            await take(on)
            await on.bench.console("lvremove", "--yes", "fast/s2")
            await written(on, "after")
            with pytest.raises(NotThereError) as caught:
                await take(on)
            assert caught.value.reason == "snapshot-missing"
            assert await on.seen("s2") is None
            assert await on.bench.read("fast/s1") == "before"

        play(story)

    def test_without_room_for_all_nothing_counts_and_all_goes_on(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await furnish(on, filesystem=Filesystem.EXT4)
            await attach(on, mounted())
            free_mib = (await on.look()).pools[0].free_bytes // MIB
            await on.volume(spec("rest", free_mib - 24))
            with pytest.raises(NoSpaceError):
                await take(on)
            assert await on.storage.ensure_moving(cause=CAUSE) == ()
            await on.bench.console("mkdir", "-p", "/mnt/v1/alive")
            assert await on.seen("s2") is None
            await on.remove("rest")
            await take(on)
            assert len([v for v in (await on.look()).volumes if v.origin]) == 2
            await detach(on, mounted())

        play(story)

    def test_who_follows_has_what_was_there_in_the_turn_that_counts(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await furnish(on, filesystem=Filesystem.EXT4)
            await attach(on, mounted())
            lost, counts = Beside(on.storage, "t" * 26), Beside(on.storage, "u" * 26)
            # Another turn came to nothing: the one that led had died before it said so.
            await lost.ready()
            await lost.take(("n2",), {"": Consistency.CRASH})
            state = await counts.led()
            assert (state.turn, state.consistency) == (counts.turn, Consistency.FILESYSTEM)
            with pytest.raises(UnsuitableError):
                await lost.ready()  # it was held up until another turn had been
            assert state.followed == ()  # nothing tells that n2 has a replica of it
            assert await on.storage.ensure_moving(cause=CAUSE) == ()
            for turn in (lost, Beside(on.storage, "v" * 26)):
                with pytest.raises(NotThereError) as missing:
                    await turn.settled()
                assert missing.value.reason == "snapshot-missing"
            with pytest.raises(UnsuitableError):
                await lost.take(("n2",), {"": Consistency.CRASH})
            made = [await counts.settled() for _ in range(2)]
            assert [one.changed for one in made] == [True, False]
            assert {one.consistency for one in made} == {Consistency.FILESYSTEM}
            with pytest.raises(UnsuitableError):
                await Beside(on.storage, "w" * 26).ready()
            assert (await counts.led()).turn == counts.turn
            await on.bench.console("mkdir", "-p", "/mnt/v1/alive")
            await detach(on, mounted())
            await written(on, "after")
            assert await kept(on) == ["before", "before"]

        play(story)

    def test_what_nobody_can_hold_still_is_not_kept_together(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await furnish(on, filesystem=Filesystem.EXT4)
            for name in ("v1", "v2"):
                await on.bench.console(
                    "mount", "-o", "X-mount.mkdir", f"/dev/fast/{name}", f"/mnt/{name}"
                )
            with pytest.raises(UnsuitableError) as caught:
                await take(on)
            assert caught.value.reason == "used-beside"
            assert [v for v in (await on.look()).volumes if v.origin] == []
            await on.bench.console("umount", "/mnt/v2")
            made = await take(on)
            assert {one.consistency for one in made} == {Consistency.FILESYSTEM}
            await on.bench.console("umount", "/mnt/v1")

        play(story)

    def test_a_snapshot_of_an_attached_volume_catches_its_filesystem(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await furnish(on, filesystem=Filesystem.EXT4)
            await attach(on, mounted())
            made = await on.storage.ensure_snapshot(UID, snapshot(), cause=CAUSE)
            assert (made.consistency, made.changed) == (Consistency.FILESYSTEM, True)
            again = await on.storage.ensure_snapshot_kept(UID, snapshot(), cause=CAUSE)
            assert again is not None
            assert again.consistency is Consistency.FILESYSTEM
            await on.bench.console("mkdir", "-p", "/mnt/v1/alive")
            await detach(on, mounted())

        play(story)

    def test_a_device_that_somebody_left_standing_still_goes_on(self, play: Play) -> None:
        async def story(on: Story) -> None:
            await furnish(on, filesystem=Filesystem.EXT4)
            await attach(on, mounted())
            await on.bench.console("dmsetup", "suspend", "hwbus:v1")
            assert await on.storage.ensure_moving(cause=CAUSE) == ("v1",)
            await on.bench.console("mkdir", "-p", "/mnt/v1/alive")
            assert await on.storage.ensure_moving(cause=CAUSE) == ()
            await detach(on, mounted())

        play(story)
