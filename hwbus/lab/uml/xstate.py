"""Processors newer than Debian's User Mode Linux: what lets it run on them all the same."""

from pathlib import Path

from hwbus.lab.uml.host import execute

COMPILER = "gcc"
_SOURCE = Path(__file__).with_name("xstate.c")
_CPUINFO = Path("/proc/cpuinfo")
_TOO_NEW = frozenset({"amx_tile", "apx"})


def needed(cpuinfo: str | None = None) -> bool:
    """Return whether this machine's processors have more registers than User Mode Linux knows.

    *cpuinfo* is the text of ``/proc/cpuinfo``, read from there unless it is given.
    """
    text = cpuinfo if cpuinfo is not None else _CPUINFO.read_text(encoding="ascii")
    flags = (line.partition(":")[2] for line in text.splitlines() if line.startswith("flags"))
    return any(_TOO_NEW.intersection(line.split()) for line in flags)


async def build(directory: Path) -> Path:
    """Build the library to preload into ``linux.uml``, in *directory*; return its path.

    Raises `LabError` with the compiler's words if it does not compile.
    """
    library = directory / "xstate.so"
    await execute(COMPILER, "-shared", "-fPIC", "-O2", "-nostdlib", "-o", library, _SOURCE)
    return library
