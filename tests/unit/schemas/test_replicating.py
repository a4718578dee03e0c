"""The room that DRBD's own data take at the end of a leg."""

import hypothesis
from hypothesis import strategies as st

from schemas.replicating import head_room_bytes

MIB = 1 << 20
TIB = 1 << 40


def test_small_volumes_need_one_step_and_large_ones_a_bit_for_every_4_kib() -> None:
    assert head_room_bytes(64 * MIB) == head_room_bytes(100 << 30) == 4 * MIB
    assert head_room_bytes(TIB) == 36 * MIB
    assert head_room_bytes(TIB, members=3) == 68 * MIB


@hypothesis.given(st.integers(1, 1 << 50), st.integers(1, 8))
def test_the_metadata_of_the_whole_leg_fit_into_it(size_bytes: int, members: int) -> None:
    room_bytes = head_room_bytes(size_bytes, members)
    peers = max(1, members - 1)
    # As Linux has it: superblock, log, and whole blocks of bits for whole 16 MiB.
    sectors = -(-(size_bytes + room_bytes) // (16 * MIB))
    needed_bytes = 36 * 1024 + peers * -(-sectors // 8) * 4096
    assert needed_bytes <= room_bytes < needed_bytes + 4 * MIB + peers * 4096
    assert room_bytes % (4 * MIB) == 0
