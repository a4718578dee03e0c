"""Books of what consumers wrote and read: over devices that come and go, and lives of workers."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from node_workers.counting import APART, AT_LEAST_EVERY, MARK_BYTES, Book, counted
from node_workers.ports import DeviceIo
from node_workers.sysfs import RealSysfs

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
EMPTY = Book(uid="u", book="b", told_at=NOON)
MINUTE = timedelta(minutes=1)
UID = "1" * 26


def io(life: str, written: int, read: int = 0) -> DeviceIo:
    return DeviceIo(life=life, written_bytes=written, read_bytes=read)


def test_what_one_device_has_counted_is_added_once_and_another_counts_from_nought() -> None:
    book = EMPTY
    for seen, written in ((io("a", 5), 5), (io("a", 5), 5), (io("a", 8), 8), (io("b", 9), 17)):
        book = counted(book, seen)
        assert book.written_bytes == written


def test_counters_that_have_become_less_are_those_of_another_device() -> None:
    book = counted(counted(EMPTY, io("a", 5, 5)), io("a", 3, 9))
    assert (book.written_bytes, book.read_bytes) == (8, 14)


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 100)), max_size=30))
def test_no_byte_counts_twice_and_none_is_lost_that_was_seen(
    steps: list[tuple[bool, bool, int]],
) -> None:
    book, life, now, all_seen, of_this = EMPTY, 0, 0, 0, 0
    for new_device, look, more in steps:
        if new_device:
            life, now, of_this = life + 1, 0, 0
        now += more
        if look:
            book = counted(book, io(f"{life}", now))
            all_seen += now - of_this
            of_this = now
        assert book.written_bytes == all_seen


@pytest.mark.parametrize(
    ("untold", "passed", "due"),
    [
        (0, AT_LEAST_EVERY * 9, False),
        (1, AT_LEAST_EVERY - MINUTE, False),
        (1, AT_LEAST_EVERY, True),
        (MARK_BYTES - 1, APART, False),
        (MARK_BYTES, APART - MINUTE, False),
        (MARK_BYTES, APART, True),
        (1, -MINUTE, True),
    ],
)
def test_a_gib_is_told_after_ten_minutes_and_anything_within_the_hour(
    untold: int, passed: timedelta, due: bool
) -> None:
    book = replace(EMPTY, written_bytes=7 + untold, told_written_bytes=7)
    assert book.is_due(NOON + passed) is due
    assert not book.told(NOON).is_due(NOON + AT_LEAST_EVERY * 9)


def test_the_kernels_counters_are_read_in_bytes_and_only_of_the_volume_that_is_meant(
    tmp_path: Path,
) -> None:
    device = tmp_path / "dev/block/254:3"
    (device / "dm").mkdir(parents=True)
    (device / "dm/uuid").write_text(f"HWBUS-{UID}\n")
    (device / "stat").write_text("   10  0  80  5   20  0  160  9  0  7  14  0  0  0  0  0  0\n")
    (tmp_path / "boot_id").write_text("boot\n")
    sysfs = RealSysfs(tmp_path, tmp_path / "boot_id")
    old = asyncio.run(sysfs.io("254:3", UID))
    assert old == DeviceIo(life="boot/number 254:3", written_bytes=160 * 512, read_bytes=80 * 512)
    (device / "diskseq").write_text("41\n")
    new = asyncio.run(sysfs.io("254:3", UID))
    assert new == DeviceIo(life="boot/41", written_bytes=160 * 512, read_bytes=80 * 512)
    assert asyncio.run(sysfs.io("254:3", "2" * 26)) is None
    assert asyncio.run(sysfs.io("254:9", UID)) is None
    (device / "stat").write_text("")
    assert asyncio.run(sysfs.io("254:3", UID)) is None
