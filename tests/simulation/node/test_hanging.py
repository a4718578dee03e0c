"""A disk that does not answer: its tools hang, and the node is still told what to do, and does."""

import asyncio
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from node_workers import worker as working
from node_workers.ports import Execution, Runner, ToolStuckError
from schemas.node import ReportNodeJoined
from schemas.replica import ReportReplicaTrouble
from tests.simulation.node.lives import Node
from tests.simulation.node.stories import CREATED, formed, have, provision, provisioned, shown
from tests.simulation.node.test_node import told
from tests.support.clock import NOON
from tests.support.nats import until

Hangs = Callable[[Sequence[str], str], bool]


class Hanging:
    """A runner some of whose tools hang, as (arguments, cause) tell, until the disk answers."""

    def __init__(self, node: Node, hangs: Hangs, *, for_ever: bool = False) -> None:
        self._hangs = hangs
        self._for_ever = for_ever
        self.answers = False
        self.pid = 4711
        self.hung = self.cut_off = 0
        node.wrap = self._wrap

    def _wrap(self, runner: Runner) -> Runner:
        self._inner = runner
        return self

    async def run(
        self, argv: Sequence[str], *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        if self.answers or not self._hangs(argv, cause):
            return await self._inner.run(argv, cause=cause, timeout_s=timeout_s, stdin=stdin)
        self.hung += 1
        if not self._for_ever:
            raise ToolStuckError(_killed(argv, cause), timeout_s, self.pid)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.cut_off += 1
        raise AssertionError("nothing ends what hangs")


def _killed(argv: Sequence[str], cause: str) -> Execution:
    return Execution(
        argv=tuple(argv),
        exit_status=-signal.SIGKILL,
        stdout="",
        stderr="it survived SIGKILL",
        duration_ms=1.0,
        cause=cause,
        started_at=NOON,
    )


def test_tools_that_cannot_be_killed_do_not_end_the_worker(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed(), provisioned())
        hanging = Hanging(node, lambda *_: True)
        async with node.life() as worker:
            await until(lambda: worker.caught_up and hanging.hung > 0)
            await until(lambda: node.figures.counters["scans_failed_total"] > 0)
            await provision("more")(node)
            hung = hanging.hung
            await until(lambda: hanging.hung > hung)
            assert not node.ended
            hanging.answers = True
            worker.scans.hint()
            await node.settle(worker, shown(node, "replica", "more", CREATED))

    told(tmp_path, story)


def test_volumes_that_do_not_come_up_after_a_boot_keep_no_node_from_being_linked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working, "START_S", 0.2)

    async def story(node: Node) -> None:
        await have(node, formed(), provisioned())
        joined = len(node.desk.of(ReportNodeJoined))
        node.machine.reboot()
        hanging = Hanging(node, lambda _, cause: cause == "start:boot", for_ever=True)
        async with node.life() as worker:
            await until(lambda: worker.caught_up)
            await until(lambda: len(node.desk.of(ReportNodeJoined)) > joined)
            assert (hanging.hung, hanging.cut_off) == (1, 1)
            # What the start did not bring back the first look does.
            await until(lambda: node.machine.volume("fast/pg").active)

    told(tmp_path, story)


def test_another_trouble_after_a_restart_has_an_id_of_its_own(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await have(node, formed())
        hanging = Hanging(node, lambda argv, _: argv[0] == "lvcreate")
        async with node.life():
            await provision()(node)
            await until(lambda: len(told_troubles(node)) == 1)
        hanging.pid += 1
        async with node.life():
            await until(lambda: len(told_troubles(node)) == 2)
        assert len(set(told_troubles(node).values())) == 2

    told(tmp_path, story)


def told_troubles(node: Node) -> dict[str, str]:
    """Return the troubles, as they were put, each with the id under which it was told last."""
    said = [(one.word, one.id) for one in node.desk.said]
    return {word.because: id_ for word, id_ in said if isinstance(word, ReportReplicaTrouble)}
