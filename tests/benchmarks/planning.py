"""How long a plan takes in a large cluster, beside a question that a view answers."""

import time
from collections.abc import Awaitable, Callable
from statistics import median

import msgspec

from hwbus.codec import commit_codec
from hwbus.controller.plans import Plans
from hwbus.controller.storage import StorageDomain
from hwbus.desk import CommandDesk, taking_in_the_past
from hwbus.identity import Mint, SystemClock
from hwbus.jetstream import Wires
from hwbus.ports import Call
from schemas.draining import DrainNode
from schemas.grammar import Message
from schemas.upcasts import UPCASTS
from schemas.volume import ProvisionVolume
from schemas.words import AnyEvent
from tests.benchmarks import past
from tests.benchmarks.figures import Figure, figure
from tests.benchmarks.system import a_broker, quiet, wires_of

ASKED = 10
MANY = 300
GIB = 1 << 30


async def taken_in(wires: Wires, total: int) -> tuple[Plans, StorageDomain]:
    """Return the responder of a desk that has read the past."""
    domain, clock = StorageDomain(), SystemClock()
    codec = commit_codec(AnyEvent, UPCASTS)
    desk = CommandDesk(domain, wires.log, wires.outlet, codec, clock, Mint())
    with taking_in_the_past():
        async for _ in desk.follow():
            if desk.position >= total:
                break
    return Plans(domain.world, lambda: desk.position, wires.log, clock), domain


async def seconds(ask: Callable[[], Awaitable[bytes]]) -> float:
    """Return how long an answer takes that is a page."""
    began = time.perf_counter()
    answer = await ask()
    took = time.perf_counter() - began
    assert msgspec.json.decode(answer)["answer"] == "page"
    return took


def asking(plans: Plans, *commands: Message, **more: object) -> Callable[[], Awaitable[bytes]]:
    """Return what asks for a plan of *commands*."""
    steps = [{"what": "say", "command": one} for one in commands]
    data = msgspec.json.encode({"steps": steps, **more})
    return lambda: plans(Call("hwbus.q.plan", data, {}))


async def planning(*, rounds: int, quick: bool, volumes: int = 10_000) -> list[Figure]:
    """Measure plans on one past: one volume, many of them, a drain, one volume as of the middle."""
    ones, manys, drains, pasts = list[float](), list[float](), list[float](), list[float]()
    one = ProvisionVolume(volume="planned", size_bytes=GIB)
    many = [ProvisionVolume(volume=f"planned-{n}", size_bytes=GIB) for n in range(MANY)]
    async with a_broker(sync_always=False) as broker, wires_of(broker) as wires:
        await wires.ensure_streams()
        total = await past.store(wires, past.of_volumes(200 if quick else volumes))
        plans, domain = await taken_in(wires, total)
        node = next(iter(domain.world.nodes))
        for number in range(rounds):
            await quiet()
            ones.append(median([await seconds(asking(plans, one)) for _ in range(ASKED)]))
            manys.append(await seconds(asking(plans, *many)))
            drains.append(await seconds(asking(plans, DrainNode(node=node))))
            pasts.append(await seconds(asking(plans, one, at=total // 2 - number)))
    size = f"In a cluster of {total:,} events, with {len(domain.world.volumes):,} volumes."
    return [
        figure("plan of one volume", [1000 * s for s in ones], "ms", note=size),
        figure(f"plan of {MANY} volumes", manys, "s", at_most=5.0),
        figure("plan of a drain", drains, "s", at_most=2.0),
        figure("plan as of the past, for the first time", pasts, "s", at_most=20.0),
    ]
