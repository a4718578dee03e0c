"""Being cancelled, and noticing it, by whoever outlives groups of tasks that fail.

Before Python 3.13 a task group (``asyncio.taskgroups``) tells the task that it is in too little and
too much of this. One that is being ended for an error when its task is cancelled raises the error
alone, and a task is told once: who handles the error and goes on would go on for ever. And one
whose member fails after its body has ended leaves its task marked as cancelled, though nobody
cancelled it. So such a loop runs each group ``apart``, and then asks with ``heed_cancellation``.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def apart(work: Coroutine[Any, Any, None]) -> None:
    """Do *work* in a task of its own, so that its groups leave no mark on this one.

    Ends when the work has ended, also if this task is cancelled, which cancels the work. Raises
    what the work raises.
    """
    await asyncio.create_task(work)


def heed_cancellation() -> None:
    """Raise ``CancelledError`` if this task was asked to end and has not been told.

    For a task in which no group has failed: see above.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
