"""Chapters eight and nine: what is not needed goes, and the record tells all of it."""

from datetime import datetime

import msgspec

from hwbus.demo.forming import FAST, ORDERS, SCRATCH
from hwbus.demo.place import NODES
from hwbus.demo.serving import DATA, TARGET
from hwbus.demo.stage import ACTOR, Row, Stage
from schemas.refusals import Refusal

_FAILED = 1
_TOOLS_S = 15.0
_ARGV_CHARACTERS_MAX = 96


async def volumes_are_deleted(stage: Stage) -> None:
    """Delete volumes; the one in use only after it was unmounted."""
    teller = stage.teller
    teller.chapter("Volumes are deleted, but never under somebody's feet")
    volume = await stage.row("volumes", name=ORDERS)
    node, delete = volume["node"], ("volume", "delete", ORDERS, "--yes", "--wait")
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
    await stage.side_by_side(delete, ("volume", "delete", SCRATCH, "--yes", "--wait"))
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
    for operation in operations:
        row = await stage.row("operations", id=operation)
        kind, state = row["kind"], row["state"]
        teller.command(("hwbus", "op", "show", operation, "-o", "json"))
        teller.say(f"{kind} for {row['actor']}: {state} {row.get('code') or ''}".rstrip())
        tools = await _tools(stage, operation)
        for tool in tools:
            teller.output(_line(tool))
        teller.check(
            bool(tools) and all(tool["cause"].startswith("event:") for tool in tools),
            f"{kind}: {len(tools)} tools, each with its argv, its exit status and its cause",
            f"{tools}",
        )


async def _tools(stage: Stage, operation: str) -> list[Row]:
    """Return the tools of an operation, oldest first; the last may still be on their way."""
    where = {"kind": "tool", "correlation": operation}
    count = int((await stage.row("operation", id=operation))["tools"])
    rows = await stage.until("audit", max(1, count), _TOOLS_S, **where)
    return sorted(rows, key=lambda row: row["at"])


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
