"""The envelope: one decision, its events, and why there are any."""

from typing import Annotated, Generic, TypeVar

import msgspec

from schemas.grammar import Event
from schemas.units import Moment

E = TypeVar("E", bound=Event)


class Commit(
    msgspec.Struct,
    Generic[E],
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """All that one decision recorded about one aggregate, as one message of the log.

    ``at`` is the desk's clock when it decided; ``actor`` who asked; ``command`` the id of what was
    asked, ``word`` its type and ``request`` its text, so that the decision can be taken again;
    ``correlation`` the operation or first command all of this belongs to; ``cause`` the direct
    cause (``command:<id>``, ``event:<seq>`` or empty for a person's own wish); ``version`` counts
    the aggregate's commits from 1; ``prev`` is the SHA-256 (hex) of the previous message of the
    same subject, empty for the first: the chain that makes tampering visible.
    """

    v: Annotated[int, msgspec.Meta(ge=1)] = 1
    id: str
    at: Moment
    actor: str
    command: str
    word: str
    request: msgspec.Raw = msgspec.Raw(b"null")
    correlation: str
    cause: str = ""
    traceparent: str = ""
    version: int
    prev: str = ""
    events: tuple[E, ...]
