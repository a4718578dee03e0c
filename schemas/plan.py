"""What would follow: asked at ``hwbus.q.plan`` with a :class:`WhatIf`, answered by a page.

The page has one row, a :class:`Forecast`. Nothing of it is recorded anywhere: the question is put
to a fork of the state, as it is now or was ``at`` some point, and the fork is thrown away.
"""

from typing import Annotated

import msgspec

from schemas.operation import OperationKind, Outcome
from schemas.queries import SEQ_MAX, WAIT_DEFAULT_MS, WAIT_MAX_MS
from schemas.refusals import Refusal
from schemas.units import Moment, Name, SomeBytes, Text
from schemas.views import Row

PLAN = "plan"
STEPS_MAX = 1000
QUESTION_BYTES_MAX = 900_000
LISTED_MAX = 1000
"""How many events, and rows of each kind, a forecast holds; the rest is counted."""


class Say(msgspec.Struct, frozen=True, kw_only=True, tag_field="what", tag="say"):
    """Somebody says the command, as JSON with its ``type``."""

    command: msgspec.Raw


class NodeDies(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="what", tag="node-dies"
):
    """The node falls silent and stays so; ``for_good``: and is then forgotten."""

    node: Name
    for_good: bool = False


class DiskFails(msgspec.Struct, frozen=True, kw_only=True, tag_field="what", tag="disk-fails"):
    """Nothing can be read from the disk any more."""

    disk: Name


class WorkFails(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    tag_field="what",
    tag="work-fails",
):
    """From here on the node cannot do what events of that name want (``replica.wanted.v1``)."""

    node: Name
    event: Text
    code: Refusal = Refusal.TOOL_FAILED


PlanStep = Say | NodeDies | DiskFails | WorkFails


class WhatIf(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens, one after another: each is played to its end before the next begins.

    ``at`` is the point to begin from, a sequence or an RFC 3339 moment by the broker's clock.
    ``min_seq`` makes the control plane wait, at most ``wait_ms``, until it has seen that sequence.
    """

    steps: Annotated[tuple[PlanStep, ...], msgspec.Meta(min_length=1, max_length=STEPS_MAX)]
    at: (
        Annotated[int, msgspec.Meta(ge=0, le=SEQ_MAX)]
        | Annotated[str, msgspec.Meta(max_length=64)]
        | None
    ) = None
    min_seq: Annotated[int, msgspec.Meta(ge=0, le=SEQ_MAX)] = 0
    wait_ms: Annotated[int, msgspec.Meta(ge=0, le=WAIT_MAX_MS)] = WAIT_DEFAULT_MS


class Said(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of a step: accepted, or refused with a ``code``; ``events`` were recorded at once.

    ``said`` is the step in words: ``volume.provision pg``, ``node n3 dies``.
    """

    said: str
    events: int = 0
    code: Refusal | None = None
    because: str = ""
    fix: str = ""


class Ended(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an operation that was begun would end; without ``outcome`` it would not."""

    kind: OperationKind
    object: str
    outcome: Outcome | None = None
    code: Refusal | None = None
    because: str = ""
    leftovers: tuple[str, ...] = ()


class Move(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One leg of a volume that would be elsewhere, new (no ``source``) or gone (no ``target``).

    Both are a node and a pool, ``n1/fast``, or a node alone for a volume that is a whole disk.
    """

    volume: str
    source: str = ""
    target: str = ""
    size_bytes: SomeBytes = 0


class PoolChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A pool as it is and as it would be; None: it is not there, or would not be."""

    node: str
    pool: str
    size_bytes: SomeBytes
    free_bytes: SomeBytes | None = None
    free_after_bytes: SomeBytes | None = None
    thin_free_bytes: SomeBytes | None = None
    thin_free_after_bytes: SomeBytes | None = None
    claims: int = 0
    claims_after: int = 0


class VolumeChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How safe a volume is and would be.

    ``copies`` is how many whole replicas can be reached: with none it cannot be read. ``survives``
    is how many of them may be lost. None: there is no such volume then.
    """

    volume: str
    node: str = ""
    node_after: str = ""
    copies: int | None = None
    copies_after: int | None = None
    survives: int | None = None
    survives_after: int | None = None


class Foreseen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event that would be recorded."""

    object: str
    type: str
    operation: str = ""


class Counts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How many there are of each, listed or not."""

    operations: int = 0
    moves: int = 0
    pools: int = 0
    volumes: int = 0
    events: int = 0


class Forecast(Row, frozen=True, kw_only=True):
    """What would follow from the question, begun at ``seq``.

    ``under_way`` are the operations that were running there: what they still do is not foreseen.
    ``cut_off``: more would follow than was decided. The counts are of all, the lists hold the
    first ``LISTED_MAX``.
    """

    seq: int
    at: Moment
    steps: tuple[Said, ...]
    operations: tuple[Ended, ...] = ()
    moves: tuple[Move, ...] = ()
    pools: tuple[PoolChange, ...] = ()
    volumes: tuple[VolumeChange, ...] = ()
    events: tuple[Foreseen, ...] = ()
    under_way: tuple[str, ...] = ()
    counts: Counts = Counts()
    moved_bytes: int = 0
    decisions: int = 0
    cut_off: bool = False
