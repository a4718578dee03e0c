"""Chapters seven and eight: a worker dies in the middle, and somebody meddles."""

import asyncio
import time

import msgspec

from hwbus.demo.forming import BULK, FAST
from hwbus.demo.serving import BIG
from hwbus.demo.stage import GIB, Row, Stage
from hwbus.demo.teller import NotSoError
from schemas.answers import Accepted
from schemas.volume import Filesystem, ProvisionVolume

_NODE = "n2"
LEDGER = "ledger"
_ATTEMPTS_MAX = 3
_WANTED_S = 20.0
_FOUND_S = 30.0
_LOOK_S = 0.02  # what is caught in the middle takes three times as long where it is simulated
_TAKEN = "taken"


class _Caught(msgspec.Struct, frozen=True, kw_only=True):
    volume: str
    operation: str


async def a_worker_is_killed(stage: Stage) -> None:
    """Kill a worker between the wish and its report, and see the operation end well."""
    teller = stage.teller
    teller.chapter("A worker is killed in the middle of an operation")
    caught = await _catch(stage)
    name, operation = caught.volume, caught.operation
    await stage.hwbus("op", "ls")
    row = await stage.row("operations", id=operation)
    teller.same(row["state"], "running", "the operation goes on, though its worker is dead")
    halfway = await stage.lvs(_NODE, FAST)
    left = "a logical volume that nobody has reported" if name in halfway else "nothing yet"
    teller.say(f"What the worker has left: {left}.")
    teller.say(
        "The worker is started again: it knows what is wanted, looks what is there, and goes on."
    )
    await stage.place.start_worker(_NODE)
    await stage.hwbus("op", "watch", operation)
    row = await stage.row("operations", id=operation)
    teller.same(row["state"], "completed", "the operation has ended well")
    volume = await stage.row("volumes", name=name)
    found = await stage.lvs(_NODE, FAST)
    tag = f"hwbus.volume={volume['uid']}"
    twins = [lv.name for lv in found.values() if tag in lv.tags or lv.name.startswith(name)]
    teller.same(twins, [name], "there is one logical volume of it, and no second")
    teller.same(await stage.signature(_NODE, volume["device"]), "ext4", "with its filesystem")
    made = [
        tool
        for tool in await stage.rows("audit", kind="tool", correlation=operation)
        if tool["argv"][0] == "lvcreate" and tool["exit_status"] == 0
    ]
    teller.check(len(made) <= 1, "no lvcreate was done twice", f"{len(made)} were")


async def _catch(stage: Stage) -> _Caught:
    """Begin a volume and kill the worker before it reports; try again if it was quicker."""
    for attempt in range(1, _ATTEMPTS_MAX + 1):
        name = LEDGER if attempt == 1 else f"{LEDGER}-{attempt}"
        argv = ("volume", "create", name, "1GiB", "--fs", "ext4", "--pool", FAST, "--node", _NODE)
        stage.teller.command(("hwbus", *argv))
        head = await stage.client.log.head()
        answer = await stage.client.command(
            ProvisionVolume(
                volume=name,
                size_bytes=GIB,
                filesystem=Filesystem.EXT4,
                pool=FAST,
                node=_NODE,
            )
        )
        if not isinstance(answer, Accepted):
            raise NotSoError(f"the wish for {name} is accepted ({answer.because})")
        await _until_wanted(stage, name, head)
        if attempt < _ATTEMPTS_MAX:  # the last time, earlier rather than too late
            await _until_half_made(stage, name)
        await stage.place.kill_worker(_NODE)
        stage.teller.command(("kill", "-9", "WORKER"), node=_NODE)
        replica = await stage.row("replicas", volume=name)
        if replica["state"] == "wanted":
            stage.teller.check(
                True,  # noqa: FBT003
                f"killed between the event that {name} is wanted and the report that it is there",
            )
            return _Caught(volume=name, operation=answer.operation)
        stage.teller.say(f"The worker was quicker: {name} was ready already. Once more.")
        await stage.place.start_worker(_NODE)
    raise NotSoError(f"the worker can be caught in the middle, in {_ATTEMPTS_MAX} attempts")


async def _until_wanted(stage: Stage, name: str, after: int) -> None:
    address = f"replica/{_NODE}/{name}"
    try:
        async with (
            asyncio.timeout(_WANTED_S),
            stage.client.happenings(after=after, objects=(address,)) as happenings,
        ):
            async for happening in happenings:
                if any(event["type"] == "replica.wanted.v1" for event in happening.events):
                    return
    except TimeoutError as error:
        raise NotSoError(f"{name} is wanted of {_NODE} in time") from error


async def _until_half_made(stage: Stage, name: str) -> None:
    deadline = time.monotonic() + _WANTED_S
    while name not in await stage.lvs(_NODE, FAST, show=False):
        if time.monotonic() > deadline:
            raise NotSoError(f"{_NODE} begins to make {name} in time")
        await asyncio.sleep(_LOOK_S)


async def somebody_meddles(stage: Stage) -> None:
    """Remove one volume and rename another by hand; both are found, neither is repaired."""
    teller = stage.teller
    teller.chapter("Somebody changes LVM by hand")
    node, lost, renamed = await _victims(stage)
    await stage.by_hand(
        node,
        ("lvremove", "-y", f"{BULK}/{lost}"),
        ("lvrename", BULK, renamed, _TAKEN),
    )
    await stage.look_again(node)
    drifts = {row["drift"]: row for row in await stage.until("drift", 2, _FOUND_S)}
    await stage.hwbus("drift")
    _both_sides(stage, drifts, lost, renamed)
    found = await stage.lvs(node, BULK)
    teller.check(
        _TAKEN in found and lost not in found and renamed not in found,
        "it is told and not touched: nothing was deleted, renamed or made again",
        f"{sorted(found)}",
    )
    teller.say("People settle it: one is renamed back, the other is given up.")
    await stage.hwbus("volume", "delete", lost, "--hold", "0s", "--yes", "--wait")
    await stage.by_hand(node, ("lvrename", BULK, _TAKEN, renamed))
    await stage.look_again(node)
    left = await stage.until("drift", 0, _FOUND_S)
    await stage.hwbus("drift", progress=True)
    teller.same([row["object"] for row in left], [], "the findings are settled")


async def _victims(stage: Stage) -> tuple[str, str, str]:
    volumes = [row for row in await stage.rows("volumes", pool=BULK) if row["name"].startswith(BIG)]
    for node in sorted({row["node"] for row in volumes}):
        here = sorted(row["name"] for row in volumes if row["node"] == node)
        if len(here) > 1:
            return node, here[0], here[1]
    raise NotSoError("a node has two of the volumes")


def _both_sides(stage: Stage, drifts: dict[str, Row], lost: str, renamed: str) -> None:
    missing, other = drifts.get("volume-missing", {}), drifts.get("volume-renamed", {})
    stage.teller.check(
        f"{BULK}/{lost}" in missing.get("wanted", "") and bool(missing.get("observed")),
        f"{lost} is reported as missing: what was wanted, what is there, how to settle it",
        f"{missing}",
    )
    stage.teller.check(
        (other.get("wanted"), other.get("observed")) == (f"{BULK}/{renamed}", f"{BULK}/{_TAKEN}"),
        f"{renamed} is reported as renamed, with both names",
        f"{other}",
    )
