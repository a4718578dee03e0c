"""Where two thin snapshots may differ, from what thin_delta prints (recorded on a real kernel)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_workers.thin_blocks import UnknownError, _mapped, differing

UNIT = 4 << 20
BLOCK = 128 * 512
HEAD = '<superblock uuid="" time="2" transaction="3" data_block_size="128" nr_data_blocks="8192">'
DELTA = f"""{HEAD}
  <diff left="2" right="3">
    <left_only begin="0" length="64"/>
    <same begin="64" length="80"/>
    <different begin="144" length="16"/>
    <same begin="160" length="224"/>
  </diff>
</superblock>
"""


def units(bits: bytes) -> set[int]:
    return {at for at in range(8 * len(bits)) if bits[at // 8] >> at % 8 & 1}


def test_what_is_not_the_same_may_differ() -> None:
    assert units(differing(DELTA.splitlines(), UNIT)) == {0, 2}


def test_nothing_that_differs_is_not_nothing_known() -> None:
    assert differing([HEAD, '<same begin="0" length="8192"/>'], UNIT) == b"\0"
    for lines in ([], ['<different begin="0" length="1"/>']):
        with pytest.raises(UnknownError):
            differing(lines, UNIT)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(1, 200)), max_size=6))
def test_every_block_that_differs_lies_in_a_unit_that_may(stretches: list[tuple[int, int]]) -> None:
    lines = [f'<different begin="{begin}" length="{length}"/>' for begin, length in stretches]
    blocks = {at for begin, length in stretches for at in range(begin, begin + length)}
    assert units(differing([HEAD, *lines], UNIT)) == {at * BLOCK // UNIT for at in blocks}


def test_devices_are_named_as_lvm_names_them() -> None:
    assert _mapped("thin-1", "hwbus-thin") == "thin--1-hwbus--thin"
