"""The same states, rows, commits and records, with other names in them."""

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any, TypeVar

import msgspec

from aggregates.world import Held
from hwbus.codec import UnreadableError as UnreadableCommandError
from hwbus.codec import command_codec, commit_codec, hash_of
from hwbus.ports import Stored
from hwbus.replaying.names import Names, Pseudonyms, loose
from hwbus.replaying.player import Where
from hwbus.replaying.tape import Beginning, Record
from projectors.reading import Seen, UnreadableError, read_commit
from schemas.audit import AuditRecord
from schemas.commit import Commit
from schemas.upcasts import UPCASTS
from schemas.words import AnyEvent, command_for

T = TypeVar("T")
_CODEC = commit_codec(AnyEvent, UPCASTS)
_BLANK = b'"redacted: this could not be read"'


def names_in(
    beginning: Beginning,
    messages: Iterable[Stored],
    records: Iterable[Record],
    *,
    objects: bool = False,
) -> Names:
    """Return the names that occur, with *objects* also those of volumes and the like."""
    names = Names(objects=objects)
    for place, held in beginning.held:
        names.place(*place)
        names.walk(held.state)
    for _table, _key, row in beginning.rows:
        names.walk(row)
    for stored in messages:
        seen = _seen(stored)
        if seen is not None:
            names.place(seen.address.kind, seen.address.place, seen.address.id)
            names.actor(seen.commit.actor)
            names.walk(seen.events)
            names.walk(_command(seen.commit))
    for _seq, record in records:
        names.walk(record)
    return names


class Redactor:
    """Puts pseudonyms for names; ``blank`` counts messages that could not be read, and say nothing.

    The chain of hashes of each object is made anew, since what it is made of is another.
    """

    def __init__(self, pseudonyms: Pseudonyms) -> None:
        self.blank = 0
        self._names = pseudonyms
        self._hashes: dict[str, str] = {}

    def beginning(self, beginning: Beginning) -> Beginning:
        """Return the same beginning under other names."""
        text = self._names.text
        return Beginning(
            [
                ((kind, text(place), text(id_)), Held(self.of(held.state), held.provisioning))
                for (kind, place, id_), held in beginning.held
            ],
            [(table, text(key), self.of(row)) for table, key, row in beginning.rows],
        )

    def where(self, where: Where) -> Where:
        """Return where a state or a row is under its other name."""
        section, of, *rest = where
        return (section, of, *(self._names.text(one) for one in rest))

    def messages(self, messages: Iterable[Stored]) -> Iterator[Stored]:
        """Give the same commits under other names, in their order."""
        for stored in messages:
            seen = _seen(stored)
            if seen is None:
                self.blank += 1
                yield msgspec.structs.replace(stored, subject="hwbus.evt", data=_BLANK)
                continue
            subject = self._names.address(seen.address).subject
            data = _CODEC.encode(self._commit(seen.commit, self._hashes.get(subject, "")))
            self._hashes[subject] = hash_of(data)
            yield msgspec.structs.replace(stored, subject=subject, data=data)

    def record(self, record: AuditRecord) -> AuditRecord:
        """Return the same record under other names."""
        return self.of(record)

    def of(self, value: T) -> T:
        """Return the same value, with every text in it under other names; words stay words."""
        return self._of(value)  # type: ignore[no-any-return]

    def _of(self, value: Any) -> Any:
        if isinstance(value, Enum):
            return value
        if isinstance(value, str):
            return self._names.text(value)
        if isinstance(value, msgspec.Raw):
            return msgspec.Raw(msgspec.json.encode(self._of(msgspec.json.decode(value))))
        if isinstance(value, msgspec.Struct):
            fields = {name: getattr(value, name) for name in value.__struct_fields__}
            new = {name: self._field(name, one) for name, one in fields.items()}
            changed = {name: one for name, one in new.items() if one is not fields[name]}
            return msgspec.structs.replace(value, **changed) if changed else value
        if isinstance(value, dict):
            return {self._of(key): self._of(one) for key, one in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return type(value)(self._of(one) for one in value)
        return value

    def _field(self, name: str, value: Any) -> Any:
        """Return the same value of a field; the text of a request is read for it.

        Else the first name on a line would be one with the ``n`` of the escape before it.
        """
        told = loose(value) if name == "request" and isinstance(value, str) else None
        if not isinstance(told, dict):
            return self._of(value)
        new = self._of(told)
        return value if new == told else msgspec.json.encode(new).decode()

    def _commit(self, commit: Commit[Any], prev: str) -> Commit[Any]:
        command = _command(commit)
        request = commit.request
        if command is not None:
            request = msgspec.Raw(msgspec.json.encode(self.of(command)))
        elif bytes(request) != b"null":
            request = msgspec.Raw(b"null")
        bare = self.of(msgspec.structs.replace(commit, request=msgspec.Raw(b"null")))
        return msgspec.structs.replace(bare, word=commit.word, request=request, prev=prev)


def _seen(stored: Stored) -> Seen | None:
    """Return a commit, if this version can read all of it: what it cannot read it cannot redact."""
    try:
        seen = read_commit(stored)
    except UnreadableError:
        return None
    return seen if seen.events is seen.commit.events else None


def _command(commit: Commit[Any]) -> Any:
    kind, _, verb = commit.word.partition(".")
    word = command_for(kind, verb.partition(".")[0])
    try:
        return None if word is None else command_codec(word).decode(bytes(commit.request))
    except UnreadableCommandError:
        return None
