"""The rows of QoS classes, as people ask about them."""

from enum import StrEnum

import msgspec

from schemas.attachment import Limits
from schemas.refusals import Refusal
from schemas.units import Moment
from schemas.views import Tracked


class QosState(StrEnum):
    """Whether all that shall be limited so is; ``alarm``: of some it is not, and that failed."""

    APPLIED = "applied"
    CHANGING = "changing"
    ALARM = "alarm"


class QosBehind(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A volume that somebody uses without the limits of its class, and why, where that is known."""

    volume: str
    node: str
    limits: Limits = Limits()
    operation: str = ""
    code: Refusal | None = None
    why: str = ""


class QosRow(Tracked, frozen=True, kw_only=True):
    """One QoS class. ``limits`` are what it allows, since ``limits_since``.

    The rest is counted when it is asked for: how many ``volumes`` have the class, how many of them
    are ``attached``, how many of these ``carrying`` its limits; ``behind`` are the others, of many
    the first by name. A volume carries them when its node has said so, and nothing since then
    that speaks against it.
    """

    name: str
    uid: str
    limits: Limits
    limits_since: Moment
    state: QosState = QosState.APPLIED
    volumes: int = 0
    attached: int = 0
    carrying: int = 0
    behind: tuple[QosBehind, ...] = ()
