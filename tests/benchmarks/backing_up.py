"""Backups to a real S3 server beside the lab: what we add to bare puts of the same bytes."""

import sys
from collections.abc import Awaitable, Callable

from hwbus.jetstream import Wires
from hwbus.lab.client import LabClient
from node_workers.backup_format import CHUNK_BYTES
from schemas.answers import Accepted
from schemas.grammar import Message
from schemas.target import AddTarget, BackUpVolume, ProbeTarget
from tests.benchmarks.figures import Figure, figure
from tests.support import s3

MIB = 1 << 20
Say = Callable[[Wires, Message, str], Awaitable[Accepted]]
Ended = Callable[[Wires, str, int], Awaitable[list[tuple[str, float]]]]
_TARGET = AddTarget(
    target="s3",
    url="s3://backups/bench",
    endpoint=f"http://192.0.2.1:{s3.LAB_PORT}",
    credentials="file:s3",
    cluster="bench",
)
# One object after the other, by the library alone; read past the page cache as the backup does.
_BARE = """
import os, sys, time, mmap, obstore
from obstore.store import S3Store
device, mib, piece, endpoint, key_id, secret = sys.argv[1:]
config = {"endpoint": endpoint, "access_key_id": key_id, "secret_access_key": secret}
options = {"allow_http": True}
store = S3Store("backups", prefix="bare", config=config, client_options=options)
began, buffer = time.monotonic(), mmap.mmap(-1, int(piece))
source = os.open(device, os.O_RDONLY | os.O_DIRECT)
for at in range(0, int(mib) << 20, int(piece)):
    assert os.preadv(source, [buffer], at) == int(piece)
    obstore.put(store, f"{began}-{at}", bytes(buffer), use_multipart=False)
print(int(mib) / (time.monotonic() - began))
"""


class BackingUp:
    """One volume of *mib* MiB named v999 in a pool, written anew and backed up again and again."""

    def __init__(
        self, lab: LabClient, wires: Wires, node: str, pool: str, say: Say, ended: Ended
    ) -> None:
        self._lab, self._wires = lab, wires
        self._node, self._device = node, f"/dev/{pool}/v999"
        self._say, self._ended = say, ended
        self._number = 0

    async def measure(self, *, mib: int, runs: int) -> list[Figure]:
        """Return the rows of backups: one of a volume full of what is new, one of an unchanged."""
        secret = s3.CREDENTIALS_JSON.replace('"', '\\"')
        keys = "umask 077; mkdir -p /etc/hwbus/keys"
        await self._lab.shell(self._node, f'{keys}; echo "{secret}" >/etc/hwbus/keys/s3')
        await self._say(self._wires, _TARGET, "bench-target")
        await self._done(ProbeTarget(target="s3"))
        new, unchanged, floors = [], [], []
        for _ in range(runs):
            write = f"dd if=/dev/urandom of={self._device} bs=1M count={mib} oflag=direct"
            await self._lab.shell(self._node, f"{write} status=none")
            new.append(await self._rate(mib))
            unchanged.append(await self._rate(mib))
            floors.append(await self._bare(mib))
        return [
            figure(
                "lab: backup of new data",
                new,
                "MiB/s",
                floor=floors,
                floor_is="obstore alone: the same device, the same pieces, one after the other",
                note=f"In chunks of {CHUNK_BYTES // MIB} MiB, hashed, and looked for before.",
            ),
            figure("lab: backup of what is there already", unchanged, "MiB/s", floor=floors),
        ]

    async def _rate(self, mib: int) -> float:
        """Return MiB a second, from when the node was told until it said that all is there."""
        at = dict(await self._done(BackUpVolume(target="s3", volume="v999")))
        return mib / ((at["errand.done.v1"] - at["errand.wanted.v1"]) / 1e3)

    async def _done(self, word: Message) -> list[tuple[str, float]]:
        self._number += 1
        head = await self._wires.log.head()
        accepted = await self._say(self._wires, word, f"bench-backing-up-{self._number}")
        return await self._ended(self._wires, accepted.operation, head)

    async def _bare(self, mib: int) -> float:
        words = (self._device, str(mib), str(CHUNK_BYTES), _TARGET.endpoint, s3.KEY_ID, s3.SECRET)
        ran = await self._lab.exec(self._node, sys.executable, "-c", _BARE, *words)
        return float(ran.stdout)
