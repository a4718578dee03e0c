"""When tools fail, answers do not come and wishes change their mind: the node ends well."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_workers.ports import Execution, Runner
from node_workers.simulated.faults import Faults
from schemas.answers import Refused
from schemas.disk import ReportDiskSeen
from schemas.node import NodeAdmitted, NodeRemoved, ReportDrift, ReportNodeJoined
from schemas.pool import ReportPoolTrouble, ReportThinFill
from schemas.refusals import Refusal
from schemas.replica import ReportReplicaAbsent, ReportReplicaPresent, ReportReplicaTrouble
from tests.simulation.node.desk import undecided
from tests.simulation.node.lives import NODE, Node
from tests.simulation.node.stories import (
    CREATED,
    DISKS_KEPT,
    EXT4,
    GIB,
    GONE,
    GROWN,
    KEPT,
    OP,
    POOL,
    THIN,
    abandon_growth,
    abandon_shrink,
    delete,
    extend,
    formed,
    grow,
    have,
    keep,
    keep_pool,
    provision,
    provisioned,
    remove_pool,
    shown,
    shrink,
)
from tests.simulation.node.test_node import always, told, tools
from tests.support.clock import NOON
from tests.support.nats import until


class Moody:
    """A runner that fails one tool for as long as it is in that mood."""

    def __init__(self, inner: Runner, tool: str) -> None:
        self._inner = inner
        self._tool = tool
        self.bad = True
        self.tries = 0

    async def run(
        self, argv: Sequence[str], *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        if argv[0] != self._tool or not self.bad:
            return await self._inner.run(argv, cause=cause, timeout_s=timeout_s, stdin=stdin)
        self.tries += 1
        return Execution(
            argv=tuple(argv),
            exit_status=5,
            stdout="",
            stderr="  Input/output error",
            duration_ms=1.0,
            cause=cause,
            started_at=NOON,
        )


def make_moody(node: Node, tool: str) -> list[Moody]:
    moods: list[Moody] = []

    def wrap(runner: Runner) -> Runner:
        moods.append(Moody(runner, tool))
        return moods[-1]

    node.wrap = wrap
    return moods


def test_a_thing_that_can_never_be_is_reported_once_and_not_tried_again(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed())
        await provision("huge", 1_000_000)(node)
        for _ in range(2):
            async with node.life() as worker:
                await until(lambda: bool(node.desk.of(ReportReplicaTrouble)))
                await node.settle(worker, always)
                await worker.scans.once()
                await node.settle(worker, always)
        (trouble,) = node.desk.of(ReportReplicaTrouble)
        assert trouble.permanent
        assert trouble.code is Refusal.NO_SPACE_ON_NODE
        assert len(tools(node, "lvcreate")) == 1

    told(tmp_path, story)


def test_what_may_pass_is_reported_once_and_tried_until_it_has_passed(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed())
        moods = make_moody(node, "lvcreate")
        async with node.life() as worker:
            await provision()(node)
            await until(lambda: moods[0].tries >= 2)
            moods[0].bad = False
            await node.settle(worker, shown(node, "replica", "pg", CREATED))
        (trouble,) = node.desk.of(ReportReplicaTrouble)
        assert not trouble.permanent
        assert "Input/output error" in trouble.because

    told(tmp_path, story)


@pytest.mark.parametrize("ending", [CREATED, GONE])
def test_a_tool_that_outlives_its_worker_is_waited_for(tmp_path: Path, ending: str) -> None:
    async def story(node: Node) -> None:
        await have(node, formed())
        moods = make_moody(node, "mkfs.ext4")
        async with node.life():
            await provision(**EXT4)(node)
            await until(lambda: bool(moods) and moods[0].tries >= 1)
        node.wrap = lambda runner: runner
        volume = node.machine.volume("fast/pg")
        volume.held_open = True
        async with node.life() as worker:
            if ending is GONE:
                await delete()(node)
            await until(lambda: any(t.code is Refusal.IN_USE for t in troubles(node)))
            assert not any(trouble.permanent for trouble in troubles(node))
            volume.held_open = False
            await node.settle(worker, shown(node, "replica", "pg", ending))

    told(tmp_path, story)


def troubles(node: Node) -> list[ReportReplicaTrouble]:
    return node.desk.of(ReportReplicaTrouble)


def test_trouble_with_one_volume_holds_up_no_other(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed())
        moods = make_moody(node, "mkfs.ext4")
        async with node.life():
            await provision("bad", **EXT4)(node)
            await until(lambda: bool(moods) and moods[0].tries >= 1)
            await provision("good")(node)
            await until(lambda: ("n1", "good") in node.desk.world.replicas)
            await until(lambda: any(r.volume == "good" for r in present(node)))

    told(tmp_path, story)


def present(node: Node) -> list[ReportReplicaPresent]:
    return node.desk.of(ReportReplicaPresent)


def test_a_wish_that_changed_ends_the_trouble_with_the_old_one(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed())
        moods = make_moody(node, "lvcreate")
        async with node.life() as worker:
            await provision()(node)
            await until(lambda: moods[0].tries >= 1)
            await delete()(node)
            await node.settle(worker, shown(node, "replica", "pg", GONE))

    told(tmp_path, story)


def test_a_mounted_volume_is_not_removed_and_the_reason_is_told(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(), provisioned(**EXT4))
        node.machine.mount("fast/pg", "/srv/pg")
        async with node.life() as worker:
            await delete()(node)
            await until(lambda: bool(node.desk.of(ReportReplicaTrouble)))
            await node.settle(worker, always)
        assert node.desk.of(ReportReplicaTrouble)[0].code is Refusal.IN_USE
        assert not tools(node, "lvremove")

    told(tmp_path, story)


def test_a_removal_that_failed_is_over_when_somebody_settles_it_by_hand(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(), provisioned(**EXT4))
        node.machine.mount("fast/pg", "/srv/pg")
        async with node.life() as worker:
            await delete()(node)
            await until(lambda: bool(node.desk.of(ReportReplicaTrouble)))
            await node.settle(worker, always)
            node.machine.unmount("/srv/pg")
            node.machine.remove_volume("fast/pg")
            await worker.scans.once()
            await node.settle(worker, shown(node, "replica", "pg", GONE))
        assert len(node.desk.of(ReportReplicaTrouble)) == 1
        assert not tools(node, "lvremove")

    told(tmp_path, story)


def test_a_removal_that_is_withdrawn_in_time_leaves_the_volume(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(), provisioned(**EXT4))
        await delete()(node)
        await keep()(node)
        async with node.life() as worker:
            await node.settle(worker, shown(node, "replica", "pg", KEPT))
        assert not tools(node, "lvremove")

    told(tmp_path, story)


def test_a_removal_that_is_withdrawn_too_late_says_that_it_is_gone(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(), provisioned())
        await delete()(node)
        node.machine.remove_volume("fast/pg")
        await keep()(node)
        async with node.life() as worker:
            await node.settle(worker, shown(node, "replica", "pg", GONE))
        assert node.desk.of(ReportReplicaAbsent)
        assert len(tools(node, "lvcreate")) == 1

    told(tmp_path, story)


def test_nothing_is_removed_on_old_news_or_without_the_log(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(), provisioned())
        async with node.life() as worker:
            await node.settle(worker, always)
            assert await worker.feed.is_news_free("replica/pg")
            await node.desk.garble("hwbus.evt.replica.n1.pg", b"news")
            assert not await worker.feed.is_news_free("replica/pg")
        async with node.life() as worker:
            assert not await worker.feed.is_news_free("replica/pg")

    told(tmp_path, story)


def test_growth_that_is_abandoned_leaves_the_pool_as_it_was(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(0), provisioned())
        moods = make_moody(node, "pvchange")
        async with node.life() as worker:
            await extend(1)(node)
            await until(lambda: bool(node.desk.of(ReportPoolTrouble)))
            moods[0].bad = False
            await abandon_growth(1)(node)
            await node.settle(worker, shown(node, "pool", POOL, "pool.disks-dropped.v1"))
        (pool,) = (await node.look()).pools
        assert len(pool.members) == 1
        blank = [d for d in (await node.look()).disks if d.content.kind.value == "blank"]
        assert {d.path for d in blank} == {"/dev/sdc", "/dev/sdd"}

    told(tmp_path, story)


def test_a_shrink_that_is_abandoned_leaves_the_disk_in_use(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(0), provisioned(), (extend(1), "pool", POOL, GROWN))
        moods = make_moody(node, "pvmove")
        async with node.life() as worker:
            await shrink(0)(node)
            await until(lambda: bool(moods) and moods[0].tries >= 1)
            assert [pv.allocatable for pv in node.machine.state.pvs.values()] == [False, True]
            await abandon_shrink(node)
            await node.settle(worker, shown(node, "pool", POOL, DISKS_KEPT))
        assert [pv.allocatable for pv in node.machine.state.pvs.values()] == [True, True]
        (pool,) = (await node.look()).pools
        assert len(pool.members) == 2

    told(tmp_path, story)


def test_a_move_that_takes_long_is_broken_off_when_it_is_wanted_no_more(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(0), provisioned(), (extend(1), "pool", POOL, GROWN))
        endless = Endless(node, "pvmove")
        async with node.life() as worker:
            await shrink(0)(node)
            await until(lambda: endless.begun == 1)
            await abandon_shrink(node)
            await node.settle(worker, shown(node, "pool", POOL, DISKS_KEPT))
        assert endless.cut_off == 1

    told(tmp_path, story)


class Endless:
    """Makes one tool run for ever, until it is cut off."""

    def __init__(self, node: Node, tool: str) -> None:
        self._tool = tool
        self.begun = self.cut_off = 0
        node.wrap = self._wrap

    def _wrap(self, runner: Runner) -> Runner:
        self._inner = runner
        return self

    async def run(
        self, argv: Sequence[str], *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        if argv[0] == self._tool and "--name" in argv:
            self.begun += 1
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self.cut_off += 1
        return await self._inner.run(argv, cause=cause, timeout_s=timeout_s, stdin=stdin)


def test_a_pool_whose_removal_is_abandoned_has_its_thin_pool_again(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(thin_bytes=GIB))
        node.machine.remove_volume("fast/hwbus-thin")  # as far as the removal had come
        await remove_pool(node)
        await keep_pool(node)
        async with node.life() as worker:
            await node.settle(worker, always)
        assert node.machine.volume("fast/hwbus-thin").kind == "thin-pool"
        assert not tools(node, "vgremove")

    told(tmp_path, story)


def test_an_undecided_report_is_sent_again_under_the_same_id(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed())
        patience = iter(range(3))
        node.desk.answer = lambda said: (
            undecided(said)
            if isinstance(said.word, ReportReplicaPresent) and next(patience, None) is not None
            else None
        )
        await have(node, provisioned())
        ids = [said.id for said in node.desk.said if isinstance(said.word, ReportReplicaPresent)]
        assert len(ids) == 4
        assert len(set(ids)) == 1

    told(tmp_path, story)


def test_a_refused_report_is_parked_and_not_repeated(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed())
        node.desk.answer = lambda said: (
            Refused(code=Refusal.BAD_HEADER, because="scripted")
            if isinstance(said.word, ReportReplicaPresent)
            else None
        )
        async with node.life() as worker:
            await provision()(node)
            await until(lambda: bool(node.desk.parked()))
            await node.settle(worker, always)
        assert len(present(node)) == 1
        assert "HW-G009" in node.desk.parked()[0].because
        assert node.figures.counters["reports_refused_total"] == 1

    told(tmp_path, story)


def test_a_full_thin_pool_raises_an_alarm_once_for_each_mark(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(thin_bytes=GIB), provisioned(**THIN))
        fill = Fill(node)
        async with node.life() as worker:
            await node.settle(worker, always)
            for percent in (10.0, 79.9, 80.0, 84.0, 96.5, 97.0, 50.0):
                fill.percent = percent
                await worker.scans.once()
            await node.settle(worker, always)
        assert [one.data_percent for one in node.desk.of(ReportThinFill)] == [79, 80, 96, 50]

    told(tmp_path, story)


class Fill:
    """Makes LVM's report say how full the thin pool is."""

    def __init__(self, node: Node) -> None:
        self.percent = 0.0
        node.wrap = self._wrap

    def _wrap(self, runner: Runner) -> Runner:
        self._inner = runner
        return self

    async def run(
        self, argv: Sequence[str], *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        done = await self._inner.run(argv, cause=cause, timeout_s=timeout_s, stdin=stdin)
        if argv[0] != "lvm":
            return done
        report = msgspec.json.decode(done.stdout)
        for row in report["report"]:
            for lv in row.get("lv", ()):
                if lv["lv_name"] == "hwbus-thin":
                    lv["data_percent"] = f"{self.percent:.2f}"
        return msgspec.structs.replace(done, stdout=msgspec.json.encode(report).decode())


def test_a_removed_node_keeps_still_until_it_is_let_in_again(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        async with node.life() as worker:
            await node.settle(worker, always)
            await worker.scans.once()
            await node.settle(worker, always)
            gone_at = await node.desk.happen(NodeRemoved(node=NODE, operation=OP))
            await until(lambda: node.figures.gauges["position"] == gone_at)
            pulled = node.machine.pull("sdb")
            before = len(node.desk.said)
            await worker.scans.once()
            assert len(node.desk.said) == before
            node.machine.plug(pulled)
            await node.desk.happen(NodeAdmitted(node=NODE))
            await until(lambda: len(node.desk.of(ReportNodeJoined)) == 2)
            await until(lambda: len(node.desk.of(ReportDiskSeen)) == 8)
            assert len(node.desk.of(ReportDrift)) == 2

    told(tmp_path, story)


def test_records_of_tools_survive_a_crash_and_carry_their_cause(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed())
        node.desk.away = True
        async with node.life():
            await until(lambda: len(tools(node, "lsblk")) >= 3)
        node.desk.away = False
        await have(node, provisioned())
        ran = Counter(node.executed)
        async with node.life():  # what the last one had not told yet it tells now
            await until(lambda: ran <= Counter(one.argv for one in node.desk.executed()))
        executed = node.desk.executed()
        (made,) = (one for one in executed if one.argv[0] == "lvcreate")
        assert made.cause.startswith("event:")
        assert made.correlation == OP
        assert made.exit_status == 0
        assert all(one.cause for one in executed)

    told(tmp_path, story)


def test_a_link_that_is_lost_again_and_again_loses_nothing(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed())
        async with node.life() as worker:
            for number in range(8):
                await provision(f"v{number}")(node)
                for _ in range(number):
                    await asyncio.sleep(0)
                node.desk.cut()
            for number in range(8):
                await node.settle(worker, shown(node, "replica", f"v{number}", CREATED))
        assert len(tools(node, "lvcreate")) == 8

    told(tmp_path, story)


wishes = st.lists(st.sampled_from(["make", "grow", "delete"]), min_size=1, max_size=4)


@given(st.integers(0, 10_000), wishes)
def test_any_bad_day_ends_like_a_good_one(seed: int, said: list[str]) -> None:
    asyncio.run(_bad_day(seed, said))


async def _bad_day(seed: int, said: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ends = []
        for name, faults in (
            ("calm", Faults(seed=0)),
            ("bad", Faults(seed=seed, fail_before=0.05, fail_after=0.1, faults_max=4)),
        ):
            node = Node(Path(folder) / name)
            await have(node, formed())
            node.faults = faults
            async with asyncio.timeout(30), node.life() as worker:
                await _live(node, said)
                await node.settle(worker, always)
            seen = await node.look()
            ends.append(sorted((v.name, v.size_bytes, v.active) for v in seen.volumes))
        assert ends[0] == ends[1]


async def _live(node: Node, said: list[str]) -> None:
    size_mib, there = 100, False
    for word in said:
        if word == "make" and not there:
            await provision("v", size_mib, **EXT4)(node)
            there = True
        elif word == "grow" and there:
            size_mib += 40
            await grow("v", size_mib)(node)
        elif word == "delete" and there:
            await delete("v")(node)
            await until(lambda: (NODE, "v") not in node.desk.world.replicas, within_s=25)
            there = False
