"""How long it takes to show a point of the past, beside reading the log up to it from its start."""

import time
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from statistics import median

import msgspec

from hwbus.cli.accounting import period
from hwbus.client import Client
from hwbus.identity import SystemClock
from hwbus.jetstream import Wires
from hwbus.memory import MemoryBus, MemoryLog
from hwbus.ports import Call
from hwbus.streams import AUDIT
from projectors.asking import Plan
from projectors.projector import Projector, Sources, replay
from projectors.service import Views, endpoints
from projectors.sqlite import EVENTS, Store
from schemas.queries import COLUMNS
from tests.benchmarks import past
from tests.benchmarks.figures import Figure, figure
from tests.benchmarks.system import a_broker, quiet, wires_of
from tests.support.nats import a_store

POINTS = 20
WITHIN_S = 2.0
# These show one object, or the views themselves.
_ALONE = {"volume", "operation", "status", "views"}


class _Page(msgspec.Struct):
    """What of an answer is looked at."""

    seq: int
    next: str | None
    items: list[msgspec.Raw]


async def _ask(views: Views, view: str, **asked: object) -> _Page:
    answer = await views(Call(f"hwbus.q.{view}", msgspec.json.encode(asked), {}))
    return msgspec.json.decode(answer, type=_Page)


async def a_page(views: Views, point: int) -> float:
    """Return the seconds that the first 500 volumes of a point take that nobody has asked for."""
    began = time.perf_counter()
    assert (await _ask(views, "volumes", at=point)).seq == point
    return time.perf_counter() - began


async def everything(views: Views, point: int) -> float:
    """Return the seconds that all rows of all views but the audit take, page after page."""
    began = time.perf_counter()
    for view in COLUMNS.keys() - _ALONE - {"audit"}:
        cursor: str | None = ""
        while cursor is not None:
            page = await _ask(views, view, at=point, cursor=cursor, limit=5000)
            cursor = page.next
    return time.perf_counter() - began


async def a_period(views: Views, level: str, first: int, last: int) -> float:
    """Return the seconds that the usage of a period takes whose ends nobody has asked for."""
    bus = MemoryBus()
    async with bus.serve("views", "0", endpoints(), views):
        client = Client(bus, MemoryLog(SystemClock()), actor="bench", mint=str)
        ends = [(await client.at_point(seq).query("accounts", limit=1)).at for seq in (first, last)]
        since, until = (end or datetime.now(UTC) for end in ends)
        began = time.perf_counter()
        counted = await period(client, level, since, until, until)
        assert counted.lines
        return time.perf_counter() - began


async def from_the_start(wires: Wires, point: int) -> float:
    """Return the seconds that the same page takes when the log is read up to it first."""
    with a_store() as folder:
        store = await Store.open(folder / "views.sqlite")
        try:
            began = time.perf_counter()
            await replay(store, EVENTS, wires.log, until=point)
            plan = Plan(table="volumes", newest_first=False)
            await store.find(plan, limit=500, bytes_max=900_000)
            return time.perf_counter() - began
        finally:
            await store.close()


async def travelling(*, rounds: int, quick: bool, volumes: int = 12_500) -> list[Figure]:
    """Measure random points of one past, each asked for once."""
    chance = Random(7)
    pages: list[list[float]] = []
    wholes, floors, by_pool, by_volume = (list[float]() for _ in range(4))
    async with a_broker(sync_always=False) as broker, wires_of(broker) as wires:
        await wires.ensure_streams()
        total = await past.store(wires, past.of_volumes(500 if quick else volumes))
        with a_store() as folder:
            sources = Sources(wires.log, wires.log_of(AUDIT.name))
            projector = Projector(Path(folder, "views"), sources, wires.outlet, SystemClock())
            async with projector.running():
                await projector.caught_up.wait()
                views = Views(projector)
                for _ in range(rounds):
                    points = [chance.randint(total // 2, total) for _ in range(POINTS)]
                    await quiet()
                    pages.append([await a_page(views, point) for point in points])
                    wholes.append(await everything(views, points[0]))
                    floors.append(await from_the_start(wires, points[0]))
                    first, last = sorted(chance.randint(total // 4, total - 1) for _ in range(2))
                    by_pool.append(await a_period(views, "pool", first, last))
                    by_volume.append(await a_period(views, "volume", first - 1, last - 1))
    floor_is = "the log read into empty views up to such a point"
    size = f"{POINTS} random points of the later half of {total:,} events, each for the first time."
    about = {"floor": floors, "floor_is": floor_is, "at_most": WITHIN_S}
    return [
        figure("a page of the past: median", [median(r) for r in pages], "s", **about, note=size),
        figure("a page of the past: slowest", [max(r) for r in pages], "s", **about, note=size),
        figure("all rows of a point of the past", wholes, "s", **about, note="But the audit."),
        figure("usage of a period, by pool", by_pool, "s", at_most=WITHIN_S),
        figure("usage of a period, by volume", by_volume, "s", note=f"{volumes:,} accounts."),
    ]
