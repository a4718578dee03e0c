"""Order and width of work: one lane an object, few tools side by side in one volume group."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

SIDE_BY_SIDE_MAX = 4
_BACKOFF_FIRST_S = 0.5
_BACKOFF_MAX_S = 30.0
_BACKOFF_DOUBLINGS_MAX = 10


def backoff_s(
    attempt: int, rng: Random, *, first_s: float = _BACKOFF_FIRST_S, max_s: float = _BACKOFF_MAX_S
) -> float:
    """Return how long to wait after the failed *attempt* (from 0): doubling, with jitter."""
    full_s = min(first_s * (1 << min(attempt, _BACKOFF_DOUBLINGS_MAX)), max_s)
    return full_s * (0.5 + rng.random() / 2)


class Lane:
    """The lane of one object, as its work sees it."""

    def __init__(self) -> None:
        self.kicked = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def pause(self, seconds: float) -> None:
        """Wait so long, or until there is news of the object."""
        try:
            async with asyncio.timeout(seconds):
                await self.kicked.wait()
        except TimeoutError:
            return


class Lanes:
    """Runs *work* for each object that is kicked: never twice at once for one object.

    *on_failure* hears of work that raised: that is a fault of this program or of its store.
    """

    def __init__(
        self,
        work: Callable[[str, Lane], Awaitable[None]],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._work = work
        self._on_failure = on_failure
        self._lanes: dict[str, Lane] = {}
        self._closed = False

    def kick(self, key: str) -> None:
        """Have the object worked on now, or once more if it is being worked on."""
        if self._closed:
            return
        lane = self._lanes.get(key)
        if lane is not None:
            lane.kicked.set()
            return
        lane = self._lanes[key] = Lane()
        lane.task = asyncio.create_task(self._run(key, lane), name=f"lane {key}")

    def busy(self) -> frozenset[str]:
        """Return the objects that are being worked on."""
        return frozenset(self._lanes)

    async def close(self, *, within_s: float) -> None:
        """Start nothing more; let what runs end for *within_s*, then cut it off."""
        self._closed = True
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        for lane in self._lanes.values():
            lane.kicked.set()  # whoever only waits to try again need not
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=within_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    @property
    def closing(self) -> bool:
        """Whether no new work shall be begun."""
        return self._closed

    async def _run(self, key: str, lane: Lane) -> None:
        try:
            while not self._closed:
                lane.kicked.clear()
                await self._work(key, lane)
                if not lane.kicked.is_set():
                    return
        except Exception as error:  # noqa: BLE001 -- handed on, to end the worker
            self._on_failure(error)
        finally:
            del self._lanes[key]


class Gate:
    """Lets few in side by side, or one alone; who wants to be alone is not starved."""

    def __init__(self, side_by_side_max: int = SIDE_BY_SIDE_MAX) -> None:
        self._places = asyncio.Semaphore(side_by_side_max)
        self._side_by_side_max = side_by_side_max
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def enter(self, *, alone: bool) -> AsyncIterator[None]:
        """Be inside for as long as the context lasts."""
        taken = 0
        try:
            # Taking places is everybody's turn in order: somebody who waits for all of them
            # is not overtaken by those who need one.
            async with self._turn:
                for _ in range(self._side_by_side_max if alone else 1):
                    await self._places.acquire()
                    taken += 1
            yield
        finally:
            for _ in range(taken):
                self._places.release()


class Gates:
    """A gate for each volume group, made when somebody comes."""

    def __init__(self) -> None:
        self._gates: dict[str, Gate] = {}

    def of(self, group: str) -> Gate:
        """Return the gate of that group."""
        return self._gates.setdefault(group, Gate())
