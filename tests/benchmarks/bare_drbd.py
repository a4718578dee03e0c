"""Bare DRBD between two nodes of a lab, by hand: what a replicated volume is compared with."""

import asyncio
import re
import time

from tests.benchmarks.in_nodes import Ran, gap
from tests.support.house import MIB, House

RESOURCE, GROUP, MINOR = "bare", "bare", 900
DEVICE, PLAIN = f"/dev/drbd{MINOR}", f"/dev/{GROUP}/plain"
AT = "/mnt/bare"
_DISK = "/dev/ubdc"
_METADATA_MIB = 4
# What hwbus has DRBD wait for and copy by (`node_workers/drbd_config.py`), without its fencing.
_FILE = """
resource bare {
    net {
        protocol C; timeout 15; ping-int 2; ping-timeout 5; connect-int 2; csums-alg crc32c;
    }
    disk { on-io-error detach; resync-rate 100M; c-max-rate 4G; }
    device minor 900; disk /dev/bare/leg; meta-disk internal;
    on n1 { address ipv4 198.51.100.11:7700; }
    on n2 { address ipv4 198.51.100.12:7700; }
}
"""
_SYNCED = (
    "drbdsetup wait-sync 900; until drbdsetup status bare | grep -q peer-disk:UpToDate; do :; done"
)
_BEGAN = re.compile(r"\[\s*([\d.]+)\].*Began resync as SyncSource \(will sync (\d+) KB")
_DONE = re.compile(r"\[\s*([\d.]+)\].*Resync done")


class BareDrbd:
    """A resource on n1 and n2, on disks that hwbus has no part in, and a plain volume beside it."""

    def __init__(self, house: House, mib: int) -> None:
        self._house, self._mib = house, mib

    async def make(self) -> None:
        """Make the volumes it lies on, and write the resource file, which a power cut leaves."""
        lvcreate = "lvcreate -qq -y -Wn -Zn"
        make = f"""
            modprobe drbd
            vgcreate -qq -y {GROUP} {_DISK}
            {lvcreate} -L {self._mib + _METADATA_MIB}M -n leg {GROUP}
            {lvcreate} -L {self._mib}M -n plain {GROUP}
            mkdir -p {AT}
            echo '{_FILE}' >/etc/drbd.d/bare.res
            sync"""
        await asyncio.gather(*(self._house.sh(node, make) for node in ("n1", "n2")))

    async def first_sync(self) -> tuple[float, float]:
        """Make it anew and fill n2 by n1's random data; return MiB/s, of all and of the copying."""
        await self._house.sh("n1", f"drbdadm down bare; {write_random('/dev/bare/leg', self._mib)}")
        up = "drbdadm down bare; drbdadm -- --force create-md bare; drbdadm up bare"
        await asyncio.gather(*(self._house.sh(node, up) for node in ("n1", "n2")))
        await self._house.sh("n1", "drbdadm wait-connect bare")
        began = time.monotonic()
        await self._house.sh("n1", f"drbdadm primary --force bare; {_SYNCED}")
        whole = self._mib / (time.monotonic() - began)
        return whole, await copied_mib_per_s(self._house, "n1")

    async def mount(self) -> None:
        """Have n1 use it, with a filesystem that is made anew."""
        await self._house.sh("n1", f"mkfs.ext4 -q -F {DEVICE}; mount {DEVICE} {AT}")

    async def hand_over(self, source: str, target: str) -> float:
        """Return for how many seconds it was mounted on neither of two nodes."""

        async def act() -> None:
            await self._house.sh(source, f"umount {AT}; drbdadm secondary bare")
            await self._house.sh(target, f"drbdadm primary bare; mount {DEVICE} {AT}")

        return await gap(self._house, AT, source, target, act)

    async def writer(self) -> Ran:
        """Have n1 append to a file of it."""
        return await Ran.appending(self._house, "n1", AT)

    async def take_over(self) -> float:
        """Return when, by the monotonic clock, n2 was made primary after n1 had gone."""
        await self._house.sh("n2", "until drbdadm primary bare 2>/dev/null; do sleep 0.02; done")
        return time.monotonic()

    async def down(self) -> None:
        """Let go of it on n2."""
        await self._house.sh("n2", "drbdadm down bare")

    async def longest_write_ms(self) -> float:
        """Return the longest write to the plain volume while its table is put in place anew."""
        writing = await Ran.writing(self._house, "n1", PLAIN)
        swap = "dmsetup table bare-plain | dmsetup load bare-plain; dmsetup resume bare-plain"
        await self._house.sh("n1", swap)
        return await writing.longest_ms()


def write_random(device: str, mib: int) -> str:
    """Return the command that fills a device with what is not there yet."""
    return f"dd if=/dev/urandom of={device} bs=1M count={mib} oflag=direct status=none"


async def copied_mib_per_s(house: House, node: str) -> float:
    """Return how fast the last sync from a node was, by what its kernel has noted."""
    noted = await house.sh(node, "dmesg")
    began, done = _BEGAN.findall(noted)[-1], _DONE.findall(noted)[-1]
    return int(began[1]) * 1024 / MIB / (float(done) - float(began[0]))
