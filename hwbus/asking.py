"""How a command is asked for: the text, who asks, and what the headers say."""

import re

import msgspec

from hwbus.ports import Call
from schemas.answers import Refused, refuse
from schemas.refusals import Refusal

COMMAND_ID = "Hwbus-Command-Id"
ACTOR = "Hwbus-Actor"
EXPECTED_VERSION = "Hwbus-Expected-Version"
CORRELATION = "Hwbus-Correlation"
CAUSE = "Hwbus-Cause"
TRACEPARENT = "traceparent"

NOBODY = "anonymous"
_WORD = re.compile(r"[!-~]{1,128}")


class Asked(msgspec.Struct, frozen=True):
    """One command as it came in. ``data`` is its text, not yet read.

    ``within``: the control plane says it itself. Nothing that comes over the bus is.
    """

    id: str
    actor: str
    kind: str
    verb: str
    data: bytes
    correlation: str = ""
    cause: str = ""
    traceparent: str = ""
    expected_version: int | None = None
    within: bool = False


def asked(call: Call, kind: str, verb: str, fresh_id: str) -> Asked | Refused:
    """Return what *call* asks for; *fresh_id* is its id if the sender gave none."""
    headers = call.headers
    words = {
        name: headers.get(name, "") for name in (COMMAND_ID, ACTOR, CORRELATION, CAUSE, TRACEPARENT)
    }
    bad = next((n for n, text in words.items() if text and not _WORD.fullmatch(text)), None)
    if bad is not None:
        return refuse(Refusal.BAD_HEADER, f"{bad} is {words[bad][:60]!r}")
    version = headers.get(EXPECTED_VERSION)
    if version is not None and not re.fullmatch(r"[0-9]{1,18}", version):
        return refuse(Refusal.BAD_HEADER, f"{EXPECTED_VERSION} is {version[:60]!r}")
    return Asked(
        id=words[COMMAND_ID] or fresh_id,
        actor=words[ACTOR] or NOBODY,
        kind=kind,
        verb=verb,
        data=call.data,
        correlation=words[CORRELATION],
        cause=words[CAUSE],
        traceparent=words[TRACEPARENT],
        expected_version=None if version is None else int(version),
    )


def actor_of(call: Call) -> str:
    """Return who asks, as far as that can be read."""
    actor = call.headers.get(ACTOR, "")
    return actor if _WORD.fullmatch(actor) else NOBODY
