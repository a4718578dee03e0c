"""Being cancelled, and noticing it."""

import asyncio


def heed_cancellation() -> None:
    """Raise ``CancelledError`` if this task was asked to end and has not been told.

    Before Python 3.13 a task group that is being ended for an error when its task is cancelled
    raises the error alone (``asyncio.taskgroups``): who handles that and goes on would go on for
    ever, since a task is told once.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
