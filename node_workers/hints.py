"""Whispers that a disk came or went, from the kernel, or from a folder that stands for it."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from node_workers.uevents import UeventsUnavailableError, block_uevents

_LOG = structlog.get_logger("node_workers.hints")
_POLL_S = 2.0
# What we make ourselves, and what is no disk: an lvcreate must not cause a look at everything.
_NOT_DISKS = ("dm-", "loop", "ram", "zram", "md", "sr", "drbd")
_KERNEL_BLOCKS = Path("/sys/block")


async def listen(hint: Callable[[], None]) -> None:
    """Call *hint* when a disk comes or goes, until cancelled; costs no process."""
    try:
        async with block_uevents() as events:
            async for event in events:
                # Every lvcreate makes its disks "change"; what changed on them can wait for the
                # next look. Without a name: some events were lost.
                unsure = not event.name
                if unsure or (event.action != "change" and not event.name.startswith(_NOT_DISKS)):
                    hint()
    except UeventsUnavailableError as error:
        _LOG.info("no uevents here, looking at the list of disks instead", because=str(error))
        await watch(_KERNEL_BLOCKS, hint)


async def watch(folder: Path, hint: Callable[[], None], *, suffix: str = "") -> None:
    """Call *hint* when the entries of *folder* that end in *suffix* change, until cancelled."""
    known = _entries(folder, suffix)
    while True:
        await asyncio.sleep(_POLL_S)
        now = _entries(folder, suffix)
        if now != known:
            known = now
            hint()


def _entries(folder: Path, suffix: str) -> frozenset[str]:
    if not folder.is_dir():
        return frozenset()
    names = (entry.name for entry in folder.iterdir())
    return frozenset(n for n in names if n.endswith(suffix) and not n.startswith(_NOT_DISKS))
