"""The files of a store are read as they lie, and whatever lies there, reading them ends."""

import struct
import tempfile
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from hwbus.blocks import DamagedError, NoStoreError, blocks_of, folder_of, read_block
from hwbus.ports import Stored
from hwbus.verifying import Verifier
from tests.support.clock import NOON
from tests.support.signing import STREAM, chained, signed

NS = int(NOON.timestamp()) * 10**9
_, HEADS = signed(4, 4)


def record(one: Stored, *, headers: bytes = b"", mark: int = 0) -> bytes:
    """Return a message as nats-server writes it; *mark* are high bits of its sequence."""
    name = one.subject.encode()
    block = struct.pack("<I", len(headers)) + headers if headers else b""
    length = 22 + len(name) + len(block) + len(one.data) + 8
    flag = 1 << 31 if headers else 0
    begin = struct.pack("<IQQH", length | flag, one.seq | mark, NS, len(name))
    return begin + name + block + one.data + b"checksum"


PAST = chained(4)
BLOCK = b"".join(record(one, headers=b"NATS/1.0\r\n\r\n" if one.seq % 2 else b"") for one in PAST)


def read(data: bytes) -> tuple[list[Stored], bool]:
    """Return what stands in a block of *data*, and whether it was read to its end."""
    found: list[Stored] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "1.blk"
        path.write_bytes(data)
        try:
            found.extend(read_block(path))
        except DamagedError:
            return found, False
    return found, True


def test_messages_come_back_as_they_were_with_and_without_headers() -> None:
    assert read(BLOCK) == (PAST, True)


def test_what_was_erased_is_no_message() -> None:
    gone = record(PAST[1], mark=1 << 63) + record(PAST[2], mark=1 << 62)
    assert read(record(PAST[0]) + gone + record(PAST[3])) == ([PAST[0], PAST[3]], True)


@hypothesis.given(st.integers(0, len(BLOCK) - 1))
def test_what_was_cut_off_is_given_up_to_the_last_whole_message(ends: int) -> None:
    found, whole = read(BLOCK[:ends])
    assert found == PAST[: len(found)]
    assert whole == _at_a_seam(ends)


def _at_a_seam(ends: int) -> bool:
    at = 0
    while at < ends:
        at += int.from_bytes(BLOCK[at : at + 4], "little") & 0x7FFFFFFF
    return at == ends


@hypothesis.given(
    st.lists(st.tuples(st.integers(0, len(BLOCK) - 1), st.integers(1, 255)), min_size=1)
)
def test_whatever_was_changed_is_read_to_an_end_and_judged(flips: list[tuple[int, int]]) -> None:
    data = bytearray(BLOCK)
    for at, bits in flips:
        data[at] ^= bits
    found, whole = read(bytes(data))
    verifier = Verifier(HEADS, stream=STREAM)
    verifier.take(found)
    if not whole:
        verifier.damaged("cut off")
    same = [(one.seq, one.subject, one.data) for one in found]
    as_it_was = same == [(one.seq, one.subject, one.data) for one in PAST]
    assert (verifier.finish().first_bad is None) == (as_it_was and whole)


def test_a_store_is_found_below_the_folder_that_is_named(tmp_path: Path) -> None:
    msgs = tmp_path / "jetstream" / "$G" / "streams" / STREAM / "msgs"
    with pytest.raises(NoStoreError):
        folder_of(tmp_path, STREAM)
    msgs.mkdir(parents=True)
    for name in ("10.blk", "9.blk", "index.db"):
        (msgs / name).touch()
    for folder in (tmp_path, msgs):
        assert [path.name for path in blocks_of(folder, STREAM)] == ["9.blk", "10.blk"]
    (msgs / "9.key").touch()
    with pytest.raises(NoStoreError, match="encrypted"):
        folder_of(tmp_path, STREAM)


def test_a_compressed_file_is_said_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "1.blk"
    path.write_bytes(b"cmp\x01")
    with pytest.raises(NoStoreError, match="compressed"):
        list(read_block(path))
