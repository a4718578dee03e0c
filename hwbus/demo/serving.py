"""Chapters five and six: data survives growth, and nobody gets what is not there."""

import asyncio
from collections import Counter

import msgspec

from hwbus.client import ends
from hwbus.demo.forming import BULK, ORDERS
from hwbus.demo.place import NODES
from hwbus.demo.stage import GIB, Row, Stage
from hwbus.demo.teller import NotSoError
from schemas.answers import Accepted, Refused
from schemas.refusals import Refusal
from schemas.volume import ProvisionVolume

TARGET = "/mnt/orders"
DATA = f"{TARGET}/data"
BIG = "big"
_WISHES = 20
_BIG_BYTES = 6 * GIB
_ALL_ENDED_S = 60.0
_GROWN_BYTES = 3 * GIB
_NO_ROOM = frozenset({Refusal.NO_PLACE, Refusal.CAPACITY})


async def a_mounted_volume_grows(stage: Stage) -> None:
    """Write through a filesystem, grow the volume under it, and read the same again."""
    teller = stage.teller
    teller.chapter("A volume in use grows, with its filesystem and without losing a byte")
    volume = await stage.row("volumes", name=ORDERS)
    node = volume["node"]
    await stage.by_hand(
        node,
        ("mkdir", "-p", TARGET),
        ("mount", volume["device"], TARGET),
        ("dd", "if=/dev/urandom", f"of={DATA}", "bs=1M", "count=32"),
        ("sync",),
    )
    checksum = await stage.inside(node, "md5sum", DATA)
    before_bytes = await _size_of_filesystem(stage, node)
    await stage.hwbus(
        *("volume", "grow", ORDERS, "3GiB", "--wait", "--actor", "bob"), progress=True
    )
    after_bytes = await _size_of_filesystem(stage, node)
    lv = (await stage.lvs(node, volume["pool"], show=False))[ORDERS]
    teller.same(lv.size_bytes, _GROWN_BYTES, f"the logical volume has {_GROWN_BYTES} bytes")
    teller.check(
        before_bytes <= GIB < 0.9 * _GROWN_BYTES < after_bytes,
        "the filesystem on it is larger too",
        f"from {before_bytes} to {after_bytes} bytes",
    )
    mounted = await stage.inside(node, "findmnt", "-n", "-o", "SOURCE,FSTYPE,TARGET", TARGET)
    teller.check(TARGET in mounted and "ext4" in mounted, "it was mounted all the time")
    teller.same(await stage.inside(node, "md5sum", DATA), checksum, "the data are the same")


async def _size_of_filesystem(stage: Stage, node: str) -> int:
    said = await stage.inside(node, "df", "-B1", "--output=size,target", TARGET)
    return int(said.splitlines()[1].split()[0])


async def too_much_is_asked_for(stage: Stage) -> None:
    """Send twenty wishes at once; exactly as many come true as fit."""
    teller = stage.teller
    teller.chapter(f"{_WISHES} people want 6 GiB each, at once, of three pools of 20 GiB")
    pools = await stage.rows("pools", name=BULK)
    fit = sum(pool["available_bytes"] // _BIG_BYTES for pool in pools)
    room = ", ".join(f"{pool['node']} {pool['available_bytes']}" for pool in pools)
    teller.say(f"The ledger says what is available, in bytes: {room}; so {fit} of them fit.")
    teller.command(("hwbus", "volume", "create", f"{BIG}-1", "6GiB", "--pool", BULK), beside=True)
    teller.say(f"  ... and so on to {BIG}-{_WISHES}, all in flight at the same time")
    ready, refused = await _wishes(stage)
    for (code, because), count in Counter(refused.values()).most_common(3):
        teller.output(f"{count} refused: {code} {because}")
    await stage.hwbus("volume", "ls", "--pool", BULK)
    teller.same(len(ready), fit, f"exactly {fit} are ready")
    teller.check(
        len(refused) == _WISHES - fit
        and all(code in _NO_ROOM and because for code, because in refused.values()),
        f"the other {_WISHES - fit} are refused, each with a code and a reason",
        f"{refused}",
    )
    await _lvm_agrees(stage, fit)


async def _wishes(stage: Stage) -> tuple[list[str], dict[str, tuple[str, str]]]:
    """Return the volumes that are ready, and those refused with code and reason."""
    head = await stage.client.log.head()
    names = [f"{BIG}-{number}" for number in range(1, _WISHES + 1)]
    words = [ProvisionVolume(volume=name, size_bytes=_BIG_BYTES, pool=BULK) for name in names]
    answers = await asyncio.gather(*(stage.client.command(word) for word in words))
    running: dict[str, str] = {}
    refused: dict[str, tuple[str, str]] = {}
    for name, answer in zip(names, answers, strict=True):
        match answer:
            case Accepted():
                running[answer.operation] = name
            case Refused():
                refused[name] = (answer.code, answer.because)
            case _:
                raise NotSoError(f"the wish for {name} was decided ({answer.because})")
    ready = []
    for operation, event in (await _endings(stage, set(running), head)).items():
        name = running[operation]
        if event["outcome"] == "completed":
            ready.append(name)
        else:
            refused[name] = (event.get("code", ""), event.get("because", ""))
    return ready, refused


async def _endings(stage: Stage, operations: set[str], after: int) -> dict[str, Row]:
    endings: dict[str, Row] = {}
    if not operations:
        return endings
    try:
        async with (
            asyncio.timeout(_ALL_ENDED_S),
            stage.client.happenings(after=after) as happenings,
        ):
            async for happening in happenings:
                if ends(happening) and happening.correlation in operations:
                    endings[happening.correlation] = happening.events[-1]
                if len(endings) == len(operations):
                    break
    except TimeoutError as error:
        raise NotSoError(f"all {len(operations)} operations end in time") from error
    return endings


async def _lvm_agrees(stage: Stage, fit: int) -> None:
    groups = {node: (await stage.vgs(node))[BULK] for node in NODES}
    stage.teller.same(
        sum(group.volumes for group in groups.values()), fit, f"LVM has {fit} of them, no more"
    )
    usage = {row["node"]: row for row in await stage.rows("usage", level="pool", pool=BULK)}
    stage.teller.check(
        all(
            usage[node]["reserved_bytes"] == 0
            and usage[node]["committed_bytes"] == group.size_bytes - group.free_bytes
            and group.free_bytes < _BIG_BYTES
            for node, group in groups.items()
        ),
        "nothing is over-committed: committed is what LVM has given away, and nothing is reserved",
        f"{msgspec.json.encode(usage).decode()} and {groups}",
    )
