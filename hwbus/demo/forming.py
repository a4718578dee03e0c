"""Chapters one, two and four: disks are found, put together, and volumes are made of them."""

import asyncio

from hwbus.demo.place import DISKS, FOREIGN_NODE, NODES
from hwbus.demo.stage import GIB, Stage
from hwbus.ports import NobodyThereError
from schemas.refusals import Refusal

FAST, BULK = "fast", "bulk"
THIN_BYTES = 4 * GIB
ORDERS, WEB, SCRATCH = "orders", "web", "scratch"
_REJECTED = 5
_READY_S = 90.0
_POLL_S = 0.1
# Name, size, how, what LVM calls the layout, stripes, filesystem.
_VOLUMES = (
    (ORDERS, 1 * GIB, ("--fs", "ext4"), "linear", 0, "ext4"),
    (WEB, 2 * GIB, ("--layout", "striped", "--stripes", "2", "--fs", "xfs"), "striped", 2, "xfs"),
    (SCRATCH, 3 * GIB, ("--layout", "thin"), "thin,sparse", 0, ""),
)


async def until_seen(stage: Stage) -> None:
    """Return when every node has joined and has shown all its disks. Raises ``TimeoutError``."""
    async with asyncio.timeout(_READY_S):
        while True:
            try:
                nodes = (await stage.client.query_all("nodes")).items
                disks = (await stage.client.query_all("disks")).items
            except NobodyThereError:  # nobody has begun to listen yet
                nodes = disks = ()
            seen = [disk["node"] for disk in disks if disk["content"] != "system"]
            ready = {node["name"] for node in nodes if node["state"] == "ready"}
            if ready == set(NODES) and all(seen.count(node) == DISKS for node in NODES):
                return
            await asyncio.sleep(_POLL_S)


async def disks_are_found(stage: Stage) -> None:
    """Show the disks, and that the one with a filesystem is refused."""
    teller = stage.teller
    teller.chapter("The disks are found, and one of them is none of our business")
    await stage.hwbus("node", "ls")
    await stage.hwbus("disk", "ls")
    disks = await stage.rows("disks")
    free = [disk for disk in disks if disk["state"] == "free"]
    foreign = [disk for disk in disks if disk["content"] == "filesystem"]
    teller.same(len(free), len(NODES) * DISKS - 1, f"{len(free)} disks are blank and may be taken")
    teller.same(
        [(disk["node"], disk["state"], disk["detail"]) for disk in foreign],
        [(FOREIGN_NODE, "occupied", "ext4")],
        f"one disk of {FOREIGN_NODE} carries an ext4 filesystem and is occupied",
    )
    disk = foreign[0]
    said = await stage.hwbus(
        *("pool", "create", "mine", "--node", FOREIGN_NODE, "--disk", disk["id"]),
        status=_REJECTED,
        progress=True,
    )
    code = Refusal.DISK_NOT_BLANK
    teller.check(code in said.err and "ext4" in said.err, f"it is refused with {code}, and why")
    await stage.hwbus("explain", code)
    signature = await stage.signature(FOREIGN_NODE, disk["path"])
    teller.same(signature, "ext4", "the filesystem is still there")


async def pools_are_formed(stage: Stage) -> None:
    """Form two pools on each node at once, and find them in each kernel."""
    teller = stage.teller
    teller.chapter("Pools are formed on three nodes in parallel")
    disks = sorted(
        (disk for disk in await stage.rows("disks") if disk["state"] == "free"),
        key=lambda disk: disk["path"],
    )
    commands = []
    for node in NODES:
        *several, last = [disk["id"] for disk in disks if disk["node"] == node]
        thin = ("--thin", f"{THIN_BYTES // GIB}GiB") if node == NODES[0] else ()
        create = ("pool", "create")
        commands.append((*create, FAST, "--node", node, "--disk", *several, *thin, "--wait"))
        commands.append((*create, BULK, "--node", node, "--disk", last, "--wait"))
    await stage.side_by_side(*commands)
    await stage.hwbus("pool", "ls")
    pools = await stage.rows("pools")
    teller.same({pool["state"] for pool in pools}, {"ready"}, f"{len(pools)} pools are ready")
    for node in NODES:
        groups = await stage.vgs(node)
        here = [pool for pool in pools if pool["node"] == node]
        teller.same(set(groups), {p["name"] for p in here}, f"LVM in {node} has these groups alone")
        teller.check(
            all(
                groups[p["name"]].size_bytes == p["size_bytes"]
                and groups[p["name"]].disks == len(p["disks"])
                and f"hwbus.pool={p['uid']}" in groups[p["name"]].tags
                for p in here
            ),
            "with the disks, the bytes and the tag that the pools have",
            f"{here} and {groups}",
        )


async def volumes_are_provisioned(stage: Stage) -> None:
    """Make a linear, a striped and a thin volume at once, and find them in the kernels."""
    teller = stage.teller
    teller.chapter("A thick, a striped and a thin volume are provisioned in parallel")
    await stage.side_by_side(
        *(
            ("volume", "create", name, f"{size // GIB}GiB", *how, "--pool", FAST, "--wait")
            for name, size, how, *_ in _VOLUMES
        )
    )
    await stage.hwbus("volume", "ls")
    volumes = {row["name"]: row for row in await stage.rows("volumes")}
    for node in sorted({row["node"] for row in volumes.values()}):
        found = await stage.lvs(node, FAST)
        for name, size, _, layout, stripes, filesystem in _VOLUMES:
            row = volumes[name]
            if row["node"] != node:
                continue
            lv = found.get(name)
            teller.check(
                lv is not None
                and (lv.size_bytes, lv.layout) == (size, layout)
                and f"hwbus.volume={row['uid']}" in lv.tags
                and any(tag.startswith("hwbus.cause=event:") for tag in lv.tags),
                f"{name}: {layout}, {size} bytes, tagged with the volume and the event it is for",
                f"it is {lv}",
            )
            if stripes:
                said = await stage.inside(
                    node, "lvs", "--noheadings", "-o", "stripes", f"{FAST}/{name}"
                )
                teller.same(int(said), stripes, f"{name} lies on {stripes} disks")
            if filesystem:
                found_on_it = await stage.signature(node, row["device"])
                teller.same(found_on_it, filesystem, f"{name} carries {filesystem}")
    await stage.hwbus("volume", "show", WEB)
