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

from hwbus.subjects import CLUSTER, Address

# An earlier kind counts, where one name is of several.
KINDS = (
    *("node", "person", "disk", "approval", "address", "serial", "wwn", "zone", "bucket"),
    *("host", "user", "key", "volume", "pool", "snapshot", "group", "schedule", "policy"),
    *("target", "qos", "protection"),
)
OBJECTS = frozenset(KINDS[KINDS.index("volume") :])
"""Names that people give to what they make: these stay, unless they are to be hidden, too."""

_PLAIN_ACTORS = frozenset({"", "hwbus", "anonymous"})
_MACHINES = ("worker:", "policy:", "schedule:", "qos:")
_FIELDS = {
    **dict.fromkeys(("actor", "by", "wanted_by", "approved_by"), "person"),
    **dict.fromkeys(("node", "moved_from"), "node"),
    **{name: name for name in ("address", "serial", "wwn", "zone", "disk")},
    **dict.fromkeys(("key", "public_key"), "key"),
}
_URL = re.compile(r"s3://(?P<bucket>[^/]+)(?P<prefix>/.*)?")
_ENDPOINT = re.compile(r"https?://(?P<host>\[[^]]*\]|[^:/]+)(:\d+)?")
_TOKEN = re.compile(r"[^\W_]+(?:[-._:@+=]+[^\W_]+)*")
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
            self._add("node", place)
        if kind in {"node", "disk", "approval"} or (self._objects and kind in OBJECTS):
            self._add(kind, id_)
        if kind in {"replica", "attachment"} and self._objects:
            self._add("volume", id_)

    def walk(self, value: Any, field: str = "") -> None:
        """Take the names in *value* and all that is in it."""
        if isinstance(value, Enum):
            return
        if isinstance(value, str):
            self._take(field, value)
        elif isinstance(value, msgspec.Struct):
            for name in value.__struct_fields__:
                self.walk(getattr(value, name), name)
        elif isinstance(value, dict):
            for name, one in value.items():
                self.walk(one, field if not isinstance(name, str) else name)
        elif isinstance(value, list | tuple | set | frozenset):
            for one in value:
                self.walk(one, field)

    def actor(self, actor: str) -> None:
        """Take whoever did something, unless that is a part of the cluster."""
        if actor in _PLAIN_ACTORS or actor.startswith(_MACHINES):
            return
        self._add("person", actor)
        self._add("person", actor.rpartition(":")[2])

    def _take(self, field: str, text: str) -> None:
        kind = _FIELDS.get(field, "")
        if self._objects:
            self._take_object(field, text)
        if kind == "person":
            self.actor(text)
        elif kind == "address":
            self._add(kind, text)
            self._add(kind, text.rpartition(":")[0] if text.count(":") == 1 else text)
        elif kind:
            self._add(kind, text)
        elif field == "consumer":
            for part in text.split("/")[1:]:
                self._add("user", part)
        elif field == "url" and (url := _URL.fullmatch(text)):
            self._add("bucket", url["bucket"])
            for part in filter(None, (url["prefix"] or "").split("/")):
                self._add("bucket", part)
        elif field == "endpoint" and (endpoint := _ENDPOINT.fullmatch(text)):
            self._add("host", endpoint["host"].strip("[]"))

    def _take_object(self, field: str, text: str) -> None:
        name = text.partition("@")[0].rpartition("/")[2]
        if field in {"object", "objects"}:
            kind = text.partition("/")[0]
            # A logical volume of somebody else is a name like any other.
            kind = {"lv": "volume", "replica": "volume", "attachment": "volume"}.get(kind, kind)
        else:
            kind = field.removesuffix("s")
        if kind in OBJECTS:
            self._add(kind, name)

    def _add(self, kind: str, name: str) -> None:
        if name:
            self.known[kind].add(name)


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
            (n for k in KINDS if k != "key" for n in names.known[k] if not _TOKEN.fullmatch(n)),
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
        new = _STRAY.sub(self._stray, _TOKEN.sub(self._token, new))
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
