"""Every field of all that a bundle may hold, with a name of somebody in it: which of them stay."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import msgspec.inspect as mi
import pytest

from aggregates.world import World
from hwbus.replaying.names import Names, Pseudonyms
from hwbus.replaying.redaction import Redactor
from projectors.tables import TABLES, WRITTEN_ONCE
from schemas.audit import DecidedRecord, ExecutedRecord, RefusedRecord
from schemas.commit import Commit
from schemas.words import KINDS, every_command, every_event

SALT = b"a salt that nobody knows, 32 long"
AT = "2026-01-02T03:04:05Z"
TURNS = 12
MARK = re.compile(r"acme(\d+)x")
NO_NAMES = ("0" * 26, "0" * 64, "0" * 32)
"""What ids, digests and the like are: whoever made them made them of nothing that tells."""
SHAPES = ("{}", "/dev/{}", "file:{}", "vg/{}")
OF_FIELDS = {
    "consumer": "pod/{0}/{0}",
    "url": "s3://{0}/{0}",
    "place": "s3://{0}/{0}",
    "endpoint": "https://{}.example.org:9000",
    "object": "node/{}",
    "objects": "node/{}",
    "last_object": "node/{}",
    "acts (key)": "node/{}",
    "alarms (key)": "node/{}",
    "request": '{{"node":"{}"}}',
}


class Filled:
    """One value of a type, in which each text is another mark; ``where`` says in which fields."""

    def __init__(self, of: Any, turn: int) -> None:
        self.where: list[str] = []
        self._turn = turn
        built = self._made(mi.type_info(of), "", ())
        self.value = msgspec.json.decode(msgspec.json.encode(built), type=of)

    def _made(self, of: mi.Type, field: str, above: tuple[type, ...]) -> Any:
        match of:
            case mi.StructType():
                return self._struct(of, above)
            case mi.UnionType():
                # None only where all else would be without end.
                ones = [one for one in of.types if not isinstance(one, mi.NoneType)]
                ones = [one for one in ones if not _inside(one, above)]
                assert len(ones) <= TURNS
                return self._made(ones[self._turn % len(ones)], field, above) if ones else None
            case mi.Metadata():
                return self._made(of.type, field, above)
            case mi.TupleType():
                return [self._made(one, field, above) for one in of.item_types]
            case mi.DictType():
                key = self._made(of.key_type, f"{field} (key)", above)
                return {key: self._made(of.value_type, f"{field} (value)", above)}
            case mi.StrType():
                return self._text(of, field)
            case _:
                return self._simple(of, field, above)

    def _simple(self, of: mi.Type, field: str, above: tuple[type, ...]) -> Any:
        match of:
            case mi.VarTupleType() | mi.ListType() | mi.SetType() | mi.FrozenSetType():
                none = _inside(of.item_type, above)
                return [] if none else [self._made(of.item_type, field, above)]
            case mi.EnumType():
                members = list(of.cls)
                return members[self._turn % len(members)].value
            case mi.IntType():
                return max(of.ge or 0, (of.gt or 0) + 1)
            case mi.FloatType():
                return 1.5
            case mi.BoolType():
                return True
            case mi.DateTimeType():
                return AT
            case mi.RawType() | mi.AnyType():
                return None
            case mi.LiteralType():
                return of.values[0]
            case _:
                raise TypeError(f"no value of {of} can be made: teach this test")

    def _struct(self, of: mi.StructType, above: tuple[type, ...]) -> dict[str, Any]:
        tag = {} if of.tag_field is None else {of.tag_field: of.tag}
        here = (*above, of.cls)
        return tag | {
            field.encode_name: self._made(field.type, field.name, here)
            for field in of.fields
            # Of all views only that of one operation has its steps, and it is in no table.
            if (of.cls.__name__, field.name) != ("OperationRow", "steps")
        }

    def _text(self, of: mi.StrType, field: str) -> str:
        mark = f"acme{len(self.where)}x"
        for shape in (OF_FIELDS.get(field, "{}"), *SHAPES):
            text = shape.format(mark)
            if re.search(of.pattern or "", text):
                self.where.append(field)
                return text
        return next(text for text in NO_NAMES if re.search(of.pattern or "", text))

    def left(self, *, objects: bool) -> set[str]:
        """Return the fields of which the mark is still there when names are replaced."""
        names = Names(objects=objects)
        names.walk(self.value)
        told = msgspec.json.encode(Redactor(Pseudonyms(names, SALT)).of(self.value)).decode()
        return {self.where[int(number)] for number in MARK.findall(told)}


def _inside(of: mi.Type, above: tuple[type, ...]) -> bool:
    return isinstance(of, mi.StructType) and of.cls in above


def everything() -> Iterator[Any]:
    """Give the types of all that a bundle may hold."""
    yield from (table.row for table in TABLES if table.name not in WRITTEN_ONCE)
    yield from (World().type_of(kind) for kind in KINDS)
    yield from every_event()
    yield from every_command()
    yield from (RefusedRecord, DecidedRecord, ExecutedRecord)
    yield Commit[Any]


def left_in(of: Any, *, objects: bool) -> set[str]:
    """Return what is left in a type, with each of the forms that parts of it may have."""
    return {one for turn in range(TURNS) for one in Filled(of, turn).left(objects=objects)}


STAYS = {
    "what people, tools and views write: of that the names go that are known": (
        *("apart", "argv", "because", "detail", "health_reasons", "leftovers", "lost", "reasons"),
        *("refused", "stderr", "trouble", "why"),
    ),
    "ids, of commands and operations too, and words that are made by hwbus or the tracing": (
        *("adopting", "book", "cause", "command", "correlation", "ending", "id", "kept_uid"),
        *("last_operation", "manifest", "of_operation", "operation", "pool_uid", "prev", "readers"),
        *("root", "running", "running (key)", "since", "traceparent", "uid", "used_by"),
        *("volume_uid", "word", "latest (key)"),
    ),
    "words and numbers of hwbus, DRBD and LVM": (
        *("consistency", "day", "generations", "layout", "operations (key)", "origin"),
        *("parts (key)", "step", "trail", "worker_version"),
    ),
    "keys that are made of nodes, pools and ids, each of which stands elsewhere, too": (
        *("claims (key)", "reserved (key)", "settled (key)", "keys"),
    ),
    "an object's own name, which is known by its address": ("name",),
    "a node, which has an address of its own": ("targets (value)",),
    "models of disks": ("model",),
    "paths of mounts, devices and control groups": (
        *("attached_device", "cgroup", "device", "mount_point", "path"),
    ),
    "references to keys and credentials, and regions": (
        *("credentials", "dropped", "from_key_ref", "key_ref", "region", "rekeying"),
    ),
    "what a node finds on its disks": (*("claim", "lv", "observed", "seen", "settle", "wanted"),),
    "names of backups": ("backup", "backups", "damaged", "parent"),
    "labels, and patterns of protections": (
        *("labels (key)", "labels (value)", "names", "remove", "removed", "set (key)"),
        "set (value)",
    ),
}
OBJECTS = {
    *("gone_twins", "group", "joining", "kept", "last_snapshot", "left", "legs", "limiting_qos"),
    *("locked_for", "made_in", "members (key)", "parent_snapshot", "policy", "pool", "pools"),
    *("protection", "protections", "qos", "schedule", "snapshot", "snapshot_of", "snapshots"),
    *("source", "stay", "target", "targets (key)", "together", "twin_of", "twins", "volume"),
    "volumes",
}
"""These stay, too, unless names of what people have made are to be hidden."""


@pytest.mark.parametrize("objects", [False, True])
def test_a_name_stays_in_no_other_field_than_in_these(objects: bool) -> None:
    found = {field for of in everything() for field in left_in(of, objects=objects)}
    stays = {field for fields in STAYS.values() for field in fields}
    assert found == stays | (set() if objects else OBJECTS)
