"""How far may be pruned: never further than what is archived, signed and old enough."""

from datetime import datetime, timedelta

import hypothesis
import msgspec
import pytest
from hypothesis import strategies as st

from hwbus.merkle import Tree
from hwbus.ports import Stored
from hwbus.proof import leaf_hash
from hwbus.pruning import OtherArchiveError, Prunable, furthest
from schemas.audit import HeadRecord
from tests.support.clock import NOON

MESSAGES = 20


def minute(number: int) -> datetime:
    return NOON + timedelta(minutes=number)


ARCHIVED = [Stored(n, "hwbus.audit.x", b"%d" % n, minute(n)) for n in range(1, MESSAGES + 1)]


def head(seq: int, messages: list[Stored] = ARCHIVED) -> HeadRecord:
    """Return a head over the first *seq* messages, as far as its root goes."""
    tree = Tree()
    for one in messages[:seq]:
        tree.append(leaf_hash(one.subject, one.seq, one.data))
    return HeadRecord(
        at=NOON, stream="S", seq=seq, root=tree.root().hex(), key="", signature="", leaves=b""
    )


@hypothesis.given(
    st.sets(st.integers(1, MESSAGES)),
    st.integers(0, MESSAGES),
    st.integers(0, MESSAGES + 2),
    st.integers(0, MESSAGES + 2),
)
def test_it_goes_to_the_furthest_head_that_is_all_of_that(
    signed: set[int], archived: int, below: int, minutes: int
) -> None:
    found = furthest(
        ARCHIVED[:archived],
        {seq: head(seq) for seq in signed},
        below=below,
        older_than=minute(minutes),
    )
    good = [seq for seq in signed if seq <= archived and seq < below and seq < minutes]
    if not good:
        assert found is None
        return
    assert isinstance(found, Prunable)
    assert (found.until, found.root) == (max(good), head(max(good)).root)
    assert found.newest == minute(max(good))
    tree = Tree(found.until, map(bytes.fromhex, found.frontier))
    assert tree.root().hex() == found.root


@pytest.mark.parametrize("seq", [3, 7])
def test_an_archive_of_something_else_is_refused(seq: int) -> None:
    other = [msgspec.structs.replace(one, data=b"?") if one.seq == 3 else one for one in ARCHIVED]
    with pytest.raises(OtherArchiveError, match=f"messages 1 to {seq}"):
        furthest(other, {seq: head(seq)}, below=99, older_than=minute(99))


def test_the_latest_time_before_counts_where_the_clock_was_set_back() -> None:
    set_back = [msgspec.structs.replace(ARCHIVED[0], at=minute(50)), *ARCHIVED[1:]]
    heads = {seq: head(seq) for seq in (1, 5)}
    assert furthest(set_back, heads, below=99, older_than=minute(30)) is None
