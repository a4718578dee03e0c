"""Room adds up: volumes to pools, pools to nodes, nodes to the cluster."""

from hypothesis import given, settings

from projectors.tables import POOLS, USAGE
from schemas.pool import RoomReserved
from schemas.usage_view import UsageLevel, UsageRow
from schemas.volume import Layout
from tests.unit.projectors.stories import GIB, MIB, Story, any_story, uid

SUMMED = (
    "capacity_bytes",
    "allocated_bytes",
    "reserved_bytes",
    "committed_bytes",
    "free_bytes",
    "available_bytes",
    "thin_bytes",
    "thin_committed_bytes",
    "volumes",
)


def _at(story: Story, level: UsageLevel) -> list[UsageRow]:
    return [row for row in story.all(USAGE) if row.level is level]


def _total(rows: list[UsageRow]) -> dict[str, int]:
    return {field: sum(getattr(row, field) for row in rows) for field in SUMMED}


@settings(deadline=None)
@given(any_story())
def test_the_cluster_is_the_sum_of_its_nodes_and_a_node_of_its_pools(story: Story) -> None:
    pools = _at(story, UsageLevel.POOL)
    assert _total(_at(story, UsageLevel.CLUSTER)) == _total(pools)
    for node in _at(story, UsageLevel.NODE):
        assert _total([node]) == _total([pool for pool in pools if pool.node == node.name])


@settings(deadline=None)
@given(any_story())
def test_capacity_is_allocated_and_free_at_every_level(story: Story) -> None:
    for row in story.all(USAGE):
        if row.level not in {UsageLevel.VOLUME, UsageLevel.SNAPSHOT}:
            assert row.capacity_bytes == row.allocated_bytes + row.free_bytes
            assert row.available_bytes == row.capacity_bytes - row.committed_bytes
        assert row.committed_bytes == row.allocated_bytes + row.reserved_bytes
    shown = {row.name for row in _at(story, UsageLevel.POOL)}
    assert shown == {f"{pool.node}/{pool.name}" for pool in story.all(POOLS)}


def test_thick_volumes_and_the_thin_pool_are_all_that_a_pool_has_allocated() -> None:
    story = Story().node().pool(thin=4 * GIB)
    story.volume("a", 1, GIB).volume("b", 2, 2 * GIB).volume("t", 3, GIB, layout=Layout.THIN)
    volumes = _at(story, UsageLevel.VOLUME)
    (pool,) = _at(story, UsageLevel.POOL)
    thick = sum(row.allocated_bytes for row in volumes)
    assert (thick, pool.allocated_bytes) == (3 * GIB, 3 * GIB + 4 * GIB + 8 * MIB)
    assert {row.name: row.thin_committed_bytes for row in volumes} == {"a": 0, "b": 0, "t": GIB}


def test_a_reservation_is_committed_and_not_allocated() -> None:
    story = Story().node().pool(size=20 * GIB)
    story.begin("pg", 1, GIB)
    story.say(RoomReserved(pool="fast", node="n1", claim=uid(1), size_bytes=GIB, operation=uid(2)))
    for level in set(UsageLevel) - {UsageLevel.SNAPSHOT}:
        (row,) = _at(story, level)
        assert (row.allocated_bytes, row.reserved_bytes, row.committed_bytes) == (0, GIB, GIB)


def test_a_node_without_pools_is_listed_with_nothing() -> None:
    (row,) = _at(Story().node(), UsageLevel.NODE)
    assert _total([row]) == dict.fromkeys(SUMMED, 0)
