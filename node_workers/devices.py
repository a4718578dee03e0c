"""The device that a consumer sees: it keeps its name and its number, whatever is below it.

A dm-linear device over the logical volume, with an identity of ours, so that LVM takes it for none
of its own. Its name has a colon, which no name that LVM makes can have.
"""

import msgspec

from node_workers.ports import (
    NotThereError,
    Refusal,
    RefusedToTouchError,
    Runner,
    StableDevice,
    ToolFailedError,
)
from node_workers.tools import Tools

MAPPED = "/dev/mapper/hwbus:"
LINKS = "/dev/hwbus"
DEVICE_NAME = "hwbus:"
IDENTITY = "HWBUS-"
KIND = "hwbus"  # what lsblk calls them, after the prefix of their identity
_COLUMNS = "uuid,major,minor,attr,open"
INFO = ("dmsetup", "info", "-c", "--noheadings", "--separator", "|", "-o", _COLUMNS)

_SECTOR_BYTES = 512
_NONE = 1  # what dmsetup answers for a device that does not exist
_SUSPENDED = "s"


class _Table(msgspec.Struct, frozen=True):
    """The one line of its table: how many sectors, of which device."""

    sectors: int
    below: str


class StableDevices:
    """Makes, extends and removes the stable devices of volumes."""

    def __init__(self, runner: Runner) -> None:
        self._tools = Tools(runner)

    async def find(self, volume: str, uid: str, *, cause: str) -> StableDevice | None:
        """Return the stable device of the volume, if there is one.

        Raises ``RefusedToTouchError`` if what has its name is somebody else's.
        """
        execution = await self._tools.must(
            *INFO, _name(volume), cause=cause, accepted=frozenset({0, _NONE})
        )
        if execution.exit_status == _NONE:
            return None
        try:
            identity, major, minor, attributes, users = execution.stdout.strip().split("|")
        except ValueError as error:
            raise ToolFailedError(execution) from error
        if identity != f"{IDENTITY}{uid}":
            raise RefusedToTouchError(
                Refusal.FOREIGN_DEVICE, f"{MAPPED}{volume} is {identity or 'nobody'}'s device"
            )
        return StableDevice(
            path=f"{LINKS}/{volume}",
            node=f"{MAPPED}{volume}",
            number=f"{major}:{minor}",
            suspended=_SUSPENDED in attributes,
            open=users != "0",
        )

    async def ensure(
        self, volume: str, uid: str, below: str, size_bytes: int, *, read_only: bool, cause: str
    ) -> StableDevice:
        """Have the device over all of *below* ("254:3"), running, with its link in ``/dev/hwbus``.

        Raises ``InUseError`` if somebody else has *below* open.
        """
        found = await self.find(volume, uid, cause=cause)
        if found is None:
            await self._tools.must(
                *("dmsetup", "create", _name(volume), "--uuid", f"{IDENTITY}{uid}"),
                *(("--readonly",) if read_only else ()),
                *("--verifyudev", "--table", _line(size_bytes, below)),
                cause=cause,
            )
            found = await self.find(volume, uid, cause=cause)
            if found is None:
                raise NotThereError("device-missing", f"{MAPPED}{volume} vanished when it was made")
        else:
            await self.ensure_size(volume, found, below, size_bytes, cause=cause)
        await self._tools.must("mkdir", "-p", LINKS, cause=cause)
        await self._tools.must("ln", "-sfn", found.node, found.path, cause=cause)
        return found

    async def ensure_size(
        self, volume: str, device: StableDevice, below: str, size_bytes: int, *, cause: str
    ) -> None:
        """Have *device* as large as what is *below*, and running. It never shrinks.

        The new table is loaded beside the old one; resuming puts it in its place in one step of
        the kernel, so that nobody who dies here leaves the device standing still.
        """
        table = await self._table(volume, cause=cause)
        if table.below != below:
            raise RefusedToTouchError(
                Refusal.FOREIGN_DEVICE, f"{device.node} lies on {table.below}, not on {below}"
            )
        if table.sectors * _SECTOR_BYTES < size_bytes:
            line = _line(size_bytes, below)
            await self._tools.must("dmsetup", "load", _name(volume), "--table", line, cause=cause)
        elif not device.suspended:
            return
        await self._tools.must("dmsetup", "resume", _name(volume), cause=cause)

    async def ensure_removed(self, volume: str, uid: str, *, cause: str) -> None:
        """Have neither device nor link. Raises ``InUseError`` if somebody has it open."""
        if await self.find(volume, uid, cause=cause) is not None:
            # Somebody may look at every new device for a moment, as udev does.
            await self._tools.must("dmsetup", "remove", "--retry", _name(volume), cause=cause)
        await self._tools.must("rm", "-f", f"{LINKS}/{volume}", cause=cause)

    async def _table(self, volume: str, *, cause: str) -> _Table:
        execution = await self._tools.must("dmsetup", "table", _name(volume), cause=cause)
        try:
            _start, sectors, _linear, below, _offset = execution.stdout.split()
            return _Table(int(sectors), below)
        except ValueError as error:
            raise ToolFailedError(execution) from error


def _name(volume: str) -> str:
    return f"{DEVICE_NAME}{volume}"


def _line(size_bytes: int, below: str) -> str:
    return f"0 {size_bytes // _SECTOR_BYTES} linear {below} 0"
