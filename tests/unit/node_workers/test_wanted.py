"""What a node shall have, after any history of its events."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from node_workers.folding import fold
from node_workers.plan import step_for
from node_workers.steps import HaveNoReplica, HaveReplica
from node_workers.wanted import Origin, Wanted, WantedAttachment, WantedPool, WantedReplica
from schemas.attachment import (
    AttachmentLimitsWanted,
    AttachmentMade,
    AttachmentRemovalWanted,
    AttachmentRemovalWithdrawn,
    AttachmentRemoved,
    AttachmentSpec,
    AttachmentTroubled,
    AttachmentWanted,
    Limits,
)
from schemas.grammar import Event
from schemas.instants import InstantSettled, Together
from schemas.pool import (
    PoolBuildWanted,
    PoolDisksDropped,
    PoolExtensionWanted,
    PoolFacts,
    PoolFormed,
    PoolGrowthAbandoned,
    PoolRemovalAbandoned,
    PoolRemovalWanted,
    PoolRemoved,
    PoolTroubled,
    RoomReserved,
)
from schemas.refusals import Refusal
from schemas.replica import (
    ReplicaCreated,
    ReplicaHeld,
    ReplicaHoldWanted,
    ReplicaKept,
    ReplicaMergeWanted,
    ReplicaRemovalWanted,
    ReplicaRemovalWithdrawn,
    ReplicaRemoved,
    ReplicaResizeWanted,
    ReplicaSpec,
    ReplicaTroubled,
    ReplicaWanted,
)

UID, OTHER, OP = "1" * 26, "2" * 26, "0" * 26
POOL: dict[str, Any] = {"pool": "fast", "node": "n1"}
LEG: dict[str, Any] = {"volume": "pg", "node": "n1"}
FACTS = PoolFacts(size_bytes=100, extent_bytes=4, metadata_bytes=8, disks=("d1",))

BUILD = PoolBuildWanted(**POOL, uid=UID, disks=("d1",), thin_bytes=7)
FORMED = PoolFormed(**POOL, uid=UID, facts=FACTS)
EXTEND = PoolExtensionWanted(**POOL, uid=UID, disks=("d1", "d2"))
ABANDON = PoolGrowthAbandoned(
    **POOL,
    uid=UID,
    operation=OP,
    code=Refusal.CANCELLED,
    because="",
    disks=("d1",),
    dropped=("d2",),
)
DROPPED = PoolDisksDropped(**POOL, disks=("d2",))
REMOVE_POOL = PoolRemovalWanted(**POOL, uid=UID, operation=OP)
KEEP_POOL = PoolRemovalAbandoned(**POOL, uid=UID, operation=OP, code=Refusal.CANCELLED, because="")
POOL_GONE = PoolRemoved(**POOL, uid=UID, disks=("d1",))

WANTED = ReplicaWanted(**LEG, operation=OP, spec=ReplicaSpec(uid=UID, pool="fast", size_bytes=100))
CREATED = ReplicaCreated(**LEG, uid=UID, pool="fast", size_bytes=104, device="/dev/fast/pg")
RESIZE = ReplicaResizeWanted(**LEG, operation=OP, uid=UID, size_bytes=200)
REMOVE = ReplicaRemovalWanted(**LEG, operation=OP, uid=UID)
MERGE = ReplicaMergeWanted(**LEG, operation=OP, uid=UID)
WITHDRAW = ReplicaRemovalWithdrawn(**LEG, operation=OP, uid=UID)
HOLD = ReplicaHoldWanted(**LEG, operation=OP, uid=UID)
HELD = ReplicaHeld(**LEG, uid=UID)
KEPT = ReplicaKept(**LEG, uid=UID, size_bytes=104)
REMOVED = ReplicaRemoved(**LEG, uid=UID, pool="fast")

SPEC = AttachmentSpec(uid=UID, volume_uid=OTHER, pool="fast", consumer="host/backup")
ATTACH = AttachmentWanted(**LEG, operation=OP, spec=SPEC)
MADE = AttachmentMade(**LEG, uid=UID, device="/dev/hwbus/pg")
LIMIT = AttachmentLimitsWanted(**LEG, operation=OP, uid=UID, limits=Limits(read_iops=9))
DETACH = AttachmentRemovalWanted(**LEG, operation=OP, uid=UID)
KEEP = AttachmentRemovalWithdrawn(**LEG, operation=OP, uid=UID)
FREE = AttachmentRemoved(**LEG, uid=UID)


def after(*events: Event, causes: dict[int, str] | None = None) -> Wanted | None:
    wanted: Wanted | None = None
    for seq, event in enumerate(events, 1):
        cause = (causes or {}).get(seq, "")
        wanted = fold(wanted, (event,), Origin(seq=seq, correlation=OP), cause)
    return wanted


def pool_after(*events: Event, **more: Any) -> WantedPool:
    wanted = after(*events, **more)
    assert isinstance(wanted, WantedPool)
    return wanted


def leg_after(*events: Event, **more: Any) -> WantedReplica:
    wanted = after(*events, **more)
    assert isinstance(wanted, WantedReplica)
    return wanted


def test_a_pool_that_was_never_there_may_be_created() -> None:
    pool = pool_after(BUILD)
    assert pool.open
    assert pool.may_create
    assert (pool.disks, pool.thin_bytes, pool.origin.cause) == (("d1",), 7, "event:1")


def test_a_pool_that_was_there_once_is_never_created_again() -> None:
    pool = pool_after(BUILD, FORMED, EXTEND)
    assert pool.open
    assert not pool.may_create
    assert pool.disks == ("d1", "d2")


def test_our_own_report_that_came_back_answers_the_wish_that_it_names() -> None:
    assert not pool_after(BUILD, FORMED, causes={2: "event:1"}).open
    assert pool_after(BUILD, EXTEND, FORMED, causes={3: "event:1"}).open


def test_disks_of_growth_that_was_abandoned_leave_until_the_node_says_that_they_left() -> None:
    assert pool_after(BUILD, FORMED, EXTEND, ABANDON).dropped == ("d2",)
    assert pool_after(BUILD, FORMED, EXTEND, ABANDON, DROPPED).dropped == ()
    assert pool_after(BUILD, FORMED, EXTEND, ABANDON, EXTEND).dropped == ()


def test_a_pool_whose_removal_is_abandoned_is_wanted_again_but_not_anew() -> None:
    assert not pool_after(BUILD, FORMED, REMOVE_POOL).present
    kept = pool_after(BUILD, FORMED, REMOVE_POOL, KEEP_POOL)
    assert kept.present
    assert not kept.may_create


def test_what_is_removed_is_forgotten() -> None:
    assert after(BUILD, FORMED, REMOVE_POOL, POOL_GONE) is None
    assert after(WANTED, CREATED, REMOVE, REMOVED) is None


def test_a_replica_of_another_identity_is_not_confused_with_ours() -> None:
    stale = ReplicaRemoved(**LEG, uid=OTHER, pool="fast")
    assert leg_after(WANTED, stale).uid == UID


def test_a_withdrawn_removal_asks_whether_the_volume_is_still_there() -> None:
    leg = leg_after(WANTED, REMOVE, WITHDRAW)
    assert leg.present
    assert leg.withdrawn
    assert not leg.may_create


def test_a_held_leg_is_kept_until_it_is_wanted_in_use_again() -> None:
    held = leg_after(WANTED, CREATED, HOLD)
    assert (held.held, held.present, held.may_create, held.spoilt) == (True, True, False, False)
    assert not leg_after(WANTED, CREATED, HOLD, HELD, causes={4: "event:3"}).open
    back = leg_after(WANTED, CREATED, HOLD, HELD, WITHDRAW)
    assert (back.held, back.present, back.withdrawn, back.spoilt) == (False, True, True, False)


def test_what_was_to_be_removed_may_have_been_wiped_until_the_node_says_that_it_was_kept() -> None:
    assert leg_after(WANTED, CREATED, REMOVE, HOLD, HELD, WITHDRAW).spoilt
    assert not leg_after(WANTED, CREATED, REMOVE, WITHDRAW, KEPT).spoilt


def test_a_merge_is_wanted_until_it_is_withdrawn_and_never_makes_the_snapshot_anew() -> None:
    leg = leg_after(WANTED, CREATED, MERGE)
    assert (leg.merging, leg.open, leg.present, leg.may_create) == (True, True, True, False)
    leg = leg_after(WANTED, CREATED, MERGE, WITHDRAW)
    assert (leg.merging, leg.withdrawn, leg.may_create) == (False, True, False)


def test_a_resize_changes_the_size_that_is_wanted_and_not_what_is_known() -> None:
    leg = leg_after(WANTED, CREATED, RESIZE)
    assert (leg.spec.size_bytes, leg.size_bytes) == (200, 104)
    assert leg.open


def test_one_that_follows_waits_for_its_turn_and_may_be_removed_before_and_after() -> None:
    led = Together(instant=OP, snapshots=("pg",), leader="n2")
    wanted = replace(WANTED, spec=replace(WANTED.spec, together=led))
    settled = InstantSettled(**LEG, operation=OP, uid=UID, turn=OTHER)
    waits = leg_after(wanted)
    assert (waits.open, step_for(waits, {waits.key: waits})) == (True, None)
    leg = leg_after(wanted, settled)
    assert leg.spec.together == replace(led, turn=OTHER)
    step = step_for(leg, {leg.key: leg})
    assert isinstance(step, HaveReplica)
    assert [(one.volume, one.cause) for one in step.together] == [("pg", "event:2")]
    assert not leg_after(wanted, settled, CREATED, causes={3: "event:2"}).open
    assert leg_after(wanted, replace(settled, uid=OTHER)).spec.together == led
    for past in ((wanted, REMOVE), (wanted, settled, REMOVE)):
        gone = leg_after(*past)
        assert isinstance(step_for(gone, {gone.key: gone}), HaveNoReplica)


def test_only_permanent_trouble_with_the_present_wish_ends_it() -> None:
    trouble: dict[str, Any] = {"code": Refusal.IN_USE, "because": "mounted"}
    passing = ReplicaTroubled(**LEG, uid=UID, **trouble)
    lasting = ReplicaTroubled(**LEG, uid=UID, permanent=True, **trouble)
    pool = PoolTroubled(**POOL, permanent=True, **trouble)
    assert leg_after(WANTED, passing, causes={2: "event:1"}).open
    assert not leg_after(WANTED, lasting, causes={2: "event:1"}).open
    assert leg_after(WANTED, REMOVE, lasting, causes={3: "event:1"}).open
    assert not pool_after(BUILD, pool, causes={2: "event:1"}).open


def use_after(*events: Event, **more: Any) -> WantedAttachment:
    wanted = after(*events, **more)
    assert isinstance(wanted, WantedAttachment)
    return wanted


def test_an_attachment_is_open_until_its_newest_wish_is_answered() -> None:
    assert use_after(ATTACH).open
    assert not use_after(ATTACH, MADE, causes={2: "event:1"}).open
    limited = use_after(ATTACH, MADE, LIMIT, MADE, causes={4: "event:1"})
    assert limited.open
    assert limited.spec.limits == Limits(read_iops=9)
    assert not use_after(ATTACH, MADE, LIMIT, MADE, causes={4: "event:3"}).open


def test_an_attachment_that_shall_go_may_be_wanted_again_until_it_is_gone() -> None:
    assert not use_after(ATTACH, MADE, DETACH).present
    assert use_after(ATTACH, MADE, DETACH, KEEP).present
    assert after(ATTACH, MADE, DETACH, FREE) is None
    stale = AttachmentRemoved(**LEG, uid=OTHER)
    assert use_after(ATTACH, stale).uid == UID


def test_only_permanent_trouble_with_the_present_wish_ends_an_attachment() -> None:
    lasting = AttachmentTroubled(
        **LEG, uid=UID, code=Refusal.NO_CGROUP, because="gone", permanent=True
    )
    assert not use_after(ATTACH, lasting, causes={2: "event:1"}).open
    assert use_after(ATTACH, DETACH, lasting, causes={3: "event:1"}).open


def test_what_does_not_concern_the_node_changes_nothing_that_is_wanted() -> None:
    room = RoomReserved(**POOL, claim=UID, size_bytes=5, operation=OP)
    before = pool_after(BUILD, FORMED)
    assert pool_after(BUILD, FORMED, room).origin == before.origin
    assert after(room) is None


HISTORIES = {
    "pool/fast": (BUILD, FORMED, EXTEND, ABANDON, DROPPED, REMOVE_POOL, KEEP_POOL),
    "replica/pg": (WANTED, CREATED, RESIZE, REMOVE, WITHDRAW),
    "attachment/pg": (ATTACH, MADE, LIMIT, DETACH, KEEP),
}
Delivery = list[tuple[str, int]]


def deliver(order: Delivery) -> dict[str, Wanted | None]:
    """Fold commits in *order*; the number of a commit within its object gives its sequence."""
    wanted: dict[str, Wanted | None] = {}
    for key, number in order:
        event = HISTORIES[key][number]
        wanted[key] = fold(wanted.get(key), (event,), Origin(seq=number + 1), "")
    return wanted


@given(st.data())
def test_any_interleaving_with_any_repetition_ends_in_the_same_state(data: st.DataObject) -> None:
    left = {key: list(range(len(events))) for key, events in HISTORIES.items()}
    order: Delivery = []
    while any(left.values()):
        key = data.draw(st.sampled_from([key for key, rest in left.items() if rest]))
        order.append((key, left[key].pop(0)))
        order += data.draw(st.lists(st.sampled_from(order), max_size=2))
    in_order = [(key, number) for key, all_ in HISTORIES.items() for number in range(len(all_))]
    assert deliver(order) == deliver(in_order)
