"""How fast the whole log is checked against what was signed: live, from a store, from a file."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

from hwbus import archive
from hwbus.blocks import blocks_of, read_block
from hwbus.controller.notary import Notary
from hwbus.controller.notary_key import NotaryKey
from hwbus.heads import heads_in, up_to
from hwbus.identity import SystemClock
from hwbus.jetstream import Wires
from hwbus.ports import Stored
from hwbus.streams import AUDIT, EVENTS
from hwbus.verifying import Verifier
from schemas.audit import HeadRecord
from tests.benchmarks import past
from tests.benchmarks.figures import Figure, figure
from tests.benchmarks.system import a_broker, quiet, wires_of
from tests.support.nats import a_store


def _well(verifier: Verifier, total: int) -> None:
    verdict = verifier.finish()
    assert (verdict.first_bad, verdict.messages, verdict.signed) == (None, total, total), verdict


async def bare(wires: Wires, total: int) -> float:
    """Return the messages a second at which our reader reads them, and does nothing with them."""
    began = time.perf_counter()
    async for _ in up_to(wires.log, total):
        pass
    return total / (time.perf_counter() - began)


async def live(wires: Wires, heads: list[HeadRecord], total: int) -> float:
    """Return the messages a second at which the log itself is verified."""
    began = time.perf_counter()
    verifier = Verifier(heads, stream=EVENTS.name)
    async for batch in up_to(wires.log, total):
        verifier.take(batch)
    _well(verifier, total)
    return total / (time.perf_counter() - began)


def stored(store: Path, heads: list[HeadRecord], total: int) -> float:
    """Return the messages a second at which the files of the store are verified."""
    began = time.perf_counter()
    verifier = Verifier(heads, stream=EVENTS.name)
    for path in blocks_of(store, EVENTS.name):
        verifier.take(read_block(path))
    _well(verifier, total)
    return total / (time.perf_counter() - began)


def archived(file: Path, total: int) -> float:
    """Return the messages a second at which an archive is verified."""
    began = time.perf_counter()
    reader = archive.Reader(file)
    verifier = Verifier(reader.heads, stream=reader.stream, until=reader.until)
    verifier.take(reader.messages())
    _well(verifier, total)
    return total / (time.perf_counter() - began)


async def signing(wires: Wires, total: int, seed: int) -> float:
    """Return the messages a second at which a notary that is new here signs the past."""
    log, audit = wires.log, wires.log_of(AUDIT.name)
    notary = Notary(log, audit, wires.outlet, SystemClock(), NotaryKey(bytes([seed]) * 32))
    began = time.perf_counter()
    assert await notary.sign() == total
    return total / (time.perf_counter() - began)


async def _each(wires: Wires, total: int) -> AsyncIterator[Stored]:
    async for batch in up_to(wires.log, total):
        for one in batch:
            yield one


async def verifying(*, rounds: int, quick: bool) -> list[Figure]:
    """Measure all of them on one log, in turn with the bare reader."""
    volumes = 500 if quick else 10_000
    rates: dict[str, list[float]] = {}
    async with a_broker(sync_always=False) as broker, wires_of(broker) as wires:
        await wires.ensure_streams()
        total = await past.store(wires, past.of_volumes(volumes))
        with a_store() as folder:
            file = folder / "archive.jsonl"
            for number in range(rounds):
                await quiet()
                figures = {"bare": await bare(wires, total)}
                figures["signing"] = await signing(wires, total, number + 1)
                heads = await heads_in(wires.log_of(AUDIT.name))
                figures["live"] = await live(wires, heads, total)
                figures["store"] = stored(broker.log_path.parent, heads, total)
                if not number:
                    with file.open("wb") as out:
                        await archive.write(out, EVENTS.name, total, heads, _each(wires, total))
                figures["archive"] = archived(file, total)
                for name, rate in figures.items():
                    rates.setdefault(name, []).append(rate)
    return [
        figure(
            name,
            rates[which],
            "events/s",
            floor=rates["bare"],
            floor_is="our own reader, into nothing",
            note=f"{total:,} events of {volumes:,} volumes.",
        )
        for name, which in (
            ("signing a past that nobody signed", "signing"),
            ("verify the log", "live"),
            ("verify a copy of the store", "store"),
            ("verify an archive", "archive"),
        )
    ]
