"""What a node says that it can do, when some of its tools do not answer."""

import asyncio
from collections.abc import Sequence

import pytest

from node_workers.ports import Execution, StorageError, ToolNotStartedError, ToolTimedOutError
from node_workers.presence import probe
from schemas.node import Capability
from tests.support.clock import NOON

PRINTS = {
    "lvm segtypes": "linear\nthin-pool\n",
    "dmsetup targets": "crypt v1.24.0\n",
    "cat /sys/module/drbd/version": "8.4.11\n",
}
EVERYTHING = {
    Capability.LENDING,
    Capability.LVM,
    Capability.THIN,
    Capability.EXT4,
    Capability.XFS,
    Capability.ENCRYPTION,
    Capability.REPLICATION,
}


class Tools:
    """A machine that has every tool; the *failing* one, as its arguments begin, raises."""

    def __init__(self, failing: str, error: type[StorageError]) -> None:
        self._failing = failing
        self._error = error

    async def run(
        self, argv: Sequence[str], *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        assert not stdin
        execution = Execution(
            argv=tuple(argv),
            exit_status=0,
            stdout=PRINTS.get(" ".join(argv), ""),
            stderr="",
            duration_ms=1.0,
            cause=cause,
            started_at=NOON,
        )
        if self._failing and " ".join(argv).startswith(self._failing):
            if self._error is ToolTimedOutError:
                raise ToolTimedOutError(execution, timeout_s)
            raise ToolNotStartedError(argv[0], "Cannot allocate memory")
        return execution


@pytest.mark.parametrize("error", [ToolTimedOutError, ToolNotStartedError])
@pytest.mark.parametrize(
    ("failing", "less"),
    [
        ("", set()),
        ("modprobe", set()),
        ("lvm", {Capability.LVM, Capability.THIN}),
        ("mkfs.xfs", {Capability.XFS}),
        ("dmsetup", {Capability.ENCRYPTION}),
        ("cat /sys/module/drbd", {Capability.REPLICATION}),
    ],
)
def test_what_does_not_answer_is_not_there_yet_and_the_node_starts(
    failing: str,
    less: set[Capability],
    error: type[StorageError],
    capfd: pytest.CaptureFixture[str],
) -> None:
    found = asyncio.run(probe(Tools(failing, error)))
    assert set(found) == EVERYTHING - less
    assert ("counts as not there until the next start" in capfd.readouterr().out) is bool(failing)
