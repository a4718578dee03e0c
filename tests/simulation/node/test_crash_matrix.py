"""Kill the worker after every tool and after every write: the end is the same, nothing twice."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.attachment import Limits
from schemas.grammar import type_name
from schemas.mending import Mend
from tests.simulation.node.lives import Fate, Node, at_once
from tests.simulation.node.stories import (
    CREATED,
    EXT4,
    FREE,
    GIB,
    GONE,
    GROWN,
    HELD,
    KEPT,
    LOCKED,
    MADE,
    MENDED,
    POOL,
    POOL_GONE,
    REKEYED,
    RESIZED,
    SHRUNK,
    STRIPED,
    THIN,
    THIN_GROWN,
    XFS,
    Wish,
    attached,
    backed_up,
    by_hand,
    copied,
    delete,
    detach,
    extend,
    formed,
    grow,
    grow_thin,
    have,
    hold,
    keep,
    limit,
    mend,
    provisioned,
    rekey,
    remove_pool,
    restored,
    roll_back,
    shown,
    shrink,
    take,
    take_together,
    taken,
    whole_disk,
    written,
)

Done = tuple[Wish, str, str, str]
POINTS_MAX = 200
LOOKS = {"lsblk", "lvm", "wipefs", "cat"}

# What was there, what is wished, and by which event one knows that it was done.
CASES: dict[str, tuple[tuple[Done, ...], Done]] = {
    "form a pool": ((), formed(0, 1)),
    "form a pool with a thin pool": ((), formed(0, 1, thin_bytes=GIB)),
    "extend a pool": (
        (formed(0), provisioned("kept", **EXT4)),
        (extend(1, 2), "pool", POOL, GROWN),
    ),
    "shrink a pool": (
        (
            formed(0, thin_bytes=GIB),
            provisioned("kept", **EXT4),
            (extend(1), "pool", POOL, GROWN),
        ),
        (shrink(0), "pool", POOL, SHRUNK),
    ),
    "make a linear volume": ((formed(),), provisioned()),
    "make a striped volume with ext4": ((formed(),), provisioned(**STRIPED, **EXT4)),
    "make a volume with xfs": ((formed(),), provisioned(**XFS)),
    "make a thin volume with ext4": ((formed(thin_bytes=GIB),), provisioned(**THIN, **EXT4)),
    "grow a volume with ext4": (
        (formed(), provisioned(**EXT4)),
        (grow(), "replica", "pg", RESIZED),
    ),
    "grow a thin volume with xfs": (
        (formed(thin_bytes=GIB), provisioned(**THIN, **XFS)),
        (grow(), "replica", "pg", RESIZED),
    ),
    "remove a volume": (
        (formed(), provisioned("kept", **EXT4), provisioned(**EXT4)),
        (delete(), "replica", "pg", GONE),
    ),
    "remove a thin volume": (
        (formed(thin_bytes=GIB), provisioned(**THIN)),
        (delete(), "replica", "pg", GONE),
    ),
    "hold a volume": (
        (formed(), provisioned("kept", **EXT4)),
        (hold("kept"), "replica", "kept", HELD),
    ),
    "wake a volume": (
        (formed(), provisioned("kept", **XFS), (hold("kept"), "replica", "kept", HELD)),
        (keep("kept"), "replica", "kept", KEPT),
    ),
    "purge a volume": (
        (formed(), provisioned(**EXT4), (hold(), "replica", "pg", HELD)),
        (delete(), "replica", "pg", GONE),
    ),
    "attach a volume": (
        (formed(), provisioned("kept", **EXT4), provisioned(**EXT4)),
        attached(limits=Limits(read_iops=100)),
    ),
    "detach a volume": (
        (formed(), provisioned(**EXT4), attached(limits=Limits(read_iops=100))),
        (detach(), "attachment", "pg", FREE),
    ),
    "limit a volume": (
        (formed(), provisioned(**EXT4), attached()),
        (limit(Limits(write_iops=5)), "attachment", "pg", MADE),
    ),
    "grow an attached volume": (
        (formed(), provisioned(**EXT4), attached()),
        (grow(), "replica", "pg", RESIZED),
    ),
    "take a snapshot": (
        (formed(), provisioned(**EXT4), written("now")),
        (take(), "replica", "s1", CREATED),
    ),
    "take a snapshot of an attached volume": (
        (formed(), provisioned(**EXT4), attached(), written("now")),
        (take(), "replica", "s1", CREATED),
    ),
    "take snapshots at one instant": (
        (
            *(formed(), provisioned("kept", **EXT4), provisioned(**EXT4), attached()),
            written("now"),
        ),
        (take_together(("s1", "pg"), ("s2", "kept")), "replica", "s2", CREATED),
    ),
    "take a thin snapshot": (
        (formed(thin_bytes=GIB), provisioned(**THIN), written("now")),
        (take(mib=320, **THIN), "replica", "s1", CREATED),
    ),
    "copy a snapshot": (
        (formed(), provisioned(**EXT4), written("then"), taken(), written("now")),
        copied(mib=400, **EXT4),
    ),
    "copy a thin snapshot": (
        (formed(thin_bytes=GIB), provisioned(**THIN, **XFS), taken(mib=320, **THIN)),
        copied(mib=400, **THIN, **XFS),
    ),
    "extend a snapshot": (
        (formed(), provisioned(**EXT4), written("then"), taken(), written("now")),
        (grow("s1", 80), "replica", "s1", RESIZED),
    ),
    "grow a thin pool and its metadata": (
        (formed(thin_bytes=GIB), provisioned(**THIN)),
        (grow_thin(1200, 40), "pool", POOL, THIN_GROWN),
    ),
    "back a snapshot up": (
        (formed(), provisioned(**EXT4), written("then"), taken(), written("now")),
        backed_up(),
    ),
    "restore a backup": (
        (formed(), provisioned(**EXT4), written("then"), taken(), backed_up(), written("now")),
        restored(mib=400, **EXT4),
    ),
    "remove a snapshot": (
        (formed(), provisioned(**EXT4), taken()),
        (delete("s1"), "replica", "s1", GONE),
    ),
    "roll back": (
        (formed(), provisioned(**EXT4), written("then"), taken(), written("now")),
        (roll_back(), "replica", "s1", GONE),
    ),
    "roll a thin volume back": (
        (
            *(formed(thin_bytes=GIB), provisioned(**THIN), written("then")),
            *(taken(mib=320, **THIN), written("now")),
        ),
        (roll_back(), "replica", "s1", GONE),
    ),
    "make an encrypted volume with ext4": ((formed(),), provisioned(**LOCKED, **EXT4)),
    "grow an attached encrypted volume": (
        (formed(), provisioned(**LOCKED, **EXT4), written("now"), attached()),
        (grow(), "replica", "pg", RESIZED),
    ),
    "detach an encrypted volume": (
        (formed(), provisioned(**LOCKED, **EXT4), written("now"), attached()),
        (detach(), "attachment", "pg", FREE),
    ),
    "add a key": (
        (formed(), provisioned("kept"), provisioned(**LOCKED, **EXT4), written("now")),
        (rekey("file:new", "file:old", generation=2), "replica", "pg", REKEYED),
    ),
    "drop a key": (
        (
            *(formed(), provisioned(**LOCKED), written("now")),
            (rekey("file:new", "file:old", generation=2), "replica", "pg", REKEYED),
        ),
        (rekey("file:new", dropped=("file:old",), generation=3), "replica", "pg", REKEYED),
    ),
    "remove an encrypted volume": (
        (formed(), provisioned("kept", **EXT4), provisioned(**LOCKED, **EXT4)),
        (delete(), "replica", "pg", GONE),
    ),
    "make a volume of a disk": ((formed(), provisioned("kept", **EXT4)), whole_disk(**XFS)),
    "free a disk": (
        (formed(), provisioned("kept", **EXT4), whole_disk(**EXT4)),
        (delete(), "replica", "pg", GONE),
    ),
    "give a volume its name back": (
        (
            *(formed(), provisioned("kept"), provisioned(**EXT4), written("now")),
            (by_hand("lvrename", POOL, "pg", "taken"), "replica", "pg", CREATED),
        ),
        (mend(Mend.UNDO, "taken"), "replica", "pg", MENDED),
    ),
    "take a size by hand over": (
        (
            *(formed(), provisioned(**EXT4), attached(), written("now")),
            (by_hand("lvextend", "--extents", "90", f"{POOL}/pg"), "replica", "pg", CREATED),
        ),
        (mend(Mend.SIZE, "pg"), "replica", "pg", MENDED),
    ),
    "make a lost volume anew": (
        (
            *(formed(), provisioned("kept"), provisioned(**EXT4), written("now")),
            (by_hand("lvremove", "--yes", f"{POOL}/pg"), "replica", "pg", CREATED),
        ),
        (mend(Mend.RECREATE), "replica", "pg", MENDED),
    ),
    "remove a pool": ((formed(thin_bytes=GIB),), (remove_pool, "pool", POOL, POOL_GONE)),
}


async def whole_life(node: Node, done: Done, fate: Fate) -> bool:
    """Wish and wait; whether the worker lived to see it."""
    wish, kind, name, event = done
    async with node.life(fate) as worker:
        await wish(node)
        settled = asyncio.create_task(node.settle(worker, shown(node, kind, name, event)))
        struck = asyncio.create_task(fate.struck.wait())
        await asyncio.wait((settled, struck), return_when=asyncio.FIRST_COMPLETED)
        lived = settled.done()
        for task in (settled, struck):
            task.cancel()
        await asyncio.wait((settled, struck))
        if lived:
            settled.result()
        return lived


async def prepared(folder: Path, before: tuple[Done, ...]) -> Node:
    node = Node(folder)
    node.connect = at_once
    await have(node, *before)
    for volume in node.desk.world.replicas:
        if volume[1] == "kept":
            node.machine.write("fast/kept", "precious")
    return node


async def another(prepared: Node, folder: Path) -> Node:
    """Return a node that is as the prepared one, with nothing run or audited yet."""
    node = await prepared.forked(folder)
    node.executed.clear()
    node.desk.outlet.kept.clear()
    return node


def audited(node: Node) -> int:
    return sum(not only_looks(one.argv) for one in node.desk.executed())


def only_looks(argv: Sequence[str]) -> bool:
    return argv[0] in LOOKS or tuple(argv[:2]) == ("dmsetup", "info")


async def picture(node: Node, done: Done) -> dict[str, Any]:
    """All that must not depend on when the worker died."""
    seen = msgspec.to_builtins(await node.look())
    for volume in seen["volumes"]:
        del volume["lv_uuid"], volume["cause"]
    for pool in seen["pools"]:
        del pool["vg_uuid"]
    events = [
        (type_name(event), msgspec.to_builtins(event))
        for event in await node.desk.events(done[1], node.name, done[2])
    ]
    made = [tuple(w for w in argv if not w.startswith("hwbus.cause")) for argv in node.executed]
    thick_or_thin = [volume for volume in seen["volumes"] if not volume["is_thin_pool"]]
    kept = "kept" in {volume["name"] for volume in seen["volumes"]}
    return {
        "machine": seen,
        "limits": node.machine.state.cgroups,
        "events": events,
        "data": {v["name"]: node.machine.read(f"{v['pool']}/{v['name']}") for v in thick_or_thin},
        "slots": [one.slots for one in node.machine.state.contents.values() if one.slots],
        "mapped": node.machine.state.mapped,
        "precious": node.machine.read("fast/kept") if kept else "",
        "made": sorted(argv for argv in made if argv[0].startswith("mkfs")),
        "created": sorted(argv for argv in made if argv[0] in {"lvcreate", "vgcreate"}),
        "findings": node.desk.world.nodes[node.name].findings,
        "parked": node.desk.parked(),
    }


async def matrix(folder: Path, before: tuple[Done, ...], done: Done) -> int:
    # What was there is the same in all lives: it is made once.
    beginning = await prepared(folder / "beginning", before)
    node = await another(beginning, folder / "calm")
    assert await whole_life(node, done, Fate())
    calm = await picture(node, done)
    assert calm["findings"] == ()
    for number in range(1, POINTS_MAX):
        node = await another(beginning, folder / str(number))
        fate = Fate(strike_at=number)
        await whole_life(node, done, fate)
        if fate.points < number:
            return number - 1
        async with node.life() as worker:
            await node.settle(worker, shown(node, *done[1:]))
        # Only the tool that ran at the very instant of death may be missing from the audit.
        done_to_it = sum(not only_looks(argv) for argv in node.executed)
        assert 0 <= done_to_it - audited(node) <= 1
        assert await picture(node, done) == calm, f"died at {number}: {fate.where[-1]}"
    raise AssertionError("the story never ends")


@pytest.mark.parametrize("case", CASES)
def test_a_worker_may_die_anywhere(case: str, tmp_path: Path) -> None:
    before, done = CASES[case]
    points = asyncio.run(matrix(tmp_path, before, done))
    assert points > 10
