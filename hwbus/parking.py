"""A message that nobody can read is set aside with a reason, and stops nobody else."""

import msgspec
import structlog

from hwbus.ports import Clock, ForbiddenError, LogFullError, OutcomeUnknownError, Outlet, Stored
from hwbus.subjects import audit
from schemas.audit import ParkedRecord

DATA_KEPT_MAX = 1024
_log = structlog.get_logger(__name__)


async def park(outlet: Outlet, clock: Clock, consumer: str, stored: Stored, because: str) -> None:
    """Keep a note of *stored* on the audit stream; the message itself stays where it is.

    The note is written once however often the message is met: its id is made of its sequence.
    When the audit cannot be written the alarm is in the log of this process alone.
    """
    record = ParkedRecord(
        at=clock.now(),
        consumer=consumer,
        subject=stored.subject,
        seq=stored.seq,
        because=because[:500],
        data=stored.data[:DATA_KEPT_MAX].decode(errors="replace"),
    )
    _log.error("message parked", consumer=consumer, seq=stored.seq, because=because[:500])
    try:
        await outlet.keep(
            audit("parked", consumer),
            msgspec.json.encode(record),
            message_id=f"parked.{consumer}.{stored.seq}",
        )
    except (OutcomeUnknownError, LogFullError, ForbiddenError):
        _log.exception("a parked message is not on the audit", consumer=consumer, seq=stored.seq)
