"""Commands a second, and how long one takes, beside publishing the same bytes without deciding."""

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import nats
from nats.js import JetStreamContext

from hwbus.asking import ACTOR, COMMAND_ID
from hwbus.jetstream import Wires
from schemas.answers import Accepted, Answer
from schemas.disk import Content, DiskClass, ReportDiskSeen, Sighting
from tests.benchmarks.figures import Figure, Sample, figure
from tests.benchmarks.load import Numbers, Send, closed_loop, open_loop
from tests.benchmarks.system import a_broker, control_plane, quiet, wires_of

DISKS = 2048
_PATIENCE_S = 30.0
_AT_MOST_S = 2.0
COMMIT_BYTES = 560
GIB = 1 << 30
_ANSWER: msgspec.json.Decoder[Accepted | Any] = msgspec.json.Decoder(Answer)
Measure = Callable[[Send, Numbers], Awaitable[Sample]]


def bare(js: JetStreamContext) -> Send:
    """Publish with nats-py as everybody does, one expectation a message, as many subjects."""
    data = b"x" * COMMIT_BYTES
    last = [0] * DISKS

    async def send(number: int) -> None:
        disk = number % DISKS
        expected = {"Nats-Expected-Last-Subject-Sequence": str(last[disk])}
        ack = await js.publish(f"bare.evt.disk.-.d{disk}", data, headers=expected)
        last[disk] = ack.seq

    return send


def ours(wires: Wires) -> Send:
    """Have a disk's class overridden, back and forth: one decision and one event each."""

    async def send(number: int) -> None:
        turn, disk = divmod(number, DISKS)
        media = "ssd" if turn % 2 else "hdd"
        answer = await wires.bus.request(
            "hwbus.cmd.disk.override-class",
            b'{"disk":"d%d","media":"%b"}' % (disk, media.encode()),
            headers={COMMAND_ID: f"bench-{number}", ACTOR: "bench"},
            timeout_s=_PATIENCE_S,
        )
        decided = _ANSWER.decode(answer)
        if not isinstance(decided, Accepted) or not decided.seq:
            raise AssertionError(f"not recorded: {decided}")

    return send


async def bring_disks(wires: Wires) -> None:
    """Let a node report all the disks there are."""
    seen = Sighting(path="/dev/sdb", size_bytes=GIB, media=DiskClass.SSD, content=Content.BLANK)

    async def report(number: int) -> None:
        word = ReportDiskSeen(disk=f"d{number}", node="n1", sighting=seen)
        headers = {COMMAND_ID: f"seen-{number}", ACTOR: "bench"}
        answer = await wires.bus.request(
            "hwbus.cmd.disk.report-seen", msgspec.json.encode(word), headers=headers, timeout_s=10
        )
        assert isinstance(_ANSWER.decode(answer), Accepted), answer

    await closed_loop(report, Numbers(), at_once=64, count=DISKS)


def measures(*, quick: bool) -> dict[str, Measure]:
    """What is measured, by name: how many at once, or how many a second."""
    scale = 0.1 if quick else 1.0

    def closed(at_once: int, count: int) -> Measure:
        most = max(int(count * scale), 2 * at_once)
        return lambda send, numbers: closed_loop(
            send, numbers, at_once=at_once, count=most, at_most_s=_AT_MOST_S
        )

    def steady(per_s: int) -> Measure:
        for_s = 1.0 if quick else 2.0
        return lambda send, numbers: open_loop(send, numbers, per_s=per_s, for_s=for_s)

    return {
        "1 in flight": closed(1, 1000),
        "64 in flight": closed(64, 4000),
        "256 in flight": closed(256, 6000),
        "open loop 100/s": steady(100),
        "open loop 1,000/s": steady(1000),
    }


Runs = dict[str, dict[str, list[Sample]]]


async def run(*, sync_always: bool, rounds: int, quick: bool) -> Runs:
    """Return the samples of both sides by measure, taken in turn on one broker."""
    wanted = measures(quick=quick)
    found: Runs = {name: {"ours": [], "bare": []} for name in wanted}
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(a_broker(sync_always=sync_always))
        wires = await stack.enter_async_context(wires_of(broker))
        await stack.enter_async_context(control_plane(broker, wires))
        client = await nats.connect(broker.url)
        stack.push_async_callback(client.close)
        js = client.jetstream(timeout=_PATIENCE_S)
        await js.add_stream(name="BARE", subjects=["bare.evt.>"])
        await bring_disks(wires)
        sides = {"bare": (bare(js), Numbers()), "ours": (ours(wires), Numbers())}
        for send, numbers in sides.values():
            await closed_loop(send, numbers, at_once=64, count=DISKS)
        for _ in range(rounds):
            for name, measure in wanted.items():
                if not quick:
                    await quiet()
                for side, (send, numbers) in sides.items():
                    found[name][side].append(await measure(send, numbers))
    return found


def rows(found: Runs, how: str, *, p99_ms_at_most: float) -> Iterable[Figure]:
    """Return the rows of one way to sync."""
    floor_is = f"js.publish with the same expectation and as many bytes, {how}"
    for name, sides in found.items():
        mine, floor = sides["ours"], sides["bare"]
        fixed = name.startswith("open loop")
        if not fixed:
            yield figure(
                f"commands, {name}, {how}",
                [one.per_s for one in mine],
                "/s",
                floor=[one.per_s for one in floor],
                floor_is=floor_is,
                ratio_at_least=0.5,
            )
        for share in ("p50", "p99"):
            bound = p99_ms_at_most if share == "p99" and name == "open loop 1,000/s" else None
            yield figure(
                f"command {share}, {name}, {how}",
                [getattr(one, f"{share}_ms") for one in mine],
                "ms",
                floor=[getattr(one, f"{share}_ms") for one in floor],
                floor_is=floor_is,
                at_most=bound,
            )


async def commands(*, rounds: int, quick: bool) -> list[Figure]:
    """Measure with every acknowledgement on disk, and without."""
    found: list[Figure] = []
    for sync_always, how in ((True, "synced"), (False, "lazy")):
        runs = await run(sync_always=sync_always, rounds=rounds, quick=quick)
        found += rows(runs, how, p99_ms_at_most=10.0)
    return found
