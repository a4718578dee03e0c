"""Labels of volumes: what may stand in them, and that nothing else is touched by them."""

import pytest
from hypothesis import given as examples
from hypothesis import strategies as st
from msgspec.structs import replace

from aggregates.processes import clone_volume
from schemas.answers import Refused
from schemas.copying import CloneVolume, RestoreVolume, VolumeCloneBegan
from schemas.deleting import VolumeHeld
from schemas.labels import LABELS_MAX, LabelVolume, VolumeLabelled, bad_key, bad_value
from schemas.refusals import Refusal
from schemas.volume import ProvisionVolume, VolumeGone, VolumeLocked, VolumeProvisioningBegan
from tests.support.given import GIB, NOON, OPERATION, OTHER, UID, given
from tests.support.words import pool_ready, volume_ready
from tests.unit.aggregates.test_copying import past as with_snapshot

PAST = (*pool_ready("n1"), *volume_ready("n1"))
SHOP = VolumeLabelled(volume="pg", uid=UID, set={"team": "shop", "tier": "gold"})


def label(*remove: str, **labels: str) -> LabelVolume:
    return LabelVolume(volume="pg", set=labels, remove=remove)


def test_one_command_sets_and_removes_and_is_one_event() -> None:
    given(*PAST, SHOP).when(label("tier", team="bank", site="a")).then(
        VolumeLabelled(volume="pg", uid=UID, set={"site": "a", "team": "bank"}, removed=("tier",))
    )


def test_what_is_so_already_is_no_event() -> None:
    given(*PAST, SHOP).when(label("other", team="shop")).nothing()
    given(*PAST).when(label()).nothing()


def test_only_what_changes_is_in_the_event() -> None:
    given(*PAST, SHOP).when(label("other", team="shop", tier="silver")).then(
        VolumeLabelled(volume="pg", uid=UID, set={"tier": "silver"})
    )


def test_a_volume_that_is_not_there_has_no_labels() -> None:
    given(*pool_ready("n1")).when(label(team="shop")).refused(Refusal.UNKNOWN_VOLUME, "pg")
    gone = (*PAST, VolumeGone(volume="pg", uid=UID))
    given(*gone).when(label(team="shop")).refused(Refusal.UNKNOWN_VOLUME)


def test_nothing_that_runs_on_the_volume_stands_in_the_way() -> None:
    locked = VolumeLocked(volume="pg", uid=UID, operation=OPERATION, snapshot="s")
    held = VolumeHeld(volume="pg", uid=UID, operation=OPERATION, until=NOON)
    for state in (locked, held):
        world = given(*PAST, state).world
        world.evolve("volume", "-", "pg", [SHOP])
        volume = world.volumes["pg"]
        before = given(*PAST, state).world.volumes["pg"]
        assert replace(volume, labels={}) == before
        given(*PAST, state).when(label(team="shop")).then(replace(SHOP, set={"team": "shop"}))


@pytest.mark.parametrize(
    ("wish", "because"),
    [
        (label(**{"te am": "x"}), "te am"),
        (label(**{"": "x"}), "the key"),
        (label(**{"-a": "x"}), "-a"),
        (label(**{"a" * 64: "x"}), "63"),
        (label(**{"Team.Com/a": "x"}), "before the /"),
        (label(**{"/a": "x"}), "before the /"),
        (label(**{"a/b/c": "x"}), "before the /"),
        (label(team="sh op"), "sh op"),
        (label(team="x" * 64), "63"),
        (label(team="x="), "x="),
        (label("te am"), "te am"),
        (label("team", team="x"), "to be removed"),
    ],
)
def test_a_malformed_label_is_refused_and_named(wish: LabelVolume, because: str) -> None:
    given(*PAST, SHOP).when(wish).refused(Refusal.BAD_LABEL, because)


def test_labels_as_kubernetes_writes_them_are_taken() -> None:
    fine = {"app.kubernetes.io/name": "My_app-1.0", "a": "", "A_b.c-d": "Z", "1": "9"}
    given(*PAST).when(LabelVolume(volume="pg", set=fine)).then(
        VolumeLabelled(volume="pg", uid=UID, set=dict(sorted(fine.items())))
    )
    assert not bad_key(f"{'a.' * 126}a/{'k' * 63}")
    assert bad_key(f"{'a.' * 127}a/k")


def test_a_volume_has_at_most_so_many_and_one_may_take_the_place_of_another() -> None:
    full = {f"k{n}": "v" for n in range(LABELS_MAX)}
    past = (*PAST, VolumeLabelled(volume="pg", uid=UID, set=full))
    given(*past).when(label(more="x")).refused(Refusal.TOO_MANY_LABELS, "33")
    given(*past).when(label("k0", more="x")).then(
        VolumeLabelled(volume="pg", uid=UID, set={"more": "x"}, removed=("k0",))
    )


def test_a_volume_is_made_with_labels_and_an_old_one_has_none() -> None:
    wish = ProvisionVolume(volume="pg", size_bytes=GIB, labels={"team": "shop"})
    decision = given(*pool_ready("n1")).when(wish).decision
    assert not isinstance(decision, Refused), decision
    (event,) = decision
    assert isinstance(event, VolumeProvisioningBegan)
    assert event.labels == given(*pool_ready("n1"), event).world.volumes["pg"].labels == wish.labels
    assert given(*PAST).world.volumes["pg"].labels == {}
    for labels, code in (
        ({"te am": "x"}, Refusal.BAD_LABEL),
        ({f"k{n}": "" for n in range(LABELS_MAX + 1)}, Refusal.TOO_MANY_LABELS),
    ):
        given(*pool_ready("n1")).when(replace(wish, labels=labels)).refused(code)


def test_a_clone_has_the_labels_of_its_source_only_if_that_is_asked_for() -> None:
    source = given(*PAST, SHOP)
    clone = CloneVolume(volume="pg2", source="pg")
    for wish, labels in (
        (clone, {}),
        (replace(clone, labels={"a": "b"}), {"a": "b"}),
        (replace(clone, keep_labels=True), SHOP.set),
        (replace(clone, keep_labels=True, labels={"tier": "x"}), SHOP.set | {"tier": "x"}),
    ):
        decision = source.when(wish).decision
        assert not isinstance(decision, Refused), decision
        (event,) = decision
        assert isinstance(event, VolumeCloneBegan)
        assert event.labels == labels
        step = clone_volume.begin(event).make().command
        assert isinstance(step, RestoreVolume)
        assert (step.labels, step.keep_labels) == (labels, False)
    source.when(replace(clone, labels={"te am": ""})).refused(Refusal.BAD_LABEL)


def test_a_restored_volume_has_the_labels_that_the_volume_has_now_if_it_is_that_one_still() -> None:
    restore = RestoreVolume(volume="pg2", snapshot="s", keep_labels=True)
    decision = given(*with_snapshot(), SHOP).decide(restore, uid=OTHER)
    assert not isinstance(decision, Refused), decision
    (event,) = decision
    assert isinstance(event, VolumeProvisioningBegan)
    assert event.labels == SHOP.set
    gone = (*with_snapshot(), SHOP, VolumeGone(volume="pg", uid=UID))
    given(*gone).when(restore).refused(Refusal.BAD_LABEL, "pg is no more")
    plain = given(*gone).decide(replace(restore, keep_labels=False), uid=OTHER)
    assert not isinstance(plain, Refused), plain


KEYS = st.sampled_from(["a", "b", "c"])
WISHES = st.lists(
    st.tuples(st.dictionaries(KEYS, st.sampled_from(["", "x", "y"])), st.sets(KEYS)), max_size=8
)


@examples(WISHES)
def test_what_was_said_last_of_a_key_is_so_and_saying_it_again_changes_nothing(
    wishes: list[tuple[dict[str, str], set[str]]],
) -> None:
    story, labels = given(*PAST), dict[str, str]()
    for new, gone in wishes:
        wish = LabelVolume(volume="pg", set=new, remove=tuple(gone - new.keys()))
        events = story.decide(wish)
        assert not isinstance(events, Refused)
        story.world.evolve("volume", "-", "pg", events)
        labels = {k: v for k, v in labels.items() if k not in wish.remove} | new
        assert story.world.volumes["pg"].labels == labels
        story.when(wish).nothing()


@examples(st.text(st.sampled_from("aZ0-_./ =\n\u00e9"), max_size=66))
def test_a_value_is_good_if_it_is_empty_or_begins_and_ends_well(text: str) -> None:
    inner = set(text) <= set("aZ0-_.") and text[:1] in "aZ0" and text[-1:] in "aZ0"
    assert (not bad_value(text)) is (len(text) <= 63 and inner)
    assert (not bad_key(text)) is (bool(text) and "/" not in text and not bad_value(text)) or (
        "/" in text
    )
