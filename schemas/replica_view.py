"""How the replicas of a volume are, as its row tells it."""

from enum import StrEnum

import msgspec

from schemas.replication import LegDisk, Sync, Tie
from schemas.units import Moment


class VolumeHealth(StrEnum):
    """How a volume with several replicas is, by the last word of its nodes; the first that is true.

    ``split``: replicas went different ways. ``frozen``: what is written waits for the log.
    ``failed``: nobody is known to be able to write. ``syncing``: a replica is being filled.
    ``degraded``: in use, with fewer good replicas than it has. ``unknown``: no node has told yet.
    ``differs``: all are good, but blocks of them were found not to be the same.
    """

    SPLIT = "split"
    UNKNOWN = "unknown"
    FROZEN = "frozen"
    FAILED = "failed"
    SYNCING = "syncing"
    DEGRADED = "degraded"
    DIFFERS = "differs"
    HEALTHY = "healthy"


class LegRole(StrEnum):
    """Whether a replica may be written to by its node, as DRBD has it there."""

    PRIMARY = "primary"
    SECONDARY = "secondary"


class ReplicasCompared(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of whether the replicas of a volume are the same, block by block.

    ``operation`` compares them now. When they were last, ``at`` that time, ``differing_bytes`` were
    not the same; 0 also since they were repaired.
    """

    operation: str = ""
    at: Moment | None = None
    differing_bytes: int = 0


class VolumeLeg(msgspec.Struct, frozen=True, kw_only=True):
    """One of several replicas, as it stands to the one that is written to.

    ``good``: it has all that was written, and is reached. ``tie`` is its connection to that one,
    which has none to itself; ``sync`` is as seen from here: a ``target`` is being filled.
    ``joining`` and ``leaving``: it is being added or removed. ``outdated``: the log lets the volume
    be written to without it. ``silent``: its node is not heard.
    """

    node: str
    pool: str
    good: bool = False
    disk: LegDisk = LegDisk.UNKNOWN
    tie: Tie | None = None
    sync: Sync = Sync.NONE
    out_of_sync_bytes: int = 0
    joining: bool = False
    leaving: bool = False
    outdated: bool = False
    silent: bool = False
