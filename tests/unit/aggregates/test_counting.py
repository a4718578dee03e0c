"""Bytes written and read, as nodes tell: each counts once, in whatever order things are told."""

from hypothesis import given as examples
from hypothesis import strategies as st
from msgspec.structs import replace

from hwbus.controller.figures import moved
from schemas.answers import Refused
from schemas.counting import ReportVolumeIo, VolumeIoCounted
from schemas.deleting import VolumeHeld
from schemas.volume import VolumeGone, VolumeProvisioned
from tests.support.given import GIB, NOON, OPERATION, OTHER, UID, given
from tests.support.words import pool_ready, volume_ready

PAST = (*pool_ready("n1"), *volume_ready("n1"))
BOOK, LATER = "0" * 25 + "5", "0" * 25 + "6"
TOLD = ReportVolumeIo(
    volume="pg", uid=UID, node="n1", book=BOOK, written_bytes=3 * GIB, read_bytes=GIB
)
COUNTED = VolumeIoCounted(
    volume="pg",
    uid=UID,
    node="n1",
    pool="fast",
    book=BOOK,
    written_bytes=3 * GIB,
    read_bytes=GIB,
    more_written_bytes=3 * GIB,
    more_read_bytes=GIB,
)


def test_what_is_told_first_counts_whole_and_then_what_is_more() -> None:
    given(*PAST).when(TOLD).then(COUNTED)
    given(*PAST, COUNTED).when(replace(TOLD, written_bytes=5 * GIB)).then(
        replace(COUNTED, written_bytes=5 * GIB, more_written_bytes=2 * GIB, more_read_bytes=0)
    )


def test_what_was_told_before_or_is_late_counts_no_more() -> None:
    given(*PAST, COUNTED).when(TOLD).nothing()
    given(*PAST, COUNTED).when(replace(TOLD, written_bytes=GIB, read_bytes=0)).nothing()
    # Of two totals one may be news where the other is not.
    given(*PAST, COUNTED).when(replace(TOLD, written_bytes=GIB, read_bytes=2 * GIB)).then(
        replace(COUNTED, read_bytes=2 * GIB, more_written_bytes=0)
    )


def test_a_node_that_has_lost_its_book_begins_another_and_the_old_one_counts_no_more() -> None:
    lost = replace(TOLD, book=LATER, written_bytes=GIB, read_bytes=0)
    counted = replace(
        COUNTED,
        book=LATER,
        written_bytes=GIB,
        read_bytes=0,
        more_written_bytes=GIB,
        more_read_bytes=0,
    )
    given(*PAST, COUNTED).when(lost).then(counted)
    put_back = replace(TOLD, written_bytes=9 * GIB)
    given(*PAST, COUNTED, counted).when(put_back).nothing()
    total = given(*PAST, COUNTED, counted).world.volumes["pg"].counted["n1"]
    assert (total.total_written_bytes, total.total_read_bytes) == (4 * GIB, GIB)


def test_each_node_of_a_volume_that_has_failed_over_has_its_own_book() -> None:
    other = replace(TOLD, node="n2", book=LATER)
    given(*PAST, COUNTED).when(other).then(replace(COUNTED, node="n2", pool=None, book=LATER))


def test_another_volume_of_that_name_or_none_counts_nothing() -> None:
    given(*PAST).when(replace(TOLD, uid=OTHER)).nothing()
    given(*pool_ready("n1")).when(TOLD).nothing()
    given(*PAST, VolumeGone(volume="pg", uid=UID)).when(TOLD).nothing()


def test_a_held_volume_still_counts_what_is_told_late_and_a_whole_disk_is_in_no_pool() -> None:
    held = VolumeHeld(volume="pg", uid=UID, operation=OPERATION, until=NOON)
    given(*PAST, held).when(TOLD).then(COUNTED)
    disk = [
        replace(event, disk="d1") if isinstance(event, VolumeProvisioned) else event
        for event in PAST
    ]
    given(*disk).when(TOLD).then(replace(COUNTED, pool=None))


def test_all_that_every_book_of_a_node_came_to_is_a_figure() -> None:
    later = replace(COUNTED, book=LATER)
    world = given(*PAST, COUNTED, later).world
    found = {
        sample.name: (sample.labels, sample.value)
        for one in moved(world)
        for sample in one.samples
        if not sample.name.endswith("_created")
    }
    where = {"volume": "pg", "node": "n1"}
    assert found == {
        "hwbus_volume_written_bytes_total": (where, 6 * GIB),
        "hwbus_volume_read_bytes_total": (where, 2 * GIB),
    }


WORDS = st.tuples(st.sampled_from(["n1", "n2"]), st.integers(0, 5), st.integers(0, 5))


@examples(st.lists(WORDS, max_size=12), st.data())
def test_whatever_comes_twice_or_late_the_sum_is_the_highest_total_of_each_node(
    words: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    story = given(*PAST)
    for node, written, read in data.draw(st.permutations([*words, *words])):
        word = replace(TOLD, node=node, written_bytes=written, read_bytes=read)
        events = story.decide(word)
        assert not isinstance(events, Refused)
        story.world.evolve("volume", "-", "pg", events)
    counted = story.world.volumes["pg"].counted
    for node in ("n1", "n2"):
        of = [(written, read) for one, written, read in words if one == node]
        total = counted.get(node)
        assert (total.total_written_bytes if total else 0) == max((w for w, _ in of), default=0)
        assert (total.total_read_bytes if total else 0) == max((r for _, r in of), default=0)
