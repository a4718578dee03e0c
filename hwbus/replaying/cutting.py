"""Cutting a bundle out of a log, and playing it before it is given away: it must give the same."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from hwbus.ports import Stored
from hwbus.replaying.bundle import About, beginning_of, bundled, write
from hwbus.replaying.canon import digest, hash_of
from hwbus.replaying.names import Pseudonyms
from hwbus.replaying.player import Player, Where
from hwbus.replaying.redaction import Redactor, names_in
from hwbus.replaying.slicing import Slice
from hwbus.replaying.tape import Beginning, Record, Tape

_NAMED_MAX = 5


class LossError(Exception):
    """What was to be written would not give what it was cut from; the message says where."""


class Cut(msgspec.Struct, frozen=True):
    """What is to be written: ``digests`` are those of all states and rows at its end."""

    about: About
    beginning: Beginning
    begins: str
    messages: Sequence[Stored]
    records: Sequence[Record]
    digests: dict[Where, str]


def cut(tape: Tape, of: Slice, operation: str, records: Sequence[Record], version: str) -> Cut:
    """Return the part of *tape* as it is."""
    player = Player(tape)
    player.go(of.first - 1)
    beginning = beginning_of(player.everything(), player.world)
    begins = player.hash()
    player.go(of.last)
    about = About(
        version=version,
        operation=operation,
        after=of.first - 1,
        until=of.last,
        cut=tuple(of.lost),
    )
    messages = [tape.message(seq) for seq in range(of.first, of.last + 1)]
    return Cut(about, beginning, begins, messages, records, dict(player.digests()))


def redacted(whole: Cut, tape: Tape, salt: bytes, *, objects: bool) -> tuple[Cut, dict[str, str]]:
    """Return the same under other names, and which stands for which.

    Raises:
        LossError: there are commits that cannot be read, so that nobody knows what is in them.
    """
    names = names_in(whole.beginning, whole.messages, whole.records, objects=objects)
    pseudonyms = Pseudonyms(names, salt)
    redactor = Redactor(pseudonyms)
    messages = list(redactor.messages(whole.messages))
    if redactor.blank:
        raise LossError(
            f"{redactor.blank} commits cannot be read by this version, and so not be redacted"
        )
    player = Player(tape)
    player.go(whole.about.until)
    digests = {redactor.where(w): digest(redactor.of(one)) for w, one in player.everything()}
    beginning = redactor.beginning(whole.beginning)
    records = [(seq, redactor.of(record)) for seq, record in whole.records]
    about = msgspec.structs.replace(
        whole.about,
        operation=pseudonyms.text(whole.about.operation),
        # Ids of commands are made by whoever says them, of whatever they like.
        cut=tuple(map(pseudonyms.text, whole.about.cut)),
    )
    return Cut(
        msgspec.structs.replace(about, redacted=pseudonyms.finish()),
        beginning,
        _hash(beginning),
        messages,
        records,
        digests,
    ), pseudonyms.table


def save(path: Path, what: Cut) -> None:
    """Write it, play it, and compare with what it was cut from; a file that differs is taken away.

    Raises:
        LossError: it gives something else.
        OSError: it cannot be written, or is there already.
    """
    with path.open("xb") as file:
        try:
            ends = hash_of(what.digests.items())
            beginning, records = what.beginning, what.records
            write(file, what.about, beginning, what.begins, what.messages, records, ends)
            _compare(path, what)
        except BaseException:
            path.unlink()
            raise


def _compare(path: Path, what: Cut) -> None:
    with bundled(path) as bundle:
        player = Player(bundle.tape)
        begins = player.hash()
        player.go(bundle.about.until)
        found = player.digests()
    wrong = {
        where
        for where in found.keys() | what.digests.keys()
        if found.get(where) != what.digests.get(where)
    }
    if begins != what.begins or wrong:
        named = ", ".join(sorted(" ".join(where) for where in wrong)[:_NAMED_MAX])
        raise LossError(f"{len(wrong)} states and rows come out otherwise: {named or 'at first'}")


def _hash(beginning: Beginning) -> str:
    parts: Iterable[tuple[Where, str]] = (
        *((("state", *place), digest(held.state)) for place, held in beginning.held),
        *((("row", table.name, key), digest(row)) for table, key, row in beginning.rows),
    )
    return hash_of(parts)
