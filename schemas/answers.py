"""What a desk answers: accepted, refused, or honestly undecided."""

import msgspec

from schemas.refusals import Refusal


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag_field="answer", tag="refused"):
    """No, for ever, under a permanent code: nothing was changed.

    ``because`` names what is wrong here, ``fix`` what to do about it, ``command`` the id of the
    command as the desk knows it (empty when the message could not be read).
    """

    code: Refusal
    because: str
    fix: str = ""
    command: str = ""


class Accepted(msgspec.Struct, frozen=True, kw_only=True, tag_field="answer", tag="accepted"):
    """Yes, and it is durable.

    ``seq`` is the sequence of the commit in the log (0 when nothing had to be recorded because it
    was so already), ``version`` how many commits the aggregate has, ``operation`` the long work
    that was begun, if any, ``events`` the names of what was recorded.
    """

    command: str
    seq: int
    version: int
    operation: str = ""
    events: tuple[str, ...] = ()


class Undecided(msgspec.Struct, frozen=True, kw_only=True, tag_field="answer", tag="undecided"):
    """Neither yes nor no: the log could not say. Repeat with the same command id."""

    command: str
    because: str


Answer = Accepted | Refused | Undecided


def refuse(code: Refusal, because: str, fix: str = "") -> Refused:
    """Return a refusal; where *fix* is empty the general advice of *code* stands in."""
    return Refused(code=code, because=because, fix=fix or code.advice)
