"""`hwbus doctor --log` goes through a log, or a copy of one, and names what is in limbo."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from hwbus import archive
from hwbus.cli import limbo
from hwbus.ports import Stored
from hwbus.streams import EVENTS
from schemas.limbo import Limbo
from schemas.views import PoolRow, PoolState, StatusRow
from tests.support.cli import Stage
from tests.support.clock import NOON
from tests.support.given import GIB
from tests.support.limbo import FACTS, FAULTS, POOL_UID, Fault, Told, a_tool, story


def row(**fields: object) -> PoolRow:
    kept = PoolRow(
        name="fast",
        node="n1",
        uid=POOL_UID,
        state=PoolState.READY,
        size_bytes=FACTS.size_bytes,
        allocated_bytes=GIB,
        volumes=1,
        seq=7,
        version=1,
        created_at=NOON,
        changed_at=NOON,
    )
    return msgspec.structs.replace(kept, **fields)


def status(stream: str, position: int, parked: int = 0) -> StatusRow:
    return StatusRow(
        stream=stream, position=position, head=position, lag_events=0, lag_s=0, parked=parked
    )


def tell(stage: Stage, told: list[Told]) -> None:
    stage.past = [
        (one.subject, msgspec.json.encode(one.commit(seq))) for seq, one in enumerate(told, 1)
    ]
    stage.kept = [("hwbus.audit.executed.n1", msgspec.json.encode(a_tool()))]
    stage.rows = {
        "pools": (row(),),
        "status": (status("events", len(told)), status("audit", 1)),
    }
    stage.clock.move(3600)


@pytest.fixture
def well(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(limbo, "_VIEWS_S", 0.01)
    monkeypatch.setattr(limbo, "_LOOK_S", 0.01)
    tell(stage, story())
    return stage


def verdict(stage: Stage, code: int, *argv: str) -> set[tuple[str, int]]:
    done = stage.run("doctor", "--log", "-o", "json", *argv)
    assert done.code == code, (done.out, done.err)
    [item] = done.json["items"]
    return {(one["code"], one["seq"]) for one in item["findings"]}


def test_a_log_in_which_all_is_well_is_said_to_be_so(well: Stage) -> None:
    assert verdict(well, 0) == set()
    done = well.run("doctor", "--log")
    assert done.code == 0
    assert "nothing is in limbo" in done.out
    assert "8 commits, 1 tools, 1 pools; 0 operations open" in done.out


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_in_the_log_ends_with_1_and_is_named(well: Stage, fault: Fault) -> None:
    told = story()
    fault.put(told)
    tell(well, told)
    assert (fault.code, fault.seq) in verdict(well, 1)


def test_people_are_told_the_code_the_place_and_what_to_do(well: Stage) -> None:
    tell(well, story()[:-1])
    out = well.run("doctor", "--log").out
    assert "HW-L001    5  operation/" in out
    assert Limbo.OVERDUE.advice in out
    assert well.run("doctor", "--log", "-o", "name").out == "HW-L001/5\n"
    assert "deadline" in well.run("explain", "hw-l001").out


def test_a_tool_that_nobody_caused_is_named(well: Stage) -> None:
    bad = msgspec.json.encode(a_tool("event:99"))
    well.kept.append(("hwbus.audit.executed.n1", bad))
    well.rows["status"] = (status("events", 8), status("audit", 2))
    assert verdict(well, 1) == {("HW-L006", 2)}


def test_what_may_have_been_refused_in_what_is_archived_and_gone_is_not_judged(well: Stage) -> None:
    told = story()
    told[3].cause = "command:of-old"
    tell(well, told)
    assert {code for code, _ in verdict(well, 1)} == {"HW-L005"}
    well.kept.append(well.kept[0])
    well.pruned = 1
    well.rows["status"] = (status("events", len(told)), status("audit", 2))
    assert verdict(well, 0) == set()


def test_what_stays_busy_after_its_operation_is_named(well: Stage) -> None:
    told = story()
    told[2].events = told[2].events[:1]
    tell(well, told)
    assert verdict(well, 1) == {("HW-L002", 4)}


def test_a_message_nobody_can_read_is_named(well: Stage) -> None:
    well.past.append(("hwbus.evt.volume.-.pg", b"no JSON"))
    assert ("HW-L011", 9) in verdict(well, 1)


def test_a_view_that_counts_otherwise_is_named(well: Stage) -> None:
    well.rows["pools"] = (row(allocated_bytes=2 * GIB),)
    assert verdict(well, 1) == {("HW-L009", 7)}
    well.rows["pools"] = ()
    assert verdict(well, 1) == {("HW-L009", 7)}


def test_a_view_that_is_behind_or_set_something_aside_is_named(well: Stage) -> None:
    well.rows["status"] = (status("events", 5), status("audit", 1, parked=2))
    assert verdict(well, 1) == {("HW-L010", 6), ("HW-L011", 0)}


def test_the_time_and_the_grace_can_be_given(well: Stage) -> None:
    tell(well, story()[:-1])
    assert verdict(well, 0, "--as-of", "2026-01-01T12:11:59Z") == set()
    assert verdict(well, 0, "--grace", "2h") == set()
    assert verdict(well, 1, "--as-of", "2026-01-01T12:10:02Z", "--grace", "1s") == {("HW-L001", 5)}


def test_an_archive_is_gone_through_as_of_its_last_commit(well: Stage, tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"

    async def each() -> AsyncIterator[Stored]:
        for seq, (subject, data) in enumerate(well.past[:-1], start=1):
            yield Stored(seq, subject, data, NOON)

    async def write() -> None:
        with path.open("xb") as file:
            await archive.write(file, EVENTS.name, 7, [], each())

    asyncio.run(write())
    well.unreachable = True
    assert verdict(well, 0, "--from-archive", str(path)) == set()
    later = ("--as-of", "2026-01-01T13:00Z")
    assert verdict(well, 1, "--from-archive", str(path), *later) == {("HW-L001", 5)}
    path.write_bytes(path.read_bytes()[:-40])
    assert ("HW-L011", 7) in verdict(well, 1, "--from-archive", str(path))


def test_what_goes_with_the_log_goes_with_nothing_else(stage: Stage, tmp_path: Path) -> None:
    for argv in (("--from-store", "x"), ("--as-of", "2h"), ("--grace", "1m")):
        done = stage.run("doctor", *argv)
        assert done.code == 2, done.err
        assert "--log" in done.err
    both = ("--from-store", str(tmp_path), "--from-archive", str(tmp_path))
    assert stage.run("doctor", "--log", *both).code == 2
    assert stage.run("doctor", "--log", "--from-store", str(tmp_path)).code == 2
