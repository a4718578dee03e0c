"""Accounts: what was taken, and for how long, as running totals; a period is a difference of two.

An account is exact: whole bytes times whole microseconds, by the moments at which the broker
stored what changed it. Where its clock was set back, time stands still until it has caught up.
"""

from datetime import timedelta
from enum import StrEnum
from typing import Any

import msgspec
from msgspec.structs import replace

from schemas.units import Moment
from schemas.views import Row

# What an account counts: of each, the bytes as they are, and the byte-microseconds so far.
COUNTED = ("requested", "allocated", "promised", "snapshot", "held", "backup")
_FIELDS = tuple((f"{what}_bytes", f"{what}_byte_us") for what in COUNTED)
_US = timedelta(microseconds=1)


class AccountLevel(StrEnum):
    """Whose account it is. That of the ``namespace`` without a name has all who are in none.

    One of a ``label`` is called ``key=value``; a volume counts in each of its pairs.
    """

    CLUSTER = "cluster"
    NODE = "node"
    POOL = "pool"
    VOLUME = "volume"
    NAMESPACE = "namespace"
    LABEL = "label"
    TARGET = "target"


class AccountRow(Row, frozen=True, kw_only=True, omit_defaults=True):
    """One account as of its last entry, which was made ``at``; what is not there is 0.

    ``requested``: what was asked for, while it may be used; at a pool or node, of the volumes that
    have a replica there. ``allocated``: what is taken of disks, with headers and head-room of all
    replicas, and whole thin pools at those who have them. ``promised``: what thin pools owe.
    ``snapshot`` and ``held`` are parts of the two: of snapshots, and of volumes that are deleted
    but kept. ``backup``: how large the volumes are whose backups lie in targets.

    ``operations`` counts those that have ended, by ``kind/outcome``; ``uploaded_bytes`` went to
    targets in backups that were made, ``freed_bytes`` were removed there. ``written_bytes`` and
    ``read_bytes`` are what consumers wrote and read, counted when it was told. ``capacity_bytes``,
    ``thin_bytes`` and ``thin_fill_percent`` (as of the last mark passed) are there where pools are.

    With a ``day`` (UTC), which is over, it is as the last entry of that day left it. A volume's has
    its ``uid``; when it is ``closed``, the volume is gone, and another of that name has another.
    """

    level: AccountLevel
    name: str = ""
    uid: str = ""
    day: str = ""
    since: Moment
    at: Moment
    closed: bool = False
    requested_bytes: int = 0
    allocated_bytes: int = 0
    promised_bytes: int = 0
    snapshot_bytes: int = 0
    held_bytes: int = 0
    backup_bytes: int = 0
    requested_byte_us: int = 0
    allocated_byte_us: int = 0
    promised_byte_us: int = 0
    snapshot_byte_us: int = 0
    held_byte_us: int = 0
    backup_byte_us: int = 0
    uploaded_bytes: int = 0
    freed_bytes: int = 0
    written_bytes: int = 0
    read_bytes: int = 0
    operations: dict[str, int] = msgspec.field(default_factory=dict)
    capacity_bytes: int = 0
    thin_bytes: int = 0
    thin_fill_percent: int = 0
    seq: int


def accrued(row: AccountRow, at: Moment) -> AccountRow:
    """Return the account as it is at a moment, if nothing is entered until then."""
    return replace(row, **more(row, at)) if at > row.at else row


def more(row: AccountRow, at: Moment) -> dict[str, Any]:
    """Return what of an account is other at a moment, if nothing is entered until then."""
    passed_us = (at - row.at) // _US
    if passed_us <= 0:
        return {}
    totals: dict[str, Any] = {"at": at}
    for bytes_, byte_us in _FIELDS:
        taken = getattr(row, bytes_)
        if taken:
            totals[byte_us] = getattr(row, byte_us) + taken * passed_us
    return totals
