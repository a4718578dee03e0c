import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwbus import subjects
from hwbus.filters import collide, disjoint, matches
from hwbus.subjects import Address, BadNameError

NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
PLACES = st.one_of(st.just("-"), NAMES)
TOKENS = st.sampled_from(["a", "b", "*"])
PATTERNS = st.builds(
    lambda tokens, rest: ".".join([*tokens, *rest]),
    st.lists(TOKENS, min_size=1, max_size=4),
    st.sampled_from([[], [">"]]),
)
CONCRETE = st.lists(st.sampled_from("ab"), min_size=1, max_size=6).map(".".join)


@given(NAMES, PLACES, NAMES)
def test_taking_an_event_subject_apart_gives_back_what_it_was_built_from(
    kind: str, place: str, id_: str
) -> None:
    made = subjects.address(kind, place, id_)
    assert subjects.parse_event(made.subject) == made == Address(kind, place, id_)


@given(NAMES, NAMES)
def test_command_and_submit_subjects_are_taken_apart_alike(kind: str, verb: str) -> None:
    assert subjects.parse_command(subjects.command(kind, verb)) == (kind, verb)
    assert subjects.parse_command(subjects.submit(kind, verb)) == (kind, verb)


@pytest.mark.parametrize(
    "text", ["", "-a", "a-", "A", "a.b", "*", ">", "a b", "a\n", "ä", "a" * 64, "a_b"]
)
def test_a_word_that_would_change_a_subject_is_refused(text: str) -> None:
    with pytest.raises(BadNameError):
        subjects.token(text)
    with pytest.raises(BadNameError):
        subjects.address("volume", "-", text)


@pytest.mark.parametrize(
    "subject",
    ["", "hwbus", "hwbus.evt.a.b", "hwbus.evt.a.b.c.d", "other.evt.a.b.c", "hwbus.cmd.a.b"],
)
def test_what_is_no_event_subject_is_said_to_be_none(subject: str) -> None:
    with pytest.raises(BadNameError):
        subjects.parse_event(subject)


@pytest.mark.parametrize(
    "subject", ["hwbus.evt.a.b.c", "hwbus.cmd.a", "hwbus.cmd.a.b.c", "x.cmd.a.b"]
)
def test_what_is_no_command_subject_is_said_to_be_none(subject: str) -> None:
    with pytest.raises(BadNameError):
        subjects.parse_command(subject)


def test_an_address_is_written_as_people_read_it() -> None:
    assert str(subjects.address("pool", "node-1", "fast")) == "pool/node-1/fast"
    assert str(subjects.address("volume", "-", "pg")) == "volume/pg"


def test_a_nodes_filter_takes_in_what_lives_there_and_nothing_else() -> None:
    pattern = subjects.of_node("node-1")
    assert matches(pattern, subjects.address("pool", "node-1", "fast").subject)
    assert not matches(pattern, subjects.address("pool", "node-2", "fast").subject)
    assert not matches(pattern, subjects.address("disk", "-", "node-1").subject)


def test_the_other_subjects_are_checked_as_well() -> None:
    assert subjects.audit("executed", "node-1") == "hwbus.audit.executed.node-1"
    assert subjects.query("volumes") == "hwbus.q.volumes"
    assert subjects.live("io", "node-1") == "hwbus.live.io.node-1"
    for make in (subjects.audit, subjects.query, subjects.live, subjects.of_node):
        with pytest.raises(BadNameError):
            make("a.>")


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a", False),
        ("a.b", "a.b.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        (">", "a", True),
        ("*.b.>", "a.b", False),
    ],
)
def test_wildcards_mean_what_they_mean_to_the_broker(
    pattern: str, subject: str, expected: bool
) -> None:
    assert matches(pattern, subject) is expected


@given(PATTERNS, PATTERNS, CONCRETE)
def test_patterns_that_share_a_subject_collide(left: str, right: str, subject: str) -> None:
    if matches(left, subject) and matches(right, subject):
        assert collide(left, right)
        assert not disjoint([left, right])


@given(PATTERNS, PATTERNS)
def test_colliding_is_mutual(left: str, right: str) -> None:
    assert collide(left, right) == collide(right, left)
