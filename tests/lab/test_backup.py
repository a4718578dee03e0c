"""Backups on real kernels and a real S3 server: out of one cluster, into another, empty one.

The two clusters have a log, a control plane, a node and disks each, and nothing in common but the
object store, which is moved over between them.
"""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hwbus.bucket import Bucket, Where
from hwbus.lab.client import LabClient
from hwbus.lab.spec import LabSpec, PortSpec, uniform
from node_workers import backup_format
from schemas.attaching import AttachVolume
from schemas.copying import RestoreBackup
from schemas.operation import CancelOperation, OperationKind
from schemas.refusals import Refusal
from schemas.snapshot import DeleteSnapshot
from schemas.target import (
    AddTarget,
    BackUpVolume,
    ListBackups,
    ProbeTarget,
    SweepTarget,
    VerifyBackup,
)
from schemas.volume import Filesystem, Layout, ProvisionVolume
from tests.lab.conftest import LabFactory
from tests.support import s3
from tests.support.house import MIB, SERVICES, House, Row, Scene, playing

pytestmark = pytest.mark.lab

NODE = "n1"
NODES = {"a": ("n1", "n2"), "b": ("n1",)}
CHUNK = backup_format.CHUNK_BYTES
URL, ENDPOINT = "s3://backups/lab", f"http://192.0.2.1:{s3.LAB_PORT}"
TARGET = AddTarget(
    target="s3", url=URL, endpoint=ENDPOINT, credentials="file:s3", cluster="cluster-a"
)
RATE = 8 * MIB
THIN_POOL = {"thin_bytes": 512 * MIB, "thin_ratio_percent": 400}


def cluster(folder: Path, name: str) -> LabSpec:
    """Return a cluster with the object store that lies in *folder* beside it."""
    ports = [PortSpec(name="s3", port=s3.LAB_PORT)]
    services = (*SERVICES, s3.in_lab(folder))
    return uniform(len(NODES[name]), 1, "8G", services=services, ports=ports)


@pytest.fixture
def stage(lab: LabFactory, tmp_path: Path) -> Iterator[Callable[[str], LabClient]]:
    """`stage("a")` is a cluster of that name, fresh, with the only object store there is."""
    made: list[LabClient] = []

    def up(name: str) -> LabClient:
        made.append(lab.of(cluster(tmp_path, name)))
        return made[-1]

    yield up
    for one in made:
        lab.throw_away(one)


async def _can_reach_the_store(house: House, **more: Any) -> None:
    secret = s3.CREDENTIALS_JSON.replace('"', '\\"')
    await house.sh(
        NODE, f'umask 077; mkdir -p /etc/hwbus/keys; echo "{secret}" >/etc/hwbus/keys/s3'
    )
    await house.say(TARGET)
    await house.done(ProbeTarget(target="s3"))


async def _half_way(house: House, operation: str) -> Row:
    async def moving() -> bool:
        return any(row["copied_bytes"] for row in await house.rows("operations", id=operation))

    await house.until(moving, what=f"{operation} is under way")
    return await house.row("operations", id=operation)


async def _interrupted(house: House, operation: str) -> Row:
    """Kill the worker in the middle, and return how the operation had come on by then."""
    row = await _half_way(house, operation)
    await house.lab.service_kill("worker", NODE)
    await house.lab.service_start("worker", NODE)
    assert (await house.end(operation, within_s=150))["outcome"] == "completed"
    return row


async def _sum(house: House, device: str, mib: int) -> str:
    script = f"dd if={device} bs=1M count={mib} iflag=direct status=none | sha256sum"
    return (await house.sh(NODE, script)).strip()


async def _a_thick_volume_goes_out(house: House) -> dict[str, str]:
    disk = await house.plug(NODE, "1G")
    await house.form("thick", [disk])
    await house.make("pg", disk, "thick", 64, filesystem=Filesystem.EXT4)
    at = "mkdir -p /mnt/pg; mountpoint -q /mnt/pg || mount /dev/thick/pg /mnt/pg; cd /mnt/pg"
    first = await house.sh(NODE, f"{at}; head -c 24M /dev/urandom >file; sha256sum <file; sync")
    full = BackUpVolume(target="s3", volume="pg", backup="pg-1", rate_bytes_per_s=RATE)
    operation = (await house.say(full)).operation
    before = await _interrupted(house, operation)
    assert 0 < before["copied_bytes"] < before["of_bytes"] == 64 * MIB
    assert before["kind"] == OperationKind.BACKUP_CREATE
    assert (await house.row("operations", id=operation))["leftovers"] == []
    told = await house.row("backups", name="pg-1")
    assert told["uploaded_bytes"] >= 24 * MIB
    assert (told["state"], told["consistency"]) == ("ready", "filesystem")
    then = "dd if=/dev/urandom of=file bs=1M count=1 conv=notrunc status=none"
    second = await house.sh(NODE, f"{at}; {then}; sha256sum <file; sync")
    await house.done(BackUpVolume(target="s3", volume="pg", backup="pg-2"), within_s=120)
    told = await house.row("backups", name="pg-2")
    assert told["parent"] == "pg-1"
    assert told["read_bytes"] == 64 * MIB
    # What was written, what ext4 keeps about it, and the whole chunks that these lie in.
    assert 0 < told["uploaded_bytes"] <= 6 * CHUNK
    assert await house.rows("snapshots", volume="pg") == []
    return {"pg-1": first, "pg-2": second}


async def _a_thin_volume_goes_out(house: House) -> dict[str, str]:
    disk = await house.plug(NODE, "1G")
    await house.form("thin-1", [disk], **THIN_POOL)
    await house.make("th", disk, "thin-1", 64, layout=Layout.THIN)
    device = "/dev/thin-1/th"
    write = f"dd if=/dev/urandom of={device} bs=1M oflag=direct status=none"
    await house.sh(NODE, f"{write} count=24")
    keep = BackUpVolume(target="s3", volume="th", backup="th-1", keep=True)
    await house.done(keep, within_s=120)
    first = await house.row("backups", name="th-1")
    assert (first["chunks"], first["stored_chunks"]) == (16, 6)
    (kept,) = await house.rows("snapshots", volume="th")
    assert kept["name"] == first["kept"]
    await house.sh(NODE, f"{write} count=1 seek=9")
    await house.sh(NODE, f"blkdiscard -o 0 -l {CHUNK} {device}")
    again = BackUpVolume(target="s3", volume="th", backup="th-2", keep=True)
    await house.done(again, within_s=120)
    told = await house.row("backups", name="th-2")
    assert (told["read_bytes"], told["uploaded_bytes"]) == (2 * CHUNK, CHUNK)
    assert (told["parent"], told["stored_chunks"]) == ("th-1", 5)
    (kept,) = await house.rows("snapshots", volume="th")
    assert kept["name"] == told["kept"] != first["kept"]
    held = await house.sh(NODE, "dmsetup status thin--1-hwbus--thin-tpool | cut -d' ' -f7")
    assert held.strip() == "-"
    await house.done(DeleteSnapshot(snapshot=kept["name"]))
    # Nothing is kept now, so all is read; what the bucket has is not put again.
    await house.done(BackUpVolume(target="s3", volume="th", backup="th-3"), within_s=120)
    told = await house.row("backups", name="th-3")
    assert (told["read_bytes"], told["uploaded_bytes"]) == (64 * MIB, 0)
    return {"th-2": await _sum(house, device, 64)}


async def _a_replicated_volume_goes_out(house: House) -> dict[str, str]:
    for disk in await asyncio.gather(*(house.plug(node, "1G") for node in NODES["a"])):
        await house.form("ha", [disk])
    made = ProvisionVolume(volume="ha", size_bytes=16 * MIB, pool="ha", node=NODE, replicas=2)
    await house.done(made, within_s=120)
    await house.done(AttachVolume(volume="ha", consumer="host/test"))
    await house.sh(NODE, "dd if=/dev/urandom of=/dev/hwbus/ha bs=1M count=9 oflag=direct")
    await house.done(BackUpVolume(target="s3", volume="ha", backup="ha-1"), within_s=120)
    assert (await house.row("backups", name="ha-1"))["size_bytes"] == 16 * MIB
    assert await house.rows("snapshots", volume="ha") == []
    return {"ha-1": await _sum(house, "/dev/hwbus/ha", 16)}


async def _a_backup_that_is_given_up_is_none(house: House) -> None:
    word = BackUpVolume(target="s3", volume="th", backup="th-4", full=True, rate_bytes_per_s=RATE)
    operation = (await house.say(word)).operation
    await _half_way(house, operation)
    await house.say(CancelOperation(operation=operation))
    assert (await house.end(operation))["outcome"] == "cancelled"
    assert (await house.row("backups", name="th-4"))["state"] == "failed"
    assert await house.rows("snapshots") == []
    bucket = _bucket(house)
    assert list(bucket.all(backup_format.WRITERS)) == []
    assert bucket.look(backup_format.manifest_path("th-4")) is None


def _bucket(house: House) -> Bucket:
    return s3.bucket(Where(url=URL, endpoint=f"http://{house.lab.ports['s3']}"))


async def _no_secret_is_anywhere(house: House) -> None:
    for row in await house.rows("audit"):
        assert s3.SECRET not in str(row)
        assert s3.KEY_ID not in str(row)


async def _it_comes_back(house: House, sums: dict[str, str]) -> None:
    await house.done(ListBackups(target="s3"))
    rows = {row["name"]: row for row in await house.rows("backups", target="s3")}
    assert set(rows) == {"pg-1", "pg-2", "th-1", "th-2", "th-3", "ha-1"}
    assert {row["cluster"] for row in rows.values()} == {"cluster-a"}
    disk = await house.plug(NODE, "2G")
    await house.form("new", [disk], **THIN_POOL)

    def word(volume: str, backup: str, **more: Any) -> RestoreBackup:
        row = rows[backup]
        return RestoreBackup(
            volume=volume,
            target="s3",
            backup=backup,
            manifest=row["manifest"],
            backup_bytes=row["size_bytes"],
            filesystem=Filesystem(row["filesystem"]),
            **more,
        )

    larger = word("pg", "pg-2", size_bytes=128 * MIB, rate_bytes_per_s=RATE)
    operation = (await house.say(larger)).operation
    before = await _interrupted(house, operation)
    assert 0 < before["copied_bytes"] < before["of_bytes"] == 64 * MIB
    await house.done(word("pg-old", "pg-1", layout=Layout.THIN), within_s=120)
    await house.done(word("th", "th-2"), within_s=120)
    await house.done(word("ha", "ha-1"), within_s=120)
    look = "mkdir -p /m; mount {0} /m; sha256sum </m/file; df --output=size -BM /m | tail -1"
    found, size = (await house.sh(NODE, look.format("/dev/new/pg"))).split("\n")[:2]
    assert found == sums["pg-2"].strip()
    assert int(size.strip(" M")) > 100
    await house.sh(NODE, "umount /m; e2fsck -fn /dev/new/pg >/dev/null 2>&1")
    assert sums["pg-1"].strip() in await house.sh(NODE, look.format("/dev/new/pg-old"))
    await house.sh(NODE, "umount /m")
    assert await _sum(house, "/dev/new/th", 64) == sums["th-2"]
    assert await _sum(house, "/dev/new/ha", 16) == sums["ha-1"]
    await _damage_is_found(house, word("not", "pg-1"))
    await house.settled("new", NODE)


async def _damage_is_found(house: House, restoring: RestoreBackup) -> None:
    await house.done(VerifyBackup(target="s3", backup="pg-1"), within_s=120)
    assert (await house.row("backups", name="pg-1"))["verified_at"]
    bucket = _bucket(house)
    manifest = backup_format.read(bucket.get(backup_format.manifest_path("pg-1")))
    names = bucket.get(backup_format.list_path(manifest.list))
    size = backup_format.DIGEST_BYTES
    stored = [names[at : at + size] for at in range(0, len(names), size)]
    flipped, lost = [name for name in stored if name != backup_format.ZERO][2:4]
    data = bytearray(bucket.get(backup_format.chunk_path(flipped)))
    data[CHUNK // 2] ^= 1
    bucket.put(backup_format.chunk_path(flipped), bytes(data))
    bucket.delete([backup_format.chunk_path(lost)])
    end = await house.failed(VerifyBackup(target="s3", backup="pg-1"), within_s=120)
    assert end["code"] == Refusal.BACKUP_DAMAGED
    assert f"{flipped.hex()} damaged" in end["because"]
    row = await house.row("backups", name="pg-1")
    assert (row["state"], row["bad_chunks"]) == ("damaged", 2)
    assert {(bad["chunk"], bad["why"]) for bad in row["bad"]} == {
        (flipped.hex(), "damaged"),
        (lost.hex(), "missing"),
    }
    end = await house.failed(restoring, within_s=120)
    assert end["code"] == Refusal.BACKUP_DAMAGED
    assert await house.rows("volumes", name="not") == []
    await house.done(SweepTarget(target="s3", backup="pg-1", grace_s=0), within_s=120)
    assert await house.rows("backups", name="pg-1") == []
    left = {name for name in stored if bucket.look(backup_format.chunk_path(name)) is not None}
    second = backup_format.read(bucket.get(backup_format.manifest_path("pg-2")))
    needed = bucket.get(backup_format.list_path(second.list))
    assert left == {name for name in left if name in needed}


def test_backups_outlive_their_cluster(stage: Callable[[str], LabClient]) -> None:
    sums: dict[str, str] = {}

    async def out(house: House) -> None:
        await _can_reach_the_store(house)
        for more in await asyncio.gather(
            _a_thick_volume_goes_out(house),
            _a_thin_volume_goes_out(house),
            _a_replicated_volume_goes_out(house),
        ):
            sums.update(more)
        await _a_backup_that_is_given_up_is_none(house)
        await _no_secret_is_anywhere(house)
        await house.lab.service_kill("s3")

    async def back(house: House) -> None:
        assert await house.rows("volumes") == []
        await _can_reach_the_store(house)
        await _it_comes_back(house, sums)
        await _no_secret_is_anywhere(house)

    scenes: list[tuple[str, Scene]] = [("a", out), ("b", back)]
    for name, scene in scenes:
        playing(stage(name), NODES[name])(scene)
