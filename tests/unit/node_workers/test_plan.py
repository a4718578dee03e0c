"""Wanted and seen: what is to be ensured, and in which order."""

from typing import Any

import msgspec
import pytest

from node_workers.observation import Observation, ObservedPool, ObservedVolume, PoolMember
from node_workers.plan import (
    changed_pools,
    plan,
    pools_to_activate,
    sleeping_pools,
    step_for,
    volumes_at_rest,
)
from node_workers.steps import (
    HaveAttachment,
    HaveKeys,
    HaveMerged,
    HaveNoAttachment,
    HaveNoPool,
    HaveNoReplica,
    HavePool,
    HaveReplica,
    HaveReplicaAwake,
    HaveReplicaHeld,
    Step,
)
from node_workers.wanted import Origin, Wanted, WantedAttachment, WantedPool, WantedReplica
from schemas.attachment import AttachmentSpec
from schemas.keys import Encryption
from schemas.pool import PoolFacts
from schemas.replica import ReplicaSpec

UID, VOLUME = "1" * 26, "2" * 26
FACTS = PoolFacts(size_bytes=100, extent_bytes=4, metadata_bytes=8, disks=("d1",))


def a_pool(**more: Any) -> WantedPool:
    about: dict[str, Any] = {"name": "fast", "uid": UID, "disks": ("d1",), "folded_seq": 1}
    return WantedPool(**{**about, "origin": Origin(seq=1), **more})


def a_replica(**more: Any) -> WantedReplica:
    spec = ReplicaSpec(uid=VOLUME, pool="fast", size_bytes=40)
    about: dict[str, Any] = {"volume": "pg", "uid": VOLUME, "spec": spec, "folded_seq": 2}
    return WantedReplica(**{**about, "origin": Origin(seq=2), **more})


def all_of(*wanted: Wanted) -> dict[str, Wanted]:
    return {one.key: one for one in wanted}


def seen(size_bytes: int = 100, disks: tuple[str, ...] = ("d1",), **volume: Any) -> Observation:
    members = tuple(
        PoolMember(
            disk=disk, path="/dev/sdb", pv_uuid=disk, size_bytes=50, free_bytes=50, missing=False
        )
        for disk in disks
    )
    pool = ObservedPool(
        name="fast",
        uid=UID,
        vg_uuid="vg",
        size_bytes=size_bytes,
        free_bytes=0,
        extent_bytes=4,
        metadata_bytes=16,
        metadata_free_bytes=1,
        missing_disks=0,
        members=members,
    )
    about: dict[str, Any] = {
        "pool": "fast",
        "name": "pg",
        "uid": VOLUME,
        "cause": "event:2",
        "lv_uuid": "lv",
        "size_bytes": 40,
        "layout": "linear",
        "stripes": 1,
        "thin_pool": "",
        "is_thin_pool": False,
        "data_percent": None,
        "metadata_percent": None,
        "active": True,
        "open": False,
        "health": "",
        "path": "/dev/fast/pg",
    }
    return Observation(disks=(), pools=(pool,), volumes=(ObservedVolume(**{**about, **volume}),))


@pytest.mark.parametrize(
    ("wanted", "step"),
    [
        (a_pool(), HavePool),
        (a_pool(present=False), HaveNoPool),
        (a_replica(), HaveReplica),
        (a_replica(held=True, withdrawn=True), HaveReplicaHeld),
        (a_replica(held=True, withdrawn=True, spoilt=True), HaveReplicaHeld),
        (a_replica(withdrawn=True), HaveReplicaAwake),
        (a_replica(withdrawn=True, spoilt=True), HaveReplica),
        (a_replica(present=False), HaveNoReplica),
    ],
)
def test_an_open_wish_is_one_step(wanted: Wanted, step: type[Step]) -> None:
    found = step_for(wanted, all_of(a_pool()))
    assert isinstance(found, step)
    assert found.group == "fast"
    assert found.alone is isinstance(wanted, WantedPool)
    assert found.destructive is not wanted.present


@pytest.mark.parametrize(("dropped", "destructive"), [((), False), (("file:a",), True)])
def test_other_keys_are_one_step_and_a_key_that_goes_is_asked_for_twice(
    dropped: tuple[str, ...],
    destructive: bool,
) -> None:
    now = Encryption(keys=("file:b",), dropped=dropped, generation=4)
    spec = ReplicaSpec(uid=VOLUME, pool="fast", size_bytes=40, encryption=now)
    for elsewhere in (False, True):
        wanted = a_replica(spec=spec, rekeying=True, elsewhere=elsewhere)
        found = step_for(wanted, all_of(a_pool()))
        assert isinstance(found, HaveKeys)
        assert (found.encryption, found.pool_uid, found.destructive) == (now, UID, destructive)
        assert found.elsewhere is elsewhere


@pytest.mark.parametrize(("present", "step"), [(True, HaveAttachment), (False, HaveNoAttachment)])
def test_an_attachment_knows_every_key_that_may_open_its_volume(
    present: bool,
    step: type[HaveAttachment | HaveNoAttachment],
) -> None:
    about = AttachmentSpec(uid="3" * 26, volume_uid=VOLUME, pool="fast", consumer="host/a")
    use = WantedAttachment(
        volume="pg", uid="3" * 26, spec=about, origin=Origin(seq=3), folded_seq=3, present=present
    )
    now = Encryption(keys=("file:b",), dropped=("file:a",))
    spec = ReplicaSpec(uid=VOLUME, pool="fast", size_bytes=40, encryption=now)
    for leg, keys in (
        (a_replica(spec=spec), ("file:b", "file:a")),
        (a_replica(), ()),
        (a_replica(spec=spec, uid="4" * 26), ()),
    ):
        found = step_for(use, all_of(a_pool(), leg, use))
        assert isinstance(found, step)
        assert found.keys == keys


@pytest.mark.parametrize("ended", [{"answered_seq": 1}, {"given_up_seq": 1}])
def test_a_wish_that_has_ended_is_no_step(ended: dict[str, int]) -> None:
    assert step_for(a_pool(**ended), {}) is None


def test_a_replica_knows_the_identity_of_its_pool() -> None:
    found = step_for(a_replica(), all_of(a_pool()))
    assert isinstance(found, HaveReplica)
    assert found.pool_uid == UID


def test_a_pool_that_goes_gives_back_the_disks_that_it_was_to_drop_too() -> None:
    found = step_for(a_pool(present=False, dropped=("d2",)), {})
    assert isinstance(found, HaveNoPool)
    assert found.disks == ("d1", "d2")


def test_open_wishes_come_in_the_order_in_which_they_were_wished() -> None:
    late = a_replica(volume="late", origin=Origin(seq=9))
    steps = plan(all_of(late, a_replica(), a_pool()))
    assert [step.key for step in steps] == ["pool/fast", "replica/pg", "replica/late"]


def test_a_settled_machine_needs_nothing_and_has_nothing_to_tell() -> None:
    settled = all_of(a_pool(answered_seq=1, facts=FACTS), a_replica(answered_seq=2))
    assert plan(settled) == ()
    assert changed_pools(settled, seen()) == ()


@pytest.mark.parametrize("changed", [{"size_bytes": 104}, {"disks": ("d1", "d2")}])
def test_other_figures_of_a_settled_pool_are_told(changed: dict[str, Any]) -> None:
    pool = a_pool(answered_seq=1, facts=FACTS)
    ((found, facts),) = changed_pools(all_of(pool), seen(**changed))
    assert found == pool
    assert facts == msgspec.structs.replace(FACTS, **changed)


def test_a_disk_that_was_added_by_hand_adds_its_room_and_has_no_name() -> None:
    pool = a_pool(answered_seq=1, facts=FACTS)
    ((_, facts),) = changed_pools(all_of(pool), seen(size_bytes=200, disks=("d1", "")))
    assert (facts.size_bytes, facts.disks) == (200, ("d1",))


def test_figures_of_a_pool_that_is_being_worked_on_are_not_told() -> None:
    assert changed_pools(all_of(a_pool(facts=FACTS)), seen(size_bytes=104)) == ()


def test_a_volume_of_ours_that_sleeps_wakes_its_pool_and_no_other() -> None:
    wanted = all_of(a_pool(), a_replica())
    assert sleeping_pools(wanted, seen(active=False)) == {"fast": UID}
    assert sleeping_pools(wanted, seen(active=False, uid="stranger")) == {}
    assert sleeping_pools(wanted, seen()) == {}


@pytest.mark.parametrize(
    ("leg", "at_rest"),
    [
        (a_replica(held=True, answered_seq=2), True),
        (a_replica(present=False), True),
        (a_replica(withdrawn=True), True),
        (a_replica(withdrawn=True, answered_seq=2), False),
        (a_replica(), False),
    ],
)
def test_a_volume_at_rest_is_not_woken_with_the_others(leg: WantedReplica, at_rest: bool) -> None:
    wanted = all_of(a_pool(), leg)
    assert volumes_at_rest(wanted) == ({VOLUME} if at_rest else set())
    assert sleeping_pools(wanted, seen(active=False)) == ({} if at_rest else {"fast": UID})


def test_only_pools_that_shall_be_there_are_activated() -> None:
    going = a_pool(name="going", present=False)
    assert pools_to_activate(all_of(a_pool(), going, a_replica())) == {"fast": UID}


def test_a_merge_takes_data_away_and_is_planned_like_a_removal() -> None:
    merging = a_replica(merging=True)
    step = step_for(merging, all_of(a_pool(), merging))
    assert isinstance(step, HaveMerged)
    assert (step.pool_uid, step.key) == (UID, "replica/pg")
    assert step.destructive
    assert not step.alone
