"""What the broker tells of logins becomes records, and a flood of them becomes few."""

import json
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwbus.logins import BRIEF, SOURCES_MAX, Bound, Sessions, message_id, read
from schemas.audit import LoginOutcome, LoginRecord
from tests.support.clock import NOON

IN = "$SYS.ACCOUNT.HWBUS.CONNECT"
OUT = "$SYS.ACCOUNT.HWBUS.DISCONNECT"
AWAY = "$SYS.SERVER.NABC.CLIENT.AUTH.ERR"
LATER = NOON + timedelta(minutes=2)


def notice(*, at: datetime = NOON, reason: str = "", **client: Any) -> bytes:
    """As a server 2.15 says it; what it says and nobody keeps is a secret here."""
    about = {
        "start": NOON.isoformat(),
        "host": "10.0.0.5",
        "id": 8,
        "acc": "HWBUS",
        "user": "ada",
        "name": "hwbus-cli",
        "kind": "Client",
        "client_type": "nats",
        "jwt": "s3cret",
        "pass": "s3cret",
        **client,
    }
    server = {"name": "one", "host": "127.0.0.1", "id": "NABC", "ver": "2.15.1", "seq": 3}
    said = {"type": "x", "id": "y", "timestamp": at.isoformat(), "server": server, "client": about}
    return json.dumps({**said, **({"reason": reason} if reason else {})}).encode()


def ended(after: timedelta, reason: str = "Client Closed", **client: Any) -> bytes:
    return notice(at=NOON + after, stop=(NOON + after).isoformat(), reason=reason, **client)


def told(subject: str, data: bytes) -> LoginRecord:
    record = read(subject, data)
    assert record is not None
    return record


def test_who_is_let_in_is_told_with_all_but_secrets() -> None:
    record = told(IN, notice())
    assert record == LoginRecord(
        at=NOON,
        outcome=LoginOutcome.LET_IN,
        server="one",
        server_id="NABC",
        number=8,
        user="ada",
        client="hwbus-cli",
        account="HWBUS",
        address="10.0.0.5",
        connection="nats",
    )
    assert b"s3cret" not in msgspec.json.encode(record)


def test_the_nanoseconds_of_the_broker_are_understood() -> None:
    record = told(IN, notice(start="2026-11-27T09:56:12.805491147Z"))
    assert record.at.microsecond == 805491


def test_who_is_turned_away_has_no_account() -> None:
    record = told(AWAY, ended(timedelta(), "Authentication Failure", acc="$G"))
    assert (record.outcome, record.account) == (LoginOutcome.TURNED_AWAY, "")
    assert record.because == "Authentication Failure"


@pytest.mark.parametrize(
    ("reason", "client"),
    [
        ("Authentication Failure", {"acc": "$G"}),  # told of by a notice of its own
        ("Client Closed", {"user": ""}),  # looked whether somebody listens
    ],
)
def test_what_is_no_end_of_a_session_is_not_told_as_one(reason: str, client: Any) -> None:
    assert read(OUT, ended(timedelta(seconds=9), reason, **client)) is None


def test_who_never_said_a_name_in_time_was_turned_away() -> None:
    record = told(OUT, ended(timedelta(seconds=1), "Authentication Timeout", user="", acc="$G"))
    assert record.outcome is LoginOutcome.TURNED_AWAY


def test_a_leaf_has_no_type_but_a_kind() -> None:
    data = ended(timedelta(hours=1), kind="Leafnode", client_type="")
    assert told(OUT, data).connection == "leafnode"


def test_names_that_strangers_choose_are_cut() -> None:
    record = told(AWAY, notice(user="x" * 5000, name="y" * 5000))
    assert (len(record.user), len(record.client)) == (128, 128)


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"timestamp": "x"}', b"\xff"])
def test_what_is_no_notice_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        read(IN, data)


# Sessions


def test_a_session_that_is_over_at_once_is_one_record() -> None:
    sessions = Sessions()
    assert sessions.take(told(IN, notice()), NOON) == []
    assert sessions.take(told(OUT, ended(timedelta(seconds=1))), NOON) == []
    assert sessions.due(NOON + BRIEF) == []
    [record] = sessions.due(NOON + BRIEF * 2)
    assert (record.outcome, record.at, record.since) == (LoginOutcome.LET_IN, NOON, NOON)
    assert record.until == NOON + timedelta(seconds=1)


def test_a_login_is_told_before_its_session_ends_and_the_end_with_its_beginning() -> None:
    sessions = Sessions()
    sessions.take(told(IN, notice()), NOON)
    [begun] = sessions.due(NOON + BRIEF * 2)
    [left] = sessions.take(told(OUT, ended(timedelta(hours=1))), LATER)
    assert [begun.outcome, left.outcome] == [LoginOutcome.LET_IN, LoginOutcome.LEFT]
    assert (left.since, left.until) == (NOON, NOON + timedelta(hours=1))
    assert sessions.due(None) == []


def test_it_does_not_matter_which_notice_of_a_brief_session_comes_first() -> None:
    sessions = Sessions()
    sessions.take(told(OUT, ended(timedelta(seconds=1))), NOON)
    sessions.take(told(IN, notice()), NOON)
    [record] = sessions.due(None)
    assert record.until is not None


def test_at_most_so_many_are_held_back() -> None:
    sessions = Sessions(held_max=2)
    out = [sessions.take(told(IN, notice(id=n)), NOON) for n in range(4)]
    assert [[record.number for record in records] for records in out] == [[], [], [0], [1]]


def test_a_brief_session_and_its_login_are_one_to_the_broker() -> None:
    early, late = Sessions(), Sessions()
    early.take(told(IN, notice()), NOON)
    late.take(told(OUT, ended(timedelta(seconds=1))), NOON)
    assert message_id(early.due(None)[0]) == message_id(late.due(None)[0])


@pytest.mark.parametrize("other", [{"id": 9}, {"start": LATER.isoformat()}])
def test_another_connection_is_another_message(other: Any) -> None:
    assert message_id(told(IN, notice(**other))) != message_id(told(IN, notice()))


# The bound


def away(n: int, address: str = "10.6.6.6", user: str = "root") -> LoginRecord:
    at = NOON + timedelta(milliseconds=n)
    return told(AWAY, notice(at=at, id=n, host=address, user=user, reason="Authentication Failure"))


def test_of_a_flood_the_first_are_told_whole_and_the_rest_is_counted() -> None:
    bound = Bound()
    whole = [one for n in range(1000) if (one := bound.take(away(n), NOON))]
    assert [one.number for one in whole] == [0, 1, 2, 3, 4]
    assert bound.due(NOON + timedelta(seconds=60)) == []
    [rest] = bound.due(LATER)
    assert (rest.times, rest.address, rest.user) == (995, "10.6.6.6", "root")
    assert (rest.at, rest.until) == (away(5).at, away(999).at)
    assert bound.due(LATER) == []


def test_a_single_one_too_many_is_told_as_it_is() -> None:
    bound = Bound()
    for n in range(6):
        bound.take(away(n), NOON)
    assert bound.due(None) == [away(5)]


def test_what_differs_among_those_counted_is_left_out() -> None:
    bound = Bound()
    for n in range(9):
        bound.take(away(n, user=f"guess-{n}"), NOON)
    [rest] = bound.due(None)
    assert (rest.times, rest.user, rest.address) == (4, "", "10.6.6.6")


def test_the_next_minute_of_the_broker_begins_anew() -> None:
    bound = Bound()
    for n in range(9):
        bound.take(away(n), NOON)
    assert bound.take(away(60_000), NOON) is not None


def test_an_honest_user_is_not_counted_together_with_a_flood() -> None:
    bound = Bound()
    for n in range(1000):
        bound.take(away(n), NOON)
    assert bound.take(told(IN, notice(host="10.6.6.6")), NOON) is not None


@given(st.lists(st.tuples(st.integers(0, 400), st.booleans(), st.integers(0, 3)), max_size=600))
def test_nothing_is_lost_and_little_is_kept(flood: list[tuple[int, bool, int]]) -> None:
    bound = Bound()
    heard = Counter[LoginOutcome]()
    kept: list[LoginRecord] = []
    for n, (host, refused, user) in enumerate(flood):
        about: Any = {"host": f"10.0.{host // 256}.{host % 256}", "user": f"u{user}", "id": n}
        record = told(AWAY if refused else IN, notice(**about))
        heard[record.outcome] += 1
        whole = bound.take(record, NOON)
        kept += [whole] if whole is not None else []
    kept += bound.due(None)
    summed = Counter[LoginOutcome]()
    for record in kept:
        summed[record.outcome] += record.times
    assert summed == heard
    refused_kept = [one for one in kept if one.outcome is LoginOutcome.TURNED_AWAY]
    assert len(refused_kept) <= 100 + SOURCES_MAX + 1


@given(st.permutations(range(12)))
def test_two_who_hear_the_same_write_the_same(order: list[int]) -> None:
    def written() -> list[str]:
        bound = Bound()
        kept = [one for n in order if (one := bound.take(away(n), NOON))]
        return [message_id(one) for one in (*kept, *bound.due(None))]

    assert written() == written()
    assert len(set(written())) == 6
