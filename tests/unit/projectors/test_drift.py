"""Findings are open from when they were found until they are settled."""

from projectors.tables import DRIFT, FINDINGS, NODES, VOLUMES
from schemas.node import Drift, DriftFound, DriftSettled, Finding, NodeRemoved
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
