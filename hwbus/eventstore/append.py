"""Storing all or nothing, and finding out afterwards when nobody said which it was."""

import asyncio
from collections.abc import Sequence

from eventsourcing.persistence import OperationalError

from hwbus.eventstore.link import (
    Link,
    OutcomeUnknownError,
    OvertakenError,
    UnavailableError,
    Write,
)
from hwbus.eventstore.records import write_of

_ATTEMPTS_MAX = 6
_PAUSE_S = 0.1


async def append(link: Link, stream: str, writes: Sequence[Write], *, write_id: str) -> list[int]:
    """Store *writes*, all or none, and return their sequences.

    The first of them must state what it expects: whether an unanswered save is in the stream is
    then decided by the first message behind that sequence, which is ours or somebody else's.

    Raises:
        OvertakenError: somebody else wrote first; nothing was stored.
        OperationalError: the outcome stayed unknown, or the stream unavailable, or it refuses.
    """
    is_in_doubt = False
    because: Exception = OutcomeUnknownError()
    for attempt in range(_ATTEMPTS_MAX):
        try:
            return await _once(link, stream, writes, write_id, is_in_doubt=is_in_doubt)
        except OvertakenError as error:
            # In doubt it may have been ourselves who were first: then look again.
            if not is_in_doubt or isinstance(error, _MovedOnError):
                raise
        except OutcomeUnknownError as error:
            is_in_doubt, because = True, error
        except UnavailableError as error:
            because = error
            await asyncio.sleep(_PAUSE_S * 2**attempt)
        except OperationalError as error:
            if not is_in_doubt:
                raise
            because = error
    what = "may or may not be stored" if is_in_doubt else "is not stored"
    raise OperationalError(f"the save {what}: {because}") from because


class _MovedOnError(OvertakenError):
    pass


async def _once(
    link: Link, stream: str, writes: Sequence[Write], write_id: str, *, is_in_doubt: bool
) -> list[int]:
    first = writes[0]
    if is_in_doubt:
        found = await link.first_after(stream, first.subject, first.after or 0)
        if found is not None:
            if write_of(found.data) != write_id:
                raise _MovedOnError(f"{first.subject} has moved on")
            return list(range(found.seq, found.seq + len(writes)))
    # Repeating is safe: of two copies with one expectation only one can be stored.
    if len(writes) == 1:
        return [await link.store(stream, first)]
    last = await link.store_batch(stream, writes)
    return list(range(last - len(writes) + 1, last + 1))
