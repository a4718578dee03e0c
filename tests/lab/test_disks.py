"""Which disks there are, on real kernels: found, lost, moved, mistaken for nobody, never taken."""

import asyncio
import struct
import uuid
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from hwbus.client import read
from hwbus.lab.uml.errors import ConsoleError
from hwbus.subjects import CLUSTER, address
from schemas.disk import DISKS, DiskClass, OverrideDiskClass, ReserveDisk, UnreserveDisk
from schemas.pool import FormPool
from schemas.refusals import Refusal
from tests.support.house import NODES, House, Plugged, Row, Scene

pytestmark = pytest.mark.lab

FOLLOWS_WITHIN_S = 10
_SECTOR_BYTES = 512
_DISK_BYTES = 320 << 20


async def _of_serial(house: House, serial: str) -> list[Row]:
    return await house.rows("disks", serial=serial)


async def _state(house: House, disk: str, state: str, *, node: str = "") -> float:
    async def is_so() -> bool:
        [row] = await house.rows("disks", id=disk)
        return row["state"] == state and node in {"", row["node"]}

    return await house.until(is_so, FOLLOWS_WITHIN_S, what=f"{disk} is {state}")


def test_a_disk_that_is_pulled_out_and_put_back_is_one_record(
    play: Callable[[Scene], None], unique: Callable[[str], str]
) -> None:
    serial = unique("serial")

    async def scene(house: House) -> None:
        disk = await house.plug("n1", serial=serial)
        await house.unplug(disk)
        gone_s = await _state(house, disk.id, "gone")
        again = await house.plug("n1", serial=serial, letter=disk.letter)
        back_s = await _state(house, disk.id, "free")
        assert again.id == disk.id
        assert [row["id"] for row in await _of_serial(house, serial)] == [disk.id]
        print(f"gone after {gone_s:.1f} s, back after {back_s:.1f} s")
        await house.unplug(again)

    play(scene)


# The node that gets the disk may look before the one that had it: then it is seen twice a moment.
_MOVES = (
    [("disk.gone.v1", "n1", None), ("disk.found.v1", "n2", "n1")],
    [("disk.seen-twice.v1", "n2", None), ("disk.gone.v1", "n1", None)],
)


async def _told(house: House, disk: str, after: int) -> list[tuple[str, str, str | None]]:
    """Return what was recorded of a disk: the event, the node, and from where it came."""
    history = await house.wires.log.history(address(DISKS, CLUSTER, disk).subject)
    return [
        (event["type"], event["node"], event.get("moved_from"))
        for stored in history
        if stored.seq > after
        for event in read(stored).events
    ]


def test_a_disk_of_a_pool_is_recognised_on_another_node_and_back_home(
    play: Callable[[Scene], None], unique: Callable[[str], str]
) -> None:
    pool = unique("moved")

    async def drifts(house: House) -> list[str]:
        return [r["drift"] for r in await house.rows("drift") if r["object"] == f"pool/n1/{pool}"]

    async def scene(house: House) -> None:
        disk = await house.plug("n1")
        await house.form(pool, [disk])
        await house.sh("n1", f"vgchange -q -an {pool}")
        head = await house.wires.log.head()
        there = await house.lab.move_disk("n1", disk.letter, "n2")
        await _state(house, disk.id, "claimed", node="n2")
        assert await _told(house, disk.id, head) in _MOVES
        assert len(await _of_serial(house, disk.serial)) == 1

        async def missed() -> bool:
            return await drifts(house) == ["pool-missing"]

        await house.until(missed, what="the pool is missed")
        await house.lab.move_disk("n2", there.letter, "n1", disk.letter)
        await _state(house, disk.id, "claimed", node="n1")

        async def found_again() -> bool:
            return await drifts(house) == []

        await house.until(found_again, what="the pool is found again")
        await house.holds(pool, "n1")
        await house.clear(pool, "n1", disk)

    play(scene)


def test_two_disks_with_one_serial_are_two_disks_and_neither_takes_the_others_record(
    play: Callable[[Scene], None], unique: Callable[[str], str]
) -> None:
    serial, pool = unique("twin"), unique("pool")

    async def scene(house: House) -> None:
        here, there = [await house.plug(node, serial=serial) for node in ("n1", "n2")]
        assert here.id != there.id
        await house.form(pool, [here])
        rows = {row["id"]: row for row in await _of_serial(house, serial)}
        assert {key: (row["node"], row["state"]) for key, row in rows.items()} == {
            here.id: ("n1", "claimed"),
            there.id: ("n2", "free"),
        }
        other = await house.refused(FormPool(pool=pool, node="n2", disks=(here.id,)))
        assert other.code is Refusal.DISK_CLAIMED
        await house.clear(pool, "n1", here)
        await house.unplug(there)

    play(scene)


def test_a_worker_that_starts_again_changes_nothing_in_the_inventory(
    play: Callable[[Scene], None],
) -> None:
    async def scene(house: House) -> None:
        await house.scanned(*NODES)
        before = await house.rows("disks")
        for node in NODES:
            await house.lab.service_kill("worker", node)
            await house.lab.service_start("worker", node)
        await house.scanned(*NODES)
        assert await house.rows("disks") == before
        assert len(before) >= 3

    play(scene)


async def _override_and_look(house: House, disk: str) -> None:
    before = await house.row("disks", id=disk)
    assert before["media"] != DiskClass.NVME
    await house.say(OverrideDiskClass(disk=disk, media=DiskClass.NVME))
    await house.lab.service_kill("worker", "n1")
    await house.lab.service_start("worker", "n1")
    await house.scanned("n1")
    after = await house.row("disks", id=disk)
    assert (after["media"], after["overridden"]) == (DiskClass.NVME, True)
    assert after["media_seen"] == before["media_seen"]
    await house.say(OverrideDiskClass(disk=disk, media=None))
    assert (await house.row("disks", id=disk))["media"] == before["media"]


def test_what_an_operator_says_of_a_disk_survives_a_restart_and_a_rescan(
    play: Callable[[Scene], None],
) -> None:
    async def scene(house: House) -> None:
        disk = await house.plug("n1", "64M")
        await _override_and_look(house, disk.id)
        await house.unplug(disk)

    play(scene)


def test_it_survives_too_for_a_disk_that_has_no_serial(
    play: Callable[[Scene], None],
) -> None:
    async def scene(house: House) -> None:
        image = house.lab.state / "nodes" / "n1" / "no-serial.img"
        with image.open("wb") as file:
            file.truncate(64 << 20)
        # The lab itself gives every disk a serial, so this one is plugged in past it.
        await house.lab.console("n1", f"config ubdp={image}")
        row = await house.found("n1", "/dev/ubdp", "")
        await _override_and_look(house, row["id"])

        async def is_out() -> bool:
            try:
                await house.lab.console("n1", "remove ubdp")
            except ConsoleError:
                return False
            return True

        await house.until(is_out, 10)

    play(scene)


def _mbr() -> dict[int, bytes]:
    entry = struct.pack("<BBBBBBBBII", 0, 0, 2, 0, 0x83, 255, 255, 255, 2048, 4096)
    return {0: entry.rjust(446 + 16, b"\0").ljust(510, b"\0") + b"\x55\xaa"}


def _old_gpt() -> dict[int, bytes]:
    """What is left of a GPT after its beginning was wiped: the second table, at the disk's end."""
    last = _DISK_BYTES // _SECTOR_BYTES - 1
    kind, own = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4"), uuid.UUID(int=7)
    entry = kind.bytes_le + own.bytes_le + struct.pack("<QQQ", 2048, 4095, 0)
    entries = entry.ljust(128 * 128, b"\0")

    def header(checksum: int) -> bytes:
        return struct.pack(
            "<8sIIIIQQQQ16sQIII",
            *(b"EFI PART", 0x10000, 92, checksum, 0, last, 1, 34, last - 33),
            *(uuid.UUID(int=9).bytes_le, last - 32, 128, 128, zlib.crc32(entries)),
        )

    table = header(zlib.crc32(header(0)))
    return {(last - 32) * _SECTOR_BYTES: entries, last * _SECTOR_BYTES: table}


def _mdraid() -> dict[int, bytes]:
    block = bytearray(256)
    struct.pack_into("<III", block, 0, 0xA92B4EFC, 1, 0)
    block[16:32], block[32:36] = bytes(range(16)), b"n9:0"
    struct.pack_into("<iiQIi", block, 72, 1, 0, 1 << 18, 0, 2)
    struct.pack_into("<QQQ", block, 128, 2048, 1 << 18, 8)
    total = sum(struct.unpack("<64I", block))
    struct.pack_into("<I", block, 216, ((total & 0xFFFFFFFF) + (total >> 32)) & 0xFFFFFFFF)
    return {4096: bytes(block)}


_WRITTEN = {"partitions": _mbr, "gpt": _old_gpt, "raid": _mdraid}
_MADE = {
    "ext4": "mkfs.ext4 -q",
    "xfs": "mkfs.xfs -q",
    "lvm": "pvcreate -q -y",
}
_TOLD_AS = {
    "partitions": "partitions",
    "gpt": "partitions",
    "raid": "raid",
    "ext4": "filesystem",
    "xfs": "filesystem",
    "lvm": "foreign-lvm",
}


async def _put(house: House, disk: Plugged, content: str) -> None:
    if content in _MADE:
        await house.sh(disk.node, f"{_MADE[content]} {disk.device}")
        return
    script = "import sys; d = open(sys.argv[1], 'r+b'); d.seek(int(sys.argv[2])); "
    script += "d.write(sys.stdin.buffer.read())"
    for at_bytes, data in _WRITTEN[content]().items():
        await house.lab.exec(
            disk.node, "python3", "-c", script, disk.device, str(at_bytes), stdin=data
        )


async def _checksum(house: House, disk: Plugged) -> str:
    both_ends = f"head -c 16M {disk.device}; tail -c 16M {disk.device}"
    script = f"blockdev --flushbufs {disk.device}; ({both_ends}) | sha256sum"
    return await house.sh(disk.node, script)


def test_a_disk_that_carries_anything_is_never_claimed_and_not_touched(
    play: Callable[[Scene], None], unique: Callable[[str], str]
) -> None:
    async def on(house: House, node: str, contents: list[str]) -> None:
        disks = {content: await house.plug(node, f"{_DISK_BYTES >> 20}M") for content in contents}
        for content, disk in disks.items():
            await _put(house, disk, content)
        before = {content: await _checksum(house, disk) for content, disk in disks.items()}
        await house.scanned(node)
        for content, disk in disks.items():
            row = await house.row("disks", id=disk.id)
            assert (row["state"], row["content"]) == ("occupied", _TOLD_AS[content]), row
            no = await house.refused(FormPool(pool=unique("never"), node=node, disks=(disk.id,)))
            assert no.code is Refusal.DISK_NOT_BLANK
            assert _TOLD_AS[content] in no.because
            assert await _checksum(house, disk) == before[content]
        await house.unplug(*disks.values())

    async def scene(house: House) -> None:
        contents = list(_TOLD_AS)
        await asyncio.gather(*(on(house, n, contents[k::3]) for k, n in enumerate(NODES)))

    play(scene)


def test_a_filesystem_that_nobody_has_seen_yet_is_seen_before_the_disk_is_taken(
    play: Callable[[Scene], None], unique: Callable[[str], str]
) -> None:
    pool = unique("late")

    async def scene(house: House) -> None:
        disk = await house.plug("n1", "256M")
        await house.sh("n1", f"mkfs.ext4 -q {disk.device}")
        before = await _checksum(house, disk)
        assert (await house.row("disks", id=disk.id))["state"] == "free"
        end = await house.failed(FormPool(pool=pool, node="n1", disks=(disk.id,)))
        assert end["code"] == Refusal.REFUSED_TO_TOUCH
        assert await _checksum(house, disk) == before
        assert (await house.row("disks", id=disk.id))["pool"] == ""
        assert await house.rows("pools", name=pool) == []
        await house.unplug(disk)

    play(scene)


def test_a_reserved_disk_is_left_alone_and_a_claimed_one_cannot_be_reserved(
    play: Callable[[Scene], None], unique: Callable[[str], str]
) -> None:
    pool = unique("reserve")

    async def scene(house: House) -> None:
        disk = await house.plug("n2", "256M")
        form: Any = FormPool(pool=pool, node="n2", disks=(disk.id,))
        await house.say(ReserveDisk(disk=disk.id, because="mine"))
        assert (await house.refused(form)).code is Refusal.DISK_RESERVED
        await house.say(UnreserveDisk(disk=disk.id))
        await house.done(form)
        no = await house.refused(ReserveDisk(disk=disk.id))
        assert no.code is Refusal.DISK_CLAIMED
        assert f"n2/{pool}" in no.because
        await house.clear(pool, "n2", disk)

    play(scene)
