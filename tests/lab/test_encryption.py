"""Encrypted volumes on a real kernel: nothing plain on the disk, no key where none should be."""

import asyncio
import secrets
from collections.abc import Callable

import msgspec
import pytest

from hwbus.streams import AUDIT
from schemas.attaching import AttachVolume, DetachVolume
from schemas.deleting import DeleteVolume
from schemas.encrypting import RekeyVolume
from schemas.keys import HEADER_BYTES
from schemas.node import Capability
from schemas.refusals import Refusal
from schemas.volume import Filesystem, GrowVolume, ProvisionVolume
from tests.support.house import MIB, House, Plugged, Scene

pytestmark = pytest.mark.lab
Play = Callable[[Scene], None]
Unique = Callable[[str], str]

NODE = "n2"
KEYS = "/etc/hwbus/keys"
TEXT = "the quick brown fox is none of your business"
_PUT = "mkdir -p -m 700 {keys}; umask 077; printf %s '{key}' > {keys}/{name}; sync"
_WRITE = (
    "head -c 8000000 /dev/urandom > $at/file; for n in $(seq 2000); do echo '{text}'; done"
    " >> $at/file; sha256sum < $at/file > /tmp/sum; sync; echo 3 > /proc/sys/vm/drop_caches"
)
_COMPARE = "echo 3 > /proc/sys/vm/drop_caches; sha256sum < $at/file | cmp - /tmp/sum"
_OPENS = "cryptsetup open --test-passphrase --key-file {keys}/{name} {leg} && echo yes || echo no"


class Safe:
    """Two encrypted volumes in a pool, one with a filesystem, and the keys on their node."""

    def __init__(self, house: House, pool: str, volume: str, raw: str) -> None:
        self.house = house
        self.pool = pool
        self.volume = volume
        self.raw = raw
        self.at = f"/mnt/{volume}"
        self.keys: dict[str, str] = {}
        self.mounted = AttachVolume(volume=volume, consumer="host/safe", mount_point=self.at)

    async def shell(self, script: str) -> str:
        return await self.house.sh(NODE, f"at={self.at}; {script}")

    async def put(self, name: str) -> None:
        self.keys[name] = secrets.token_urlsafe(48)
        await self.shell(_PUT.format(keys=KEYS, key=self.keys[name], name=name))

    async def made(self, disk: Plugged) -> None:
        """Have both made, the worker being killed while the first one's header has just come."""
        word = ProvisionVolume(
            volume=self.volume,
            size_bytes=160 * MIB,
            filesystem=Filesystem.EXT4,
            pool=self.pool,
            node=disk.node,
            key_ref="file:a",
        )
        operation = (await self.house.say(word)).operation

        async def formatted() -> bool:
            tools = await self.house.tools(operation)
            return any("luksFormat" in tool["argv"] for tool in tools)

        await self.house.until(formatted, what="there is a header")
        await self.house.lab.service_kill("worker", NODE)
        await self.house.lab.service_start("worker", NODE)
        assert (await self.house.end(operation))["outcome"] == "completed"
        raw = msgspec.structs.replace(
            word, volume=self.raw, filesystem=Filesystem.NONE, size_bytes=64 * MIB
        )
        await self.house.done(raw)
        row = await self.house.row("volumes", name=self.volume)
        assert (row["encrypted"], row["key_ref"], row["size_bytes"]) == (True, "file:a", 160 * MIB)
        legs = await self.house.lvs(NODE, self.pool)
        assert legs[self.volume].size_bytes == 160 * MIB + HEADER_BYTES

    async def written(self) -> None:
        raw = AttachVolume(volume=self.raw, consumer="host/raw")
        await asyncio.gather(self.house.done(self.mounted), self.house.done(raw))
        await self.shell(_WRITE.format(text=TEXT))
        await self.shell(
            f"for n in $(seq 5000); do echo '{TEXT}'; done | dd of=/dev/hwbus/{self.raw} bs=4096"
            " conv=fsync status=none; echo 3 > /proc/sys/vm/drop_caches"
        )

    async def is_plain_only_above(self) -> None:
        for volume in (self.volume, self.raw):
            assert await self._finds(f"/dev/hwbus/{volume}")
            assert not await self._finds(f"/dev/{self.pool}/{volume}")

    async def _finds(self, device: str) -> bool:
        return (await self.shell(f"grep -c '{TEXT}' {device} || true")).strip() != "0"

    async def opens(self, name: str) -> bool:
        leg = f"/dev/{self.pool}/{self.volume}"
        return "yes" in await self.shell(_OPENS.format(keys=KEYS, name=name, leg=leg))

    async def gets_another_key(self) -> None:
        await self.put("b")
        no = await self.house.failed(RekeyVolume(volume=self.volume, key_ref="file:gone"))
        assert no["code"] == Refusal.KEY_MISSING
        await self.house.done(RekeyVolume(volume=self.volume, key_ref="file:b"))
        assert [await self.opens(name) for name in "ab"] == [False, True]
        assert (await self.house.row("volumes", name=self.volume))["key_ref"] == "file:b"
        assert (await self.house.row("replicas", volume=self.volume))["keys"] == ["file:b"]
        await self.shell(_COMPARE)

    async def is_back_after_a_power_cut(self) -> None:
        await self.shell("sync")
        await self.house.lab.kill(NODE)
        await self.house.lab.boot(NODE)

        async def in_use() -> bool:
            devices = f"/dev/hwbus/{self.volume} /dev/hwbus/{self.raw}"
            there = f"findmnt $at >&2 && ls {devices} >&2 && echo yes || true"
            return "yes" in await self.shell(there)

        await self.house.until(in_use, what="both are in use again")
        await self.shell(_COMPARE)
        await self.is_plain_only_above()

    async def stays_shut_for_a_wrong_key(self) -> None:
        await self.house.done(DetachVolume(volume=self.volume))
        assert await self.shell(f"dmsetup ls | grep crypt:{self.volume} || true") == ""
        await self.shell(f"cd {KEYS}; mv b kept; head -c 64 /dev/urandom > b; chmod 600 b")
        no = await self.house.failed(self.mounted)
        assert no["code"] == Refusal.WRONG_KEY
        await self.shell(f"cd {KEYS}; mv kept b")
        await self.house.done(self.mounted)
        await self.shell(_COMPARE)

    async def is_erased(self) -> None:
        await asyncio.gather(self._is_erased(self.volume), self._is_erased(self.raw))

    async def _is_erased(self, volume: str) -> None:
        await self.house.done(DetachVolume(volume=volume))
        tools = await self.house.ran(await self.house.done(DeleteVolume(volume=volume)), "lvremove")
        ran = [tool["argv"][:2] for tool in tools if tool["exit_status"] == 0]
        gone = next(number for number, argv in enumerate(ran) if argv[0] == "lvremove")
        assert ["cryptsetup", "luksErase"] in ran[:gone]

    async def no_key_is_written_down(self) -> None:
        house, texts = self.house, []
        for log in (house.wires.log, house.wires.log_of(AUDIT.name)):
            for seq in range(1, await log.head() + 1):
                stored = await log.get(seq)
                texts.append(b"" if stored is None else stored.data)
        written = b"".join(texts)
        assert b"luksAddKey" in written
        assert b"file:b" in written
        for key in self.keys.values():
            assert key.encode() not in written
        service = next(one for one in (await house.lab.status()).services if one.node == NODE)
        with open(service.log, "rb") as file:  # noqa: ASYNC230, PTH123 -- a test's own look
            said = file.read()
        assert not any(key.encode() in said for key in self.keys.values())


def test_an_encrypted_volume_keeps_its_secrets_and_its_data(play: Play, unique: Unique) -> None:
    pool = unique("safe")

    async def scene(house: House) -> None:
        able = (await house.row("nodes", name=NODE))["capabilities"]
        assert Capability.ENCRYPTION in able
        safe = Safe(house, pool, unique("volume"), unique("raw"))
        disk = await house.plug(NODE, "1G")
        await house.form(pool, [disk])
        await safe.put("a")
        await safe.made(disk)
        await safe.written()
        await safe.is_plain_only_above()
        await house.done(GrowVolume(volume=safe.volume, size_bytes=240 * MIB))
        assert int(await safe.shell("df -m --output=size $at | tail -1")) > 190
        await safe.gets_another_key()
        await safe.is_back_after_a_power_cut()
        await house.ready(NODE)
        await safe.stays_shut_for_a_wrong_key()
        await house.holds(pool, NODE)
        await safe.is_erased()
        await safe.no_key_is_written_down()
        await house.clear(pool, NODE, disk)

    play(scene)
