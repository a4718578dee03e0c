"""Chapters fourteen and fifteen: what is not needed goes, and the record tells all of it."""

import time
from datetime import datetime

import msgspec

from hwbus.demo.forming import FAST, ORDERS, SCRATCH
from hwbus.demo.place import NODES
from hwbus.demo.serving import DATA, TARGET
from hwbus.demo.stage import ACTOR, Row, Stage
from schemas.refusals import Refusal

_FAILED = 1
# What each operation on the volume must have run, and must not have.
_TOOLS: tuple[tuple[frozenset[str], frozenset[str]], ...] = (
    (frozenset({"lvcreate", "mkfs.ext4"}), frozenset()),
    (frozenset({"lvextend", "resize2fs"}), frozenset({"mkfs.ext4"})),
    (frozenset({"findmnt"}), frozenset({"lvremove", "lvchange", "blkdiscard"})),
    (frozenset({"wipefs", "lvremove"}), frozenset()),
)
_TOOLS_S = 15.0
_ARGV_CHARACTERS_MAX = 96


async def volumes_are_deleted(stage: Stage) -> None:
    """Delete volumes; the one in use only after it was unmounted."""
    teller = stage.teller
    teller.chapter("Volumes are deleted, but never under somebody's feet")
    volume = await stage.row("volumes", name=ORDERS)
    node, delete = volume["node"], ("volume", "delete", ORDERS, "--hold", "0s", "--yes", "--wait")
    checksum = await stage.inside(node, "md5sum", DATA)
    said = await stage.hwbus(*delete, status=_FAILED, progress=True)
    teller.check(
        Refusal.IN_USE in said.err and TARGET in said.err,
        f"a mounted volume is not deleted: {Refusal.IN_USE}, and where it is mounted",
        said.err,
    )
    teller.same(
        await stage.inside(node, "md5sum", DATA, show=False), checksum, "its data are untouched"
    )
    await stage.by_hand(node, ("umount", TARGET))
    await stage.side_by_side(
        delete, ("volume", "delete", SCRATCH, "--hold", "0s", "--yes", "--wait")
    )
    gone = {ORDERS, SCRATCH}
    left = {row["name"] for row in await stage.rows("volumes")}
    teller.check(not left & gone, "both are gone from the views", f"{left & gone}")
    for name in NODES:
        there = set(await stage.lvs(name, FAST, show=name == node))
        teller.check(not there & gone, f"and from LVM in {name}", f"{there & gone}")


async def the_record_tells(stage: Stage) -> None:
    """Print the audit trail of one volume, and the usage beside what LVM says."""
    stage.teller.chapter("The record: who did what to a volume, and where all the room is")
    await _trail(stage)
    await _usage(stage)


async def _trail(stage: Stage) -> None:
    teller, address = stage.teller, f"volume/{ORDERS}"
    await stage.hwbus("audit", "--object", address)
    commits = await stage.rows("audit", object=address, kind="accepted")
    operations = list(dict.fromkeys(row["correlation"] for row in reversed(commits)))
    teller.same(len(operations), 4, "four operations: made, grown, not deleted, deleted")
    asked = [(row["actor"], row["word"]) for row in reversed(commits) if row["actor"] != "hwbus"]
    teller.same(
        asked,
        [
            (ACTOR, "volume.provision.v1"),
            ("bob", "volume.grow.v1"),
            (ACTOR, "volume.delete.v1"),
            (ACTOR, "volume.delete.v1"),
        ],
        "who asked for what, in whose name",
    )
    for operation, (must, never) in zip(operations, _TOOLS, strict=True):
        row = await stage.row("operations", id=operation)
        kind, state = row["kind"], row["state"]
        tools = await _tools(stage, operation, must)
        teller.say(f"{kind} for {row['actor']}: {state} {row.get('code') or ''}".rstrip())
        for tool in tools:
            teller.output(_line(tool))
        used = {tool["argv"][0] for tool in tools}
        teller.check(
            must <= used
            and not never & used
            and all(
                tool["cause"].startswith("event:") and isinstance(tool["exit_status"], int)
                for tool in tools
            ),
            f"{kind}: {len(tools)} tools, each with its argv, its exit status and its cause",
            f"{tools}",
        )


async def _tools(stage: Stage, operation: str, must: frozenset[str]) -> list[Row]:
    """Return the tools of an operation, oldest first; the last may still be on their way."""
    deadline = time.monotonic() + _TOOLS_S
    used: set[str] = set()
    while not must <= used and time.monotonic() < deadline:
        rows = await stage.rows("audit", kind="tool", correlation=operation)
        used = {row["argv"][0] for row in rows}
    said = await stage.hwbus("op", "show", operation, "-o", "json", output=False)
    steps: list[Row] = msgspec.json.decode(said.out)["items"][0]["steps"]
    return [step for step in steps if step["kind"] == "tool"]


def _line(tool: Row) -> str:
    at = msgspec.convert(tool["at"], datetime).strftime("%H:%M:%S.%f")[:-3]
    argv = " ".join(tool["argv"])
    if len(argv) > _ARGV_CHARACTERS_MAX:
        argv = f"{argv[: _ARGV_CHARACTERS_MAX - 1]}…"
    status = tool.get("exit_status", 0)
    return f"{at}  {tool['node']}  exit {status}  {tool['duration_ms']:6.0f} ms  {argv}"


async def _usage(stage: Stage) -> None:
    teller = stage.teller
    await stage.hwbus("usage", "--level", "all")
    pools = {row["name"]: row for row in await stage.rows("usage", level="pool")}
    volumes = {row["name"]: row for row in await stage.rows("usage", level="volume")}
    for node in NODES:
        groups = await stage.vgs(node)
        for group in groups.values():
            row = pools[f"{node}/{group.name}"]
            teller.same(
                (row["capacity_bytes"], row["allocated_bytes"], row["free_bytes"]),
                (group.size_bytes, group.size_bytes - group.free_bytes, group.free_bytes),
                f"{node}/{group.name}: capacity {row['capacity_bytes']}, allocated "
                f"{row['allocated_bytes']}, free {row['free_bytes']}: LVM says the same",
            )
            lvs = await stage.lvs(node, group.name, show=False)
            sizes = {lv.name: lv.size_bytes for lv in lvs.values() if "pool" not in lv.layout}
            told = {name: volumes.get(name, {}).get("capacity_bytes") for name in sizes}
            teller.same(told, sizes, f"{node}/{group.name}: {len(sizes)} volumes, to the byte")
    cluster = next(iter(await stage.rows("usage", level="cluster")))
    teller.same(
        cluster["capacity_bytes"],
        sum(row["capacity_bytes"] for row in pools.values()),
        "the cluster is the sum of its pools",
    )
