"""The contract for other languages says what the wires do, and is up to date."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from hwbus import subjects
from schemas.asyncapi import DOCUMENT, document, text
from schemas.grammar import kind_and_verb, type_name
from schemas.queries import ROWS
from schemas.sampling import sample_of
from schemas.words import KINDS, every_command, every_event


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    return document()


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def resolve(told: dict[str, Any], reference: str) -> Any:
    part: Any = told
    for key in reference.removeprefix("#/").split("/"):
        part = part[key]
    return part


def test_the_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text() == text(), "run: make derive"


def test_every_reference_leads_somewhere(told: dict[str, Any]) -> None:
    led = [resolve(told, reference) for reference in references(told)]
    assert len(led) > 500
    assert all(isinstance(part, dict) for part in led)


def test_every_command_stands_at_the_subject_where_it_is_sent(told: dict[str, Any]) -> None:
    at = {channel["address"]: channel["messages"].keys() for channel in told["channels"].values()}
    for word in every_command():
        assert type_name(word) in at[subjects.command(*kind_and_verb(word))]
        assert type_name(word) in at["hwbus.submit.{kind}.{verb}"]


def test_every_command_is_answered_in_one_of_three_ways(told: dict[str, Any]) -> None:
    for word in every_command():
        reply = told["operations"]["cmd.{}.{}".format(*kind_and_verb(word))]["reply"]
        answers = resolve(told, reply["channel"]["$ref"])["messages"]
        assert answers.keys() == {"Accepted", "Refused", "Undecided"}


@pytest.mark.parametrize("kind", KINDS)
def test_events_stand_at_the_subject_where_they_are_kept(kind: str, told: dict[str, Any]) -> None:
    place = "node-1" if kind in {"pool", "replica"} else "-"
    address = told["channels"][f"evt.{kind}"]["address"]
    filled = address.replace("{place}", place).replace("{id}", "thing")
    assert subjects.parse_event(filled) == subjects.address(kind, place, "thing")


def test_every_event_has_a_schema(told: dict[str, Any]) -> None:
    assert told["components"]["schemas"].keys() >= {event.__name__ for event in every_event()}


def test_every_view_can_be_asked(told: dict[str, Any]) -> None:
    addresses = {channel["address"] for channel in told["channels"].values()}
    assert addresses >= {subjects.query(view) for view in ROWS}


def test_what_is_required_of_a_command_is_what_it_takes_to_be_read(told: dict[str, Any]) -> None:
    for word in every_command():
        schema = told["components"]["schemas"][word.__name__]
        whole = msgspec.json.decode(sample_of(word))
        only_required = {key: whole[key] for key in schema["required"]}
        msgspec.convert(only_required, word)
        assert whole.keys() <= schema["properties"].keys()


def test_nothing_in_it_speaks_of_source_code(told: dict[str, Any]) -> None:
    assert "\\n    " not in text()
    assert all("discriminator" not in schema for schema in told["components"]["schemas"].values())
