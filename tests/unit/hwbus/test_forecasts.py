"""What would follow, told from a fork: the real deciders, nodes on which all goes well, mishaps."""

import re

import pytest

from aggregates.ledger import room_bytes
from aggregates.what_if.nodes import WISHES
from hwbus.controller.forecasting import Step, forecast
from schemas.attaching import AttachVolume
from schemas.deleting import DeleteVolume
from schemas.draining import DrainNode
from schemas.grammar import type_name
from schemas.legs import MigrateVolume
from schemas.node import ReportNodeSilent
from schemas.operation import Outcome
from schemas.plan import LISTED_MAX, DiskFails, Forecast, Move, NodeDies, VolumeChange, WorkFails
from schemas.pool import FormPool, GrowPool
from schemas.refusals import Refusal
from schemas.snapshot import CreateSnapshot
from schemas.volume import GrowVolume, ProvisionVolume
from schemas.words import EVENTS
from tests.support.clock import NOON
from tests.support.given import GIB
from tests.support.imagined import DISK, Imagined


def told(cluster: Imagined, *steps: Step, decisions_max: int = 50_000) -> Forecast:
    return forecast(cluster.world, steps, seq=7, at=NOON, decisions_max=decisions_max)


@pytest.fixture
def cluster() -> Imagined:
    return Imagined()


def new(name: str, size_bytes: int = GIB, replicas: int = 1) -> ProvisionVolume:
    return ProvisionVolume(volume=name, size_bytes=size_bytes, replicas=replicas)


def by_name(forecast_: Forecast) -> dict[str, VolumeChange]:
    return {one.volume: one for one in forecast_.volumes}


def test_a_volume_that_would_be_made_is_told_with_its_place_and_the_room_it_takes(
    cluster: Imagined,
) -> None:
    plan = told(cluster, new("pg", 5 * GIB))
    assert plan.moves == (Move(volume="pg", target="n1/fast", size_bytes=5 * GIB),)
    [pool] = plan.pools
    assert pool.free_bytes is not None
    assert pool.free_after_bytes == pool.free_bytes - 5 * GIB
    assert [one.outcome for one in plan.operations] == [Outcome.COMPLETED]
    assert plan.events[0].type == "volume.provisioning-began.v1"
    assert plan.counts.events == len(plan.events)
    assert (plan.steps[0].said, plan.steps[0].code) == ("volume.provision pg", None)


def test_the_world_that_is_asked_about_stays_as_it_is(cluster: Imagined) -> None:
    cluster.volume("pg", replicas=2)
    names = ("nodes", "disks", "pools", "volumes", "replicas", "operations", "attachments")
    before = {name: dict(getattr(cluster.world, name)) for name in names}
    plan = told(cluster, DrainNode(node="n1"), DeleteVolume(volume="pg"), NodeDies(node="n2"))
    assert plan.counts.events
    assert {name: getattr(cluster.world, name) for name in names} == before
    assert cluster.world.provisioning == set()


def test_a_fork_has_all_that_the_world_has_and_shares_no_table_with_it(cluster: Imagined) -> None:
    cluster.volume("pg", replicas=2)
    fork = cluster.world.forked()
    for name, value in vars(cluster.world).items():
        if not name.startswith("_"):
            assert getattr(fork, name) == value, name
            assert getattr(fork, name) is not value or not isinstance(value, dict | set), name


def test_whatever_a_node_can_be_asked_for_is_done_in_a_plan() -> None:
    on_nodes = [
        event for kind in ("pool", "replica", "attachment", "errand") for event in EVENTS[kind]
    ]
    asked = {
        event for event in on_nodes if re.search(r"[.-](wanted|withdrawn)\.", type_name(event))
    }
    assert len(asked) > 15
    assert asked - WISHES == set(), "answer it in aggregates/what_if/nodes.py"


def test_the_same_question_has_the_same_answer(cluster: Imagined) -> None:
    cluster.volume("pg", replicas=2)
    assert told(cluster, DrainNode(node="n1")) == told(cluster, DrainNode(node="n1"))


def test_what_would_be_refused_is_told_with_its_code(cluster: Imagined) -> None:
    plan = told(cluster, GrowVolume(volume="nothing", size_bytes=GIB))
    [step] = plan.steps
    assert (step.code, plan.events, plan.moves) == (Refusal.UNKNOWN_VOLUME, (), ())
    assert "nothing" in step.because
    assert step.fix


def test_a_drain_is_told_volume_by_volume(cluster: Imagined) -> None:
    for name in ("a", "b"):
        cluster.volume(name, 2 * GIB, node="n1")
    plan = told(cluster, DrainNode(node="n1"))
    assert [one.source for one in plan.moves] == ["n1/fast", "n1/fast"]
    assert {one.target for one in plan.moves} <= {"n2/fast", "n3/fast"}
    assert plan.moved_bytes == 4 * GIB
    assert {one.outcome for one in plan.operations} == {Outcome.COMPLETED}


def test_each_step_begins_where_the_one_before_has_ended(cluster: Imagined) -> None:
    plan = told(
        cluster,
        new("pg", replicas=2),
        AttachVolume(volume="pg", consumer="host/a"),
        MigrateVolume(volume="pg", source="n2", node="n3"),
        CreateSnapshot(snapshot="s", volume="pg"),
    )
    assert [one.code for one in plan.steps[:3]] == [None, None, None]
    assert {one.target for one in plan.moves} == {"n1/fast", "n3/fast"}


def test_when_a_node_dies_what_it_wrote_to_goes_on_elsewhere_with_less_to_lose(
    cluster: Imagined,
) -> None:
    cluster.volume("pg", replicas=2, node="n1")
    cluster.volume("alone", node="n1")
    cluster.say(AttachVolume(volume="pg", consumer="host/a"))
    plan = told(cluster, NodeDies(node="n1"))
    pg, alone = by_name(plan)["pg"], by_name(plan)["alone"]
    assert (pg.node, pg.node_after) == ("n1", "n2")
    assert (pg.copies, pg.copies_after, pg.survives, pg.survives_after) == (2, 1, 1, 0)
    assert (alone.copies, alone.copies_after) == (1, 0)
    kinds = [one.kind.value for one in plan.operations]
    assert kinds == ["volume-fail-over"]
    assert plan.operations[0].outcome is Outcome.COMPLETED
    assert plan.moves == ()


def test_a_node_that_is_gone_for_good_is_replaced(cluster: Imagined) -> None:
    cluster.volume("pg", replicas=2, node="n1")
    plan = told(cluster, NodeDies(node="n2", for_good=True))
    assert plan.steps[0].code is None, plan.steps
    assert Move(volume="pg", source="n2/fast", target="n3/fast", size_bytes=GIB) in plan.moves
    assert "pg" not in by_name(plan)


def test_a_node_that_is_needed_cannot_be_given_up(cluster: Imagined) -> None:
    cluster.volume("alone", node="n1")
    plan = told(cluster, NodeDies(node="n1", for_good=True))
    assert plan.steps[0].code is Refusal.NODE_NEEDED


def test_a_disk_that_fails_takes_the_legs_of_its_pool_along_and_the_pool_takes_nothing_new(
    cluster: Imagined,
) -> None:
    cluster.volume("alone", node="n1")
    cluster.volume("pg", replicas=2, node="n1")
    plan = told(
        cluster, DiskFails(disk="n1-d0"), ProvisionVolume(volume="x", size_bytes=GIB, node="n1")
    )
    assert [one.code for one in plan.steps] == [None, Refusal.POOL_DISK_MISSING]
    assert by_name(plan)["alone"].copies_after == 0
    assert by_name(plan)["pg"].copies_after == 1


@pytest.mark.parametrize(
    ("step", "code"),
    [
        (NodeDies(node="n9"), Refusal.UNKNOWN_NODE),
        (DiskFails(disk="d9"), Refusal.UNKNOWN_DISK),
    ],
)
def test_what_is_not_there_cannot_fail(cluster: Imagined, step: Step, code: Refusal) -> None:
    plan = told(cluster, step)
    assert (plan.steps[0].code, plan.events) == (code, ())


def test_what_fails_on_a_node_is_undone_as_it_would_be(cluster: Imagined) -> None:
    plan = told(
        cluster,
        WorkFails(node="n1", event="replica.wanted.v1"),
        ProvisionVolume(volume="pg", size_bytes=GIB, node="n1"),
    )
    [end] = plan.operations
    assert (end.outcome, end.code) == (Outcome.FAILED, Refusal.TOOL_FAILED)
    assert (plan.moves, plan.pools) == ((), ())


def test_many_volumes_fill_the_pools_and_the_next_is_refused(cluster: Imagined) -> None:
    room = sum(room_bytes(p.ledger, p.facts) for p in cluster.world.pools.values() if p.facts)
    many = [new(f"v{n}", 4 * GIB) for n in range(room // (4 * GIB) + 3)]
    plan = told(cluster, *many)
    assert {one.code for one in plan.steps[-1:]} == {Refusal.CAPACITY}
    assert sum(one.code is None for one in plan.steps) == 3 * (DISK * 2 // (4 * GIB) - 1)
    assert all(one.free_after_bytes is not None for one in plan.pools)


def test_a_node_that_is_silent_is_waited_for_until_the_deadline_and_no_longer(
    cluster: Imagined,
) -> None:
    cluster.volume("pg", replicas=2, node="n1")
    plan = told(
        cluster,
        ReportNodeSilent(node="n2", last_heard=NOON),
        DeleteVolume(volume="pg", deadline_s=60),
    )
    [end] = plan.operations
    assert (end.outcome, end.leftovers) == (Outcome.COMPLETED, ("replica/n2/pg",))
    assert sum(one.type == "operation.expired.v1" for one in plan.events) == 2


def test_pools_are_formed_and_grown_of_disks_as_large_as_they_are(cluster: Imagined) -> None:
    plan = told(
        cluster,
        FormPool(pool="slow", node="n1", disks=("n1-d2",), thin_bytes=8 * GIB),
        GrowPool(pool="fast", node="n2", disks=("n2-d2",)),
    )
    assert [one.outcome for one in plan.operations] == [Outcome.COMPLETED] * 2
    slow = next(one for one in plan.pools if one.pool == "slow")
    assert slow.free_bytes is None
    assert slow.thin_free_after_bytes == 8 * GIB
    assert DISK - 9 * GIB < (slow.free_after_bytes or 0) < DISK - 8 * GIB
    grown = next(one for one in plan.pools if one.node == "n2")
    assert DISK - GIB < (grown.free_after_bytes or 0) - (grown.free_bytes or 0) < DISK


def test_there_is_an_end_to_what_is_decided_and_it_is_said(cluster: Imagined) -> None:
    plan = told(cluster, *(new(f"v{n}") for n in range(20)), decisions_max=30)
    assert plan.cut_off
    assert plan.decisions >= 30
    assert plan.decisions <= 60


def test_what_is_listed_is_bounded_and_all_is_counted(cluster: Imagined) -> None:
    plan = told(cluster, *(new(f"v{n}", 4 << 20) for n in range(150)))
    assert len(plan.events) == LISTED_MAX
    assert plan.counts.events > LISTED_MAX
