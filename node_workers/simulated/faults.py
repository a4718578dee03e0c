"""What goes wrong, and when: rates for a seed, so that the same seed is the same bad day."""

from enum import StrEnum
from random import Random

import msgspec

_TOOLS_THAT_ONLY_LOOK = frozenset(
    {"lsblk", "lvm", "findmnt", "dumpe2fs", "xfs_db", "cat", "realpath"}
)
TEARABLE = frozenset({"lvcreate", "mkfs.ext4", "mkfs.xfs", "cryptsetup"})


class SimulatedCrash(BaseException):
    """The worker died here. Not an ``Exception``, so that nothing under test survives it."""


class Fault(StrEnum):
    """One way for an execution to go wrong."""

    FAIL_BEFORE = "fail-before"
    FAIL_AFTER = "fail-after"
    TIME_OUT = "time-out"
    CRASH_BEFORE = "crash-before"
    CRASH_AFTER = "crash-after"
    TORN = "torn"
    SLOW = "slow"


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """Chances between 0 and 1 for each execution, at most *faults_max* in all.

    ``fail_after`` and ``time_out`` do the work and deny it; ``torn`` dies in the middle of mkfs
    or lvcreate; ``slow`` waits *slow_s*. ``fail_before`` may hit tools that only look, too.
    """

    seed: int
    fail_before: float = 0.0
    fail_after: float = 0.0
    time_out: float = 0.0
    crash_before: float = 0.0
    crash_after: float = 0.0
    torn: float = 0.0
    slow: float = 0.0
    slow_s: float = 0.05
    faults_max: int = 10


class Weather:
    """Draws faults from a record, in the order of executions."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._chance = Random(faults.seed)  # noqa: S311 - repeatable is the point
        self._left = faults.faults_max

    def next(self, tool: str) -> Fault | None:
        """Return what happens to the next execution of *tool*, if anything."""
        drawn = self._chance.random()
        if self._left == 0:
            return None
        for fault in Fault:
            chance = getattr(self.faults, fault.value.replace("-", "_"))
            if drawn < chance:
                if fault is Fault.FAIL_AFTER and tool in _TOOLS_THAT_ONLY_LOOK:
                    return None
                if fault is Fault.TORN and tool not in TEARABLE:
                    return None
                self._left -= 1
                return fault
            drawn -= chance
        return None
