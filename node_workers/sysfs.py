"""The kernel's own facts about block devices, read from ``/sys/block``."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from node_workers.devices import IDENTITY
from node_workers.ports import BlockFacts, DeviceIo

_MULTIPATH_UUID = re.compile(r"^mpath-(.+)$")
# Where in /sys/block/*/stat the sectors are that were read and written; these are of 512 bytes.
_READ, _WRITTEN = 2, 6
_SECTOR_BYTES = 512
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_SCSI_NAA = re.compile(r"^3([0-9a-f]{16}(?:[0-9a-f]{16})?)$")


class RealSysfs:
    """Reads ``/sys/block``, or a copy of it under another root."""

    def __init__(self, root: Path = Path("/sys"), boot: Path = _BOOT) -> None:
        self._block = root / "block"
        self._numbered = root / "dev/block"
        self._boot = boot

    async def facts(self, names: Sequence[str]) -> Mapping[str, BlockFacts]:
        """Return the facts of the named devices, as ``Sysfs.facts`` promises."""
        return {name: self._read(self._block / name) for name in names if self._is_there(name)}

    async def io(self, number: str, uid: str) -> DeviceIo | None:
        """Return what a stable device has counted, as ``Counters.io`` promises.

        The kernel counts how many disks it has made since it was started: so that number, and
        which start it was, name a device that another cannot be taken for.
        """
        folder = self._numbered / number
        counters = _first_line(folder / "stat").split()
        if _first_line(folder / "dm/uuid") != f"{IDENTITY}{uid}" or len(counters) <= _WRITTEN:
            return None
        made = _first_line(folder / "diskseq") or f"number {number}"
        return DeviceIo(
            life=f"{_first_line(self._boot)}/{made}",
            written_bytes=int(counters[_WRITTEN]) * _SECTOR_BYTES,
            read_bytes=int(counters[_READ]) * _SECTOR_BYTES,
        )

    def _is_there(self, name: str) -> bool:
        return (self._block / name).is_dir()

    def _read(self, folder: Path) -> BlockFacts:
        rotational = _first_line(folder / "queue/rotational")
        holders = folder / "holders"
        return BlockFacts(
            serial=_first_line(folder / "serial") or _first_line(folder / "device/serial"),
            wwn=_first_line(folder / "wwid")
            or _first_line(folder / "device/wwid")
            or multipath_wwn(_first_line(folder / "dm/uuid")),
            model=_first_line(folder / "device/model"),
            rotational=None if not rotational else rotational == "1",
            holders=tuple(sorted(one.name for one in holders.iterdir()))
            if holders.is_dir()
            else (),
        )


def multipath_wwn(uuid: str) -> str:
    """Return the world-wide name in the UUID of a dm-multipath device, as its paths have it.

    What follows the prefix is what scsi_id(8) prints: for an NAA name, a 3 and the name itself.
    """
    found = _MULTIPATH_UUID.match(uuid)
    if found is None:
        return ""
    naa = _SCSI_NAA.match(found[1])
    return f"naa.{naa[1]}" if naa else found[1]


def _first_line(path: Path) -> str:
    try:
        text = path.read_text(errors="replace")
    except OSError:  # an attribute that this driver does not have, or a disk just pulled
        return ""
    return text.partition("\n")[0].strip().strip("\x00")
