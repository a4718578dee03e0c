"""What is said and not kept: missing one does no harm, for another follows."""

import msgspec

from schemas.units import Moment, Name


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """The worker of the node is alive: ``hwbus.live.heartbeat.<node>``, every two seconds."""

    node: Name
    at: Moment
    worker_version: str = ""
