"""Two nodes: what is copied from one to the other, and what becomes of it when one of them dies."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from schemas.refusals import Refusal
from schemas.replica import ReportReplicaAbsent, ReportReplicaPresent, ReportReplicaTrouble
from schemas.snapshot import SnapshotReadingBegan, SnapshotReadingEnded
from tests.simulation.node.lives import Fate, Node, at_once
from tests.simulation.node.stories import (
    CREATED,
    EXT4,
    GONE,
    MIB,
    OP,
    THIN,
    copied,
    delete,
    formed,
    have,
    provisioned,
    shown,
    taken,
    uid,
    written,
)
from tests.support.nats import until_async

BEFORE = (formed(), provisioned(**EXT4), written("then"), taken(), written("now"))
READ: dict[str, str] = {"snapshot": "s1", "uid": uid("s1"), "operation": OP}
Story = Callable[[Node, Node], Coroutine[Any, Any, None]]


def told(folder: Path, story: Story) -> None:
    async def run() -> None:
        async with asyncio.timeout(60):
            here, there = Node(folder / "1"), Node(folder / "2", name="n2")
            there.desk = here.desk
            await have(here, *BEFORE)
            await have(there, formed(0, 1, thin_bytes=800 * MIB))
            await story(here, there)

    asyncio.run(run())


async def reading(node: Node) -> None:
    await node.desk.happen(SnapshotReadingBegan(**READ), operation=OP)


def troubles(node: Node) -> list[Refusal]:
    return [one.code for one in node.desk.of(ReportReplicaTrouble)]


def troubled(node: Node, code: Refusal) -> Callable[[], Coroutine[Any, Any, bool]]:
    async def told_of() -> bool:
        return code in troubles(node)

    return told_of


@pytest.mark.parametrize("more", [EXT4, EXT4 | THIN], ids=["thick", "thin"])
def test_a_copy_on_another_node_holds_what_the_snapshot_holds(
    tmp_path: Path, more: dict[str, Any]
) -> None:
    async def story(here: Node, there: Node) -> None:
        await reading(here)
        wish, *what = copied(mib=400, far="n1", **more)
        async with here.life(), there.life() as worker:
            await wish(there)
            await there.settle(worker, shown(there, *what))
        report = there.desk.of(ReportReplicaPresent)[-1]
        assert (report.node, report.volume, report.size_bytes) == ("n2", "v2", 400 * MIB)
        assert there.machine.read("fast/v2") == "then"
        assert there.machine.content("fast/v2").uuid != here.machine.content("fast/pg").uuid
        assert troubles(there) == []
        # The source's node has looked, for that operation, and the audit has it.
        looks = [one for one in here.desk.executed() if one.cause == f"loan:{OP}"]
        assert {(one.node, one.correlation) for one in looks} == {("n1", OP)}

    told(tmp_path, story)


def test_a_source_that_is_silent_is_waited_for_and_that_is_told(tmp_path: Path) -> None:
    async def story(here: Node, there: Node) -> None:
        await reading(here)
        wish, *what = copied(far="n1", **EXT4)
        async with there.life() as worker:
            await wish(there)
            await until_async(troubled(there, Refusal.SOURCE_SILENT))
            assert not any(one.permanent for one in there.desk.of(ReportReplicaTrouble))
            async with here.life():
                await there.settle(worker, shown(there, *what))
        assert there.machine.read("fast/v2") == "then"

    told(tmp_path, story)


def test_what_the_log_does_not_say_is_read_is_not_lent(tmp_path: Path) -> None:
    async def story(here: Node, there: Node) -> None:
        wish, *what = copied(far="n1", **EXT4)
        async with here.life(), there.life() as worker:
            await wish(there)
            await until_async(troubled(there, Refusal.SOURCE_NOT_LENT))
            assert "does not read s1" in there.desk.of(ReportReplicaTrouble)[-1].because
            assert CREATED not in await there.desk.names("replica", "n2", "v2")
            await reading(here)
            await there.settle(worker, shown(there, *what))

    told(tmp_path, story)


def test_nothing_is_lent_any_more_once_reading_has_ended(tmp_path: Path) -> None:
    async def story(here: Node, there: Node) -> None:
        await reading(here)
        await here.desk.happen(SnapshotReadingEnded(**READ), operation=OP)
        wish, *_ = copied(far="n1", **EXT4)
        async with here.life(), there.life() as worker:
            await wish(there)
            await until_async(troubled(there, Refusal.SOURCE_NOT_LENT))
            await delete("v2")(there)
            await there.settle(worker, shown(there, "replica", "v2", GONE))
        assert there.desk.of(ReportReplicaAbsent)[-1].node == "n2"
        assert there.machine.state.vgs[0].lv("v2") is None

    told(tmp_path, story)


def test_a_snapshot_that_is_not_there_ends_the_copy_for_good(tmp_path: Path) -> None:
    async def story(here: Node, there: Node) -> None:
        await reading(here)
        here.machine.remove_volume("fast/s1")
        wish, *_ = copied(far="n1", **EXT4)
        async with here.life(), there.life():
            await wish(there)
            await until_async(troubled(there, Refusal.SNAPSHOT_MISSING))
        assert there.desk.of(ReportReplicaTrouble)[-1].permanent

    told(tmp_path, story)


@pytest.mark.parametrize("which", ["here", "there"])
def test_a_copy_survives_a_death_at_any_point(
    tmp_path: Path, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each life of one of the workers is some points longer than the one before."""
    monkeypatch.setattr("node_workers.loans._ANSWER_S", 0.2)

    async def once(folder: Path, strike_at: int) -> bool:
        """Return whether the worker lived on to the end of the copy."""
        here, there = Node(folder / "1"), Node(folder / "2", name="n2")
        here.connect = there.connect = at_once
        there.desk = here.desk
        await have(here, *BEFORE)
        await have(there, formed(0, 1))
        await reading(here)
        wish, *what = copied(far="n1", **EXT4)
        await wish(there)
        mortal, other = (here, there) if which == "here" else (there, here)
        fate, done = Fate(strike_at), shown(there, *what)

        async def over() -> bool:
            return fate.struck.is_set() or await done()

        async with other.life():
            async with mortal.life(fate):
                await until_async(over)
            struck = not await done()
            if struck:
                async with mortal.life():
                    await until_async(done)
        assert there.machine.read("fast/v2") == "then"
        assert here.machine.read("fast/s1") == "then"
        assert here.machine.read("fast/pg") == "now"
        return not struck

    async def run() -> None:
        for strike_at in range(1, 200, 5):
            if await once(tmp_path / str(strike_at), strike_at):
                assert strike_at > 3
                return
        raise AssertionError("no life was long enough")

    asyncio.run(run())
