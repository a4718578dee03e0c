"""A load that notices: fio writes a file and reads back, with checksums, what it has written."""

import json

from tests.support.house import MIB, House

_START = """
rm -f /run/load-{name}.json
setsid fio --name=load --filename={path} --size={mib}M --direct=1 --ioengine=psync \
    --rw=randwrite --bs=4k --rate_iops={rate} --time_based --runtime=900 \
    --verify=crc32c --verify_backlog=16 --verify_fatal=1 \
    --output-format=json --output=/run/load-{name}.json >/run/load-{name}.err 2>&1 </dev/null &
echo $! >/run/load-{name}.pid
"""
_STOP = """
pid=$(cat /run/load-{name}.pid)
kill -TERM $pid || {{ cat /run/load-{name}.err /run/load-{name}.json >&2; exit 1; }}
while kill -0 $pid 2>/dev/null; do sleep 0.1; done
cat /run/load-{name}.json
"""
_WRITES = "set -- $(cat /sys/block/$(lsblk -n -o KNAME /dev/hwbus/{name})/stat); echo $5"


class Load:
    """It runs on one node until it is stopped, or ends at the first error or wrong block."""

    def __init__(self, house: House, node: str, volume: str, path: str) -> None:
        self.house, self.node, self.volume, self.path = house, node, volume, path

    async def start(self, *, mib: int = 16, rate: int = 100) -> None:
        """Begin, with so many writes a second at most, and see the first of them arrive."""
        await self._sh(_START.format(name=self.volume, path=self.path, mib=mib, rate=rate))
        await self.goes_on()

    async def goes_on(self) -> None:
        """Wait until the volume was written to some more."""
        before = await self._writes()

        async def is_written() -> bool:
            return await self._writes() >= before + 20

        await self.house.until(is_written, what=f"{self.volume} is written to")

    async def stop(self) -> int:
        """End it; return how many bytes it wrote. Fails if it met an error, or ended by itself."""
        said = await self._sh(_STOP.format(name=self.volume))
        [job] = json.loads(said[said.index("{") :])["jobs"]
        assert job["error"] == 0, said
        assert job["read"]["io_bytes"] >= MIB // 16, "it has read back hardly anything"
        return int(job["write"]["io_bytes"])

    async def _writes(self) -> int:
        return int(await self._sh(_WRITES.format(name=self.volume)))

    async def _sh(self, script: str) -> str:
        return (await self.house.sh(self.node, script)).strip()
