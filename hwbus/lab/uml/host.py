"""Programs on the host: the short ones are waited for, the long ones die when we do."""

import asyncio
import os
import shutil
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Mapping
from pathlib import Path

from hwbus.lab.uml.errors import LabError

# A program started behind these words is killed when we die, even by SIGKILL.
_TIED = ("setpriv", "--pdeathsig", "KILL", "--")

# An unprivileged login's PATH, kept by some `sudo`s, has no sbin, where the storage tools live.
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"

# Where a node mounts something of its own, so that it does not see what the host has there.
SHADOWED = ("/dev/", "/proc/", "/run/", "/sys/")


def find(program: str) -> str | None:
    """Return the path of a program of this machine, also if it is one for administrators."""
    return shutil.which(program, path=_PATH)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return our environment, with administrators' programs on the PATH, plus `extra`."""
    return {**os.environ, "PATH": _PATH, **(extra or {})}


async def execute(*argv: str | Path) -> str:
    """Run a short program to its end and return what it wrote.

    Raises `LabError` with its words if its status is not zero.
    """
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, env=environment()
    )
    output, _ = await process.communicate()
    words = output.decode(errors="replace").strip()
    if process.returncode:
        raise LabError(f"{' '.join(map(str, argv))}: {words or f'status {process.returncode}'}")
    return words


async def start(
    *argv: str | Path, env: Mapping[str, str] | None = None, output: int = PIPE
) -> Process:
    """Start a long-running program in a session of its own; `output` is a pipe or descriptor."""
    return await asyncio.create_subprocess_exec(
        *_TIED,
        *argv,
        stdin=DEVNULL,
        stdout=output,
        stderr=STDOUT,
        start_new_session=True,
        env=environment(env),
    )
