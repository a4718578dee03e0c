"""Hear of it when something changes in DRBD.

``drbdsetup events2`` runs for as long as the worker does, so it is none of the tools with a cause
and a bound that a runner runs: it changes nothing, and what it prints is only taken as a hint to
look. Should it end, as it does where no DRBD is loaded yet, it is started again after a pause.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence

EVENTS = ("drbdsetup", "events2")

_FIRST_PAUSE_S, _PAUSE_S_MAX = 1.0, 30.0
_TOGETHER_S = 0.05
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


async def changes(argv: Sequence[str] = EVENTS) -> AsyncIterator[None]:
    """Yield once for all that is heard close together; ends only when cancelled."""
    heard = asyncio.Event()
    listening = asyncio.create_task(_listen(argv, heard))
    try:
        while True:
            await heard.wait()
            await asyncio.sleep(_TOGETHER_S)
            heard.clear()
            yield
    finally:
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening


async def _listen(argv: Sequence[str], heard: asyncio.Event) -> None:
    pause_s = _FIRST_PAUSE_S
    while True:
        if await _hear(argv, heard):
            pause_s = _FIRST_PAUSE_S
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _PAUSE_S_MAX)


async def _hear(argv: Sequence[str], heard: asyncio.Event) -> bool:
    """Listen until the program ends; returns whether it said anything."""
    try:
        program = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{_SBIN}", "LC_ALL": "C"},
        )
    except OSError:
        return False
    said = False
    try:
        while program.stdout is not None and await program.stdout.read(1 << 16):
            said = True
            heard.set()
    finally:
        with contextlib.suppress(ProcessLookupError):
            program.kill()
        await program.wait()
    return said
