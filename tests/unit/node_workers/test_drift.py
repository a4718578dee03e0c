"""Where the machine differs from what was decided."""

from typing import Any

import msgspec
import pytest

from node_workers.drift import FINDINGS_MAX, drift, merge
from node_workers.observation import Observation
from node_workers.wanted import Origin
from schemas.node import Drift, Finding, ReportDrift
from schemas.settling import mark
from schemas.units import Text
from tests.unit.node_workers.test_plan import a_pool, a_replica, all_of, seen

POOL = a_pool(answered_seq=1, may_create=False)
LEG = a_replica(answered_seq=2, may_create=False, size_bytes=40)
EVERYTHING = all_of(POOL, LEG)


def kinds(*found: Finding) -> list[tuple[Drift, str]]:
    return [(one.drift, one.object) for one in found]


def without_volumes() -> Observation:
    return msgspec.structs.replace(seen(), volumes=())


def with_pool(**more: Any) -> Observation:
    (pool,) = seen().pools
    return msgspec.structs.replace(seen(), pools=(msgspec.structs.replace(pool, **more),))


def test_a_machine_as_decided_has_no_drift() -> None:
    assert drift("n1", EVERYTHING, seen()) == ()


def test_a_missing_volume_is_found() -> None:
    (found,) = drift("n1", EVERYTHING, without_volumes())
    assert kinds(found) == [(Drift.VOLUME_MISSING, "replica/n1/pg")]
    assert found.wanted == "fast/pg, 40 bytes"


def test_what_is_missing_is_given_up_by_a_word_that_is_not_refused() -> None:
    (found,) = drift("n1", EVERYTHING, without_volumes())
    assert found.settle[1:] == (
        f"hwbus drift accept replica/n1/pg --seen {mark(found)}",
        f"hwbus drift recreate replica/n1/pg --volume pg --seen {mark(found)}",
    )
    (found,) = drift("n1", all_of(POOL, msgspec.structs.replace(LEG, held=True)), without_volumes())
    assert found.settle[-1] == "hwbus volume purge pg"


@pytest.mark.parametrize(
    ("size_bytes", "way_out"), [(44, "hwbus drift accept"), (36, "hwbus drift undo")]
)
def test_a_resized_volume_is_found_with_a_way_out_that_loses_nothing(
    size_bytes: int, way_out: str
) -> None:
    (found,) = drift("n1", EVERYTHING, _sized(size_bytes))
    assert kinds(found) == [(Drift.VOLUME_RESIZED, "replica/n1/pg")]
    assert (found.wanted, found.observed) == ("40 bytes", f"{size_bytes} bytes")
    assert way_out in found.settle[0]


def _sized(size_bytes: int) -> Observation:
    (volume,) = seen().volumes
    return msgspec.structs.replace(
        seen(), volumes=(msgspec.structs.replace(volume, size_bytes=size_bytes),)
    )


def test_a_renamed_volume_is_found_under_its_tag() -> None:
    (found,) = drift("n1", EVERYTHING, seen(name="mine"))
    assert kinds(found) == [(Drift.VOLUME_RENAMED, "replica/n1/pg")]
    assert found.settle == (f"hwbus drift undo replica/n1/pg --seen {mark(found)}",)


def test_a_volume_that_nobody_asked_for_is_foreign_and_the_one_it_hides_is_missing() -> None:
    found = drift("n1", EVERYTHING, seen(uid=""))
    assert kinds(*found) == [
        (Drift.VOLUME_MISSING, "replica/n1/pg"),
        (Drift.VOLUME_FOREIGN, "lv/n1/fast/pg"),
    ]


def test_volumes_of_groups_that_are_not_ours_are_nobodys_business() -> None:
    assert drift("n1", {}, seen(uid="")) == ()


def test_a_missing_pool_speaks_for_its_volumes() -> None:
    (found,) = drift("n1", EVERYTHING, Observation(disks=(), pools=(), volumes=()))
    assert kinds(found) == [(Drift.POOL_MISSING, "pool/n1/fast")]


def test_a_renamed_pool_is_missing_under_its_name() -> None:
    found = drift("n1", all_of(POOL), with_pool(name="slow"))
    assert kinds(*found) == [(Drift.POOL_MISSING, "pool/n1/fast")]
    assert "slow" in found[0].observed


def test_missing_disks_of_a_pool_are_one_finding() -> None:
    (pool,) = seen(disks=("d1", "d2")).pools
    members = tuple(msgspec.structs.replace(one, missing=True) for one in pool.members)
    (found,) = drift("n1", EVERYTHING, with_pool(members=members))
    assert kinds(found) == [(Drift.POOL_DISK_MISSING, "pool/n1/fast")]
    assert found.observed == "missing: d1, d2"


@pytest.mark.parametrize(
    "state", [{"origin": Origin(seq=5)}, {"present": False}, {"may_create": True}]
)
def test_what_is_being_worked_on_or_never_was_is_no_drift(state: dict[str, Any]) -> None:
    leg = msgspec.structs.replace(LEG, **state)
    assert drift("n1", all_of(POOL, leg), without_volumes()) == ()


def test_what_moved_during_the_look_is_judged_at_the_next_one() -> None:
    old = Finding(drift=Drift.VOLUME_MISSING, object="replica/n1/a")
    new = Finding(drift=Drift.VOLUME_FOREIGN, object="lv/n1/fast/b")
    assert merge((old,), (new,), frozenset({"replica/a", "replica/b"}), "n1") == (old,)
    assert merge((old,), (new,), frozenset(), "n1") == (new,)


def test_there_are_never_more_findings_than_a_report_takes_and_ours_come_first() -> None:
    (volume,) = seen().volumes
    strangers = tuple(
        msgspec.structs.replace(volume, uid="", name=f"x{number}") for number in range(500)
    )
    found = drift("n1", EVERYTHING, msgspec.structs.replace(seen(), volumes=strangers))
    assert 50 < len(found) <= FINDINGS_MAX
    assert found[0].drift is Drift.VOLUME_MISSING
    assert len(msgspec.json.encode(ReportDrift(node="n1", findings=found))) < 60_000


def test_every_sentence_fits_its_field() -> None:
    pool = msgspec.structs.replace(POOL, disks=tuple(f"disk-{n:060}" for n in range(64)))
    (found,) = drift("n1", all_of(pool), Observation(disks=(), pools=(), volumes=()))
    for text in (found.object, found.wanted, found.observed, *found.settle):
        msgspec.convert(text, Text)


@pytest.mark.parametrize(
    ("more", "verbs"),
    [
        ({}, ["adopt", "quarantine"]),
        ({"layouts": ("raid", "raid1"), "stripes": 2}, ["quarantine"]),
        ({"origin": "pg"}, ["quarantine"]),
        ({"unfinished": True}, ["quarantine"]),
        ({"layouts": ("cache",)}, []),
        ({"claim": "c" * 26}, ["release"]),
    ],
)
def test_what_is_nobodys_can_be_settled_as_far_as_it_is_of_our_kind(
    more: dict[str, Any], verbs: list[str]
) -> None:
    looked = seen(uid="", **more)
    found = next(f for f in drift("n1", EVERYTHING, looked) if f.object == "lv/n1/fast/pg")
    said = [line.split()[2] for line in found.settle if line.startswith("hwbus drift")]
    assert said == verbs
    assert found.quiet is ("claim" in more)
    assert all(line.endswith(mark(found)) for line in found.settle if line.startswith("hwbus"))
    assert found.settle


def test_a_mark_tells_each_state_of_a_finding_from_every_other() -> None:
    one = seen(uid="")
    (volume,) = one.volumes
    others: list[dict[str, Any]] = [
        {"size_bytes": 44},
        {"lv_uuid": "other"},
        {"layouts": ("thin", "sparse")},
    ]
    looks = [one] + [
        msgspec.structs.replace(one, volumes=(msgspec.structs.replace(volume, **other),))
        for other in others
    ]
    found = [f for look in looks for f in drift("n1", all_of(POOL), look)]
    assert len({mark(one) for one in found}) == len(looks)
