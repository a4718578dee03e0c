"""An operation's row follows everything that happens in its name."""

from projectors.tables import OPERATIONS, ORIGINS
from schemas.operation import (
    CancelWanted,
    OperationEnded,
    OperationExpired,
    OperationKind,
    OperationProgressed,
    Outcome,
    StepRefused,
)
from schemas.operation_views import OperationRow, OperationState
from schemas.pool import RoomReserved
from schemas.refusals import Refusal
from tests.unit.projectors.stories import GIB, Story, uid


def _begun() -> tuple[Story, str]:
    story = Story().node().pool()
    return story, story.begin("pg", 1, GIB)


def _row(story: Story, operation: str) -> OperationRow:
    row = story.row(OPERATIONS, operation)
    assert row is not None
    return row


def test_a_running_operation_names_who_wanted_it_and_not_who_drives_it() -> None:
    story, operation = _begun()
    row = _row(story, operation)
    assert (row.actor, row.object, row.state) == ("alice", "volume/pg", OperationState.RUNNING)
    assert story.row(ORIGINS, operation) is None


def test_the_step_is_the_last_thing_that_happened_for_the_operation_anywhere() -> None:
    story, operation = _begun()
    reserved = RoomReserved(
        pool="fast", node="n1", claim=uid(1), size_bytes=GIB, operation=operation
    )
    seq = story.say(reserved, correlation=operation)
    assert (_row(story, operation).step, _row(story, operation).seq) == ("pool.room-reserved", seq)
    story.say(reserved, correlation="something-else")
    assert _row(story, operation).seq == seq


def test_refused_steps_are_counted_and_the_last_reason_kept() -> None:
    story, operation = _begun()
    for attempt in (1, 2):
        story.say(
            StepRefused(
                operation=operation,
                step="reserve",
                code=Refusal.CAPACITY,
                because=f"full {attempt}",
                attempt=attempt,
            ),
            correlation=operation,
        )
    row = _row(story, operation)
    assert (row.attempts, row.why, row.step) == (2, "HW-P003 full 2", "reserve refused")


def test_an_operation_that_ended_says_how_when_and_what_is_left() -> None:
    story, operation = _begun()
    story.say(CancelWanted(operation=operation, because="typo"), correlation=operation)
    assert _row(story, operation).state is OperationState.CANCELLING
    story.say(OperationExpired(operation=operation, at=story.at), correlation=operation)
    assert _row(story, operation).state is OperationState.EXPIRED
    ended_at = story.at
    story.say(
        OperationEnded(
            operation=operation,
            kind=OperationKind.VOLUME_PROVISION,
            object="volume/pg",
            outcome=Outcome.FAILED,
            code=Refusal.DEADLINE,
            because="too slow",
            leftovers=("lv/n1/fast/pg",),
        ),
        correlation=operation,
    )
    row = _row(story, operation)
    assert (row.state, row.code, row.ended, row.ended_at) == (
        OperationState.FAILED,
        Refusal.DEADLINE,
        True,
        ended_at,
    )
    assert row.leftovers == ("lv/n1/fast/pg",)


def test_a_copy_shows_how_far_it_is_how_fast_it_goes_and_in_the_end_all_of_it() -> None:
    story, operation = _begun()
    before = _row(story, operation)
    assert (before.copied_bytes, before.of_bytes, before.bytes_per_s) == (None, None, None)
    for done_bytes in (GIB, 3 * GIB):
        progress = OperationProgressed(operation=operation, done_bytes=done_bytes, of_bytes=4 * GIB)
        story.say(progress, correlation=operation)
    row = _row(story, operation)
    assert (row.copied_bytes, row.of_bytes, row.bytes_per_s) == (3 * GIB, 4 * GIB, 2 * GIB)
    ended = OperationEnded(
        operation=operation,
        kind=OperationKind.VOLUME_CLONE,
        object="volume/pg",
        outcome=Outcome.COMPLETED,
    )
    story.say(ended, correlation=operation)
    assert _row(story, operation).copied_bytes == 4 * GIB
