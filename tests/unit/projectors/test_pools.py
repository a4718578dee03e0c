"""A pool's ledger says what LVM says."""

from datetime import timedelta
from typing import Any

from hypothesis import assume, given, settings

from aggregates import ledger
from aggregates.ledger import room_bytes
from aggregates.pool import Pool
from aggregates.pool_past import evolve
from projectors import pools
from projectors.fold import own_key
from projectors.reading import read_commit
from projectors.tables import CLAIMS, POOLS
from schemas.pool import (
    PoolFactsChanged,
    PoolFormingBegan,
    PoolGrown,
    PoolGrowthAbandoned,
    PoolGrowthBegan,
    PoolOperationEnded,
    PoolRemovalBegan,
    PoolRemoved,
    PoolTroubled,
    RoomReleased,
    RoomReserved,
    RoomSettled,
    RoomUnreserved,
    ThinPoolFilled,
)
from schemas.refusals import Refusal
from schemas.shrinking import PoolShrinkAbandoned, PoolShrinkBegan
from schemas.views import PoolRow, PoolState
from tests.support.clock import NOON
from tests.unit.projectors.stories import GIB, MIB, Story, any_story, facts, uid

LATER = NOON + timedelta(hours=1)


def _row(story: Story) -> PoolRow:
    row = story.row(POOLS, "n1/fast")
    assert row is not None
    return row


def _reserve(story: Story, number: int, size: int, *, thin: bool = False) -> None:
    story.say(
        RoomReserved(
            pool="fast", node="n1", claim=uid(number), size_bytes=size, operation=uid(9), thin=thin
        )
    )


def _settle(story: Story, number: int, size: int, *, thin: bool = False) -> None:
    story.say(RoomSettled(pool="fast", node="n1", claim=uid(number), size_bytes=size, thin=thin))


def _room(row: PoolRow) -> tuple[int, int, int, int]:
    return row.allocated_bytes, row.reserved_bytes, row.free_bytes, row.available_bytes


def test_free_is_what_vgs_prints_and_available_leaves_out_what_is_reserved() -> None:
    story = Story().node().pool(size=20 * GIB)
    _reserve(story, 1, 6 * GIB)
    assert _room(_row(story)) == (0, 6 * GIB, 20 * GIB, 14 * GIB)
    _settle(story, 1, 6 * GIB)
    assert _room(_row(story)) == (6 * GIB, 0, 14 * GIB, 14 * GIB)


def test_a_thin_pool_takes_its_data_and_overhead_and_thin_volumes_take_only_promises() -> None:
    story = Story().node().pool(size=20 * GIB, thin=4 * GIB)
    _reserve(story, 1, 3 * GIB, thin=True)
    _settle(story, 1, 3 * GIB, thin=True)
    _reserve(story, 2, 3 * GIB, thin=True)
    row = _row(story)
    taken = 4 * GIB + 8 * MIB
    assert _room(row) == (taken, 0, 20 * GIB - taken, 20 * GIB - taken)
    assert (row.thin_committed_bytes, row.thin_committed_ratio) == (6 * GIB, 1.5)


def test_a_posting_replaces_the_earlier_one_of_its_claim() -> None:
    story = Story().node().pool()
    _reserve(story, 1, 2 * GIB)
    _settle(story, 1, 2 * GIB)
    _reserve(story, 1, GIB)
    assert _room(_row(story))[:2] == (2 * GIB, GIB)
    _settle(story, 1, 3 * GIB)
    assert _room(_row(story))[:2] == (3 * GIB, 0)
    assert _row(story).volumes == 1


def test_what_was_reserved_and_not_used_is_free_again_and_leaves_nothing_behind() -> None:
    story = Story().node().pool()
    _reserve(story, 1, 2 * GIB)
    story.say(RoomUnreserved(pool="fast", node="n1", claim=uid(1)))
    assert (_room(_row(story))[:2], _row(story).volumes) == ((0, 0), 0)
    assert story.all(CLAIMS) == []


def test_a_released_claim_gives_all_its_room_back() -> None:
    story = Story().node().pool()
    before = _room(_row(story))
    _reserve(story, 1, 2 * GIB)
    _settle(story, 1, 2 * GIB)
    story.say(RoomReleased(pool="fast", node="n1", claim=uid(1)))
    assert _room(_row(story)) == before


def test_new_facts_move_the_size_and_keep_what_volumes_take() -> None:
    story = Story().node().pool(size=20 * GIB)
    _settle(story, 1, 6 * GIB)
    story.say(
        PoolFactsChanged(pool="fast", node="n1", uid=uid(900), facts=facts(30 * GIB, thin=GIB))
    )
    assert _room(_row(story))[0] == 7 * GIB + 8 * MIB
    assert _row(story).free_bytes == 23 * GIB - 8 * MIB


def test_the_metadata_ratio_counts_a_kibibyte_for_each_volume() -> None:
    story = Story().node().pool()
    for number in range(1, 5):
        _settle(story, number, GIB)
    assert _row(story).metadata_used_ratio == round(4 * 1024 / (8 * MIB), 4)


def test_a_pool_grows_and_is_ready_again_with_its_new_disks() -> None:
    story = Story().node().pool()
    story.say(
        PoolGrowthBegan(pool="fast", node="n1", operation=uid(7), deadline=LATER, disks=("d2",))
    )
    assert (_row(story).state, _row(story).operation) == (PoolState.GROWING, uid(7))
    story.say(
        PoolGrown(pool="fast", node="n1", uid=uid(900), facts=facts(40 * GIB, disks=("d1", "d2")))
    )
    story.say(PoolOperationEnded(pool="fast", node="n1", operation=uid(7)))
    row = _row(story)
    assert (row.state, row.disks, row.operation) == (PoolState.READY, ("d1", "d2"), "")


def test_a_growth_that_was_given_up_says_why() -> None:
    story = Story().node().pool()
    story.say(
        PoolGrowthBegan(pool="fast", node="n1", operation=uid(7), deadline=LATER, disks=("d2",))
    )
    story.say(
        PoolGrowthAbandoned(
            pool="fast",
            node="n1",
            uid=uid(900),
            operation=uid(7),
            code=Refusal.DISK_GONE,
            because="d2 left",
            disks=("d1",),
        )
    )
    row = _row(story)
    assert (row.state, row.code, row.why) == (PoolState.READY, Refusal.DISK_GONE, "d2 left")


def test_trouble_and_the_fill_of_the_thin_pool_are_shown() -> None:
    story = Story().node().pool(thin=GIB)
    story.say(
        PoolTroubled(pool="fast", node="n1", code=Refusal.TOOL_FAILED, because="no such disk")
    )
    story.say(ThinPoolFilled(pool="fast", node="n1", data_percent=80))
    row = _row(story)
    assert (row.code, row.why, row.thin_fill_percent) == (
        Refusal.TOOL_FAILED,
        "no such disk",
        80,
    )


def test_a_pool_formed_again_under_its_old_name_inherits_no_claims() -> None:
    story = Story().node().pool()
    _settle(story, 1, 2 * GIB)
    story.say(PoolRemovalBegan(pool="fast", node="n1", operation=uid(7), deadline=LATER))
    assert _row(story).state is PoolState.REMOVING
    story.say(PoolRemoved(pool="fast", node="n1", uid=uid(900), disks=("d1",)))
    assert story.row(POOLS, "n1/fast") is None
    story.pool(number=950)
    _settle(story, 1, GIB)
    assert _room(_row(story))[0] == GIB


@settings(deadline=None)
@given(any_story())
def test_the_view_of_a_pool_says_what_the_ledger_that_decides_says(story: Story) -> None:
    formed: list[tuple[str, str]] = []
    deciding: dict[str, Pool] = {}
    for stored in story.events:
        if b"{not json" in stored.data or ".pool." not in stored.subject:
            continue
        seen = read_commit(stored)
        for event in seen.events:
            if isinstance(event, PoolFormingBegan):
                formed.append((event.node, event.uid))
            key = own_key(seen.address)
            deciding[key] = evolve(deciding.get(key, Pool()), event)  # type: ignore[arg-type]
    assume(len(formed) == len(set(formed)))
    for row in story.all(POOLS):
        pool = deciding[f"{row.node}/{row.name}"]
        assert pool.facts is not None
        assert row.size_bytes == pool.facts.size_bytes
        assert max(0, row.available_bytes) == room_bytes(pool.ledger, pool.facts)
        assert row.reserved_bytes == pool.ledger.thick_reserved_bytes
        assert row.thin_committed_bytes == pool.ledger.thin_promised_bytes
        assert row.volumes == pool.ledger.claims


def test_the_view_and_the_ledger_reckon_with_the_same_metadata_for_a_volume() -> None:
    assert ledger.METADATA_PER_VOLUME_BYTES == pools.METADATA_PER_VOLUME_BYTES


def test_room_that_goes_with_a_disk_is_free_in_lvm_and_not_available() -> None:
    about: dict[str, Any] = {"pool": "fast", "node": "n1"}
    story = Story().node().pool()
    before = _row(story)
    story.say(
        PoolShrinkBegan(
            **about,
            operation=uid(7),
            deadline=NOON,
            disks=before.disks[:1],
            leaving_bytes=2 * GIB,
        )
    )
    row = _row(story)
    assert (row.state, row.operation) == (PoolState.SHRINKING, uid(7))
    assert row.free_bytes == before.free_bytes
    assert row.available_bytes == before.available_bytes - 2 * GIB
    story.say(
        PoolShrinkAbandoned(
            **about,
            uid=before.uid,
            operation=uid(7),
            code=Refusal.CANCELLED,
            because="enough",
            disks=before.disks,
            kept=before.disks[:1],
        )
    )
    row = _row(story)
    assert (row.state, row.why, row.leaving_bytes) == (PoolState.READY, "enough", 0)
    assert row.available_bytes == before.available_bytes
