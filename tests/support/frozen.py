"""Processes that are held still, and are so before the test goes on."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.support.nats import until


@asynccontextmanager
async def frozen(pid: int) -> AsyncIterator[None]:
    """Stop a process for the while of the context, and have it go on afterwards.

    A stop takes effect when the process's first thread next gets a processor; until then its other
    threads work on and answer. So it is awaited.
    """
    os.kill(pid, signal.SIGSTOP)
    try:
        await until(lambda: stands_still(pid))
        yield
    finally:
        with suppress(ProcessLookupError):  # whoever was frozen may have been ended by force
            os.kill(pid, signal.SIGCONT)


def stands_still(pid: int) -> bool:
    """Say whether no thread of a process is at work."""
    # After the name, which is in brackets and may hold anything, comes the state: proc(5).
    try:
        told = [at.read_text() for at in Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:  # a thread has just ended
        return False
    return all(one.rpartition(")")[2].split()[0] == "T" for one in told)
