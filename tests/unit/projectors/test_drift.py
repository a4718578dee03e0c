"""Findings are open from when they were found until they are settled."""

from typing import Any

from msgspec.structs import replace

from projectors.drift import PAST_MAX
from projectors.tables import DRIFT, DRIFT_PAST, FINDINGS, NODES, VOLUMES
from schemas.node import Drift, DriftFound, DriftSettled, Finding, NodeRemoved
from schemas.refusals import Refusal
from schemas.settling import DriftSettlingBegan, DriftSettlingEnded, Verb, mark
from tests.unit.projectors.stories import Story, uid

MISSING = Finding(drift=Drift.VOLUME_MISSING, object="replica/n1/pg", wanted="1 GiB")


def _drifts(story: Story) -> int:
    row = story.row(NODES, "n1")
    assert row is not None
    return row.drifts


def test_a_finding_is_as_old_as_its_first_sight_however_it_changes() -> None:
    story = Story().node()
    since = story.at
    story.say(DriftFound(node="n1", finding=MISSING))
    later = Finding(drift=Drift.VOLUME_MISSING, object="replica/n1/pg", wanted="2 GiB")
    story.say(DriftFound(node="n1", finding=later))
    (row,) = story.all(DRIFT)
    assert (row.since, row.wanted, _drifts(story)) == (since, "2 GiB", 1)


def test_a_settled_finding_is_gone_and_the_node_counts_one_less() -> None:
    story = Story().node()
    foreign = Finding(drift=Drift.VOLUME_FOREIGN, object="lv/n1/fast/x")
    story.say(DriftFound(node="n1", finding=MISSING), DriftFound(node="n1", finding=foreign))
    assert _drifts(story) == 2
    story.say(DriftSettled(node="n1", finding=MISSING))
    assert [row.object for row in story.all(DRIFT)] == ["lv/n1/fast/x"]
    assert _drifts(story) == 1


def test_a_removed_node_takes_its_findings_along() -> None:
    story = Story().node()
    story.say(DriftFound(node="n1", finding=MISSING))
    story.say(NodeRemoved(node="n1", operation=uid(1)))
    assert [*story.all(DRIFT), *story.all(FINDINGS)] == []


def test_a_volume_bears_what_was_found_of_its_leg_until_it_is_settled() -> None:
    story = Story().node().pool().volume("pg", 2)
    torn = Finding(drift=Drift.VOLUME_DISK_MISSING, object="replica/n1/pg")
    stranger = Finding(drift=Drift.VOLUME_FOREIGN, object="lv/n1/fast/pg")
    elsewhere = Finding(drift=Drift.VOLUME_MISSING, object="replica/n2/pg")

    def defects() -> tuple[Drift, ...]:
        row = story.row(VOLUMES, "pg")
        assert row is not None
        return row.defects

    for finding in (torn, MISSING, torn, stranger):
        story.say(DriftFound(node="n1", finding=finding))
    story.say(DriftFound(node="n2", finding=elsewhere))
    assert set(defects()) == {Drift.VOLUME_DISK_MISSING, Drift.VOLUME_MISSING}
    story.say(DriftSettled(node="n1", finding=MISSING))
    assert defects() == (Drift.VOLUME_DISK_MISSING,)
    story.say(NodeRemoved(node="n1", operation=uid(1)))
    assert defects() == ()


def began(story: Story) -> DriftSettlingBegan:
    about: dict[str, Any] = {"node": "n1", "operation": uid(7), "uid": uid(8), "verb": Verb.ACCEPT}
    return DriftSettlingBegan(**about, deadline=story.at, finding=MISSING)


def ended(code: Refusal | None = None) -> DriftSettlingEnded:
    about: dict[str, Any] = {
        "node": "n1",
        "operation": uid(7),
        "verb": Verb.ACCEPT,
        "finding": MISSING,
    }
    return DriftSettlingEnded(**about, code=code, because="so" if code else "")


def test_history_keeps_who_settled_a_finding_and_how() -> None:
    story = Story().node()
    since = story.at
    story.say(DriftFound(node="n1", finding=MISSING))
    story.say(began(story))
    (row,) = story.all(DRIFT)
    assert (row.seen, row.operation, row.verb) == (mark(MISSING), uid(7), Verb.ACCEPT)
    by = row.by
    assert by
    story.say(ended())
    until = story.at
    story.say(DriftSettled(node="n1", finding=MISSING))
    (past,) = story.all(DRIFT_PAST)
    assert (past.verb, past.by, past.operation) == (Verb.ACCEPT, by, uid(7))
    assert (past.since, past.until) == (since, until)


def test_what_was_given_up_is_told_and_settles_nothing() -> None:
    story = Story().node()
    story.say(DriftFound(node="n1", finding=MISSING))
    story.say(began(story))
    story.say(ended(Refusal.NOT_AS_SEEN))
    (row,) = story.all(DRIFT)
    assert (row.operation, row.by, row.code, row.why) == ("", "", Refusal.NOT_AS_SEEN, "so")
    story.say(DriftSettled(node="n1", finding=MISSING))
    (past,) = story.all(DRIFT_PAST)
    assert (past.verb, past.by) == (None, "")


def test_what_is_in_quarantine_is_shown_and_worries_nobody() -> None:
    story = Story().node()
    aside = Finding(drift=Drift.VOLUME_QUARANTINED, object="lv/n1/fast/x")
    story.say(DriftFound(node="n1", finding=aside), DriftFound(node="n1", finding=MISSING))
    assert sorted(row.quiet for row in story.all(DRIFT)) == [False, True]
    assert _drifts(story) == 1


def test_the_past_of_a_node_is_bounded_and_the_newest_stays() -> None:
    story = Story().node()
    for number in range(PAST_MAX + 5):
        one = replace(MISSING, object=f"replica/n1/v{number}")
        story.say(DriftFound(node="n1", finding=one))
        story.say(DriftSettled(node="n1", finding=one))
    past = story.all(DRIFT_PAST)
    assert len(past) == PAST_MAX
    assert f"replica/n1/v{PAST_MAX + 4}" in {row.object for row in past}
    assert "replica/n1/v0" not in {row.object for row in past}
