"""Lives of one worker over one machine and one file, each of which may end at any point."""

import asyncio
import copy
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import aiosqlite

from hwbus import subjects
from node_workers.assembly import SIMULATED, Place, assemble
from node_workers.figures import Figures
from node_workers.inventory import observe
from node_workers.observation import Observation
from node_workers.ports import Execution, Runner
from node_workers.scans import Rhythm
from node_workers.simulated.faults import Faults
from node_workers.simulated.machine import SimulatedMachine
from node_workers.simulated.runner import SimulatedRunner
from node_workers.store import Change, Record, Store, open_store
from node_workers.worker import Worker
from schemas.node import NODES
from tests.simulation.node.desk import Desk
from tests.support.errands import TestersSecrets
from tests.support.keys import HeldKeys
from tests.support.nats import until_async

NODE = "n1"
T = TypeVar("T")
Tasks = set["asyncio.Task[Any]"]
_LIFE: ContextVar[Tasks | None] = ContextVar("life", default=None)
QUICK = Rhythm(every_s=3600.0, settle_s=0.0, apart_s=0.0, health_every_s=0.0)


class Fate:
    """Counts the points at which a worker may die, and strikes at one of them.

    A struck worker stands still for ever, like a process that was killed: nothing after the
    point happens, and what it was about to write is not written.
    """

    def __init__(self, strike_at: int = 0) -> None:
        self.points = 0
        self.where: list[str] = []
        self.struck = asyncio.Event()
        self.buried = False
        self._strike_at = strike_at

    async def point(self, where: str) -> None:
        if not self.struck.is_set():
            self.points += 1
            self.where.append(where)
            if self.points == self._strike_at:
                self.struck.set()
        if self.buried:
            raise asyncio.CancelledError
        if self.struck.is_set():
            await asyncio.get_running_loop().create_future()


class FatedRunner:
    """A runner after each of whose executions the worker may die."""

    def __init__(
        self, inner: Runner, fate: Fate, begun: list[str], executed: list[tuple[str, ...]]
    ) -> None:
        self._inner = inner
        self._fate = fate
        self._begun = begun
        self._executed = executed

    async def run(
        self, argv: Sequence[str], *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        if self._fate.struck.is_set():
            await self._fate.point(argv[0])
        self._begun.append(argv[0])
        execution = await self._inner.run(argv, cause=cause, timeout_s=timeout_s, stdin=stdin)
        self._executed.append(tuple(argv))
        await self._fate.point(f"after {argv[0]}")
        return execution


class FatedStore(Store):
    """A store after each of whose transactions the worker may die."""

    def __init__(self, inner: Store, fate: Fate, check: Callable[[], None]) -> None:
        super().__init__(inner._connection)
        self._fate = fate
        self._check = check

    async def _fated(self) -> None:
        self._check()
        if self._fate.struck.is_set():
            await self._fate.point("store")

    async def commit(self, change: Change) -> tuple[int, ...]:
        await self._fated()
        numbers = await super().commit(change)
        await self._fate.point("after commit")
        return numbers

    async def remove_letter(self, number: int, records: Sequence[Record] = ()) -> None:
        await self._fated()
        await super().remove_letter(number, records)
        await self._fate.point("after remove_letter")

    async def add_records(self, records: Sequence[Record]) -> None:
        await self._fated()
        await super().add_records(records)
        await self._fate.point("after add_records")

    async def remove_records(self, numbers: Sequence[int]) -> None:
        await self._fated()
        await super().remove_records(numbers)
        await self._fate.point("after remove_records")


class AtOnce(aiosqlite.Connection):
    """SQLite in the thread of the event loop, which has its turn before each statement.

    Going to another thread and back costs more than the statement; where others may come in
    between is the same.
    """

    async def _execute(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return fn(*args, **kwargs)

    async def _connect(self) -> "AtOnce":
        self._connection = self._connector()
        return self

    def __await__(self) -> Generator[Any, None, "AtOnce"]:
        return self._connect().__await__()

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def at_once(path: Path, **more: Any) -> AtOnce:
    return AtOnce(lambda: sqlite3.connect(path, **more), 64)


class Node:
    """A machine, a desk and a file: what stays when a worker dies."""

    def __init__(
        self, folder: Path, *, disks: int = 3, disk_bytes: int = 4 << 30, name: str = NODE
    ) -> None:
        self.name = name
        self.machine = SimulatedMachine.with_disks(name, [disk_bytes] * disks)
        self.desk = Desk()
        self.keys = HeldKeys("file:old", "file:new")
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / f"{name}.sqlite"
        self.begun: list[str] = []
        self.executed: list[tuple[str, ...]] = []
        self.figures = Figures()
        self.latency_s = 0.0
        self.faults = Faults(seed=0)
        self.wrap: Callable[[Runner], Runner] = lambda runner: runner
        self.connect: Callable[..., aiosqlite.Connection] = aiosqlite.connect
        self.stop = asyncio.Event()
        self.ended = False
        self._spoilt = ""

    async def forked(self, folder: Path) -> "Node":
        """Return another node as this one is now, between two lives; each goes its own way."""
        other = Node(folder, name=self.name)
        other.machine = SimulatedMachine(copy.deepcopy(self.machine.state))
        other.desk = await self.desk.forked()
        other.keys.held = dict(self.keys.held)
        other.begun, other.executed = list(self.begun), list(self.executed)
        other.figures = copy.deepcopy(self.figures)
        other.connect = self.connect
        assert [one.name for one in self.file.parent.iterdir()] == [self.file.name]  # no journal
        shutil.copyfile(self.file, other.file)
        return other

    @property
    def _mine(self) -> tuple[str, str]:
        """The subjects that a worker of this node follows."""
        return (
            subjects.of_node(self.name),
            subjects.address(NODES, subjects.CLUSTER, self.name).subject,
        )

    def spoil(self, because: str) -> None:
        """Let every further write to the worker's own file fail."""
        self._spoilt = because

    def _check(self) -> None:
        if self._spoilt:
            raise sqlite3.OperationalError(self._spoilt)

    @asynccontextmanager
    async def life(
        self, fate: Fate | None = None, *, rhythm: Rhythm = QUICK
    ) -> AsyncIterator[Worker]:
        """Run a worker while the context lasts; then kill it, if it is not dead already."""
        fate = fate or Fate()
        whose: dict[str, str] = {"node": self.name, "identity": "memory"}
        async with open_store(self.file, **whose, syncing=False, connect=self.connect) as store:
            runner = SimulatedRunner(
                self.machine, self.desk.clock.now, self.faults, latency_s=self.latency_s
            )
            worker = await assemble(
                Place(
                    node=self.name,
                    runner=FatedRunner(self.wrap(runner), fate, self.begun, self.executed),
                    sysfs=self.machine,
                    counters=self.machine,
                    capabilities=SIMULATED,
                    contents=self.machine.lent,
                    keys=self.keys,
                    credentials=TestersSecrets(),
                ),
                FatedStore(store, fate, self._check),
                clock=self.desk.clock,
                rng=Random(1),
                figures=self.figures,
                rhythm=rhythm,
            )
            self.stop.clear()
            self.ended = False
            task, begun = _living(worker.run(self.desk.link, self.stop))
            task.add_done_callback(self._note_end)
            try:
                yield worker
                if task.done():
                    task.result()
            finally:
                fate.buried = True
                fate.struck.set()
                await _bury(begun)

    def _note_end(self, _: "asyncio.Task[None]") -> None:
        self.ended = True

    async def settle(self, worker: Worker, true: Callable[[], Awaitable[bool]]) -> None:
        """Wait until the worker has heard all that was said, has nothing left to do, and *true*."""
        newest = [await self.desk.log.last(subject) for subject in self._mine]
        said = max((stored.seq for stored in newest if stored is not None), default=0)

        async def quiet() -> bool:
            heard = self.figures.gauges.get("position", 0) >= said
            return heard and worker.quiet and await true()

        await until_async(quiet)

    async def look(self) -> Observation:
        runner = SimulatedRunner(self.machine, self.desk.clock.now)
        return await observe(runner, self.machine, node=self.name, cause="test")


def _living(life: Coroutine[Any, Any, None]) -> tuple["asyncio.Task[None]", Tasks]:
    """Start a life; return it, and the tasks that it is of, and all that they ever start.

    Another worker may live beside it, and shall not die with it.
    """
    asyncio.get_running_loop().set_task_factory(_note_parent)  # type: ignore[arg-type]  # it is generic
    begun: Tasks = set()
    token = _LIFE.set(begun)
    try:
        return asyncio.create_task(life), begun
    finally:
        _LIFE.reset(token)


def _note_parent(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], **more: Any
) -> "asyncio.Task[T]":
    task = asyncio.Task(work, loop=loop, **more)
    if (begun := _LIFE.get()) is not None:
        begun.add(task)
        task.add_done_callback(begun.discard)
    return task


async def _bury(tasks: Tasks) -> None:
    """Cancel *tasks* and whatever they start while they die."""
    for _ in range(20):
        for task in tuple(tasks):
            task.cancel()
        if not tasks:
            return
        await asyncio.wait(tuple(tasks), timeout=0.5)
