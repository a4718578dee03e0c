"""One example of everything that can be said, made from the types alone and then frozen.

`python -m schemas.sampling` writes the samples that are missing and never touches the others: what
was once written must stay readable, whatever becomes of the types.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import msgspec.inspect as mi

from schemas.audit import (
    DecidedRecord,
    ExecutedRecord,
    HeadRecord,
    HearingRecord,
    LoginRecord,
    ParkedRecord,
    RefusedRecord,
)
from schemas.commit import Commit
from schemas.grammar import Message, type_name
from schemas.upcasts import UPCASTS
from schemas.words import ANSWERS, AnyEvent, every_word

SAMPLES = Path(__file__).with_name("samples")
AUDIT_RECORDS = (
    RefusedRecord,
    DecidedRecord,
    ExecutedRecord,
    ParkedRecord,
    HeadRecord,
    LoginRecord,
    HearingRecord,
)

_AT = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
_TEXTS = (
    "01kdysp7h0000000000000000a",
    "/dev/sample/1",
    "sample/1",
    "s3://sample/1",
    "https://sample:1",
    "file:sample",
    "0123456789abcdef" * 4,
)
_NUMBER = 1 << 30
_NUMBERS = {"v": 1, "version": 7, "seq": 4711, "exit_status": 5}


def samples() -> dict[str, Any]:
    """Return everything that has a sample: the name of its file (without .json), and its type."""
    words: tuple[type[Message], ...] = (*every_word(), *UPCASTS)
    return {
        **{type_name(word): word for word in words},
        **{f"answer.{_tag(answer)}": answer for answer in ANSWERS},
        **{f"audit.{_tag(record)}": record for record in AUDIT_RECORDS},
        "commit.v1": Commit[AnyEvent],
    }


def sample_of(type_: Any) -> bytes:
    """Return one valid message of *type_* as JSON; where it can, a field is not its default."""
    written = msgspec.json.encode(_example(mi.type_info(type_), "sample"))
    return msgspec.json.encode(msgspec.json.decode(written, type=type_))


def main() -> None:
    """Write the samples that are missing, and name them."""
    for name, type_ in samples().items():
        path = SAMPLES / f"{name}.json"
        if not path.exists():
            path.write_bytes(sample_of(type_) + b"\n")
            print(f"wrote {path}")  # noqa: T201


def _tag(struct: type[msgspec.Struct]) -> str:
    return str(struct.__struct_config__.tag)


def _example(type_: mi.Type, name: str, default: Any = msgspec.NODEFAULT) -> Any:
    match type_:
        case mi.Metadata():
            return _example(type_.type, name, default)
        case mi.UnionType():
            return _example(_most_telling(type_), name, default)
        case mi.StructType():
            return _struct(type_)
        case mi.VarTupleType():
            return [_example(type_.item_type, name)]
        case mi.DictType():
            return {_example(type_.key_type, name): _example(type_.value_type, name)}
        case mi.EnumType():
            return next(member.value for member in type_.cls if member != default)
        case mi.StrType():
            return next(filter(_fits(type_), (f"{name.replace('_', '-')}-1", *_TEXTS)))
        case mi.IntType():
            return _NUMBERS.get(name) or _number(type_, default)
        case _:
            return _plain(type_, default)


def _plain(type_: mi.Type, default: Any) -> Any:
    match type_:
        case mi.BoolType():
            return default is not True
        case mi.FloatType():
            return 1.5
        case mi.DateTimeType():
            return _AT
        case mi.BytesType():
            return b"sample-1"
        case mi.RawType() | mi.AnyType():
            return {"sample": 1}
        case _:
            raise TypeError(f"no example of {type_} can be made: teach schemas.sampling")


def _struct(type_: mi.StructType) -> dict[str, Any]:
    tag = {} if type_.tag_field is None else {type_.tag_field: type_.tag}
    fields = {
        field.encode_name: _example(field.type, field.name, field.default) for field in type_.fields
    }
    return {**tag, **fields}


def _most_telling(union: mi.UnionType) -> mi.Type:
    return next(one for one in union.types if not isinstance(one, mi.NoneType))


def _fits(type_: mi.StrType) -> Callable[[str], bool]:
    pattern = re.compile(type_.pattern or "")
    return lambda text: pattern.search(text) is not None


def _number(type_: mi.IntType, default: Any) -> int:
    most = _NUMBER if type_.le is None else min(_NUMBER, type_.le)
    return most - 1 if most == default else most


if __name__ == "__main__":
    main()
