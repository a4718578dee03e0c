"""The watch for what is in limbo waits for an audit that cannot be looked at yet."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from aggregates.world import World
from hwbus.controller import limbo as limbo_module
from hwbus.controller.limbo import LimboWatch
from hwbus.memory import MemoryLog
from hwbus.ports import NobodyThereError, OutcomeUnknownError
from tests.support.clock import ManualClock


class ShyLog(MemoryLog):
    """Cannot say at first where it ends."""

    troubles: list[Exception]

    async def head(self) -> int:
        if self.troubles:
            raise self.troubles.pop()
        return await super().head()


def test_an_audit_that_cannot_be_looked_at_is_told_once_and_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limbo_module, "_AGAIN_S", 0.001)
    nobody: Any = None
    audit = ShyLog(ManualClock())
    audit.troubles = [OutcomeUnknownError("nobody leads"), NobodyThereError("no stream")] * 2
    watch = LimboWatch(nobody, World(), nobody, audit, ManualClock())
    with capture_logs() as logs:
        assert asyncio.run(watch._head()) == 0
    assert [(one["log_level"], one["because"]) for one in logs] == [("warning", "no stream")]
