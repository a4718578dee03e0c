"""How fast the past is read: into the deciders, and into views on disk."""

import asyncio
import gc
import time
from pathlib import Path

import msgspec
import nats
from nats.aio.msg import Msg

from hwbus.codec import commit_codec
from hwbus.controller.storage import StorageDomain, StorageScript
from hwbus.desk import CommandDesk, taking_in_the_past
from hwbus.driver import Driver
from hwbus.identity import Mint, SystemClock
from hwbus.jetstream import Wires
from hwbus.server import Broker
from projectors.projector import replay
from projectors.sqlite import EVENTS, Store
from schemas.upcasts import UPCASTS
from schemas.words import AnyCommit, AnyEvent
from tests.benchmarks import past
from tests.benchmarks.figures import Figure, figure
from tests.benchmarks.system import a_broker, quiet, wires_of
from tests.support.nats import a_store

_MILLION = 1_000_000
_WITHIN_S = 300


async def into_aggregates(wires: Wires, total: int) -> float:
    """Return the events a second at which a control plane that starts takes in its past."""
    domain, clock, mint = StorageDomain(), SystemClock(), Mint()
    codec = commit_codec(AnyEvent, UPCASTS)
    desk = CommandDesk(domain, wires.log, wires.outlet, codec, clock, mint)
    encode = msgspec.json.Encoder().encode
    driver = Driver(desk, StorageScript(domain.world), clock, encode)
    began = time.perf_counter()
    with taking_in_the_past():
        async for seen in desk.follow():
            await driver.take(seen)
            if desk.position >= total:
                break
    took_s = time.perf_counter() - began
    assert driver.open_operations == 0, "the past was told to its end"
    gc.unfreeze()
    return total / took_s


async def into_views(wires: Wires, total: int, folder: Path) -> float:
    """Return the events a second at which all views are made anew, indices and all."""
    store = await Store.open(folder / "views.sqlite")
    try:
        began = time.perf_counter()
        await replay(store, EVENTS, wires.log, until=total)
        await store.index()
        took_s = time.perf_counter() - began
        assert store.folded[EVENTS].parked == store.folded[EVENTS].unknown == 0
    finally:
        await store.close()
    return total / took_s


async def bare(broker: Broker, total: int) -> float:
    """Return the events a second at which nats-py reads them in order and msgspec decodes them."""
    decoder = msgspec.json.Decoder(AnyCommit)
    done, seen = asyncio.Event(), 0

    async def take(message: Msg) -> None:
        nonlocal seen
        decoder.decode(message.data)
        seen += 1
        if seen == total:
            done.set()

    client = await nats.connect(broker.url)
    try:
        began = time.perf_counter()
        js = client.jetstream()
        await js.subscribe("hwbus.evt.>", stream="HWBUS_EVENTS", cb=take, ordered_consumer=True)
        async with asyncio.timeout(_WITHIN_S):
            await done.wait()
        return total / (time.perf_counter() - began)
    finally:
        await client.close()


async def reading(*, rounds: int, quick: bool) -> list[Figure]:
    """Measure both, in turn with the bare reader, on the same stream."""
    volumes = 500 if quick else 10_000
    rates: dict[str, list[float]] = {"bare": [], "aggregates": [], "views": []}
    async with a_broker(sync_always=False) as broker, wires_of(broker) as wires:
        await wires.ensure_streams()
        total = await past.store(wires, past.of_volumes(volumes))
        for _ in range(rounds):
            await quiet()
            rates["bare"].append(await bare(broker, total))
            rates["aggregates"].append(await into_aggregates(wires, total))
            with a_store() as folder:
                rates["views"].append(await into_views(wires, total, folder))
    floor_is = "nats-py's ordered consumer and msgspec, into nothing"
    size = f"{total:,} events of {volumes:,} volumes"
    return [
        figure(
            "replay into aggregates and operations",
            rates["aggregates"],
            "events/s",
            floor=rates["bare"],
            floor_is=floor_is,
            at_least=80_000,
            note=f"{size}.",
        ),
        figure(
            "rebuild of all views",
            rates["views"],
            "events/s",
            floor=rates["bare"],
            floor_is=floor_is,
            note=f"{size}.",
        ),
        figure(
            "rebuild of all views from a million events",
            [_MILLION / rate for rate in rates["views"]],
            "s",
            floor=[_MILLION / rate for rate in rates["bare"]],
            floor_is=floor_is,
            at_most=40.0,
            note=f"Extrapolated from {size}: tables that outgrow the cache may be slower.",
        ),
    ]
