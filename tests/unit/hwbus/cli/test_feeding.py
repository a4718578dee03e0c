"""What is recorded is printed as it comes, each once, in order; then it is said how to go on."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import hypothesis
import msgspec
import pytest
from hypothesis import strategies as st

from hwbus.cli.feeding import Source, in_order
from hwbus.memory import MemoryLog
from hwbus.ports import Stored
from schemas.audit import ExecutedRecord, HeadRecord, RefusedRecord
from schemas.node import NodeCordoned
from schemas.refusals import Refusal
from tests.support.cli import Done, Stage
from tests.support.clock import NOON, ManualClock


@pytest.fixture
def busy(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Three commits and three records; who follows them is interrupted soon."""
    for node, actor in (("n1", "ada"), ("n2", "bob"), ("n1", "bob")):
        stage.write(f"hwbus.evt.node.-.{node}", NodeCordoned(node=node), actor=actor)
    about = {"command": "c", "word": "node.cordon.v1", "object": "node/n9", "because": "none"}
    refused = RefusedRecord(at=NOON, actor="ada", code=Refusal.UNKNOWN_NODE, **about)
    tool = ExecutedRecord(
        at=NOON, node="n1", argv=("lvs", "-a"), exit_status=0, duration_ms=3, cause="scan:7"
    )
    head = HeadRecord(at=NOON, stream="HWBUS_EVENTS", seq=1, root="", key="", signature="")
    for subject, record in (("refused.node", refused), ("head.k", head), ("executed.n1", tool)):
        stage.kept.append((f"hwbus.audit.{subject}", msgspec.json.encode(record)))
    followed = MemoryLog.follow

    def follow(self: MemoryLog, **options: int) -> object:
        asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), signal.SIGINT)
        monkeypatch.setattr(MemoryLog, "follow", followed)
        return followed(self, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryLog, "follow", follow)
    return stage


def events(stage: Stage, *argv: str) -> Done:
    return stage.run("events", "follow", *argv)


def audit(stage: Stage, *argv: str) -> Done:
    return stage.run("audit", "follow", *argv)


@pytest.mark.parametrize(
    ("given", "printed", "go_on"),
    [
        ((), [], 4),
        (("--from", "2"), ["2", "3"], 4),
        (("--from", "4"), [], 4),
        (("--from", "1h"), ["1", "2", "3"], 4),
        (("--from", "2026-01-01T12:00:01Z"), [], 4),
        (("--from", "1", "--by", "ada"), ["1"], 4),
        (("--from", "1", "--object", "node/n2"), ["2"], 3),
    ],
)
def test_commits_are_printed_from_there_on_until_ctrl_c(
    busy: Stage, given: tuple[str, ...], printed: list[str], go_on: int
) -> None:
    done = events(busy, *given, "-o", "name")
    assert done.out.splitlines() == printed
    assert (done.code, done.err) == (130, f"go on: hwbus events follow --from {go_on}\n")


def test_of_the_audit_both_streams_are_printed(busy: Stage) -> None:
    done = audit(busy, "--from", "1/1", "-o", "json")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [(row["kind"], row["seq"]) for row in rows] == [
        ("accepted", 1),
        ("accepted", 2),
        ("accepted", 3),
        ("refused", 1),
        ("tool", 3),
    ]
    assert (done.code, done.err) == (130, "go on: hwbus audit follow --from 4/4\n")


@pytest.mark.parametrize(
    ("given", "printed"),
    [
        (("--from", "4/2"), ["audit/tool/3"]),
        (("--from", "3"), ["audit/accepted/3", "audit/refused/1", "audit/tool/3"]),
        (("--from", "1h", "--kind", "refused"), ["audit/refused/1"]),
        (("--from", "1/1", "--by", "bob"), ["audit/accepted/2", "audit/accepted/3"]),
        (("--from", "1/1", "--node", "n1"), ["audit/tool/3"]),
        (("--from", "1/1", "--text", "LVS"), ["audit/tool/3"]),
        (("--from", "1/1", "--object", "node/n2"), ["audit/accepted/2"]),
        (("--from", "1/1", "--code", "HW-N001"), ["audit/refused/1"]),
        (("--from", "4/4"), []),
        ((), []),
    ],
)
def test_records_are_chosen_as_when_they_are_searched(
    busy: Stage, given: tuple[str, ...], printed: list[str]
) -> None:
    done = audit(busy, *given, "-o", "name")
    assert done.out.splitlines() == printed
    assert done.err == "go on: hwbus audit follow --from 4/4\n"


def test_a_line_says_when_who_what_and_what_came_of_it(busy: Stage) -> None:
    lines = audit(busy, "--from", "3/1").out.splitlines()
    assert "accepted  bob  node/n1  node.cordoned  -" in lines[0]
    assert "refused   ada  node/n9  node.cordon  HW-N001 none" in lines[1]
    assert "tool      worker:n1  node/n1  lvs -a  exit 0 in 3 ms" in lines[2]


@pytest.mark.parametrize("point", ["5", "9/1", "1/9", "yesterday", "1/x"])
def test_where_the_log_has_not_been_nothing_is_waited_for(busy: Stage, point: str) -> None:
    done = audit(busy, "--from", point)
    known = point[0].isdecimal() and point != "1/x"
    assert (done.code, done.out) == (3 if known else 2, "")


def test_records_that_are_archived_and_gone_are_not_quietly_left_out(busy: Stage) -> None:
    busy.pruned = 1
    done = audit(busy, "--from", "3/1")
    assert (done.code, done.out) == (3, "")
    assert "up to 1 are archived" in done.err
    assert "--from 3/2" in done.err
    assert audit(busy, "--from", "3/2", "-o", "name").out.splitlines()[-1].startswith("audit/")


def test_show_call_says_which_streams_are_read(busy: Stage) -> None:
    shown = events(busy, "--from", "4711", "--object", "node/n1", "--show-call").out
    assert shown == ("nats sub --stream HWBUS_EVENTS --start-sequence 4711 'hwbus.evt.node.-.n1'\n")
    shown = audit(busy, "--from", "1/98", "--show-call").out
    assert shown.splitlines()[1] == (
        "nats sub --stream HWBUS_AUDIT --start-sequence 98 'hwbus.audit.>'"
    )
    assert (
        "--start-time 2026-01-01T11:00:00+00:00" in audit(busy, "--from", "1h", "--show-call").out
    )
    assert busy.servers == []


class Slow(MemoryLog):
    """A log that takes a while to give what it has."""

    @asynccontextmanager
    async def follow(
        self, *, after: int, subjects: Sequence[str] = (), batch_max: int = 3
    ) -> AsyncIterator[AsyncIterator[list[Stored]]]:
        """As ``EventLog.follow``."""

        async def slowly() -> AsyncIterator[list[Stored]]:
            async for batch in batches:
                for _ in range(20):
                    await asyncio.sleep(0)
                yield batch

        async with super().follow(after=after, subjects=subjects, batch_max=batch_max) as batches:
            yield slowly()


@hypothesis.example([1, 0, 1, 0], 4)
@hypothesis.given(st.lists(st.integers(0, 1), min_size=1, max_size=30), st.integers(0, 30))
def test_two_streams_are_read_in_the_order_in_which_they_were_written(
    written: list[int], past: int
) -> None:
    async def tale() -> None:
        clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        logs = [MemoryLog(clock), Slow(clock)]
        told: list[tuple[int, int]] = []

        async def write(which: int) -> None:
            clock.move(1)
            after = await logs[which].head()
            seq = await logs[which].append("s", b"", after=after, message_id=str(after))
            told.append((which, seq))

        for which in written[:past]:
            await write(which)
        sources = [Source(log, "s", 0, await log.head()) for log in logs]
        seen = []
        each = in_order(sources)
        for _ in written[:past]:
            source, stored = await anext(each)
            seen.append((sources.index(source), stored.seq))
        assert seen == told
        for which in written[past:]:
            await write(which)
            source, stored = await anext(each)
            assert (sources.index(source), stored.seq) == told[-1]
        await each.aclose()

    asyncio.run(tale())
