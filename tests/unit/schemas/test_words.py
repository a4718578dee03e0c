"""Every word has a lasting name, says what it means, and survives the journey."""

import inspect
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.answers import Accepted, Answer
from schemas.attachment import Cgroup, Consumer, Iops, MountPoint, Rate
from schemas.audit import AuditRecord
from schemas.commit import Commit
from schemas.grammar import WORD, Event, Message, Report, Request, kind_and_verb, type_name
from schemas.place import place_of
from schemas.sampling import sample_of
from schemas.units import Id, Name, Path
from schemas.words import (
    COMMANDS,
    EVENTS,
    KINDS,
    AnyCommand,
    AnyCommit,
    AnyEvent,
    command_for,
    every_command,
    every_word,
)
from tests.support.anything import anything

every_word_there_is = pytest.mark.parametrize("word", every_word(), ids=type_name)
every_command_there_is = pytest.mark.parametrize("word", every_command(), ids=type_name)


def subclasses(of: type[Message]) -> set[type[Message]]:
    ours = {one for one in of.__subclasses__() if one.__module__.startswith("schemas.")}
    return ours | {deeper for one in ours for deeper in subclasses(one)}


@every_word_there_is
def test_a_word_has_a_written_out_and_versioned_name(word: type[Message]) -> None:
    assert WORD.fullmatch(type_name(word))


def test_no_two_words_have_the_same_name() -> None:
    names = [type_name(word) for word in every_word()]
    assert sorted(set(names)) == sorted(names)


def test_no_word_is_left_out_of_the_list() -> None:
    moods = {Request, Report, Event}
    assert subclasses(Message) - moods == set(every_word())


@every_word_there_is
def test_a_word_says_what_it_means(word: type[Message]) -> None:
    meaning = inspect.getdoc(word) or ""
    assert meaning != inspect.getdoc(word.__base__ or object)
    assert meaning.endswith(".")


@every_word_there_is
def test_a_word_is_said_under_the_kind_it_is_listed_under(word: type[Message]) -> None:
    kind, _verb = kind_and_verb(word)
    listed: Any = (*COMMANDS[kind], *EVENTS[kind])
    assert word in listed


@every_command_there_is
def test_a_report_is_recognised_by_its_verb_and_a_request_by_its_lack(word: type[Message]) -> None:
    _kind, verb = kind_and_verb(word)
    assert verb.startswith("report-") == issubclass(word, Report)


@every_command_there_is
def test_a_command_is_found_by_kind_and_verb(word: type[Message]) -> None:
    assert command_for(*kind_and_verb(word)) is word


def test_what_is_no_command_is_not_found() -> None:
    assert command_for("volume", "provisioned") is None
    assert command_for("moon", "provision") is None


@every_word_there_is
def test_a_word_knows_which_aggregate_it_is_about(word: type[Message]) -> None:
    said = msgspec.json.decode(sample_of(word), type=word)
    kind, place, id_ = place_of(said)
    assert kind == kind_and_verb(word)[0]
    assert kind in KINDS
    assert (place == "-") == (kind not in {"pool", "replica", "attachment", "errand"})
    assert id_


@every_word_there_is
@settings(max_examples=40)  # a word has a handful of fields, and there are more than a hundred
@given(data=st.data())
def test_a_word_survives_the_journey(word: type[Message], data: st.DataObject) -> None:
    said = data.draw(anything(word))
    whole = msgspec.json.encode(said)
    assert msgspec.json.decode(whole, type=word) == said
    assert msgspec.json.decode(whole, type=AnyCommand | AnyEvent) == said


@given(anything(AnyCommit))
def test_a_commit_survives_the_journey(said: Commit[Any]) -> None:
    assert msgspec.json.decode(msgspec.json.encode(said), type=AnyCommit) == said


@given(anything(Answer) | anything(AuditRecord))
def test_an_answer_and_a_record_of_the_audit_survive_the_journey(said: Any) -> None:
    union: Any = Answer if said.__struct_config__.tag_field == "answer" else AuditRecord
    assert msgspec.json.decode(msgspec.json.encode(said), type=union) == said


@every_word_there_is
def test_a_word_cannot_be_changed_once_said(word: type[Message]) -> None:
    said = msgspec.json.decode(sample_of(word), type=word)
    with pytest.raises(AttributeError):
        setattr(said, word.__struct_fields__[0], "x")


@every_word_there_is
def test_a_field_nobody_knows_is_not_ignored(word: type[Message]) -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `surprise`"):
        msgspec.json.decode(sample_of(word)[:-1] + b',"surprise":1}', type=word)


def test_something_without_a_tag_cannot_be_said() -> None:
    class Silent(msgspec.Struct):
        pass

    with pytest.raises(TypeError, match="cannot be said"):
        type_name(Silent)  # type: ignore[arg-type]
    assert type_name(Accepted) == "accepted"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "a.b",
        "a*",
        "a>",
        "a b",
        "A",
        "-a",
        "a-",
        "a\n",
        "\na",
        "ä",
        "a" * 64,
        "a" * 10_000,
        "\u0661",
    ],
)
def test_what_would_mean_something_else_in_a_subject_is_no_name(bad: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(bad, Name)


@pytest.mark.parametrize("bad", ["", "0" * 25, "0" * 27, "0" * 25 + "A", "0" * 26 + "\n"])
def test_what_is_not_26_lower_case_characters_is_no_id(bad: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(bad, Id)


@pytest.mark.parametrize("bad", ["", "dev/sda", "/dev/a\n", "/dev/a\x00", "/" + "a" * 255])
def test_what_is_relative_or_hides_a_line_is_no_path(bad: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(bad, Path)


@pytest.mark.parametrize("good", ["pod/shop/pg-0", "host/backup", "vm/A.b_c"])
@pytest.mark.parametrize("bad", ["", "host", "/host", "host/", "Host/a", "host/a b", "host/a\n"])
def test_a_consumer_has_a_kind_and_a_name(good: str, bad: str) -> None:
    assert msgspec.convert(good, Consumer) == good
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(bad, Consumer)


@pytest.mark.parametrize(
    "bad", ["", "/", "mnt", "/mnt/", "/a//b", "/..", "/a/../b", "/a/.", "/a\n"]
)
def test_a_mount_point_leads_down_from_the_root_and_nowhere_else(bad: str) -> None:
    assert msgspec.convert("/mnt/.hidden/a b", MountPoint)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(bad, MountPoint)


@pytest.mark.parametrize("bad", ["", "/", "/web", "web/", "a//b", "..", "a/../b", "../a", "a\n"])
def test_a_control_group_is_named_from_the_root_of_all_groups(bad: str) -> None:
    assert msgspec.convert("kubepods.slice/pod-1.scope", Cgroup)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(bad, Cgroup)


@pytest.mark.parametrize("bad", [-1, 0, 1])
def test_a_limit_is_more_than_the_kernel_takes_for_a_mistake(bad: int) -> None:
    for limit in (Iops, Rate):
        assert msgspec.convert(2, limit) == 2
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(bad, limit)
