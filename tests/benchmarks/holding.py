"""A control plane that holds ten thousand volumes: its memory, its answers, its way back."""

import asyncio
import time
from collections.abc import Iterator
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
_LEAST = 2  # of fewer there is no percentile


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
        while not stop.is_set() or len(lags) < _LEAST:
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


class Held(msgspec.Struct):
    """What was measured, before it is rows. Memory is (RSS, PSS) in MiB."""

    volumes: int
    idle: tuple[float, float] = (0.0, 0.0)
    full: tuple[float, float] = (0.0, 0.0)
    first: tuple[float, float] = (0.0, 0.0)
    idle_ready_s: float = 0.0
    first_ready_s: float = 0.0
    back_s: list[float] = []
    page_bytes: int = 0
    all_ms: float = 0.0
    pages_ms: list[float] = []
    bare_pages_ms: list[float] = []
    lags_ms: list[list[float]] = []


async def holding(*, rounds: int, quick: bool) -> list[Figure]:
    """Measure memory when idle and when full, listing, coming back, and how far views lag."""
    held = Held(volumes=500 if quick else 10_000)
    await _empty(held)
    async with AsyncExitStack() as stack:
        broker, wires, state = await _grown(stack, held.volumes)
        plane = await start(broker, wires, state)
        held.first_ready_s = plane.ready_s
        count, held.all_ms = await list_all(wires)
        assert count == held.volumes
        held.first = memory_mib(plane.pid)
        for _ in range(rounds):
            plane.process.kill()
            await plane.process.wait()
            plane = await start(broker, wires, state)
            held.back_s.append(plane.ready_s)
        stack.push_async_callback(end, plane.process)
        held.full = memory_mib(plane.pid)
        held.page_bytes = len(msgspec.json.encode((await list_volumes(wires)).items))
        runs = 100 if quick else 200
        for _ in range(rounds):
            held.bare_pages_ms.append(await bare_p99_ms(broker.url, held.page_bytes, runs))
            held.pages_ms.append(await p99_ms(wires, runs))
        await bring_disks(wires)
        held.lags_ms = [await lag_ms(wires, 1.0 if quick else 3.0) for _ in range(rounds)]
    return [*_memory_rows(held), *_time_rows(held)]


async def _empty(held: Held) -> None:
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(a_broker(sync_always=False))
        wires = await stack.enter_async_context(wires_of(broker))
        plane = await stack.enter_async_context(control_plane(broker, wires))
        held.idle, held.idle_ready_s = memory_mib(plane.pid), plane.ready_s


def _memory_rows(held: Held) -> Iterator[Figure]:
    what = f"{held.volumes:,} volumes"
    empty: dict[str, Any] = {"floor": [held.idle[0]], "floor_is": "the same with an empty log"}
    yield figure("control plane, idle: RSS", [held.idle[0]], "MiB", at_most=150.0)
    yield figure("control plane, idle: PSS", [held.idle[1]], "MiB")
    yield figure(f"control plane, {what}: RSS", [held.full[0]], "MiB", at_most=150.0, **empty)
    yield figure(f"control plane, {what}: PSS", [held.full[1]], "MiB", floor=[held.idle[1]])
    anew = f"control plane, {what}, views just made anew: RSS"
    yield figure(anew, [held.first[0]], "MiB", at_most=150.0, **empty)


def _time_rows(held: Held) -> Iterator[Figure]:
    what = f"{held.volumes:,} volumes"
    yield figure(
        f"a page of {PAGE} of {what}: p99",
        held.pages_ms,
        "ms",
        at_most=200.0,
        floor=held.bare_pages_ms,
        floor_is=f"a NATS request answered with as many bytes ({held.page_bytes:,})",
    )
    yield figure(f"all pages of {what}", [held.all_ms], "ms")
    yield figure(
        f"kill -9 to ready, {what}",
        held.back_s,
        "s",
        at_most=5.0,
        floor=[held.idle_ready_s],
        floor_is="the start with an empty log",
    )
    yield figure(f"first start, views made anew, {what}", [held.first_ready_s], "s")
    for number, share in enumerate(("p50", "p99")):
        name = f"accepted to seen in a view, 1,000 commands/s: {share}"
        yield figure(name, [lag[number] for lag in held.lags_ms], "ms")
