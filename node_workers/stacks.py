"""What lies between the consumer of a volume and its leg, and moves from one thing to another.

From the consumer down, of an encrypted volume::

    /dev/hwbus/<volume>                 the stable device
    /dev/mapper/hwbus-crypt:<volume>    the plain side
    /dev/mapper/hwbus:<volume>.backing  what has the header at its start
    /dev/<pool>/<volume>                or /dev/drbd<minor>

Of one that is not, the first and the last. What is right above the last can be put on another, in
use: of an encrypted volume that needs no key, since the plain side is not touched.
"""

import msgspec

from node_workers.devices import Backings, StableDevices
from node_workers.luks import Luks, Opened
from node_workers.ports import Runner, StableDevice, UnsuitableError


class Stack(msgspec.Struct, frozen=True, kw_only=True):
    """What there is of it. ``below`` is the number of what all of it lies on; empty: nothing is."""

    stable: StableDevice | None = None
    opened: Opened | None = None
    backing: StableDevice | None = None
    below: str = ""

    @property
    def header_path(self) -> str:
        """By what the header is reached while it is in use; empty: by what all of it lies on.

        Below, the kernel may remember what was read there when the volume was on something else.
        """
        return self.backing.node if self.stable is not None and self.backing is not None else ""

    @property
    def movable(self) -> bool:
        """Whether it can be put on something else; one that an earlier version made cannot."""
        if self.opened is None:
            return True
        return self.backing is not None and self.opened.below == self.backing.number


class Stacks:
    """Finds, moves and takes away what lies on a leg."""

    def __init__(self, runner: Runner, luks: Luks) -> None:
        self.devices = StableDevices(runner)
        self.backings = Backings(runner)
        self._luks = luks

    async def find(self, volume: str, uid: str, *, cause: str) -> Stack:
        """Return what there is. Raises ``RefusedToTouchError`` if any of it is another's."""
        stable = await self.devices.find(volume, uid, cause=cause)
        opened = await self._luks.find(volume, uid, cause=cause)
        if opened is None:
            below = "" if stable is None else await self.devices.lies_on(volume, cause=cause)
            return Stack(stable=stable, below=below)
        backing = await self.backings.find(volume, uid, cause=cause)
        below = opened.below
        if backing is not None and below == backing.number:
            below = await self.backings.lies_on(volume, cause=cause)
        return Stack(stable=stable, opened=opened, backing=backing, below=below)

    async def ensure_backed(
        self, volume: str, uid: str, below: str, size_bytes: int, *, cause: str
    ) -> str:
        """Have what a plain side, which is not open, is to lie on; returns its path."""
        found = await self.backings.find(volume, uid, cause=cause)
        if found is not None and await self.backings.lies_on(volume, cause=cause) != below:
            # Somebody died before it was used: by now the volume is replicated, or is no more.
            await self.backings.ensure_removed(volume, uid, cause=cause)
        made = await self.backings.ensure(
            volume, uid, below, size_bytes, read_only=False, cause=cause
        )
        return made.node

    async def ensure_moved(
        self, volume: str, stack: Stack, below: str, size_bytes: int, *, cause: str
    ) -> None:
        """Have *stack* lie on *below* instead, whoever uses it; *size_bytes* is that of *below*."""
        require_movable(volume, stack)
        moved = self.devices if stack.opened is None else self.backings
        await moved.ensure_moved(volume, below, size_bytes, cause=cause)

    async def ensure_closed(self, volume: str, uid: str, *, cause: str) -> bool:
        """Have neither plain side nor what is below it; returns whether there was any of it.

        Raises ``InUseError``, also while there is a stable device on it.
        """
        closed = await self._luks.ensure_closed(volume, uid, cause=cause)
        return await self.backings.ensure_removed(volume, uid, cause=cause) or closed

    async def ensure_taken_away(self, volume: str, uid: str, *, cause: str) -> None:
        """Have nothing of it, whoever uses it. Nothing may be under way to it any more."""
        await self.devices.ensure_taken_away(volume, uid, cause=cause)
        await self._luks.ensure_taken_away(volume, uid, cause=cause)
        await self.backings.ensure_removed(volume, uid, cause=cause)


def require_movable(volume: str, stack: Stack) -> None:
    """Raise ``UnsuitableError`` (``cannot-replicate``) if *stack* can be put on nothing else."""
    if not stack.movable:
        old = f"{volume} is in use as an earlier version made it"
        raise UnsuitableError("cannot-replicate", f"{old}: detach it and attach it again first")
