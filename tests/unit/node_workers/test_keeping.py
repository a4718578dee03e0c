"""The audit says of each tool what became of it, and of one that never ran that it did not."""

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from node_workers.figures import Figures
from node_workers.keeping import KeepingRunner
from node_workers.ports import Execution, ToolNotStartedError
from node_workers.store import Record
from schemas.audit import ExecutedRecord
from tests.support.clock import NOON, ManualClock


class Full:
    """A machine that has no room for one more process."""

    async def run(
        self, argv: Sequence[str], *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        del cause, timeout_s, stdin
        raise ToolNotStartedError(argv[0], "no room for one more process")


def test_a_tool_that_was_not_started_is_not_told_as_cut_off() -> None:
    kept: list[Record] = []

    async def keep(records: Sequence[Record]) -> None:
        kept.extend(records)

    runner = KeepingRunner(Full(), keep, node="n1", clock=ManualClock(NOON), figures=Figures())
    with pytest.raises(ToolNotStartedError):
        asyncio.run(runner.run(("lvs",), cause="scan:1", timeout_s=5))
    (record,) = (msgspec.json.decode(one.data, type=ExecutedRecord) for one in kept)
    assert record.argv == ("lvs",)
    assert (record.exit_status, record.stderr) == (
        126,
        "lvs was not started: no room for one more process",
    )
