"""The device that DRBD lies on: a dm-linear device over the logical volume of a leg.

DRBD wants what it lies on for itself; a stable device that is there already would be in its way on
the logical volume, and is not on this one. How large it is says where DRBD looks for its metadata.
"""

from node_workers.devices import INFO
from node_workers.drbd_config import LEG
from node_workers.ports import (
    Refusal,
    RefusedToTouchError,
    Runner,
    ToolFailedError,
)
from node_workers.tools import Tools

IDENTITY = "HWBUSLEG-"

_SECTOR_BYTES = 512
_END_BYTES = 1 << 20
_SUSPENDED = "s"
_INACTIVE = "I"
_NONE = 1  # what dmsetup answers for a device that does not exist


class Legs:
    """Makes, extends and removes leg devices."""

    def __init__(self, runner: Runner) -> None:
        self._tools = Tools(runner)

    async def is_there(self, volume: str, uid: str, *, cause: str) -> bool:
        """Return whether there is one. Raises ``RefusedToTouchError`` if it is another's."""
        return await self._attributes(volume, uid, cause=cause) is not None

    async def size_bytes(self, volume: str, below: str, *, cause: str) -> int:
        """Return how large the leg device, which is there, is.

        Raises ``RefusedToTouchError`` if it does not lie on *below* ("254:3").
        """
        execution = await self._tools.must("dmsetup", "table", _name(volume), cause=cause)
        try:
            _start, sectors, _linear, lies_on, _offset = execution.stdout.split()
            found_bytes = int(sectors) * _SECTOR_BYTES
        except ValueError as error:
            raise ToolFailedError(execution) from error
        if lies_on != below:
            raise RefusedToTouchError(
                Refusal.FOREIGN_DEVICE, f"{LEG.format(volume)} lies on {lies_on}, not on {below}"
            )
        return found_bytes

    async def ensure(
        self, volume: str, uid: str, below: str, size_bytes: int, *, cause: str
    ) -> None:
        """Have the leg device, exactly so large, running."""
        line = f"0 {size_bytes // _SECTOR_BYTES} linear {below} 0"
        attributes = await self._attributes(volume, uid, cause=cause)
        if attributes is None:
            named = ("dmsetup", "create", _name(volume), "--uuid", f"{IDENTITY}{uid}")
            await self._tools.must(*named, "--verifyudev", "--table", line, cause=cause)
            return
        found_bytes = await self.size_bytes(volume, below, cause=cause)
        if found_bytes != size_bytes:
            await self._tools.must("dmsetup", "load", _name(volume), "--table", line, cause=cause)
        else:
            if _INACTIVE in attributes:
                # Of another size: who loaded it died, and the next resume would put it in place.
                await self._tools.must("dmsetup", "clear", _name(volume), cause=cause)
            if _SUSPENDED not in attributes:
                return
        await self._tools.must("dmsetup", "resume", _name(volume), cause=cause)

    async def ensure_removed(self, volume: str, uid: str, *, cause: str) -> None:
        """Have no leg device. Raises ``InUseError`` if DRBD has it open."""
        if await self.is_there(volume, uid, cause=cause):
            await self._tools.must("dmsetup", "remove", "--retry", _name(volume), cause=cause)

    async def wipe_end(self, path: str, kept_bytes: int, size_bytes: int, *, cause: str) -> None:
        """Have nothing in the end of the logical volume, beyond what is kept."""
        offset = max(kept_bytes, size_bytes - _END_BYTES)
        await self._tools.must(
            *("blkdiscard", "--force", "--zeroout", "--offset", str(offset)),
            *("--length", str(size_bytes - offset), path),
            cause=cause,
        )

    async def _attributes(self, volume: str, uid: str, *, cause: str) -> str | None:
        execution = await self._tools.must(
            *INFO, _name(volume), cause=cause, accepted=frozenset({0, _NONE})
        )
        if execution.exit_status == _NONE:
            return None
        identity, _, rest = execution.stdout.strip().partition("|")
        if identity != f"{IDENTITY}{uid}":
            raise RefusedToTouchError(
                Refusal.FOREIGN_DEVICE, f"{LEG.format(volume)} is {identity or 'nobody'}'s device"
            )
        return rest.split("|")[-2]


def _name(volume: str) -> str:
    return f"hwbus:{volume}.leg"
