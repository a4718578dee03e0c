"""Which aggregate a word is about: its place (a node, or ``-``) and its id."""

from schemas.attachment import ATTACHMENTS
from schemas.disk import DISKS
from schemas.errand import ERRANDS
from schemas.grammar import Message, kind_and_verb
from schemas.node import NODES
from schemas.operation import OPERATIONS
from schemas.policy import POLICIES
from schemas.pool import POOLS
from schemas.replica import REPLICAS
from schemas.schedule import SCHEDULES
from schemas.snapshot import SNAPSHOTS
from schemas.target import TARGETS
from schemas.volume import VOLUMES
from schemas.volume_group import GROUPS

CLUSTER = "-"
_ID_FIELD = {
    NODES: "node",
    DISKS: "disk",
    POOLS: "pool",
    VOLUMES: "volume",
    REPLICAS: "volume",
    ATTACHMENTS: "volume",
    OPERATIONS: "operation",
    SNAPSHOTS: "snapshot",
    POLICIES: "policy",
    GROUPS: "group",
    SCHEDULES: "schedule",
    TARGETS: "target",
    ERRANDS: "operation",
}
_ON_A_NODE = frozenset({POOLS, REPLICAS, ATTACHMENTS, ERRANDS})


def place_of(word: Message) -> tuple[str, str, str]:
    """Return (kind, place, id) of the aggregate that *word* is about."""
    kind, _verb = kind_and_verb(word)
    place = getattr(word, "node") if kind in _ON_A_NODE else CLUSTER  # noqa: B009
    return kind, place, getattr(word, _ID_FIELD[kind])
