"""Usage: what room there is, and who has it, at one moment."""

from enum import StrEnum

from schemas.views import Row


class UsageLevel(StrEnum):
    """Over what usage is summed up."""

    CLUSTER = "cluster"
    NODE = "node"
    POOL = "pool"
    VOLUME = "volume"
    SNAPSHOT = "snapshot"


class UsageRow(Row, frozen=True, kw_only=True):
    """Room at one level: the cluster is the sum of its nodes, a node of its pools.

    ``capacity = allocated + free`` as ``vgs`` prints it, ``committed = allocated + reserved``,
    ``available = capacity - committed``. ``thin_bytes`` (part of ``allocated``) is set aside for
    thin volumes, which were promised ``thin_committed_bytes`` of it. A volume's ``capacity`` is
    its size, with the header of an encrypted one; a thin one has ``allocated`` 0, since its room is
    the thin pool's, and one with several replicas has the room of them all. The same holds for a
    snapshot, but that the ``capacity`` of a thick one is its reserve. Pools count both.
    """

    level: UsageLevel
    name: str
    node: str = ""
    pool: str = ""
    capacity_bytes: int = 0
    allocated_bytes: int = 0
    reserved_bytes: int = 0
    committed_bytes: int = 0
    free_bytes: int = 0
    available_bytes: int = 0
    thin_bytes: int = 0
    thin_committed_bytes: int = 0
    volumes: int = 0
    seq: int
