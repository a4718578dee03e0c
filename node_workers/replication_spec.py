"""Which legs of a volume are tied to one another, and how they find each other."""

from typing import Annotated

import msgspec

_Bytes = Annotated[int, msgspec.Meta(ge=0)]


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One leg as its peers know it. ``key`` is the public key of its node, base64.

    ``minor`` is that of its device there, ``/dev/drbd<minor>``; ``index`` is DRBD 9's node-id;
    ``since`` names the tie: what is on the node of an earlier one is worth nothing.
    """

    node: str
    index: int
    address: str
    port: int
    minor: int
    key: str
    since: str = ""


class ReplicationSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The legs of a volume as they shall be tied; ``members`` include this node's.

    ``size_bytes`` is that of the replicated device. ``resync_bytes_per_s`` bounds a resync; 0: as
    DRBD itself does it. What two members prove to each other is derived from their nodes' keys and
    ``uid``, and is nowhere but in the files of those two nodes and their kernels.
    """

    volume: str
    uid: str
    pool: str
    size_bytes: _Bytes
    members: tuple[Member, ...]
    resync_bytes_per_s: int = 0
