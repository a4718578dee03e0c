"""A volume with two replicas on real kernels, one beside it with one, and who writes to them."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

from node_workers.stillness import HOLD, LET_GO
from schemas.attaching import AttachVolume, DetachVolume
from schemas.deleting import DeleteVolume
from schemas.policy import PolicyKind, PolicySpec, RemovePolicy, Selector, SetPolicy
from schemas.refusals import Refusal
from schemas.rhythm import EVERY_MIN_S, Rhythm
from schemas.verifying import VerifyVolume
from schemas.volume import Filesystem, ProvisionVolume
from tests.support.house import MIB, House, Plugged, Row

Unique = Callable[[str], str]
FAILOVER_S = 15.0
_BLOCK = 15_488  # of 4 KiB
# Appends a number every few milliseconds, each on disk before the next; ends at the first error.
# What is said to be written is moved into its place: whoever reads it must not find it empty.
WRITER = """
cat >/run/writer.sh <<'END'
n=0
while n=$((n + 1)); do
    echo $n >>$1/log && sync $1/log && echo $n >/run/said-$2 &&
        mv /run/said-$2 /run/written-$2 && continue
    echo failed >/run/failed-$2
    exit 1
done
END
setsid sh /run/writer.sh $at $v >/dev/null 2>&1 </dev/null &
echo $! >/run/writer-$v
"""


class Pair:
    """A volume with a replica on each of two nodes, and a program that writes to it."""

    def __init__(self, house: House, unique: Unique, nodes: tuple[str, ...] = ("n1", "n2")) -> None:
        self.house, self.nodes = house, nodes
        self.pool, self.volume = unique("pool"), unique("ha")
        self.disks: list[Plugged] = []

    async def plug_in(self) -> None:
        self.disks = list(
            await asyncio.gather(*(self.house.plug(node, "1G") for node in self.nodes))
        )
        await asyncio.gather(*(self.house.form(self.pool, [disk]) for disk in self.disks))

    async def make(self, mib: int = 64, **more: Any) -> Row:
        await self.plug_in()
        word = ProvisionVolume(
            volume=self.volume,
            size_bytes=mib * MIB,
            pool=self.pool,
            node=self.nodes[0],
            replicas=2,
            **({"filesystem": Filesystem.EXT4} | more),
        )
        await self.house.done(word)
        return await self.house.row("volumes", name=self.volume)

    async def attach(self, **more: Any) -> None:
        where = {"consumer": "host/test", "mount_point": f"/mnt/{self.volume}"}
        await self.house.done(AttachVolume(volume=self.volume, **(where | more)))

    async def has_written(self, node: str, at_least: int = 10) -> bool:
        count = await self.sh(node, "cat /run/written-$v 2>/dev/null || echo 0")
        return int(count or "0") >= at_least

    async def stop_writing(self, node: str) -> None:
        """Have nobody write there; whoever wrote may be dead already."""
        await self.sh(
            node,
            "pkill -g $(cat /run/writer-$v) || true\n"
            "while pgrep -g $(cat /run/writer-$v) >/dev/null; do sleep 0.1; done",
        )

    async def limits(self, node: str) -> str:
        """Return what the kernel holds the consumer to."""
        return await self.sh(node, "cat /sys/fs/cgroup/$v/io.max")

    async def number(self, node: str) -> str:
        """Return the number of the device that the consumer has."""
        return await self.sh(
            node, "dmsetup info -c --noheadings -o major,minor --separator : hwbus:$v"
        )

    async def failed_over(self, node: str) -> bool:
        rows = await self.house.rows("volumes", name=self.volume)
        return any((row["node"], row["operation"]) == (node, "") for row in rows)

    async def goes_on(self, at_least: int, *, either: bool) -> str:
        """Wait until n1 has written so much; return the node that has the volume.

        With *either* n2 may have it instead: if nobody was heard, who is heard first may go on.
        """

        async def decided() -> bool:
            if await self.has_written("n1", at_least):
                return True
            return either and await self.failed_over("n2")

        await self.house.until(decided, what="somebody goes on")
        return str((await self.house.row("volumes", name=self.volume))["node"])

    async def runs(self, node: str) -> bool:
        return "UpToDate" in await self.sh(node, "drbdsetup status $r 2>/dev/null || true")

    async def is_frozen(self, node: str) -> bool:
        return "suspended:fencing" in await self.sh(node, "drbdsetup status $r --verbose")

    async def is_healthy(self) -> bool:
        return bool((await self.house.row("volumes", name=self.volume))["health"] == "healthy")

    async def verified(self, mib: int = 60) -> None:
        """Compare the legs by checksum, with nobody writing."""
        await self.detached()
        for node in self.nodes:
            await self.sh(node, "drbdadm down $r")
        read = f"dmsetup mknodes; head -c {mib * MIB} /dev/{self.pool}/$v | sha256sum"
        sums = [await self.sh(node, read) for node in self.nodes]
        assert sums[0] == sums[1]
        await self.house.until(self.is_healthy, what="the legs are up again")

    async def finds_and_repairs_what_differs(self) -> None:
        """Change 4 KiB of one leg past all that is above it, while the volume is attached."""
        house, leg = self.house, f"/dev/{self.pool}/$v"
        block = "bs=4k count=1 iflag=direct status=none"
        read = f"dd if={leg} skip={_BLOCK} {block} | sha256sum"
        spoil = f"dd if=/dev/urandom of={leg} seek={_BLOCK} bs=4k count=1 oflag=direct"
        await self.sh("n2", f"{spoil} 2>/dev/null")
        found = await house.failed(VerifyVolume(volume=self.volume))
        assert found["code"] == Refusal.REPLICAS_DIFFER, found

        async def told() -> bool:
            row = await house.row("volumes", name=self.volume)
            known = row["compared"]["differing_bytes"], row["replicas"][1]["out_of_sync_bytes"]
            return (row["health"], *known) == ("differs", 4096, 4096)

        await house.until(told, what="what differs is told")
        assert await self.sh("n1", read) != await self.sh("n2", read)
        await self.is_repaired_by_policy()
        assert await self.sh("n1", read) == await self.sh("n2", read)

    async def is_repaired_by_policy(self) -> None:
        """Have a policy that is due every few seconds even the replicas out, and compare again."""
        house, policy = self.house, f"scrub-{self.volume}"
        spec = PolicySpec(
            kind=PolicyKind.VERIFY_REPLICAS,
            selector=Selector(pool=self.pool),
            rhythm=Rhythm(every_s=EVERY_MIN_S),
            repair=True,
            at_once=1,
            cool_down_s=1,
        )
        await house.say(SetPolicy(policy=policy, spec=spec))

        async def acted_twice() -> bool:
            where = {"kind": "volume-verify", "actor": f"policy:{policy}"}
            runs = [row["state"] for row in await house.rows("operations", **where)]
            assert "failed" not in runs, runs
            return runs.count("completed") > 1

        await house.until(acted_twice, what="a policy has evened them out, and found them so")
        await house.say(RemovePolicy(policy=policy))
        await house.until(self.is_healthy, what="both are as they should be")

    async def kept(self, snapshot: Row, mib: int) -> str:
        """Return the checksum of what is in a snapshot, without what DRBD has behind it."""
        device = f"/dev/{self.pool}/{snapshot['name']}"
        return await self.sh(snapshot["node"], f"head -c {mib * MIB} {device} | sha256sum")

    async def stood_still_s(self, operation: str) -> float:
        """Return how long nobody could write while a snapshot was taken."""
        tools = {tuple(one["argv"][:4]): one for one in await self.house.tools(operation)}
        began, ended = tools[HOLD], tools[LET_GO]
        between = datetime.fromisoformat(ended["at"]) - datetime.fromisoformat(began["at"])
        return between.total_seconds() + float(ended["duration_ms"]) / 1000

    async def detached(self) -> None:
        operation = (await self.house.say(DetachVolume(volume=self.volume))).operation
        if operation:
            assert (await self.house.end(operation))["outcome"] == "completed"

    async def clear(self) -> None:
        """Leave nothing of it, attached or not."""
        await self.detached()
        await self.house.done(DeleteVolume(volume=self.volume))
        for disk in self.disks:
            await self.house.clear(self.pool, disk.node, disk)

    async def sh(self, node: str, script: str) -> str:
        names = f"v={self.volume} at=/mnt/{self.volume} r=hwbus-{self.volume}"
        return (await self.house.sh(node, f"{names}\n{script}")).strip()


class Alone:
    """A volume on n3 that has nothing to do with the others, and something random on it."""

    def __init__(self, house: House, unique: Unique) -> None:
        self.house, self.pool, self.volume = house, unique("pool"), unique("alone")

    async def make(self) -> None:
        self.disk = await self.house.plug("n3", "1G")
        await self.house.form(self.pool, [self.disk])
        await self.house.make(self.volume, self.disk, self.pool, 64)
        self.sum = await self.sh("head -c 8M /dev/urandom | tee $d | sha256sum; sync $d")

    async def is_there(self) -> bool:
        """Return whether what was written can be read."""
        return await self.sh("test -b $d && head -c 8M $d | sha256sum || true") == self.sum

    async def clear(self) -> None:
        await self.house.clear(self.pool, "n3", self.disk)

    async def sh(self, script: str) -> str:
        return (await self.house.sh("n3", f"d=/dev/{self.pool}/{self.volume}\n{script}")).strip()
