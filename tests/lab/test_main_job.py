"""The main job on real kernels: from a command on the bus to room that LVM really has given."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from schemas.answers import Accepted, Refused
from schemas.deleting import DeleteVolume
from schemas.node import AdmitNode, RemoveNode
from schemas.pool import FormPool, GrowPool, RemovePool
from schemas.refusals import Refusal
from schemas.volume import Filesystem, GrowVolume, Layout, ProvisionVolume
from tests.support.house import ACTOR, GIB, MIB, NODES, House, Row, Scene, signatures

pytestmark = pytest.mark.lab
Play = Callable[[Scene], None]
Unique = Callable[[str], str]


def test_two_pools_at_once_never_take_the_same_disk(play: Play, unique: Unique) -> None:
    left, right = unique("left"), unique("right")

    async def scene(house: House) -> None:
        disks = await asyncio.gather(*(house.plug("n1", "256M") for _ in range(3)))
        ids = [disk.id for disk in disks]
        words = [
            FormPool(pool=left, node="n1", disks=(ids[0], ids[1])),
            FormPool(pool=right, node="n1", disks=(ids[1], ids[2])),
        ]
        answers = await asyncio.gather(*(house.client.command(word) for word in words))
        outcomes = []
        for answer in answers:
            if isinstance(answer, Accepted):
                end = await house.end(answer.operation)
                outcomes.append((end["outcome"], end.get("code")))
            else:
                assert isinstance(answer, Refused)
                outcomes.append(("failed", answer.code))
        assert sorted(outcomes, key=str) == [
            ("completed", None),
            ("failed", Refusal.DISK_CLAIMED),
        ]
        groups = await house.sh("n1", "pvs --noheadings -o vg_name,pv_name")
        taken = [line.split() for line in groups.splitlines() if len(line.split()) == 2]
        [(winner, count)] = Counter(vg for vg, _ in taken if vg in {left, right}).items()
        assert count == 2
        owners = {row["id"]: row["pool"] for row in await house.rows("disks", node="n1")}
        assert sorted(owners[one] for one in ids) == ["", f"n1/{winner}", f"n1/{winner}"]
        await house.clear(winner, "n1", *disks)

    play(scene)


def test_a_pool_that_cannot_be_made_fails_with_a_reason_and_its_disks_are_free(
    play: Play, unique: Unique
) -> None:
    pool = unique("taken")

    async def scene(house: House) -> None:
        theirs, ours = await asyncio.gather(*(house.plug("n1", "256M") for _ in range(2)))
        await house.sh("n1", f"vgcreate -q {pool} {theirs.device}")
        before = await house.sh("n1", f"vgs --noheadings -o vg_uuid,vg_seqno {pool}")
        end = await house.failed(FormPool(pool=pool, node="n1", disks=(ours.id,)))
        assert end["code"] == Refusal.REFUSED_TO_TOUCH
        assert pool in end["because"]
        row = await house.row("disks", id=ours.id)
        assert (row["state"], row["pool"]) == ("free", "")
        assert await house.sh("n1", f"vgs --noheadings -o vg_uuid,vg_seqno {pool}") == before
        assert await house.sh("n1", f"wipefs -n {ours.device}") == ""
        await house.sh("n1", f"vgremove -q {pool}; pvremove -q {theirs.device}")
        await house.unplug(theirs, ours)

    play(scene)


def test_a_pool_grows_while_its_volumes_are_in_use(play: Play, unique: Unique) -> None:
    pool, volume = unique("grows"), unique("volume")

    async def scene(house: House) -> None:
        first, second = await asyncio.gather(*(house.plug("n2", "256M") for _ in range(2)))
        await house.form(pool, [first])
        await house.make(volume, first, pool, 64, filesystem=Filesystem.EXT4)
        await house.sh("n2", f"mount -o X-mount.mkdir /dev/{pool}/{volume} /mnt/{volume}")
        before = await house.row("pools", name=pool)
        operation = await house.done(GrowPool(pool=pool, node="n2", disks=(second.id,)))
        after = await house.row("pools", name=pool)
        assert after["size_bytes"] == 2 * before["size_bytes"]
        await house.holds(pool, "n2")
        [wish] = await house.rows(
            "audit", kind="accepted", word="pool.grow.v1", correlation=operation
        )
        assert wish["actor"] == ACTOR
        await house.sh("n2", f"echo still here > /mnt/{volume}/file; umount /mnt/{volume}")
        await house.clear(pool, "n2", first, second)

    play(scene)


def test_a_node_leaves_when_it_is_empty_and_serves_again_when_it_is_let_in(
    play: Play, unique: Unique
) -> None:
    pool = unique("last")

    async def scene(house: House) -> None:
        disk = await house.plug("n3", "256M")
        await house.form(pool, [disk])
        no = await house.refused(RemoveNode(node="n3"))
        assert no.code is Refusal.NODE_HAS_POOLS
        assert pool in no.because
        await house.done(RemovePool(pool=pool, node="n3"))
        await house.done(RemoveNode(node="n3"))
        assert (await house.row("nodes", name="n3"))["state"] == "removed"
        for view in ("disks", "pools", "volumes", "replicas", "usage", "drift"):
            assert await house.rows(view, node="n3") == [], view
        no = await house.refused(FormPool(pool=pool, node="n3", disks=(disk.id,)))
        assert no.code is Refusal.NODE_REMOVED
        await house.say(AdmitNode(node="n3"))
        await house.ready("n3")
        await house.found("n3", disk.device, disk.serial)
        await house.form(pool, [disk])
        await house.make(unique("volume"), disk, pool, 64)
        await house.holds(pool, "n3")
        await house.clear(pool, "n3", disk)

    play(scene)


def test_the_same_command_id_makes_nothing_twice(play: Play, unique: Unique) -> None:
    pool, volume = unique("once"), unique("volume")

    async def scene(house: House) -> None:
        disk = await house.plug("n1", "256M")
        await house.form(pool, [disk])
        word = ProvisionVolume(volume=volume, size_bytes=50 * MIB, pool=pool)
        id_ = house.mint()
        at_once = await asyncio.gather(*(house.say(word, command_id=id_) for _ in range(5)))
        await house.end(at_once[0].operation)
        later = await house.say(word, command_id=id_)
        assert {(one.seq, one.operation) for one in (*at_once, later)} == {
            (later.seq, later.operation)
        }
        assert len(await house.rows("audit", kind="accepted", command=id_)) == 1
        lvs = await house.lvs("n1", pool)
        assert list(lvs) == [volume]
        assert lvs[volume].size_bytes >= 50 * MIB
        other = await house.refused(
            ProvisionVolume(volume=volume, size_bytes=MIB, pool=pool), command_id=id_
        )
        assert other.code is Refusal.COMMAND_ID_REUSED
        await house.holds(pool, "n1")
        await house.clear(pool, "n1", disk)

    play(scene)


def test_a_thin_pool_promises_no_more_than_its_ratio_and_warns_when_it_fills(
    play: Play, unique: Unique
) -> None:
    pool, volumes = unique("thin"), [unique("volume") for _ in range(3)]

    def thin(volume: str) -> ProvisionVolume:
        return ProvisionVolume(volume=volume, size_bytes=128 * MIB, pool=pool, layout=Layout.THIN)

    async def scene(house: House) -> None:
        disk = await house.plug("n2", "256M")
        await house.form(pool, [disk], thin_bytes=128 * MIB, thin_ratio_percent=200)
        for volume in volumes[:2]:
            await house.done(thin(volume))
        no = await house.refused(thin(volumes[2]))
        assert no.code is Refusal.THIN_RATIO
        await house.holds(pool, "n2")
        head = await house.wires.log.head()
        await house.sh(
            "n2", f"dd if=/dev/zero of=/dev/{pool}/{volumes[0]} bs=1M count=106 oflag=direct"
        )
        await house.look_again("n2")
        fill = await _thin_fill(house, f"pool/n2/{pool}", head)
        assert 80 <= fill < 90
        assert (await house.row("pools", name=pool))["thin_fill_percent"] == fill
        await house.clear(pool, "n2", disk)

    play(scene)


async def _thin_fill(house: House, pool: str, after: int) -> int:
    async with (
        asyncio.timeout(60),
        house.client.happenings(after=after, objects=(pool,)) as happenings,
    ):
        async for happening in happenings:
            for event in happening.events:
                if event["type"] == "pool.thin-filled.v1":
                    return int(event["data_percent"])
    raise AssertionError("the log has no end")


@pytest.mark.slow
def test_of_twenty_wishes_for_6_gib_on_three_nodes_of_20_exactly_nine_come_true(
    play: Play, unique: Unique
) -> None:
    pool = unique("crowd")
    names = [unique("crowd-volume") for _ in range(20)]

    async def form(house: House, node: str) -> None:
        [disk] = [
            row
            for row in await house.rows("disks", node=node, state="free")
            if row["size_bytes"] == 20 * GIB
        ]
        await house.done(FormPool(pool=pool, node=node, disks=(disk["id"],)))

    async def outcome(house: House, volume: str) -> str:
        word = ProvisionVolume(volume=volume, size_bytes=6 * GIB, pool=pool)
        answer = await house.client.command(word)
        if isinstance(answer, Accepted):
            end = await house.end(answer.operation)
            return str(end.get("code") or end["outcome"])
        assert isinstance(answer, Refused)
        return answer.code

    async def scene(house: House) -> None:
        await asyncio.gather(*(form(house, node) for node in NODES))
        outcomes = Counter(await asyncio.gather(*(outcome(house, name) for name in names)))
        assert outcomes == {"completed": 9, Refusal.CAPACITY: 11}
        for node in NODES:
            lvs = await house.lvs(node, pool)
            assert [lv.size_bytes for lv in lvs.values()] == [6 * GIB] * 3
            await house.settled(pool, node)
        total = await house.row("usage", level="cluster")
        groups = [(await house.vgs(node)).values() for node in NODES]
        assert total["capacity_bytes"] == sum(g.size_bytes for one in groups for g in one)
        assert total["free_bytes"] == sum(g.free_bytes for one in groups for g in one)
        await asyncio.gather(*(house.clear(pool, node) for node in NODES))

    play(scene)


async def _held(house: House, node: str, pool: str) -> None:
    """Let the worker be stopped in its tracks, so that what it is asked for stays under way."""
    pid = (await house.lab.service("worker", node)).pid
    await house.sh(node, f"kill -STOP {pid}")


async def _let_go(house: House, node: str) -> None:
    pid = (await house.lab.service("worker", node)).pid
    await house.sh(node, f"kill -CONT {pid}")


def test_a_second_operation_on_a_volume_waits_for_the_end_of_the_first(
    play: Play, unique: Unique
) -> None:
    pool, volume = unique("busy"), unique("volume")

    async def scene(house: House) -> None:
        disk = await house.plug("n1", "256M")
        await house.form(pool, [disk])
        await house.make(volume, disk, pool, 32)
        await _held(house, "n1", pool)
        try:
            first = await house.say(GrowVolume(volume=volume, size_bytes=64 * MIB))
            for word in (
                GrowVolume(volume=volume, size_bytes=96 * MIB),
                DeleteVolume(volume=volume),
            ):
                no = await house.refused(word)
                assert no.code is Refusal.VOLUME_BUSY
                assert first.operation in no.because
        finally:
            await _let_go(house, "n1")
        assert (await house.end(first.operation))["outcome"] == "completed"
        await house.done(GrowVolume(volume=volume, size_bytes=96 * MIB))
        no = await house.refused(GrowVolume(volume=volume, size_bytes=64 * MIB))
        assert no.code is Refusal.NOT_LARGER
        assert (await house.lvs("n1", pool))[volume].size_bytes == 96 * MIB
        await house.clear(pool, "n1", disk)

    play(scene)


_WRITE = """
head -c 8M /dev/urandom > /tmp/seed; mkdir -p {at}; mount {device} {at}; n=0
while [ ! -e {stop} ]; do
    dd if=/tmp/seed of={at}/file$((n % 4)) bs=1M conv=fsync status=none; n=$((n + 1)); echo $n
done
"""
_COMPARE = """
umount {at}; {check} {device} >/dev/null 2>&1; mount {device} {at}
for file in {at}/file*; do cmp /tmp/seed $file; done
stat -f -c '%b %S' {at}; umount {at}; rm {stop}
"""


@pytest.mark.slow
def test_a_volume_grows_with_its_filesystem_while_it_is_written_to(
    play: Play, unique: Unique
) -> None:
    pool = unique("load")
    checks = {Filesystem.EXT4: "e2fsck -fn", Filesystem.XFS: "xfs_repair -n"}

    async def one(house: House, node: str, filesystem: Filesystem) -> None:
        disk, volume = await house.plug(node, "1G"), unique("volume")
        await house.form(pool, [disk])
        row = await house.make(volume, disk, pool, 320, filesystem=filesystem)
        places = {
            "device": row["device"],
            "at": f"/mnt/{volume}",
            "stop": f"/tmp/{volume}.stop",
            "check": checks[filesystem],
        }
        rounds = bytearray()
        writer = asyncio.create_task(
            house.lab.exec(
                *(node, "sh", "-ec", _WRITE.format(**places)),
                on_output=lambda _, data: rounds.extend(data),
                timeout_s=120,
            )
        )

        async def writes(more: int = 1) -> None:
            count = len(rounds.split()) + more

            async def wrote() -> bool:
                assert not writer.done(), writer
                return len(rounds.split()) >= count

            await house.until(wrote, what="it writes")

        await writes()
        await house.done(GrowVolume(volume=volume, size_bytes=640 * MIB))
        await writes()
        await house.sh(node, f"touch {places['stop']}")
        assert (await writer).status == 0
        blocks, size = (await house.sh(node, _COMPARE.format(**places))).split()
        assert int(blocks) * int(size) > 500 * MIB
        await house.holds(pool, node)
        await house.clear(pool, node, disk)

    async def scene(house: House) -> None:
        await asyncio.gather(
            one(house, "n1", Filesystem.EXT4),
            one(house, "n2", Filesystem.XFS),
        )

    play(scene)


def test_a_mounted_volume_is_not_deleted_and_what_follows_it_finds_no_trace(
    play: Play, unique: Unique
) -> None:
    pool, volume, heir = unique("mounted"), unique("volume"), unique("heir")

    async def extents(house: House, name: str) -> str:
        return await house.sh("n2", f"lvs --noheadings -o seg_pe_ranges {pool}/{name}")

    async def scene(house: House) -> None:
        disk = await house.plug("n2", "256M")
        await house.form(pool, [disk])
        row = await house.make(volume, disk, pool, 64, filesystem=Filesystem.EXT4)
        at, device = f"/mnt/{volume}", row["device"]
        await house.sh("n2", f"mount -o X-mount.mkdir {device} {at}; echo precious > {at}/file")
        end = await house.failed(DeleteVolume(volume=volume))
        assert end["code"] == Refusal.IN_USE
        assert await house.sh("n2", f"cat {at}/file; umount {at}") == "precious\n"
        assert (await house.row("volumes", name=volume))["state"] == "ready"
        where = await extents(house, volume)
        await house.done(DeleteVolume(volume=volume))
        assert volume not in await house.lvs("n2", pool)
        row = await house.make(heir, disk, pool, 64)
        assert await extents(house, heir) == where
        assert await house.sh("n2", f"wipefs -n {row['device']}") == ""
        await house.clear(pool, "n2", disk)

    play(scene)


def test_all_that_was_said_and_done_is_on_the_audit(play: Play, unique: Unique) -> None:
    pool, volume = unique("audit"), unique("volume")

    async def scene(house: House) -> None:
        disk = await house.plug("n1", "256M")
        await house.form(pool, [disk])
        yes = await house.say(
            ProvisionVolume(
                volume=volume, size_bytes=32 * MIB, pool=pool, filesystem=Filesystem.EXT4
            )
        )
        await house.end(yes.operation)
        id_ = house.mint()
        no = await house.refused(ProvisionVolume(volume=volume, size_bytes=MIB), command_id=id_)

        async def told() -> bool:
            tools = {tool["argv"][0] for tool in await house.tools(yes.operation)}
            refusals = await house.rows("audit", kind="refused", command=id_)
            return {"lvcreate", "mkfs.ext4"} <= tools and len(refusals) == 1

        await house.until(told, 20, what="the audit knows")
        await _compare_audit(house, f"volume/{volume}", yes, no, id_)
        await house.clear(pool, "n1", disk)

    play(scene)


async def _compare_audit(
    house: House, object_: str, yes: Accepted, no: Refused, refused_id: str
) -> None:
    [accepted] = await house.rows("audit", kind="accepted", command=yes.command)
    assert (accepted["actor"], accepted["object"]) == (ACTOR, object_)
    assert (accepted["correlation"], accepted["seq"]) == (yes.operation, yes.seq)
    changes = {change["field"]: change for change in accepted["changes"]}
    assert (changes["state"]["before"], changes["state"]["after"]) == (None, "provisioning")
    [refused] = await house.rows("audit", kind="refused", command=refused_id)
    assert (refused["actor"], refused["object"]) == (ACTOR, object_)
    assert (refused["code"], refused["because"]) == (no.code, no.because) != ("", "")
    assert json.loads(refused["request"])["size_bytes"] == MIB
    tools = await house.tools(yes.operation)
    for program in ("lvcreate", "mkfs.ext4"):
        assert len(signatures(tools, program)) == 1
    assert {(tool["actor"], tool["node"]) for tool in tools} == {("worker:n1", "n1")}
    causes = {tool["cause"] for tool in tools}
    assert all(cause.startswith("event:") for cause in causes)


def test_who_writes_reads_the_own_write(play: Play, unique: Unique) -> None:
    pool, volume = unique("read"), unique("volume")

    async def scene(house: House) -> None:
        disk = await house.plug("n3", "256M")
        await house.form(pool, [disk])
        seen: list[Row] = []
        for number in range(5):
            yes = await house.say(
                ProvisionVolume(volume=f"{volume}-{number}", size_bytes=4 * MIB, pool=pool)
            )
            page = await house.client.query(
                "volumes", {"name": f"{volume}-{number}"}, min_seq=yes.seq
            )
            assert (page.behind, page.seq >= yes.seq) == (0, True)
            seen += page.items
            await house.end(yes.operation)
        assert len(seen) == 5
        await house.settled(pool, "n3")
        await house.clear(pool, "n3", disk)

    play(scene)


BAD: dict[str, tuple[str, bytes, Refusal]] = {
    "no json": ("volume.provision", b"{", Refusal.MALFORMED),
    "no such verb": ("volume.paint", b"{}", Refusal.UNKNOWN_COMMAND),
    "a negative size": (
        *("volume.provision", b'{"volume":"bad","size_bytes":-1}'),
        Refusal.MALFORMED,
    ),
    "an absurd size": (
        "volume.provision",
        b'{"volume":"bad","size_bytes":9223372036854775807}',
        Refusal.MALFORMED,
    ),
    "a wildcard": ("volume.provision", b'{"volume":"*","size_bytes":1}', Refusal.BAD_NAME),
    "an unknown node": ("node.cordon", b'{"node":"nowhere"}', Refusal.UNKNOWN_NODE),
}


def test_bad_input_gets_a_code_and_a_record_and_changes_nothing(play: Play) -> None:
    async def scene(house: House) -> None:
        head, ids = await house.wires.log.head(), {}
        for what, (verb, data, code) in BAD.items():
            ids[what] = house.mint()
            headers = {"Hwbus-Command-Id": ids[what], "Hwbus-Actor": ACTOR}
            answer = msgspec.json.decode(
                await house.wires.bus.request(
                    f"hwbus.cmd.{verb}", data, headers=headers, timeout_s=10
                ),
                type=Accepted | Refused,
            )
            assert isinstance(answer, Refused), what
            assert (answer.code, bool(answer.because), bool(answer.fix)) == (code, True, True), what
        assert await house.wires.log.head() == head

        async def all_told() -> bool:
            kept: list[Any] = [
                await house.rows("audit", kind="refused", command=id_) for id_ in ids.values()
            ]
            return all(kept)

        await house.until(all_told, 20, what=f"all are on the audit: {ids}")

    play(scene)
