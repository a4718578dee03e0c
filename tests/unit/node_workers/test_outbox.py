"""What has to be told is told: in order, until answered, across crashes, and within bounds."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import pytest

from hwbus.memory import MemoryOutlet
from hwbus.ports import LogFullError, NobodyThereError
from node_workers.figures import Figures
from node_workers.outbox import Outbox, parked
from node_workers.reports import NODE_LANE, Letter, command_id, letter
from node_workers.store import Change, NotOursError, Record, Store, open_store
from schemas.disk import ReportDiskGone
from schemas.node import ReportNodeJoined
from schemas.replica import ReportReplicaAbsent
from tests.simulation.node.desk import Desk, Said
from tests.support.clock import ManualClock
from tests.support.nats import until

UID = "1" * 26


class Bench:
    """An outbox over a file, and the desk to which it tells."""

    def __init__(self, store: Store, desk: Desk, records_max: int = 20_000) -> None:
        self.store = store
        self.desk = desk
        self.figures = Figures()
        self.outbox = Outbox(
            store,
            node="n1",
            identity="file",
            clock=ManualClock(),
            rng=Random(1),
            figures=self.figures,
            records_max=records_max,
        )

    async def post(self, *letters: Letter) -> None:
        self.outbox.post(letters, await self.store.commit(Change(letters=letters)))

    async def deliver(self, true: Callable[[], bool]) -> None:
        delivering = asyncio.create_task(self.outbox.deliver(self.desk))
        await until(true)
        delivering.cancel()
        await asyncio.wait({delivering})


def told(folder: Path, story: Callable[[Bench], Awaitable[None]], records_max: int = 20) -> None:
    async def run() -> None:
        async with (
            asyncio.timeout(20),
            open_store(folder / "s", node="n1", identity="i", syncing=False) as store,
        ):
            await story(Bench(store, Desk(), records_max))

    asyncio.run(run())


def gone(volume: str, seq: int) -> Letter:
    return letter(
        ReportReplicaAbsent(volume=volume, node="n1", uid=UID),
        node="n1",
        command_id=command_id("n1", str(seq), "report-absent"),
        lane=f"replica/{volume}",
        cause=f"event:{seq}",
    )


def joined() -> Letter:
    return letter(
        ReportNodeJoined(node="n1", worker_version="dev"),
        node="n1",
        command_id=command_id("n1", "join-1", "report-joined"),
        lane=NODE_LANE,
        cause="start:1",
    )


def unplugged(disk: str, scan: int) -> Letter:
    return letter(
        ReportDiskGone(disk=disk, node="n1"),
        node="n1",
        command_id=command_id("n1", f"scan-{scan}", "report-gone", disk),
        lane=f"disk/{disk}",
        cause=f"scan:{scan}",
        newest_only=True,
    )


def record(text: str, *, scan: bool = False) -> Record:
    return Record(subject="hwbus.audit.executed.n1", data=text.encode(), scan=scan)


def test_letters_of_one_lane_go_out_in_order_whatever_the_answers(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        chance = Random(7)

        def moody(_: Said) -> None:
            if chance.random() < 0.5:
                raise NobodyThereError("moody")

        bench.desk.answer = moody
        await bench.post(*(gone(name, seq) for seq in range(4) for name in ("a", "b")))
        await bench.deliver(lambda: bench.outbox.letters_waiting == 0)
        for name in ("a", "b"):
            ids = [said.id for said in bench.desk.said if said.word.volume == name]  # type: ignore[attr-defined]
            assert list(dict.fromkeys(ids)) == [f"n1:{seq}:report-absent" for seq in range(4)]
            assert ids == sorted(ids)

    told(tmp_path, story)


def test_a_lane_without_answer_holds_up_no_other(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        def deaf(said: Said) -> None:
            if said.word.volume == "a":  # type: ignore[attr-defined]
                raise NobodyThereError("deaf")

        bench.desk.answer = deaf
        await bench.post(gone("a", 1), gone("b", 2))
        await bench.deliver(lambda: bench.outbox.letters_waiting == 1)

    told(tmp_path, story)


def test_the_node_itself_is_told_before_anything_that_is_on_it(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        answers = iter((NobodyThereError("not yet"), NobodyThereError("not yet"), None))

        def slow(said: Said) -> None:
            if said.id == "n1:join-1:report-joined" and (error := next(answers)) is not None:
                raise error

        bench.desk.answer = slow
        await bench.post(gone("a", 1), joined(), gone("b", 2))
        await bench.deliver(lambda: bench.outbox.letters_waiting == 0)
        ids = [said.id for said in bench.desk.said]
        assert ids[:3] == ["n1:join-1:report-joined"] * 3
        assert sorted(ids[3:]) == ["n1:1:report-absent", "n1:2:report-absent"]

    told(tmp_path, story)


def test_of_states_only_the_newest_is_told(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        for scan in range(1, 50):
            await bench.post(unplugged("d1", scan), unplugged("d2", scan))
        assert bench.outbox.letters_waiting == 2
        assert len((await bench.store.load()).letters) == 2
        await bench.deliver(lambda: bench.outbox.letters_waiting == 0)
        assert {said.id for said in bench.desk.said} == {
            "n1:scan-49:report-gone:d1",
            "n1:scan-49:report-gone:d2",
        }

    told(tmp_path, story)


def test_what_was_not_answered_is_told_in_the_next_life(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.post(gone("a", 1), gone("a", 2))
        await bench.outbox.keep([record("kept")])
        again = Bench(bench.store, bench.desk)
        await again.outbox.load((await bench.store.load()).letters)
        assert (again.outbox.letters_waiting, again.outbox.records_waiting) == (2, 1)
        await again.deliver(
            lambda: again.outbox.letters_waiting == again.outbox.records_waiting == 0
        )
        assert [said.id for said in bench.desk.said] == ["n1:1:report-absent", "n1:2:report-absent"]
        assert [kept.data for kept in bench.desk.outlet.kept] == [b"kept"]
        assert (await bench.store.load()).letters == ()

    told(tmp_path, story)


def test_beyond_the_bound_records_of_scans_are_dropped_first_and_letters_never(
    tmp_path: Path,
) -> None:
    async def story(bench: Bench) -> None:
        await bench.post(*(gone(f"v{number}", number) for number in range(50)))
        await bench.outbox.keep([record("precious")])
        for number in range(2_000):
            await bench.outbox.keep([record(str(number), scan=True)])
        assert bench.outbox.records_waiting <= 1_500
        assert bench.figures.counters["records_dropped_total"] >= 501
        assert bench.outbox.letters_waiting == 50
        left = [data for _, _, data in await bench.store.oldest_records(2_000)]
        assert left[0] == b"precious"
        assert left[-1] == b"1999"

    told(tmp_path, story, records_max=1_500)


def test_a_full_audit_stream_keeps_the_records_here(tmp_path: Path) -> None:
    class Full(MemoryOutlet):
        full = True

        async def keep(  # type: ignore[override]
            self, subject: str, data: bytes, *, message_id: str
        ) -> None:
            if self.full:
                self.full = False
                raise LogFullError("full")
            await super().keep(subject, data, message_id=message_id)

    async def story(bench: Bench) -> None:
        bench.desk.outlet = Full()
        await bench.outbox.keep([record("one"), record("two")])
        await bench.deliver(lambda: bench.outbox.records_waiting == 0)
        assert sorted(kept.data for kept in bench.desk.outlet.kept) == [b"one", b"two"]

    told(tmp_path, story)


def test_whoever_is_cut_off_while_writing_leaves_the_file_whole(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        for number in range(30):
            writing = asyncio.create_task(bench.store.commit(Change(letters=(gone("a", number),))))
            for _ in range(number % 6):
                await asyncio.sleep(0)
            writing.cancel()
            await asyncio.wait({writing})
        await bench.store.add_records([record("after")])
        assert await bench.store.count_records() == 1

    told(tmp_path, story)


def test_ids_fit_the_header_and_differ_where_names_do() -> None:
    long = [command_id("n" * 63, "scan-1", "report-seen", f"disk/{'d' * 62}{end}") for end in "ab"]
    assert all(len(one) <= 128 for one in long)
    assert len(set(long)) == 2
    assert command_id("n1", "17", "report-present") == "n1:17:report-present"


def test_the_longest_node_name_can_park() -> None:
    about = {"subject": "s", "seq": 1, "because": "b", "data": b"\xff" * 5000}
    kept = parked("n" * 63, ManualClock(), **about)  # type: ignore[arg-type]
    assert len(kept.subject.rpartition(".")[2]) <= 63


def test_the_memory_of_another_node_is_not_opened(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_store(tmp_path / "s", node="n1", identity="i"):
            pass
        with pytest.raises(NotOursError, match="n1"):
            async with open_store(tmp_path / "s", node="n2", identity="j"):
                pass

    asyncio.run(run())


def test_a_record_whose_tool_was_cut_off_is_counted_all_the_same(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        for steps in range(6):
            keeping = asyncio.create_task(bench.outbox.keep((record(str(steps)),)))
            for _ in range(steps):
                await asyncio.sleep(0)
            keeping.cancel()
            await asyncio.wait({keeping})
        await bench.outbox.keep((record("last"),))
        assert bench.outbox.records_waiting == await bench.store.count_records()
        await bench.deliver(lambda: bench.outbox.records_waiting == 0)
        assert await bench.store.count_records() == 0

    told(tmp_path, story)
