"""Events as structs: named by tags that outlive classes, readable in every version ever written."""

from typing import Any, ClassVar
from uuid import UUID

import msgspec
import pytest
from eventsourcing.cipher import AESCipher
from eventsourcing.compressor import ZlibCompressor
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import (
    InfrastructureFactory,
    JSONTranscoder,
    Mapper,
    MapperDeserialisationError,
    ProgrammingError,
    StoredEvent,
)
from eventsourcing.utils import Environment
from hypothesis import given
from hypothesis import strategies as st

from hwbus.eventstore import Factory, MsgspecMapper

ACCOUNT = UUID(int=7)


class Happened(msgspec.Struct, frozen=True, kw_only=True):
    originator_id: UUID
    originator_version: int


class OpenedOld(Happened, frozen=True, kw_only=True, tag="account.opened.v1"):
    name: str


class Opened(Happened, frozen=True, kw_only=True, tag="account.opened.v2"):
    first: str
    last: str


class Credited(Happened, frozen=True, kw_only=True, tag="account.credited.v1"):
    cents: int


def _rename(old: OpenedOld) -> Opened:
    first, _, last = old.name.partition(" ")
    return Opened(
        originator_id=old.originator_id,
        originator_version=old.originator_version,
        first=first,
        last=last,
    )


class AccountMapper(MsgspecMapper[UUID]):
    events = (OpenedOld, Opened, Credited)
    upcasts: ClassVar = {OpenedOld: _rename}


def _mapper() -> AccountMapper:
    return AccountMapper(JSONTranscoder())


def _credited(version: int = 2, cents: int = 5) -> DomainEventProtocol[UUID]:
    return Credited(originator_id=ACCOUNT, originator_version=version, cents=cents)


def test_an_event_is_stored_under_its_tag_and_not_under_its_class() -> None:
    stored = _mapper().to_stored_event(_credited())
    assert (stored.originator_id, stored.originator_version) == (ACCOUNT, 2)
    assert stored.topic == "account.credited.v1"
    assert b"Credited" not in stored.state
    assert b"test_eventstore" not in stored.state


@given(st.integers(min_value=1, max_value=2**62), st.integers(min_value=-(2**62), max_value=2**62))
def test_what_is_stored_comes_back_as_it_was(version: int, cents: int) -> None:
    event = _credited(version, cents)
    assert _mapper().to_domain_event(_mapper().to_stored_event(event)) == event


def test_an_old_spelling_comes_back_as_the_newest() -> None:
    old = b'{"type":"account.opened.v1","originator_id":"00000000-0000-0000-0000-000000000007",'
    old += b'"originator_version":1,"name":"Ada Lovelace"}'
    stored = StoredEvent(ACCOUNT, 1, "account.opened.v1", old)
    expected = Opened(originator_id=ACCOUNT, originator_version=1, first="Ada", last="Lovelace")
    assert _mapper().to_domain_event(stored) == expected


def test_a_word_nobody_knows_is_an_error_that_says_where_it_stands() -> None:
    stored = StoredEvent(ACCOUNT, 3, "account.closed.v1", b'{"type":"account.closed.v1"}')
    with pytest.raises(MapperDeserialisationError, match=r"account\.closed\.v1 of .*version 3"):
        _mapper().to_domain_event(stored)


def test_compressed_and_encrypted_events_come_back_and_only_with_the_key() -> None:
    key = Environment("", {"CIPHER_KEY": AESCipher.create_key(16)})
    other = Environment("", {"CIPHER_KEY": AESCipher.create_key(16)})
    mapper = AccountMapper(JSONTranscoder(), ZlibCompressor(), AESCipher(key))
    stored = mapper.to_stored_event(_credited())
    assert b"cents" not in stored.state
    assert mapper.to_domain_event(stored) == _credited()
    with pytest.raises(MapperDeserialisationError):
        AccountMapper(JSONTranscoder(), ZlibCompressor(), AESCipher(other)).to_domain_event(stored)


class Nameless(Happened, frozen=True, kw_only=True, tag=True):
    pass


class Rootless(msgspec.Struct, frozen=True, tag="account.lost.v1"):
    pass


class Twin(Happened, frozen=True, kw_only=True, tag="account.credited.v1"):
    pass


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ((Happened,), "written-out tag"),
        ((Nameless,), "written-out tag"),
        ((Rootless,), "no field originator"),
        ((Credited, Twin), "repeats a tag"),
        ((), "empty"),
    ],
)
def test_a_mapper_of_events_without_proper_names_cannot_be_made(
    wrong: tuple[type[msgspec.Struct], ...], why: str
) -> None:
    class Wrong(MsgspecMapper[UUID]):
        events = wrong

    with pytest.raises(ProgrammingError, match=why):
        Wrong(JSONTranscoder())


def test_an_event_the_mapper_was_not_told_of_is_not_stored() -> None:
    class Small(MsgspecMapper[UUID]):
        events = (Opened,)

    with pytest.raises(ProgrammingError, match="Credited is not in Small"):
        Small(JSONTranscoder()).to_stored_event(_credited())


def test_the_library_finds_the_factory_by_the_name_of_the_module() -> None:
    env = {"PERSISTENCE_MODULE": "hwbus.eventstore"}
    factory: InfrastructureFactory[Any] = InfrastructureFactory.construct(env)
    mapper: Mapper[UUID] = factory.mapper(mapper_class=AccountMapper)
    assert type(factory) is Factory
    assert isinstance(mapper, AccountMapper)
    factory.close()
