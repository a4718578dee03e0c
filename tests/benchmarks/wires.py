"""How much of bare JetStream is left: appends and following, against nats-py in the same minute.

Run with ``python -m tests.benchmarks.wires``; prints one JSON object. Server and client share the
machine, and the server syncs lazily, so that the client's cost is seen and not the disk's.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from statistics import median, quantiles

import nats
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig

from hwbus.jetstream import Wires
from hwbus.server import Broker
from tests.support.nats import fresh_broker, wires_to

DATA = b'{"v":1,"events":[' + b"x" * 180 + b"]}"
Append = Callable[[int], Awaitable[object]]


async def append_figures(
    append: Append, count: int, in_flight: int, start: int
) -> dict[str, float]:
    times_ms: list[float] = []
    numbers = iter(range(start, start + count))

    async def writer() -> None:
        for number in numbers:
            began = time.perf_counter()
            await append(number)
            times_ms.append((time.perf_counter() - began) * 1e3)

    began = time.perf_counter()
    await asyncio.gather(*(writer() for _ in range(in_flight)))
    took_s = time.perf_counter() - began
    return {
        "per_s": round(count / took_s),
        "p50_ms": round(median(times_ms), 3),
        "p99_ms": round(quantiles(times_ms, n=100)[98], 3),
    }


def bare(js: JetStreamContext) -> Append:
    async def append(number: int) -> object:
        headers = {"Nats-Expected-Last-Subject-Sequence": "0", "Nats-Msg-Id": f"m{number}"}
        return await js.publish(f"hwbus.evt.volume.-.{number}", DATA, headers=headers)

    return append


def ours(wires: Wires) -> Append:
    async def append(number: int) -> object:
        return await wires.log.append(
            f"hwbus.evt.volume.-.{number}", DATA, after=0, message_id=f"m{number}"
        )

    return append


async def follow_per_s(wires: Wires, total: int) -> int:
    began = time.perf_counter()
    seen = 0
    async with wires.log.follow(after=0) as batches:
        async for batch in batches:
            seen += len(batch)
            if seen >= total:
                break
    return round(seen / (time.perf_counter() - began))


async def ordered_per_s(js: JetStreamContext, total: int) -> int:
    """nats-py's quickest reader: an ordered consumer with a callback."""
    done = asyncio.Event()
    seen = 0

    async def take(_message: object) -> None:
        nonlocal seen
        seen += 1
        if seen >= total:
            done.set()

    began = time.perf_counter()
    subscription = await js.subscribe("hwbus.evt.>", cb=take, ordered_consumer=True)
    await done.wait()
    took_s = time.perf_counter() - began
    await subscription.unsubscribe()
    return round(seen / took_s)


async def fetch_per_s(js: JetStreamContext, total: int) -> int:
    subscription = await js.pull_subscribe(
        "hwbus.evt.>",
        stream="HWBUS_EVENTS",
        config=ConsumerConfig(ack_policy=AckPolicy.NONE),
    )
    began = time.perf_counter()
    seen = 0
    while seen < total:
        seen += len(await subscription.fetch(500, timeout=5))
    return round(seen / (time.perf_counter() - began))


async def live_ms(reader: Wires, writer: Wires, count: int) -> dict[str, float]:
    times_ms: list[float] = []
    head = await writer.log.head()
    async with reader.log.follow(after=head) as batches:
        for number in range(count):
            began = time.perf_counter()
            subject = f"hwbus.evt.live.-.{number}"
            await writer.log.append(subject, DATA, after=0, message_id=subject)
            await anext(batches)
            times_ms.append((time.perf_counter() - began) * 1e3)
    return {
        "p50_ms": round(median(times_ms), 3),
        "p99_ms": round(quantiles(times_ms, n=100)[98], 3),
    }


async def start_ms() -> float:
    times_ms = []
    for _ in range(5):
        began = time.perf_counter()
        async with fresh_broker():
            times_ms.append((time.perf_counter() - began) * 1e3)
    return round(median(times_ms), 1)


async def on(broker: Broker) -> dict[str, object]:
    found: dict[str, object] = {}
    client = await nats.connect(broker.url)
    js = client.jetstream()
    async with (
        wires_to(broker, stock=False) as fast,
        wires_to(broker, stock=True) as stock,
        wires_to(broker, stock=False) as other,
    ):
        await fast.ensure_streams()
        ways = {"bare js.publish": bare(js), "append": ours(fast), "append, stock": ours(stock)}
        start = 0
        for in_flight, count in ((1, 2_000), (64, 15_000), (256, 20_000)):
            for name, append in ways.items():
                figures = await append_figures(append, count, in_flight, start)
                found[f"{name}, {in_flight} in flight"] = figures
                start += count
        total = await fast.log.head()
        found["stored"] = total
        found["follow per s"] = [await follow_per_s(fast, total) for _ in range(3)]
        found["follow per s, stock"] = await follow_per_s(stock, total)
        found["nats-py ordered consumer per s"] = await ordered_per_s(js, total)
        found["nats-py fetch(500) per s"] = await fetch_per_s(js, 20_000)
        found["appended to followed, live"] = await live_ms(fast, other, 1_000)
    await client.close()
    return found


async def main() -> None:
    found: dict[str, object] = {"server start ms": await start_ms()}
    async with fresh_broker() as broker:
        found |= await on(broker)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    asyncio.run(main())
