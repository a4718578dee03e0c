"""A control plane that holds ten thousand volumes: its memory, its answers, its way back."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import quantiles
from typing import Any

import msgspec
import nats

from hwbus.jetstream import Wires
from schemas.answers import Accepted
from tests.benchmarks import past
from tests.benchmarks.commands import bring_disks, ours
from tests.benchmarks.figures import Figure, figure
from tests.benchmarks.load import Numbers, open_loop
from tests.benchmarks.system import a_broker, control_plane, end, memory_mib, start, wires_of
from tests.support.nats import a_store

PAGE = 500
_GIB = 1 << 30


class _Answer(msgspec.Struct, tag_field="answer", tag="page"):
    items: tuple[dict[str, Any], ...]
    seq: int
    next: str | None = None


_PAGE = msgspec.json.Decoder(_Answer)


async def list_volumes(wires: Wires, cursor: str = "", limit: int = PAGE) -> _Answer:
    """Ask for one page of the volumes."""
    query = msgspec.json.encode({"limit": limit, "cursor": cursor})
    answer = await wires.bus.request("hwbus.q.volumes", query, headers={}, timeout_s=30)
    return _PAGE.decode(answer)


async def list_all(wires: Wires) -> tuple[int, float]:
    """Return how many volumes there are, and how many milliseconds it took to read them all."""
    began, count, cursor = time.perf_counter(), 0, ""
    while True:
        page = await list_volumes(wires, cursor)
        count += len(page.items)
        if page.next is None:
            return count, (time.perf_counter() - began) * 1e3
        cursor = page.next


async def p99_ms(wires: Wires, runs: int) -> float:
    """Return the 99th percentile of asking for a page."""
    times_ms = []
    for _ in range(runs):
        began = time.perf_counter()
        await list_volumes(wires)
        times_ms.append((time.perf_counter() - began) * 1e3)
    return quantiles(times_ms, n=100)[98]


async def bare_p99_ms(url: str, size_bytes: int, runs: int) -> float:
    """Return the 99th percentile of a request that is answered with as many ready-made bytes."""
    server, client = await nats.connect(url), await nats.connect(url)
    body = b"x" * size_bytes

    async def answer(message: Any) -> None:
        await message.respond(body)

    await server.subscribe("bare.page", cb=answer)
    await server.flush()
    times_ms = []
    for _ in range(runs):
        began = time.perf_counter()
        await client.request("bare.page", b"", timeout=10)
        times_ms.append((time.perf_counter() - began) * 1e3)
    await client.close()
    await server.close()
    return quantiles(times_ms, n=100)[98]


async def lag_ms(wires: Wires, seconds: float) -> list[float]:
    """Return p50 and p99 of how long after its acceptance a command can be seen in a view."""
    lags: list[float] = []
    stop = asyncio.Event()

    async def look() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            said = await wires.bus.request(
                "hwbus.cmd.node.cordon" if number % 2 else "hwbus.cmd.node.uncordon",
                b'{"node":"n0"}',
                headers={},
                timeout_s=10,
            )
            seq = msgspec.json.decode(said, type=Accepted).seq
            began = time.perf_counter()
            query = msgspec.json.encode({"limit": 1, "min_seq": seq, "wait_ms": 10_000})
            answer = await wires.bus.request("hwbus.q.nodes", query, headers={}, timeout_s=15)
            assert _PAGE.decode(answer).seq >= seq
            lags.append((time.perf_counter() - began) * 1e3)
            await asyncio.sleep(0.01)

    looking = asyncio.create_task(look())
    await open_loop(ours(wires), Numbers(), per_s=1000, for_s=seconds)
    stop.set()
    await looking
    cuts = quantiles(lags, n=100)
    return [cuts[49], cuts[98]]


async def _grown(stack: AsyncExitStack, volumes: int) -> tuple[Any, Wires, Path]:
    broker = await stack.enter_async_context(a_broker(sync_always=False))
    wires = await stack.enter_async_context(wires_of(broker))
    await wires.ensure_streams()
    await past.store(wires, past.of_volumes(volumes))
    return broker, wires, stack.enter_context(a_store())


async def holding(*, rounds: int, quick: bool) -> list[Figure]:
    """Measure memory when idle and when full, listing, coming back, and how far views lag."""
    volumes = 500 if quick else 10_000
    runs = 100 if quick else 200
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(a_broker(sync_always=False))
        wires = await stack.enter_async_context(wires_of(broker))
        plane = await stack.enter_async_context(control_plane(broker, wires))
        idle, idle_ready_s = memory_mib(plane.pid), plane.ready_s
    async with AsyncExitStack() as stack:
        broker, wires, state = await _grown(stack, volumes)
        cold = await start(broker, wires, state)
        count, all_ms = await list_all(wires)
        assert count == volumes
        first = memory_mib(cold.pid)
        back_s = []
        plane = cold
        for _ in range(rounds):
            plane.process.kill()
            await plane.process.wait()
            plane = await start(broker, wires, state)
            back_s.append(plane.ready_s)
        stack.push_async_callback(end, plane.process)
        full = memory_mib(plane.pid)
        pages, bare_pages = [], []
        page_bytes = len(msgspec.json.encode((await list_volumes(wires)).items))
        for _ in range(rounds):
            bare_pages.append(await bare_p99_ms(broker.url, page_bytes, runs))
            pages.append(await p99_ms(wires, runs))
        await bring_disks(wires)
        lags = [await lag_ms(wires, 1.0 if quick else 3.0) for _ in range(rounds)]
    held = f"{volumes:,} volumes"
    return [
        figure("control plane, idle: RSS", [idle[0]], "MiB", at_most=150.0),
        figure("control plane, idle: PSS", [idle[1]], "MiB"),
        figure(
            f"control plane, {held}: RSS",
            [full[0]],
            "MiB",
            at_most=150.0,
            floor=[idle[0]],
            floor_is="the same with an empty log",
        ),
        figure(f"control plane, {held}: PSS", [full[1]], "MiB", floor=[idle[1]]),
        figure(
            f"control plane, {held}, views just made anew: RSS",
            [first[0]],
            "MiB",
            at_most=150.0,
            floor=[idle[0]],
        ),
        figure(
            f"a page of {PAGE} of {held}: p99",
            pages,
            "ms",
            at_most=200.0,
            floor=bare_pages,
            floor_is=f"a NATS request answered with as many bytes ({page_bytes:,})",
        ),
        figure(f"all pages of {held}", [all_ms], "ms"),
        figure(
            f"kill -9 to ready, {held}",
            back_s,
            "s",
            at_most=5.0,
            floor=[idle_ready_s],
            floor_is="the start with an empty log",
        ),
        figure(f"first start, views made anew, {held}", [cold.ready_s], "s"),
        figure("accepted to seen in a view, 1,000 commands/s: p50", [p50 for p50, _ in lags], "ms"),
        figure("accepted to seen in a view, 1,000 commands/s: p99", [p99 for _, p99 in lags], "ms"),
    ]
