"""Disks on their way out of a pool: their extents move to the others while volumes are in use.

``pvmove`` works in the kernel: one that was killed, or whose machine lost power, is taken up again
by the next. It locks the volume it moves, so that volume cannot grow or go meanwhile; hence one
volume at a time, and whoever waits for the pool has a turn in between.
"""

from collections.abc import Sequence

import msgspec

from node_workers.lvm_pools import our_group
from node_workers.lvm_report import PhysicalVolume, VolumeGroup
from node_workers.ports import (
    PoolDisk,
    Refusal,
    RefusedToTouchError,
    Runner,
    ToolFailedError,
)
from node_workers.tools import Tools

MOVE_TIMEOUT_S = 86_400.0
"""As long as one volume may take to move. A move that is cut off goes on where it was."""

_MOVE = ("pvmove", "--interval", "1")
_UNDERWAY = "[pvmove"
_COLUMNS = "pv_name,pv_uuid,pv_allocatable,lv_name,move_pv_uuid"
_HIDDEN = "["


class _Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A run of extents of a disk, and whose it is: nobody's when ``lv_name`` is empty.

    LVM puts the names of what belongs to a thin pool or to LVM itself in brackets. A move
    has extents on both of its disks; ``move_pv_uuid`` is the one that it empties.
    """

    pv_uuid: str
    pv_allocatable: str
    lv_name: str
    pv_name: str
    move_pv_uuid: str


class Moves:
    """Empties disks of a pool, volume by volume, and leaves off again."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._tools = Tools(runner)

    async def drain(self, uid: str, name: str, disks: Sequence[PoolDisk], *, cause: str) -> bool:
        """Move one volume off *disks*; return whether nothing is left to be moved.

        Raises as ``Storage.ensure_pool_disks_drained`` does.
        """
        group = await our_group(self._runner, uid, name, cause=cause)
        leaving = _of(group, disks)
        if all(pv.free_bytes == pv.size_bytes for pv in leaving):
            return True
        segments = await self._segments(name, cause=cause)
        uuids = {pv.uuid for pv in leaving}
        taken = {s.pv_name for s in segments if s.pv_uuid in uuids and s.pv_allocatable}
        for path in sorted(taken):
            await self._tools.must("pvchange", "--allocatable", "n", path, cause=cause)
        await self._tools.must(
            *_next_move([s for s in segments if s.pv_uuid in uuids]),
            cause=cause,
            timeout_s=MOVE_TIMEOUT_S,
        )
        return False

    async def keep(self, uid: str, name: str, disks: Sequence[PoolDisk], *, cause: str) -> None:
        """Have *disks* take new extents again, and nothing on its way off them.

        Moves off other disks are let be: they are another pool's, or somebody's who moves by hand.
        """
        group = await our_group(self._runner, uid, name, cause=cause)
        uuids = {pv.uuid for pv in _of(group, disks)}
        segments = await self._segments(name, cause=cause)
        for path in _moving([s for s in segments if s.pv_uuid in uuids]):
            await self._tools.must("pvmove", "--abort", path, cause=cause)
        shut = {s.pv_name for s in segments if s.pv_uuid in uuids and not s.pv_allocatable}
        for path in sorted(shut):
            await self._tools.must("pvchange", "--allocatable", "y", path, cause=cause)

    async def _segments(self, group: str, *, cause: str) -> list[_Segment]:
        execution = await self._tools.must(
            *("pvs", "--reportformat", "json", "--segments"),
            *("-o", _COLUMNS, "--select", f"vg_name={group}"),
            cause=cause,
        )
        try:
            rows = msgspec.json.decode(execution.stdout)["report"][0]["pvseg"]
            return msgspec.convert(rows, list[_Segment])
        except (msgspec.MsgspecError, LookupError, TypeError) as error:
            raise ToolFailedError(execution) from error


def _of(group: VolumeGroup, disks: Sequence[PoolDisk]) -> list[PhysicalVolume]:
    """Return the members that *disks* are. Raises ``RefusedToTouchError`` if one is missing."""
    stamps = {disk.disk for disk in disks}
    members = [pv for pv in group.physical if pv.disk in stamps]
    for pv in members:
        if pv.missing:
            raise RefusedToTouchError(
                Refusal.DISK_MISSING, f"the disk {pv.disk} of {group.name} is not here"
            )
    return members


def _moving(leaving: Sequence[_Segment]) -> list[str]:
    """Return the paths of the disks among these that a move empties."""
    moves = [s for s in leaving if s.lv_name.startswith(_UNDERWAY)]
    return sorted({s.pv_name for s in moves if s.move_pv_uuid == s.pv_uuid})


def _next_move(leaving: Sequence[_Segment]) -> tuple[str, ...]:
    """Return the next move: one that was begun, else a volume, else what LVM keeps for itself.

    LVM takes up one that was begun when its disk is named again. When none is named, it takes up
    whatever is being moved on this machine, other people's too.
    """
    if begun := _moving(leaving):
        return (*_MOVE, begun[0])
    used = [segment for segment in leaving if segment.lv_name]
    volume = next((s for s in used if not s.lv_name.startswith(_HIDDEN)), None)
    if volume is not None:
        return (*_MOVE, "--name", volume.lv_name, volume.pv_name)
    return (*_MOVE, used[0].pv_name)
