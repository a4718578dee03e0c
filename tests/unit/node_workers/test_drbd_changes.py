"""Something changes in DRBD, and is heard of, whatever becomes of the program that tells."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from node_workers import drbd_changes
from node_workers.drbd_changes import changes


async def heard(told: AsyncIterator[None]) -> None:
    await asyncio.wait_for(anext(told), 20)


def test_what_is_told_together_is_heard_once_and_again_after_the_program_died(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drbd_changes, "_FIRST_PAUSE_S", 0.01)

    async def story() -> None:
        told = changes(("sh", "-c", "echo one; echo two"))
        for _ in range(3):
            await heard(told)
        await told.aclose()  # type: ignore[attr-defined]

    asyncio.run(story())


def test_a_program_that_is_not_there_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drbd_changes, "_FIRST_PAUSE_S", 0.01)

    async def story() -> None:
        told = changes(("/no/such/tool",))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(told), 0.2)

    asyncio.run(story())


def test_who_stops_listening_leaves_no_program_behind() -> None:
    async def story() -> None:
        told = changes(("sh", "-c", "echo one; exec sleep 300"))
        await heard(told)
        await asyncio.wait_for(told.aclose(), 5)  # type: ignore[attr-defined]

    asyncio.run(story())
