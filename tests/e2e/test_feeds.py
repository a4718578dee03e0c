"""A feed receives every message once, whoever kills it, and tells a gap from the end."""

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hwbus.jetstream import Wires, connect
from hwbus.ports import Stored
from hwbus.streams import AUDIT, EVENTS
from schemas.audit import RefusedRecord
from schemas.refusals import Refusal
from tests.support.feed_lives import EXAMPLE, example
from tests.support.given import NOON
from tests.support.nats import a_broker, fresh_broker, until, wires_to
from tests.support.signing import chained

ROOT = EXAMPLE.parents[2]
LIVES = 100
REFUSED = msgspec.json.encode(
    RefusedRecord(
        at=NOON,
        actor="ada",
        command="c",
        word="node.cordon.v1",
        object="node/n9",
        code=Refusal.UNKNOWN_NODE,
        because="nobody knows it",
    )
)
SUBJECTS = tuple(f"hwbus.evt.volume.-.v{n}" for n in range(5))


class Writer:
    """Writes commits, as far as a feed reads them."""

    def __init__(self, wires: Wires) -> None:
        self._wires = wires
        self._last = dict.fromkeys(SUBJECTS, 0)
        self.written: list[tuple[str, int, str]] = []

    async def write(self) -> None:
        """Write one more."""
        number = len(self.written) + 1
        subject, id_ = SUBJECTS[number % len(SUBJECTS)], f"commit-{number}"
        data = msgspec.json.encode({"id": id_, "number": number})
        after = self._last[subject]
        seq = await self._wires.log.append(subject, data, after=after, message_id=id_)
        self._last[subject] = seq
        self.written.append((id_, seq, subject))


def received(path: Path) -> list[tuple[str, int, str]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT id, seq, subject FROM received ORDER BY seq").fetchall()


def fed(server: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Run the example up to the end of the log."""
    return subprocess.run(
        [sys.executable, EXAMPLE, "--server", server, "--file", path, "--once"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_killed_a_hundred_times_it_has_received_what_is_in_the_log_and_all_of_it_once(
    tmp_path: Path,
) -> None:
    path = tmp_path / "feed.sqlite"

    async def tale() -> None:
        async with fresh_broker() as broker, connect(broker.url, name="writer") as wires:
            await wires.ensure_streams(replicas=1)
            writer = Writer(wires)
            lives = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.support.feed_lives",
                *(broker.url, str(path), str(LIVES), "4711"),
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
            )
            ended = asyncio.create_task(lives.communicate())
            while not ended.done():
                await writer.write()
                # Slower than it is read, so that lives also end while they wait for more.
                await asyncio.sleep(0.003)
            killed, _ = await ended
            assert int(killed) == LIVES
            before = received(path)
            assert before == writer.written[: len(before)]
            for _ in range(150):
                await writer.write()
            done = await asyncio.to_thread(fed, broker.url, path)
            assert done.stdout == f"received up to {len(writer.written)}, missed nothing\n", done
            assert received(path) == writer.written

    asyncio.run(tale())


def following(server: str, noun: str, *argv: str) -> Awaitable[asyncio.subprocess.Process]:
    """Start ``hwbus NOUN follow``."""
    return asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hwbus", noun, "follow", "--server", server, *argv, "-o", "json"),
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "HOME": "/nonexistent"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def seqs(process: asyncio.subprocess.Process, count: int) -> list[tuple[str, int]]:
    """Return kind and sequence of the next lines."""
    assert process.stdout is not None
    read = [json.loads(await process.stdout.readline()) for _ in range(count)]
    return [(one.get("kind", "commit"), one["seq"]) for one in read]


async def interrupted(process: asyncio.subprocess.Process) -> tuple[bytes, bytes, int | None]:
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    return out, err, process.returncode


def test_who_follows_on_the_command_line_misses_nothing_while_the_broker_restarts() -> None:
    async def tale() -> None:
        async with fresh_broker() as broker, wires_to(broker) as wires:
            await wires.ensure_streams()
            past = chained(9)

            async def write(first: int, last: int) -> None:
                for one in past[first - 1 : last]:
                    before = await wires.log.last(one.subject)
                    after = before.seq if before else 0
                    await wires.log.append(one.subject, one.data, after=after, message_id=str(one))
                    record = REFUSED.replace(b"n9", f"n{one.seq}".encode())
                    subject = "hwbus.audit.refused.node"
                    await wires.outlet.keep(subject, record, message_id=str(one.seq))

            await write(1, 2)
            events = await following(broker.url, "events", "--from", "2")
            audit = await following(broker.url, "audit", "--from", "1/2", "--by", "ada")
            commits = await seqs(events, 1)
            records = await seqs(audit, 3)
            for first, hard in ((3, True), (5, False)):
                await write(first, first)
                broker.kill() if hard else await broker.stop()
                await broker.start()
                await until(lambda: wires.connected)
                await write(first + 1, first + 1)
                commits += await seqs(events, 2)
                records += await seqs(audit, 4)
            assert commits == [("commit", seq) for seq in range(2, 7)]
            for kind, begins in (("accepted", 1), ("refused", 2)):
                mine = [seq for what, seq in records if what == kind]
                assert mine == list(range(begins, 7)), "each once, in order"
            said = b"go on: hwbus events follow --from 7\n"
            assert await interrupted(events) == (b"", said, 130)
            said = b"go on: hwbus audit follow --from 7/7\n"
            assert await interrupted(audit) == (b"", said, 130)
            await write(7, 8)
            events = await following(broker.url, "events", "--from", "7")
            assert await seqs(events, 2) == [("commit", 7), ("commit", 8)]
            assert (await interrupted(events))[2] == 130

    asyncio.run(asyncio.wait_for(tale(), 60))


def run_feed(server: str, path: Path) -> None:
    asyncio.run(example().receive(server, "HWBUS_EVENTS", path, once=True))


def filled(server: str, count: int, name: str = "commit") -> None:
    async def tale() -> None:
        async with connect(server, name="writer") as wires:
            await wires.ensure_streams(replicas=1)
            last = 0
            for number in range(count):
                data = msgspec.json.encode({"id": f"{name}-{number}"})
                last = await wires.log.append(
                    SUBJECTS[0], data, after=last, message_id=f"{name}-{number}"
                )

    asyncio.run(tale())


def test_at_the_end_of_the_log_it_waits_or_ends_and_that_is_no_gap(tmp_path: Path) -> None:
    path = tmp_path / "feed.sqlite"
    with a_broker() as broker:
        filled(broker.url, 3)
        for _ in range(2):
            run_feed(broker.url, path)
            assert [seq for _, seq, _ in received(path)] == [1, 2, 3]
    assert example().Feed(path, "HWBUS_EVENTS").gaps() == []


@pytest.mark.parametrize(("count", "because"), [(2, "the log ends at 2"), (5, "made anew")])
def test_a_stream_that_was_made_anew_is_not_taken_for_the_same(
    tmp_path: Path, count: int, because: str
) -> None:
    path = tmp_path / "feed.sqlite"
    with a_broker() as broker:
        filled(broker.url, 3)
        run_feed(broker.url, path)
    with a_broker() as broker:
        filled(broker.url, count, "other")
        done = fed(broker.url, path)
        assert (done.returncode, because in done.stderr) == (3, True), done
    assert [id_ for id_, _, _ in received(path)] == ["commit-0", "commit-1", "commit-2"]


def stored(seq: int, id_: str = "") -> Stored:
    data = msgspec.json.encode({"id": id_ or f"commit-{seq}"})
    return Stored(seq, SUBJECTS[0], data, NOON)


class Some:
    """A log of which only some messages are left."""

    def __init__(self, *left: Stored) -> None:
        self._left = {one.seq: one for one in left}

    async def get(self, seq: int) -> Stored | None:
        return self._left.get(seq)

    async def head(self) -> int:
        return max(self._left, default=0)


def test_what_a_limit_of_the_stream_has_removed_is_a_gap_with_its_bounds(tmp_path: Path) -> None:
    module = example()
    feed = module.Feed(tmp_path / "feed.sqlite", "HWBUS_EVENTS")
    feed.take([stored(1), stored(2)])
    left: Any = Some(stored(6), stored(7))
    asyncio.run(module.compare(left, feed.place()))
    feed.take([stored(6), stored(7)])
    assert feed.gaps() == [(3, 5)]
    assert feed.place().seq == 7


def test_what_comes_twice_is_kept_once_by_its_id_and_by_its_place(tmp_path: Path) -> None:
    feed = example().Feed(tmp_path / "feed.sqlite", "HWBUS_EVENTS")
    feed.take([stored(1), stored(2)])
    feed.take([stored(1), stored(2), stored(3), stored(4, "commit-3")])
    assert [(i, s) for i, s, _ in received(tmp_path / "feed.sqlite")] == [
        ("commit-1", 1),
        ("commit-2", 2),
        ("commit-3", 3),
    ]
    assert feed.place().seq == 4


def test_a_file_is_the_feed_of_one_stream(tmp_path: Path) -> None:
    module = example()
    module.Feed(tmp_path / "feed.sqlite", "HWBUS_EVENTS").take([stored(1)])
    with pytest.raises(module.OtherLogError, match="a feed of HWBUS_EVENTS"):
        module.Feed(tmp_path / "feed.sqlite", "HWBUS_AUDIT").place()


def test_the_streams_that_it_knows_are_those_that_are_kept() -> None:
    assert {s.name: s.subjects[0] for s in (EVENTS, AUDIT)} == example().SUBJECTS
