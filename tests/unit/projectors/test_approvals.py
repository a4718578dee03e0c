"""The row of a request tells who asks, for what, and what became of it; round after round."""

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from projectors.tables import APPROVALS, PROTECTIONS
from schemas.approval import (
    ApprovalExpired,
    ApprovalGiven,
    ApprovalRejected,
    ApprovalRequested,
    ApprovalUsed,
)
from schemas.grammar import Event
from schemas.protection import ProtectedKind, ProtectionChanged, ProtectionRemoved, ProtectionSpec
from tests.support.clock import NOON
from tests.unit.projectors.stories import Story, uid

R = uid(77)
UNTIL = NOON + timedelta(days=1)
REQUESTED = ApprovalRequested(
    approval=R,
    round=1,
    actor="alice",
    word="volume.purge.v1",
    request='{"type":"volume.purge.v1","volume":"pg"}',
    objects=("volume/pg",),
    protections=("orders",),
    until=UNTIL,
    good_for_s=60,
)
GIVEN = ApprovalGiven(approval=R, round=1, by="bob", until=NOON, because="4711")
USED = ApprovalUsed(approval=R, round=1, command="c1", until=NOON)
REJECTED = ApprovalRejected(approval=R, round=1, by="carol", because="no")
EXPIRED = ApprovalExpired(approval=R, round=1)


@pytest.mark.parametrize(
    ("past", "row"),
    [
        ((REQUESTED,), {"state": "waiting", "ended": False, "good_until": UNTIL, "by": ""}),
        ((REQUESTED, GIVEN), {"state": "approved", "ended": False, "good_until": NOON}),
        ((REQUESTED, GIVEN, USED), {"state": "used", "ended": True, "command": "c1", "by": "bob"}),
        ((REQUESTED, REJECTED), {"state": "rejected", "ended": True, "by": "carol"}),
        ((REQUESTED, EXPIRED), {"state": "expired", "ended": True, "good_until": None}),
        (
            (REQUESTED, GIVEN, USED, replace(REQUESTED, round=2)),
            {"state": "waiting", "round": 2, "command": "", "by": "", "ended": False},
        ),
    ],
)
def test_the_row_of_a_request_is_that_of_its_newest_round(
    past: tuple[Event, ...], row: dict[str, Any]
) -> None:
    story = Story()
    for event in past:
        story.say(event)
    there = story.row(APPROVALS, R)
    assert there is not None
    assert {name: getattr(there, name) for name in row} == row
    assert (there.actor, there.request) == ("alice", REQUESTED.request)


def test_a_protection_is_shown_while_there_is_one() -> None:
    story = Story()
    for kinds in ((), (ProtectedKind.VOLUME,)):
        spec = ProtectionSpec(kinds=kinds)
        story.say(ProtectionChanged(protection="orders", uid=uid(5), spec=spec))
        row = story.row(PROTECTIONS, "orders")
        assert row is not None
        assert (row.kinds, row.names, row.hold_s) == (kinds, ("*",), 86_400)
    story.say(ProtectionRemoved(protection="orders", uid=uid(5)))
    assert story.row(PROTECTIONS, "orders") is None
