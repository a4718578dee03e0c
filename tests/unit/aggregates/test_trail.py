"""The trail: what of the audit is archived may go, and nothing of the events."""

from datetime import timedelta

import pytest

from schemas.refusals import Refusal
from schemas.trail import PruneTrail, TrailReleased
from tests.support.given import NOON, given

ROOT, OTHER_ROOT = "a" * 64, "b" * 64
AT = NOON - timedelta(days=90)


def prune(until: int, root: str = ROOT, trail: str = "audit") -> PruneTrail:
    return PruneTrail(
        trail=trail, until=until, root=root, frontier=(root,), place="s3://b/p", newest=AT
    )


def released(until: int, root: str = ROOT) -> TrailReleased:
    return TrailReleased(
        trail="audit", until=until, root=root, frontier=(root,), place="s3://b/p", newest=AT
    )


def test_what_is_archived_may_go_and_that_is_recorded() -> None:
    given().when(prune(8)).then(released(8))
    given(released(8)).when(prune(16, OTHER_ROOT)).then(released(16, OTHER_ROOT))


@pytest.mark.parametrize("until", [4, 8])
def test_what_may_go_already_is_not_recorded_again(until: int) -> None:
    given(released(8)).when(prune(until)).then()


def test_the_same_part_with_another_root_is_refused() -> None:
    given(released(8)).when(prune(8, OTHER_ROOT)).refused(Refusal.ANOTHER_TRAIL)


@pytest.mark.parametrize("trail", ["events", "submit"])
def test_nothing_of_the_events_may_go(trail: str) -> None:
    given().when(prune(8, trail=trail)).refused(Refusal.TRAIL_STAYS)


def test_what_was_stored_in_the_future_is_not_old() -> None:
    late = PruneTrail(
        trail="audit",
        until=8,
        root=ROOT,
        frontier=(ROOT,),
        place="s3://b/p",
        newest=NOON + timedelta(days=400),
    )
    given().when(late).refused(Refusal.NOT_OLD_YET)
