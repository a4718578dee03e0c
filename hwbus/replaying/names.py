"""Which names tell who and where, and what stands for each of them in a file that is given away.

A name stands for the same thing wherever it occurs, and names of one kind keep their order, so that
whatever is folded over them gives the same. What stands for a name is made with a salt that is in
no file: nobody can try names out.
"""

import functools
import hashlib
import hmac
import re
from enum import Enum
from typing import Any

import msgspec

from hwbus.replaying.vocabulary import (
    FIELDS,
    KEY_FIELDS,
    MACHINES,
    OBJECT_FIELDS,
    PLAIN_ACTORS,
    TOKEN,
    WORDS,
    parts,
)
from hwbus.subjects import CLUSTER, Address
from schemas.account_view import AccountLevel, AccountRow
from schemas.usage_view import UsageRow

# An earlier kind counts, where one name is of several.
KINDS = (
    *("node", "person", "disk", "approval", "address", "serial", "wwn", "zone", "bucket"),
    *("host", "user", "key", "cluster", "volume", "pool", "snapshot", "group", "schedule"),
    *("policy", "target", "qos", "protection"),
)
OBJECTS = frozenset(KINDS[KINDS.index("volume") :])
"""Names that people give to what they make: these stay, unless they are to be hidden, too."""

_OF_OBJECTS = frozenset({"object", "objects", "last_object"})
_ON_NODES = frozenset({"pool", "replica", "attachment", "errand"})
_HIDDEN = frozenset({"node", "disk", "user"})
_FOREIGN = frozenset({"bucket", "cluster", "user"})
# A logical volume of somebody else is a name like any other.
_SAME = {
    **dict.fromkeys(("lv", "replica", "attachment"), "volume"),
    AccountLevel.NAMESPACE.value: "user",
}
_BETWEEN = re.compile(r"([-._:@+=]+)")
_STRAY = re.compile(
    r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.])"
    r"|(?<![\w:])(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}(?![\w:])"
    r"|(?<![\w:])(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}(?![\w:])"
    r"|(?<![\w:])(?=[0-9a-fA-F:]*::)[0-9a-fA-F:]*[0-9a-fA-F](?![\w:])"
    r"|(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
)
_BOUNDS = (255, 1000, 1024)
_DIGITS = 6
_DEPTH_MAX = 32
_ID_CHARACTERS = 26
_KEPT_MAX = 200_000


class Names:
    """Collects the names that are in states, rows, events and records."""

    def __init__(self, *, objects: bool = False) -> None:
        """Collect names of people and machines, with *objects* also those of volumes and so on."""
        self._objects = objects
        self.known: dict[str, set[str]] = {kind: set() for kind in KINDS}

    def place(self, kind: str, place: str, id_: str) -> None:
        """Take the names in the address of an aggregate."""
        if place != CLUSTER:
            self._know("node", place)
        if kind in {"node", "disk", "approval"} or (self._objects and kind in OBJECTS):
            self._know(kind, id_)
        if kind in {"replica", "attachment"} and self._objects:
            self._know("volume", id_)

    def walk(self, value: Any, field: str = "") -> None:
        """Take the names in *value* and all that is in it."""
        if isinstance(value, Enum):
            return
        if isinstance(value, str):
            self._take(field, value)
        elif isinstance(value, msgspec.Struct):
            if isinstance(value, AccountRow | UsageRow):
                # Kept for ever, it may be the last that knows whose it was.
                self._object(f"{value.level.value}/{value.name}")
            for name in value.__struct_fields__:
                self.walk(getattr(value, name), name)
        elif isinstance(value, dict):
            for name, one in value.items():
                self.walk(name, KEY_FIELDS.get(field, ""))
                self.walk(one, field if not isinstance(name, str) else name)
        elif isinstance(value, list | tuple | set | frozenset):
            for one in value:
                self.walk(one, field)

    def actor(self, actor: str) -> None:
        """Take whoever did something, unless that is a part of the cluster."""
        if actor in PLAIN_ACTORS or actor.startswith(MACHINES):
            return
        self._know("person", actor)
        self._know("person", actor.rpartition(":")[2])

    def _take(self, field: str, text: str) -> None:
        kind = FIELDS.get(field, "")
        if self._objects:
            self._take_object(field, text)
        if kind == "person":
            self.actor(text)
        elif kind == "address":
            self._add(kind, text)
            self._add(kind, text.rpartition(":")[0] if text.count(":") == 1 else text)
        elif kind:
            self._add(kind, text)
        elif field in _OF_OBJECTS:
            self._object(text)
        elif field == "request":
            self.walk(loose(text))
        else:
            for kind, name in parts(field, text):
                self._add(kind, name)

    def _take_object(self, field: str, text: str) -> None:
        kind = field if field in OBJECTS else OBJECT_FIELDS.get(field, field.removesuffix("s"))
        if kind in OBJECTS:
            self._add(kind, text.partition("@")[0].rpartition("/")[2])

    def _object(self, text: str) -> None:
        """Take the names in what tells of an object: ``pool/n1/fast``, ``volume/pg@UID``."""
        kind, *names = text.partition("@")[0].split("/")
        if not names:
            return
        if len(names) > 1 and kind in _ON_NODES:
            self._add("node", names[0])
        kind = _SAME.get(kind, kind)
        if kind in _HIDDEN or (kind in OBJECTS and self._objects):
            self._add(kind, names[-1])

    def _add(self, kind: str, name: str) -> None:
        """Take a name that anybody may have made up, unless something else needs the word.

        Numbers are parts of dates, and of all that is counted.
        """
        if name not in WORDS and (kind not in _FOREIGN or any(one.isalpha() for one in name)):
            self._know(kind, name)

    def _know(self, kind: str, name: str) -> None:
        if name:
            self.known[kind].add(name)


def loose(text: str) -> Any:
    """Return what *text* says, if it is JSON and no deeper than any command is; else None.

    What is None was cut, or never was a command: it is a text as any other.
    """
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    return value if _shallow(value, _DEPTH_MAX) else None


def _shallow(value: Any, left: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return left > 0 and all(_shallow(one, left - 1) for one in inner)


class Pseudonyms:
    """What stands for which name. ``counts`` says how many there are of each kind."""

    def __init__(self, names: Names, salt: bytes) -> None:
        self._salt = salt
        self.table: dict[str, str] = {}
        self.counts: dict[str, int] = {}
        for kind in KINDS:
            own = sorted(names.known[kind] - self.table.keys())
            for rank, name in enumerate(own):
                self.table[name] = self._made(kind, rank, len(own), name)
            if own:
                self.counts[kind] = len(own)
        self._odd = sorted(
            (n for k in KINDS if k != "key" for n in names.known[k] if not TOKEN.fullmatch(n)),
            key=len,
            reverse=True,
        )
        self._strays: set[str] = set()
        self._texts = functools.lru_cache(_KEPT_MAX)(self._text)

    def text(self, text: str) -> str:
        """Return *text* with other names in it."""
        return self._texts(text)

    def finish(self) -> dict[str, int]:
        """Return how many of each kind were replaced, strays in texts included."""
        strays = {"stray address": len(self._strays)} if self._strays else {}
        return self.counts | strays

    def address(self, address: Address) -> Address:
        """Return where an aggregate is under its other name."""
        return Address(address.kind, self.text(address.place), self.text(address.id))

    def _made(self, kind: str, rank: int, of: int, name: str) -> str:
        digest = self._digest(f"{kind}\0{name}")
        number = f"{rank + 1:0{len(str(of))}d}"
        if kind == "approval":
            return (number.zfill(_DIGITS) + digest)[:_ID_CHARACTERS]
        return f"{kind}-{number}-{digest[:_DIGITS]}"

    def _digest(self, text: str) -> str:
        return hmac.new(self._salt, text.encode(), hashlib.sha256).hexdigest()

    def _text(self, text: str) -> str:
        known = self.table.get(text)
        if known is not None:
            return known
        new = text
        for odd in self._odd:
            new = new.replace(odd, self.table[odd])
        new = _STRAY.sub(self._stray, TOKEN.sub(self._token, new))
        # What grew beyond a bound of the schemas is cut: it could not be read.
        bound = next((b for b in _BOUNDS if len(text) <= b < len(new)), None)
        return new if bound is None else new[:bound]

    def _token(self, match: re.Match[str]) -> str:
        """Replace the longest known names in a token: ``n1`` in ``worker:n1``."""
        if match.string.startswith("://", match.end()):
            return match[0]  # a scheme, whatever else is called so
        known = self.table.get(match[0])
        if known is not None:
            return known
        parts, out, at = _BETWEEN.split(match[0]), list[str](), 0
        while at < len(parts):
            for end in range(len(parts), at, -2):
                run = "".join(parts[at:end])
                if run in self.table:
                    out.append(self.table[run])
                    break
            else:
                out.append(parts[at])
                end = at + 1
            out += parts[end : end + 1]
            at = end + 1
        return "".join(out)

    def _stray(self, match: re.Match[str]) -> str:
        self._strays.add(match[0])
        return f"stray-{self._digest(match[0])[:10]}"
