"""Chapters twelve and thirteen: a volume gets a replica in use, and outlives its node."""

import asyncio
import time

from hwbus.demo.forming import FAST
from hwbus.demo.stage import Row, Stage
from hwbus.demo.teller import NotSoError

ACCOUNTS = "accounts"
_AT = "/mnt/accounts"
_FAILOVER_S = 15.0
_BACK_S = 60.0
_POLL_S = 0.2
_PAUSE_S = 2.0
_ELSEWHERE = (
    "Replication is the kernel's own work (DRBD), and these nodes are simulated: not shown."
)
# A number on disk, and the next: it keeps the longest that one took, and ends at the first error.
_WRITER = f"""
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
longest, number = 0.0, 0
with open("{_AT}/log", "ab", 0) as log:
    while True:
        began = time.monotonic()
        log.write(f"{{number}}\\n".encode()); os.fsync(log.fileno())
        longest, number = max(longest, time.monotonic() - began), number + 1
        with open("/run/written.new", "w") as told:
            told.write(f"{{number}} {{longest:.3f}}")
        os.replace("/run/written.new", "/run/written")
"""


async def a_volume_gets_a_replica_in_use(stage: Stage) -> None:
    """Replicate a plain volume while somebody writes to it, then hand it over and back."""
    teller = stage.teller
    teller.chapter("A volume in use gets a replica on another node, and its consumer moves there")
    if not stage.place.measures:
        teller.say(_ELSEWHERE)
        return
    where = ("--pool", FAST, "--node", "n1")
    await stage.hwbus("volume", "create", ACCOUNTS, "128MiB", "--fs", "ext4", *where, "--wait")
    attach = ("volume", "attach", ACCOUNTS, "host/shop", "--mount", _AT, "--wait")
    await stage.hwbus(*attach, output=False)
    await _write(stage, "n1")
    await stage.hwbus("volume", "add-replica", ACCOUNTS, "--wait", progress=True)
    written, longest_s = await _written(stage, "n1")
    teller.check(written > 0, f"{written} writes in the meantime, none failed", "none was made")
    teller.check(
        longest_s < _PAUSE_S,
        f"the longest of them took {longest_s * 1000:.0f} ms: its table was swapped in use",
        f"{longest_s} s",
    )
    then = await _stopped(stage, "n1")
    volume = await stage.row("volumes", name=ACCOUNTS)
    other = next(leg["node"] for leg in volume["replicas"] if leg["node"] != "n1")
    began_s = time.monotonic()
    await stage.hwbus("volume", "hand-over", ACCOUNTS, other, "--wait", output=False)
    took_s = time.monotonic() - began_s
    found = await _sum(stage, other)
    teller.same(found, then, f"{other} has it mounted, whole, {took_s:.1f} s after it was asked")
    await stage.hwbus("volume", "hand-over", ACCOUNTS, "n1", "--wait", output=False)
    await stage.hwbus("replica", "ls", ACCOUNTS)


async def a_node_loses_power(stage: Stage) -> None:
    """Cut the power of the node that writes: the other goes on with all that was on disk."""
    teller = stage.teller
    teller.chapter("The node that writes loses its power; the other goes on with every byte")
    if not stage.place.measures:
        teller.say(_ELSEWHERE)
        return
    other = await _other(stage)
    await _write(stage, "n1")
    await asyncio.sleep(1)
    acknowledged, _ = await _written(stage, "n1")
    teller.say("The plug of n1 is pulled.")
    began_s = time.monotonic()
    await stage.place.cut_power("n1")
    row = await _until(stage, _FAILOVER_S * 2, node=other, operation="")
    took_s = time.monotonic() - began_s
    teller.check(
        took_s < _FAILOVER_S,
        f"{other} has it {took_s:.1f} s later, by itself, in epoch {row['epoch']}",
        f"{took_s:.1f} s",
    )
    lines = (await stage.inside(other, "wc", "-l", f"{_AT}/log", show=False)).split()[0]
    teller.check(
        int(lines) >= acknowledged,
        f"all {acknowledged} writes that were acknowledged are there",
        f"{lines} are",
    )
    await stage.place.boot("n1")
    await _until(stage, _BACK_S, health="healthy")
    await stage.hwbus("replica", "ls", ACCOUNTS)
    role = (await stage.inside("n1", "drbdadm", "role", f"hwbus-{ACCOUNTS}")).strip()
    teller.same(
        role.split("/")[0], "Secondary", "n1 is back, took what it had missed, and stole nothing"
    )
    await stage.hwbus("volume", "detach", ACCOUNTS, "--wait", output=False)
    gone = ("volume", "delete", ACCOUNTS, "--hold", "0s", "--yes", "--wait")
    await stage.hwbus(*gone, output=False)


async def _other(stage: Stage) -> str:
    volume = await stage.row("volumes", name=ACCOUNTS)
    return str(next(leg["node"] for leg in volume["replicas"] if leg["node"] != "n1"))


async def _write(stage: Stage, node: str) -> None:
    start = f"rm -f /run/written; setsid python3 -c '{_WRITER}' </dev/null >/dev/null 2>&1 &"
    await stage.by_hand(node, ("sh", "-c", f"{start} echo $! >/run/writer"))


async def _written(stage: Stage, node: str) -> tuple[int, float]:
    """Return how many writes are on disk, and how long the longest took, in seconds."""
    told = (await stage.inside(node, "cat", "/run/written", show=False)).split()
    return (int(told[0]), float(told[1])) if told else (0, 0.0)


async def _stopped(stage: Stage, node: str) -> str:
    """Have nobody write any more; return the checksum of what is there."""
    wait = "kill $(cat /run/writer); while kill -0 $(cat /run/writer) 2>/dev/null; do :; done"
    await stage.by_hand(node, ("sh", "-c", wait))
    return await _sum(stage, node)


async def _sum(stage: Stage, node: str) -> str:
    return (await stage.inside(node, "md5sum", f"{_AT}/log")).split()[0]


async def _until(stage: Stage, within_s: float, **wanted: str) -> Row:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        row = await stage.row("volumes", name=ACCOUNTS)
        if all(row[field] == value for field, value in wanted.items()):
            return row
        await asyncio.sleep(_POLL_S)
    raise NotSoError(f"{ACCOUNTS} has {wanted} within {within_s:.0f} s")
