"""On which of the host's processors each node stays.

The kernel of a node and its processes take turns, many thousand times a second: on two processors
each turn wakes up the other one, which takes longer than the turn. So a node is kept on one; and
since the host's kernel may not spread what is kept so, that is done here, a little at a time.
"""

import asyncio
import contextlib
import os
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import msgspec

_PROC = Path("/proc")
_PROGRAM = "linux.uml"
_EVERY_S = 3.0
_WORTH = 0.15
"""Of a processor: for less than that nobody is moved."""

# Of what comes behind the name in proc(5)'s `stat`; the times are utime, stime, and those of
# children that have ended.
_PARENT, _GROUP, _TIMES = 1, 2, slice(11, 15)


class Kernel(msgspec.Struct, kw_only=True):
    """A node of whatever lab: its process group, the parent of that, and all its processes."""

    parent: int
    ticks: int = 0
    members: list[int] = msgspec.field(default_factory=list)


_NONE = Kernel(parent=0)


class Load(msgspec.Struct, frozen=True):
    """How much of one processor a node took of late, and which one it stays on."""

    share: float
    home: int


def first_home(number: int) -> int:
    """Return where a node is begun; those of one lab are spread."""
    ours = _ours()
    return ours[(os.getpid() + number) % len(ours)]


def better(loads: Mapping[int, Load], mine: Collection[int]) -> tuple[int, int] | None:
    """Return which of *mine* should be on which processor instead, if any should.

    It is the one that gains most, and only if the other processor is less full with it than the
    one that it leaves was: nobody moves back and forth.
    """
    ours = _ours()
    full = dict.fromkeys(ours, 0.0)
    for load in loads.values():
        full[load.home] = full.get(load.home, 0.0) + load.share
    emptiest = min(ours, key=lambda cpu: full[cpu])
    gains = {
        pid: full[loads[pid].home] - (full[emptiest] + loads[pid].share)
        for pid in mine
        if pid in loads and loads[pid].home != emptiest
    }
    best = max(gains, key=lambda pid: gains[pid], default=None)
    if best is None or gains[best] < _WORTH or loads[best].share < _WORTH:
        return None
    return best, emptiest


async def keep_spread(launchers: Callable[[], Collection[int]]) -> None:
    """Move nodes to where there is more room, until cancelled; *launchers* are their parents."""
    if len(_ours()) == 1:
        return
    clock = asyncio.get_running_loop().time
    before, since_s = _kernels(), clock()
    while True:
        # Not in step with other labs: each sees where the others' nodes are by then.
        await asyncio.sleep(_EVERY_S * random.uniform(0.5, 1.5))  # noqa: S311
        now, now_s = _kernels(), clock()
        loads = dict(_loads(before, now, now_s - since_s))
        wanted = launchers()
        better_off = better(loads, [pid for pid, one in now.items() if one.parent in wanted])
        if better_off is not None:
            move(*better_off)
        before, since_s = now, now_s


def _loads(
    before: Mapping[int, Kernel], now: Mapping[int, Kernel], seconds: float
) -> Iterator[tuple[int, Load]]:
    for pid, one in now.items():
        home = _home(pid)
        if pid in before and len(home) == 1:
            ticks = max(0, one.ticks - before[pid].ticks)
            yield pid, Load(ticks / os.sysconf("SC_CLK_TCK") / seconds, *home)


def _kernels() -> dict[int, Kernel]:
    """Return the nodes of all labs on this host, by the process that leads each."""
    found: dict[int, Kernel] = {}
    parents: dict[int, int] = {}
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text()
        except OSError:  # it has ended
            continue
        name, _, rest = text.partition("(")[2].rpartition(")")
        fields = rest.split()
        parents[int(entry.name)] = int(fields[_PARENT])
        if name == _PROGRAM:
            one = found.setdefault(int(fields[_GROUP]), Kernel(parent=0))
            one.members.append(int(entry.name))
            one.ticks += sum(map(int, fields[_TIMES]))
    for pid, one in found.items():
        # Between a node and whoever begins it is the shell that makes its sandbox.
        one.parent = parents.get(parents.get(pid, 0), 0)
    return found


def move(leader: int, cpu: int) -> None:
    """Have a node stay on a processor from now on, all of its processes; *leader* is its kernel."""
    # The leader first: who is begun from then on is where it is, and the others are listed after.
    _stay(leader, cpu)
    for pid in _kernels().get(leader, _NONE).members:
        _stay(pid, cpu)


def _stay(pid: int, cpu: int) -> None:
    with contextlib.suppress(OSError):  # it has ended
        for task in (_PROC / str(pid) / "task").iterdir():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), {cpu})


def _home(pid: int) -> set[int]:
    try:
        return os.sched_getaffinity(pid)
    except ProcessLookupError:
        return set()


def _ours() -> list[int]:
    return sorted(os.sched_getaffinity(0))
