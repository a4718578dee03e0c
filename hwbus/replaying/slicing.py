"""Which part of a log an operation needs to be understood: itself, why it was, what came of it."""

from collections.abc import Iterator

import msgspec

from hwbus.replaying.tape import Tape
from schemas.audit import AuditRecord, DecidedRecord, ExecutedRecord, RefusedRecord

REACH = 2000
"""So many commits before the operation, and behind it, causes and effects are looked for."""

_OF_OPERATION = frozenset({"operation", "loan"})


class _Envelope(msgspec.Struct, frozen=True, gc=False):
    correlation: str
    command: str
    cause: str = ""


_DECODE = msgspec.json.Decoder(_Envelope).decode
_NOTHING = _Envelope("", "")


class Slice(msgspec.Struct):
    """The commits ``first`` to ``last``, and what of it belongs to the operation.

    ``lost`` are causes that lie further back, or nowhere.
    """

    first: int
    last: int
    seqs: set[int] = msgspec.field(default_factory=set)
    commands: set[str] = msgspec.field(default_factory=set)
    operations: set[str] = msgspec.field(default_factory=set)
    lost: list[str] = msgspec.field(default_factory=list)

    def has(self, cause: str) -> bool:
        """Return whether *cause* names something that belongs to it."""
        origin, _, which = cause.partition(":")
        if origin == "event":
            return which.isdecimal() and int(which) in self.seqs
        if origin == "command":
            return which in self.commands
        return origin in _OF_OPERATION and which in self.operations

    def takes(self, record: AuditRecord) -> bool:
        """Return whether a record of the audit belongs to it."""
        match record:
            case RefusedRecord():
                return record.correlation in self.operations or self.has(record.cause)
            case ExecutedRecord():
                return record.correlation in self.operations or self.has(record.cause)
            case DecidedRecord():
                return record.seq in self.seqs
            case _:
                return False


def slice_around(tape: Tape, operation: str) -> Slice | None:
    """Return what *operation* needs; None: there is no commit of it."""
    own = [seq for seq, one in _envelopes(tape, tape.after + 1) if one.correlation == operation]
    if not own:
        return None
    found = Slice(own[0], own[-1], operations={operation})
    _look_back(tape, found)
    for seq, one in _envelopes(tape, own[0], own[-1] + REACH):
        if one.correlation in found.operations or found.has(one.cause):
            found.seqs.add(seq)
            found.commands.add(one.command)
            found.operations.add(one.correlation)
            found.last = max(found.last, seq)
    return found


def _look_back(tape: Tape, found: Slice) -> None:
    """Go from cause to cause, and let the slice begin with the first of them that is near."""
    near = dict(_envelopes(tape, found.first - REACH, found.first))
    by_command = {one.command: seq for seq, one in reversed(near.items())}
    by_operation = {one.correlation: seq for seq, one in reversed(near.items())}
    here = found.first
    for _ in range(REACH):
        cause = near[here].cause
        origin, _, which = cause.partition(":")
        above: int | None
        if origin == "event" and which.isdecimal():
            above = int(which)
        elif origin == "command":
            above = by_command.get(which)
        elif origin in _OF_OPERATION:
            above = by_operation.get(which)
        else:
            return
        if above not in near or above >= here:
            found.lost.append(cause)
            return
        here = found.first = above
        found.seqs.add(above)
        found.commands.add(near[above].command)


def _envelopes(tape: Tape, first: int, last: int | None = None) -> Iterator[tuple[int, _Envelope]]:
    until = tape.last if last is None else min(last, tape.last)
    for seq in range(max(first, tape.after + 1), until + 1):
        try:
            yield seq, _DECODE(tape.message(seq).data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            yield seq, _NOTHING
