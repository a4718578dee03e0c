"""Any message of a type: hypothesis strategies made from the types themselves."""

import functools
import re
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec
import msgspec.inspect as mi
from hypothesis import strategies as st

from schemas.backups import CredentialsRef, Digest, Endpoint, Region, Url

_TEXT = st.characters(codec="utf-8")
_PART = st.text(
    st.characters(codec="utf-8", exclude_characters="/\x00\n"), min_size=1, max_size=20
).filter(lambda part: part not in {".", ".."})
_PATTERNS: dict[str, st.SearchStrategy[str]] = {
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$(?!\n)": st.from_regex(
        re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII), fullmatch=True
    ),
    r"^[-a-z0-9.*?/]+$(?!\n)": st.text("-a9.*?/", min_size=1, max_size=9),
    r"^[0-9a-z]{26}$(?!\n)": st.text(
        "0123456789abcdefghijklmnopqrstuvwxyz", min_size=26, max_size=26
    ),
    r"^/[^\x00\n]*$(?!\n)": st.text(
        st.characters(codec="utf-8", exclude_characters="\x00\n"), max_size=254
    ).map("/".__add__),
    r"^[a-z0-9][-a-z0-9]*(/[A-Za-z0-9._-]+)+$(?!\n)": st.from_regex(
        re.compile(r"[a-z0-9][-a-z0-9]{0,9}(/[A-Za-z0-9._-]{1,9}){1,5}", re.ASCII), fullmatch=True
    ),
    r"^(/(?!\.{1,2}(/|$))[^/\x00\n]+)+$(?!\n)": st.lists(_PART, min_size=1, max_size=9).map(
        lambda parts: "".join(f"/{part}" for part in parts)
    ),
    r"^(?!\.{1,2}(/|$))[^/\x00\n]+(/(?!\.{1,2}(/|$))[^/\x00\n]+)*$(?!\n)": st.lists(
        _PART, min_size=1, max_size=9
    ).map("/".join),
}


def _pattern(type_: Any) -> str:
    info = mi.type_info(type_)
    info = info.type if isinstance(info, mi.Metadata) else info
    assert isinstance(info, mi.StrType)
    assert info.pattern is not None
    return info.pattern


_MORE: dict[Any, st.SearchStrategy[str]] = {
    Digest: st.binary(min_size=32, max_size=32).map(bytes.hex),
    Url: st.sampled_from(["s3://abc", "s3://a.b-c/d", "s3://bucket/Some/pre.fix_1"]),
    Endpoint: st.sampled_from(["", "http://[::1]:8333", "https://s3.example.org"]),
    CredentialsRef: st.sampled_from(["file:s3", "env:S3_KEY", "vault:kv/data/s3#key"]),
    Region: st.sampled_from(["us-east-1", "a"]),
}
_PATTERNS |= {_pattern(type_): texts for type_, texts in _MORE.items()}


@functools.cache
def anything(type_: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for valid messages of *type_*, at and within all its bounds."""
    return _any(mi.type_info(type_))


def _any(type_: mi.Type) -> st.SearchStrategy[Any]:
    match type_:
        case mi.Metadata():
            return _any(type_.type)
        case mi.UnionType():
            return st.one_of([_any(one) for one in type_.types])
        case mi.StructType():
            return _struct(type_)
        case mi.VarTupleType():
            items = st.lists(
                _any(type_.item_type),
                min_size=type_.min_length or 0,
                max_size=min(type_.max_length or 3, 3),
            )
            return items.map(tuple)
        case mi.DictType():
            return st.dictionaries(_any(type_.key_type), _any(type_.value_type), max_size=3)
        case mi.StrType():
            return _text(type_)
        case _:
            return _plain(type_)


def _plain(type_: mi.Type) -> st.SearchStrategy[Any]:
    match type_:
        case mi.EnumType():
            return st.sampled_from(list(type_.cls))
        case mi.IntType():
            return _whole(type_)
        case mi.NoneType():
            return st.none()
        case mi.BoolType():
            return st.booleans()
        case mi.FloatType():
            return st.floats(allow_nan=False, allow_infinity=False)
        case mi.DateTimeType():
            return st.datetimes(datetime(1971, 1, 1), datetime(2999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
        case mi.BytesType():
            return st.binary()
        case mi.RawType():
            return st.sampled_from([msgspec.Raw(b"null"), msgspec.Raw(b'{"a":[1,"\xc3\xa9"]}')])
        case _:
            raise TypeError(f"no strategy for {type_}: teach tests/support/anything.py")


def _struct(type_: mi.StructType) -> st.SearchStrategy[Any]:
    return st.builds(type_.cls, **{field.name: _any(field.type) for field in type_.fields})


def _text(type_: mi.StrType) -> st.SearchStrategy[str]:
    if type_.pattern is not None:
        most = type_.max_length or sys.maxsize
        return _PATTERNS[type_.pattern].filter(lambda text: len(text) <= most)
    return st.text(_TEXT, max_size=min(type_.max_length or 40, 40))


def _whole(type_: mi.IntType) -> st.SearchStrategy[int]:
    least = type_.ge if type_.gt is None else type_.gt + 1
    most = type_.le if type_.lt is None else type_.lt - 1
    least = -(1 << 63) if least is None else least
    most = (1 << 63) - 1 if most is None else most
    return st.integers(least, most) | st.sampled_from([least, most])
