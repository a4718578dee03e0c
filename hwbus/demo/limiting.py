"""Chapter eleven: how fast a volume may be used is said by its class, and measured."""

import asyncio
import time

import msgspec

from hwbus.demo.forming import SCRATCH
from hwbus.demo.stage import Row, Stage
from hwbus.demo.teller import NotSoError

GOLD = "gold"
_CGROUP = "shop"
_GROUP = f"/sys/fs/cgroup/{_CGROUP}"
_MIB = 1 << 20
_WITHIN = 0.1
_ATTEMPTS_MAX = 3
_CARRIED_S = 30.0
_POLL_S = 0.2
_RUN_S = 2
_TIMED_OUT = 124
# In the group that is limited, as its consumer would be: reading and writing side by side.
_FIO = """echo $$ > {group}/cgroup.procs; \
exec timeout 20 fio --output-format=json --direct=1 --ioengine=psync \
--filename=/dev/hwbus/{volume} --size=64M --time_based --runtime={seconds} \
--name=read --rw=randread --bs={read} --name=write --rw=randwrite --bs={write}"""


class _Half(msgspec.Struct, frozen=True, kw_only=True):
    """What is allowed of reading or of writing: ``of`` is iops or bw_bytes, as fio calls it."""

    what: str
    of: str
    allowed: int
    unit: str


_FIRST = (
    _Half(what="read", of="iops", allowed=200, unit="operations a second"),
    _Half(what="write", of="bw_bytes", allowed=4 * _MIB, unit="bytes a second"),
)
_THEN = (
    _Half(what="read", of="bw_bytes", allowed=8 * _MIB, unit="bytes a second"),
    _Half(what="write", of="iops", allowed=150, unit="operations a second"),
)


async def a_class_limits(stage: Stage) -> None:
    """Give a volume a class, measure it, change the class while it is used, measure again."""
    teller = stage.teller
    teller.chapter("How fast a volume may be used is said by its class, changed in use, measured")
    await stage.hwbus(
        *("qos", "class", "create", GOLD, "--read-iops", "200", "--write-bytes", "4MiB/s")
    )
    await stage.hwbus("qos", "set", SCRATCH, "--class", GOLD)
    node = (await stage.row("volumes", name=SCRATCH))["node"]
    await stage.by_hand(node, ("mkdir", _GROUP))
    await stage.hwbus(
        *("volume", "attach", SCRATCH, "host/shop", "--cgroup", _CGROUP, "--wait"), output=False
    )
    await _holds(stage, node, f"rbps=max wbps={4 * _MIB} riops=200 wiops=max", *_FIRST)
    await stage.hwbus("qos", "class", "set", GOLD, "--read-bytes", "8MiB/s", "--write-iops", "150")
    row = await _carried(stage)
    teller.same(
        (row["state"], row["carrying"], row["attached"]),
        ("applied", 1, 1),
        "the class is applied when its one attached volume carries the new limits",
    )
    await _holds(stage, node, f"rbps={8 * _MIB} wbps=max riops=max wiops=150", *_THEN)
    await stage.hwbus("qos", "show", SCRATCH)
    await stage.hwbus("volume", "detach", SCRATCH, "--wait", output=False)


async def _carried(stage: Stage) -> Row:
    """Return the class when it has been carried to its volumes, or as it is after a while."""
    deadline = time.monotonic() + _CARRIED_S
    row = await stage.row("qos", name=GOLD)
    while row["state"] != "applied" and time.monotonic() < deadline:
        await asyncio.sleep(_POLL_S)
        row = await stage.row("qos", name=GOLD)
    return row


async def _holds(stage: Stage, node: str, line: str, *halves: _Half) -> None:
    teller = stage.teller
    found = await stage.inside(node, "cat", f"{_GROUP}/io.max")
    teller.same(found.split()[1:], line.split(), "io.max of the consumer's group has these limits")
    if not stage.place.measures:
        teller.say("This node is simulated: it has an io.max, but no device to be measured.")
        return
    measured = await _measure(stage, node, halves)
    for attempt in range(2, _ATTEMPTS_MAX + 1):
        if all(_within(half, measured) for half in halves):
            break
        teller.say(f"Not as fast as it may be: this machine is busy. Once more, no. {attempt}.")
        measured = await _measure(stage, node, halves)
    for half in halves:
        figure = measured[half.what]
        teller.check(
            _within(half, measured),
            f"{half.what}: {half.allowed} {half.unit} allowed, {figure:.0f} measured by fio",
            f"{figure:.0f} is not within {_WITHIN:.0%} of it",
        )


def _within(half: _Half, measured: dict[str, float]) -> bool:
    return abs(measured[half.what] - half.allowed) <= _WITHIN * half.allowed


async def _measure(stage: Stage, node: str, halves: tuple[_Half, ...]) -> dict[str, float]:
    """Use the volume as fast as may be; return what is wanted of each half, as fio tells it.

    Nothing at all, where fio is not done with its two seconds after twenty.
    """
    blocks = {half.what: "4k" if half.of == "iops" else "64k" for half in halves}
    script = _FIO.format(group=_GROUP, volume=SCRATCH, seconds=_RUN_S, **blocks)
    stage.teller.command(("sh", "-c", script), node=node)
    ran = await stage.place.run(node, ("sh", "-c", script))
    if ran.status == _TIMED_OUT:
        return dict.fromkeys(blocks, 0.0)
    try:
        jobs = {job["jobname"]: job for job in msgspec.json.decode(ran.stdout)["jobs"]}
        return {half.what: float(jobs[half.what][half.what][half.of]) for half in halves}
    except (msgspec.DecodeError, KeyError) as error:
        words = f"{ran.stderr}{ran.stdout}"[:200]
        raise NotSoError(
            f"fio says how fast it was ({error!r}, exit {ran.status}: {words})"
        ) from error
