"""The device that a consumer sees: it keeps its name and its number, whatever is below it.

A dm-linear device over the logical volume, with an identity of ours, so that LVM takes it for none
of its own. Its name has a colon, which no name that LVM makes can have. The plain side of an
encrypted volume in use lies on such a device as well: so what is below that can be exchanged, too,
without its key.
"""

import msgspec

from node_workers.ports import (
    InUseError,
    NotThereError,
    Refusal,
    RefusedToTouchError,
    Runner,
    StableDevice,
    ToolFailedError,
    UnsuitableError,
)
from node_workers.tools import Tools

MAPPED = "/dev/mapper/hwbus:"
LINKS = "/dev/hwbus"
DEVICE_NAME = "hwbus:"
IDENTITY = "HWBUS-"
BACKING = ".backing"
BACKING_IDENTITY = "HWBUSBACKING-"
KIND = "hwbus"  # what lsblk calls them, after the prefix of their identity
_COLUMNS = "uuid,major,minor,attr,open"
INFO = ("dmsetup", "info", "-c", "--noheadings", "--separator", "|", "-o", _COLUMNS)

_SECTOR_BYTES = 512
_NONE = 1  # what dmsetup answers for a device that does not exist
_SUSPENDED = "s"
_INACTIVE = "I"


class Loaded(StableDevice, frozen=True, kw_only=True):
    """One with a table beside the one in use: whoever loaded that died before it took its place.

    The next resume would put it there, whatever is wanted by then.
    """


class _Table(msgspec.Struct, frozen=True):
    """The one line of its table: how many sectors, of which device."""

    sectors: int
    below: str


class _LinearDevices:
    """Makes, extends, moves and removes dm-linear devices, one a volume."""

    identity = IDENTITY
    suffix = ""

    def __init__(self, runner: Runner) -> None:
        self._tools = Tools(runner)

    async def find(self, volume: str, uid: str, *, cause: str) -> StableDevice | None:
        """Return the device of the volume, if there is one.

        Raises ``RefusedToTouchError`` if what has its name is somebody else's.
        """
        execution = await self._tools.must(
            *INFO, self._name(volume), cause=cause, accepted=frozenset({0, _NONE})
        )
        if execution.exit_status == _NONE:
            return None
        try:
            identity, major, minor, attributes, users = execution.stdout.strip().split("|")
        except ValueError as error:
            raise ToolFailedError(execution) from error
        if identity != f"{self.identity}{uid}":
            raise RefusedToTouchError(
                Refusal.FOREIGN_DEVICE, f"{self._node(volume)} is {identity or 'nobody'}'s device"
            )
        kind = Loaded if _INACTIVE in attributes else StableDevice
        return kind(
            path=self._path(volume),
            node=self._node(volume),
            number=f"{major}:{minor}",
            suspended=_SUSPENDED in attributes,
            open=users != "0",
        )

    async def ensure(
        self, volume: str, uid: str, below: str, size_bytes: int, *, read_only: bool, cause: str
    ) -> StableDevice:
        """Have the device over all of *below* ("254:3"), running.

        Raises ``InUseError`` if somebody else has *below* open.
        """
        found = await self.find(volume, uid, cause=cause)
        if found is None:
            await self._tools.must(
                *("dmsetup", "create", self._name(volume), "--uuid", f"{self.identity}{uid}"),
                *(("--readonly",) if read_only else ()),
                *("--verifyudev", "--table", _line(size_bytes, below)),
                cause=cause,
            )
            found = await self.find(volume, uid, cause=cause)
            if found is None:
                gone = f"{self._node(volume)} vanished when it was made"
                raise NotThereError("device-missing", gone)
        else:
            await self.ensure_size(volume, found, below, size_bytes, cause=cause)
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
            await self._load(volume, size_bytes, below, cause=cause)
        else:
            await self.ensure_settled(volume, device, cause=cause)
            if not device.suspended:
                return
        await self._tools.must("dmsetup", "resume", self._name(volume), cause=cause)

    async def lies_on(self, volume: str, *, cause: str) -> str:
        """Return the number ("147:3") of what the device, which is there, lies on."""
        return (await self._table(volume, cause=cause)).below

    async def ensure_moved(self, volume: str, below: str, size_bytes: int, *, cause: str) -> None:
        """Have the device, which is there, lie on *below* instead, whoever uses it.

        What is under way to the old one is waited for, and what comes meanwhile waits: one step of
        the kernel, which takes milliseconds. Raises ``UnsuitableError`` (``not-as-seen``) if the
        device is larger than *size_bytes*.
        """
        table = await self._table(volume, cause=cause)
        if table.sectors * _SECTOR_BYTES > size_bytes:
            found_bytes = table.sectors * _SECTOR_BYTES
            raise UnsuitableError(
                "not-as-seen", f"{self._node(volume)} has {found_bytes} bytes, not {size_bytes}"
            )
        if table.below == below:
            # Somebody may have died on the way to the place where it was before.
            await self._clear(volume, cause=cause)
            return
        await self._load(volume, size_bytes, below, cause=cause)
        await self._tools.must("dmsetup", "resume", self._name(volume), cause=cause)

    async def ensure_settled(self, volume: str, device: StableDevice | None, *, cause: str) -> None:
        """Have *device*, if there is one, stay by the table that is in use."""
        if isinstance(device, Loaded):
            await self._clear(volume, cause=cause)

    async def ensure_removed(self, volume: str, uid: str, *, cause: str) -> bool:
        """Have no device; returns whether there was one. Raises ``InUseError`` if it is open."""
        if await self.find(volume, uid, cause=cause) is None:
            return False
        # Somebody may look at every new device for a moment, as udev does.
        await self._tools.must("dmsetup", "remove", "--retry", self._name(volume), cause=cause)
        return True

    async def _load(self, volume: str, size_bytes: int, below: str, *, cause: str) -> None:
        line = _line(size_bytes, below)
        await self._tools.must("dmsetup", "load", self._name(volume), "--table", line, cause=cause)

    async def _clear(self, volume: str, *, cause: str) -> None:
        """Have no table but the one in use; nothing happens if there is no other."""
        await self._tools.must("dmsetup", "clear", self._name(volume), cause=cause)

    async def _table(self, volume: str, *, cause: str) -> _Table:
        execution = await self._tools.must("dmsetup", "table", self._name(volume), cause=cause)
        try:
            _start, sectors, _linear, below, _offset = execution.stdout.split()
            return _Table(int(sectors), below)
        except ValueError as error:
            raise ToolFailedError(execution) from error

    def _name(self, volume: str) -> str:
        return f"{DEVICE_NAME}{volume}{self.suffix}"

    def _node(self, volume: str) -> str:
        return f"{MAPPED}{volume}{self.suffix}"

    def _path(self, volume: str) -> str:
        return self._node(volume)


class StableDevices(_LinearDevices):
    """The stable devices of volumes, each with its link in ``/dev/hwbus``."""

    async def ensure(
        self, volume: str, uid: str, below: str, size_bytes: int, *, read_only: bool, cause: str
    ) -> StableDevice:
        """Have the device over all of *below* ("254:3"), running, with its link in ``/dev/hwbus``.

        Raises ``InUseError`` if somebody else has *below* open.
        """
        found = await super().ensure(
            volume, uid, below, size_bytes, read_only=read_only, cause=cause
        )
        await self._tools.must("mkdir", "-p", LINKS, cause=cause)
        await self._tools.must("ln", "-sfn", found.node, found.path, cause=cause)
        return found

    async def ensure_taken_away(self, volume: str, uid: str, *, cause: str) -> None:
        """Have neither device nor link, even if somebody still has it open, whom it fails then.

        Nothing may be under way to it any more.
        """
        if await self.find(volume, uid, cause=cause) is None:
            return
        # The link first: who dies in between would find no device, and so no reason to go on.
        await self._tools.must("rm", "-f", self._path(volume), cause=cause)
        try:
            await super().ensure_removed(volume, uid, cause=cause)
        except InUseError:
            # It goes with its last user; until then it is an error to all who use it.
            name = self._name(volume)
            await self._tools.must("dmsetup", "wipe_table", name, cause=cause)
            await self._tools.must("dmsetup", "remove", "--deferred", name, cause=cause)

    async def ensure_removed(self, volume: str, uid: str, *, cause: str) -> bool:
        """Have neither device nor link. Raises ``InUseError`` if somebody has it open."""
        was_there = await super().ensure_removed(volume, uid, cause=cause)
        await self._tools.must("rm", "-f", self._path(volume), cause=cause)
        return was_there

    def _path(self, volume: str) -> str:
        return f"{LINKS}/{volume}"


class Backings(_LinearDevices):
    """What the plain sides of encrypted volumes in use lie on."""

    identity = BACKING_IDENTITY
    suffix = BACKING


def _line(size_bytes: int, below: str) -> str:
    return f"0 {size_bytes // _SECTOR_BYTES} linear {below} 0"
