"""A node is ready until something true says otherwise."""

from datetime import timedelta

from projectors.tables import NODES, POOLS, USAGE
from schemas.draining import DrainBegan, DrainEnded, ForgettingBegan, PoolForgotten
from schemas.node import (
    NodeAdmitted,
    NodeCordoned,
    NodeFellSilent,
    NodeHeard,
    NodeRemovalBegan,
    NodeRemoved,
    NodeUncordoned,
    PoolDetached,
)
from schemas.views import NodeRow, NodeState
from tests.support.clock import NOON
from tests.unit.projectors.stories import Story, uid


def _row(story: Story, name: str = "n1") -> NodeRow:
    row = story.row(NODES, name)
    assert row is not None
    return row


def test_a_node_that_joined_is_ready_and_says_where_it_is() -> None:
    row = _row(Story().node())
    assert (row.state, row.address, row.zone) == (NodeState.READY, "10.0.0.1", "a")
    assert (row.created_at, row.seq, row.version) == (NOON, 1, 1)


def test_silence_outranks_a_cordon_and_ends_when_the_node_is_heard() -> None:
    story = Story().node()
    story.say(NodeCordoned(node="n1", because="new fans"))
    assert (_row(story).state, _row(story).why) == (NodeState.CORDONED, "new fans")
    story.say(NodeFellSilent(node="n1", last_heard=NOON))
    assert (_row(story).state, _row(story).last_heard) == (NodeState.SILENT, NOON)
    story.say(NodeHeard(node="n1"))
    story.say(NodeUncordoned(node="n1"))
    assert (_row(story).state, _row(story).why) == (NodeState.READY, "")
    assert _row(story).last_heard is None


def test_the_row_counts_pools_and_disks_of_the_node() -> None:
    story = Story().node().disk("d1").disk("d2").pool("fast")
    assert (_row(story).pools, _row(story).disks) == (("fast",), 2)


def test_a_removed_node_stays_in_sight_until_it_is_admitted_and_joins_anew() -> None:
    story = Story().node()
    deadline = NOON + timedelta(hours=1)
    story.say(NodeRemovalBegan(node="n1", operation=uid(1), deadline=deadline))
    assert (_row(story).state, _row(story).operation) == (NodeState.REMOVING, uid(1))
    story.say(NodeRemoved(node="n1", operation=uid(1)))
    assert (_row(story).state, _row(story).operation) == (NodeState.REMOVED, "")
    story.say(NodeAdmitted(node="n1"))
    assert _row(story).state is NodeState.ADMITTED
    story.node()
    assert _row(story).state is NodeState.READY


def test_a_node_that_is_drained_stays_cordoned_and_names_what_is_left() -> None:
    story = Story().node()
    deadline = NOON + timedelta(hours=1)
    story.say(DrainBegan(node="n1", operation=uid(1), deadline=deadline, volumes=("pg", "wal")))
    row = _row(story)
    assert (row.state, row.operation, row.cordoned) == (NodeState.DRAINING, uid(1), True)
    story.say(DrainEnded(node="n1", operation=uid(1), left=("wal",)))
    row = _row(story)
    assert (row.state, row.operation, row.why) == (NodeState.CORDONED, "", "drained, but for wal")


def test_a_node_that_is_forgotten_goes_with_its_pools_and_their_room() -> None:
    story = Story().node().pool("fast")
    forgetting = ForgettingBegan(
        node="n1",
        operation=uid(1),
        deadline=NOON,
        pools=("fast",),
        disks=("d1",),
        legs=(),
        volumes=(),
    )
    story.say(NodeFellSilent(node="n1", last_heard=NOON))
    story.say(forgetting)
    assert _row(story).state is NodeState.REMOVING
    story.say(PoolForgotten(pool="fast", node="n1", disks=("d1",)))
    assert story.row(POOLS, "n1/fast") is None
    story.say(PoolDetached(node="n1", pool="fast"))
    story.say(NodeRemoved(node="n1", operation=uid(1)))
    cluster = story.row(USAGE, "cluster/cluster")
    assert cluster is not None
    assert cluster.capacity_bytes == 0
    assert _row(story).state is NodeState.REMOVED


def test_events_of_a_node_that_never_joined_make_no_row() -> None:
    story = Story()
    story.say(NodeHeard(node="n1"))
    assert story.row(NODES, "n1") is None
