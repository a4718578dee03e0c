"""What is not as it was is named by its number: changed, missing, inserted, in another order."""

import random
from collections.abc import Callable, Sequence

import hypothesis
import msgspec
import pytest
from hypothesis import strategies as st

from hwbus.merkle import Tree
from hwbus.ports import Stored
from hwbus.proof import leaf_hash
from hwbus.verifying import FINDINGS_MAX, Before, Verdict, Verifier, summary
from schemas.audit import HeadRecord
from tests.support.signing import STREAM, commit, signed

COUNT, SIGNED = 40, (5, 12, 31)
PAST, HEADS = signed(COUNT, *SIGNED)
places = st.integers(1, COUNT)
replace = msgspec.structs.replace


def verdict(
    past: Sequence[Stored], heads: Sequence[HeadRecord] = tuple(HEADS), keys: Sequence[str] = ()
) -> Verdict:
    verifier = Verifier(heads, stream=STREAM, keys=keys)
    verifier.take(past)
    return verifier.finish()


def flipped(one: Stored, at: int) -> Stored:
    data = bytearray(one.data)
    data[at % len(data)] ^= 1
    return replace(one, data=bytes(data))


def renumbered(past: Sequence[Stored]) -> list[Stored]:
    return [replace(one, seq=n) for n, one in enumerate(past, start=1)]


def test_a_log_that_nobody_touched_is_as_it_was() -> None:
    found = verdict(PAST)
    assert (found.first_bad, found.findings) == (None, ())
    assert (found.messages, found.seq, found.heads, found.signed) == (COUNT, COUNT, 3, 31)
    assert found.keys == (HEADS[0].key,)
    said = summary(found)
    assert said[0] == f"{STREAM}: the first 31 of {COUNT} messages are as they were signed"
    assert summary(verdict(PAST[:31]))[0] == f"{STREAM}: all 31 messages are as they were signed"
    assert summary(verdict(PAST, []))[0] == f"{STREAM}: {COUNT} messages, and no head is signed"


@hypothesis.given(places, st.integers(0, 10_000))
def test_a_flipped_byte_is_found_where_it_is(seq: int, at: int) -> None:
    past = [*PAST]
    past[seq - 1] = flipped(past[seq - 1], at)
    found = verdict(past)
    if seq <= SIGNED[-1]:
        assert found.first_bad == seq
        assert found.findings[0].what == "changed"


def test_behind_the_last_head_the_chain_tells_what_was_changed() -> None:
    past = [*PAST]
    seq = next(
        n for n in range(32, COUNT) if any(o.subject == past[n - 1].subject for o in past[n:])
    )
    changed = past[seq - 1].data.replace(b"text", b"lies")
    past[seq - 1] = replace(past[seq - 1], data=changed)
    found = verdict(past)
    assert (found.first_bad, found.findings[0].what) == (seq, "chain")


@hypothesis.given(st.integers(1, COUNT - 1))
def test_a_dropped_message_is_missed_whether_or_not_the_rest_moves_up(seq: int) -> None:
    past = [one for one in PAST if one.seq != seq]
    found = verdict(past)
    assert (found.first_bad, found.findings[0].what) == (seq, "missing")
    moved = verdict(renumbered(past))
    if seq <= SIGNED[-1]:
        assert moved.first_bad == seq
        assert moved.findings[0].what == "changed"


@hypothesis.given(st.integers(1, SIGNED[-1]), st.integers(1, SIGNED[-1]))
def test_two_messages_in_each_others_place_are_found(one: int, other: int) -> None:
    hypothesis.assume(one < other)
    past = [*PAST]
    past[one - 1], past[other - 1] = past[other - 1], past[one - 1]
    assert verdict(renumbered(past)).first_bad == one
    assert verdict(past).first_bad == one


@hypothesis.given(st.integers(0, SIGNED[-1] - 1))
def test_an_inserted_message_is_found(before: int) -> None:
    new = Stored(before + 1, "hwbus.evt.node.-.n9", commit(1, "", "lie"), PAST[0].at)
    past = [*PAST[:before], new, *PAST[before:]]
    moved = verdict(renumbered(past))
    assert (moved.first_bad, moved.findings[0].what) == (before + 1, "changed")
    twice = verdict(past)
    assert twice.first_bad == before + 1


@pytest.mark.parametrize("ends", [0, 4, 12, 30])
def test_a_log_that_lost_its_end_is_found_out_by_what_was_signed(ends: int) -> None:
    found = verdict(PAST[:ends])
    [finding] = found.findings
    assert (finding.seq, finding.until, finding.what) == (ends + 1, SIGNED[-1], "missing")


def test_what_was_missing_when_it_was_signed_is_told_apart() -> None:
    from hwbus.merkle import Tree
    from hwbus.proof import gap_hash

    assert HEADS[0].leaves[64:96] != gap_hash(3)
    grown = Tree()
    grown.extend(gap_hash(1))
    head = forged(replace(HEADS[0], seq=1, leaves=gap_hash(1), root=grown.root().hex()))
    assert verdict([], [head]).findings[0].because == "not there, and was not when it was signed"
    assert verdict(PAST[:1], [head]).findings[0].what == "inserted"


def forged(head: HeadRecord, seed: int = 1) -> HeadRecord:
    """Return *head* signed anew."""
    from hwbus.controller.notary_key import NotaryKey
    from hwbus.proof import signed_text

    key = NotaryKey(bytes([seed]) * 32)
    head = replace(head, key=key.public)
    return replace(head, signature=key.sign(signed_text(msgspec.to_builtins(head))))


CHANGES: dict[str, Callable[[HeadRecord], HeadRecord]] = {
    "root": lambda head: replace(head, root=HEADS[0].root),
    "seq": lambda head: replace(head, seq=head.seq + 1),
    "signature": lambda head: replace(head, signature=HEADS[0].signature),
    "key": lambda head: replace(head, key="no key"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_head_that_was_changed_is_no_head(change: str) -> None:
    found = verdict(PAST, [HEADS[0], CHANGES[change](HEADS[1]), HEADS[2]])
    assert found.heads == 2
    assert {finding.what for finding in found.findings} == {"head"}
    assert any("signature" in finding.because for finding in found.findings)


def test_a_head_that_was_left_out_is_missed_and_what_it_listed_is_still_covered() -> None:
    heads = [HEADS[0], HEADS[2]]
    [finding] = verdict(PAST, heads).findings
    assert (finding.what, finding.seq, finding.until) == ("head", 6, 12)
    past = [*PAST]
    past[7] = flipped(past[7], 40)
    found = verdict(past, heads)
    assert [(one.what, one.seq, one.until) for one in found.findings if one.what == "changed"] == [
        ("changed", 6, 31)
    ]


def test_a_list_of_leaves_that_was_changed_is_not_believed() -> None:
    wrong = replace(HEADS[1], leaves=HEADS[1].leaves[:-1] + b"x")
    found = verdict(PAST, [HEADS[0], wrong, HEADS[2]])
    assert [(one.what, one.seq) for one in found.findings] == [("head", 12)]


def test_only_keys_that_are_trusted_count() -> None:
    assert verdict(PAST, keys=[HEADS[0].key]).first_bad is None
    found = verdict(PAST, keys=["ab" * 32])
    assert (found.heads, found.first_bad, len(found.findings)) == (0, 5, 3)


def test_a_head_of_another_log_signed_by_the_same_key_is_found() -> None:
    other, heads = signed(8, 8, seed=1)
    assert other[0].data == PAST[0].data
    lie = forged(replace(heads[0], root="00" * 32, leaves=b""))
    found = verdict(PAST, [*HEADS, lie])
    assert 8 in {finding.seq for finding in found.findings} | {
        finding.until for finding in found.findings
    }


def test_heads_of_two_notaries_of_one_log_agree() -> None:
    _, others = signed(COUNT, 3, 12, 40, seed=2)
    found = verdict(PAST, [*HEADS, *others])
    assert (found.findings, found.signed, len(found.keys)) == ((), 40, 2)


def test_without_heads_the_chains_are_followed() -> None:
    past = [*PAST]
    assert verdict(past, []).first_bad is None
    past[3] = replace(past[3], data=past[3].data.replace(b"text", b"lies"))
    assert verdict(past, []).first_bad == 4
    past[3] = replace(past[3], data=b"no commit")
    assert verdict(past, []).first_bad == 4


def test_findings_are_bounded_and_the_rest_counted() -> None:
    rng = random.Random(1)
    past = [flipped(one, rng.randrange(1000)) for one in PAST] * 4
    found = verdict(past)
    assert len(found.findings) == FINDINGS_MAX
    assert found.untold > 0
    assert found.first_bad == 1


def test_a_head_of_a_log_that_never_was_takes_no_time() -> None:
    lie = forged(replace(HEADS[2], seq=1 << 60, leaves=b""), seed=3)
    found = verdict(PAST, [*HEADS, lie])
    assert (found.first_bad, found.findings[0].until) == (COUNT + 1, 1 << 60)


def test_a_number_far_out_is_one_finding_and_takes_no_time() -> None:
    past = [*PAST, replace(PAST[0], seq=1 << 60)]
    found = verdict(past)
    assert (41, (1 << 60) - 1) in {(one.seq, one.until) for one in found.findings}


def left_over(gone: int, heads: list[HeadRecord], past: list[Stored]) -> Verdict:
    """Verify what is left behind *gone* messages, which are archived."""
    tree = Tree()
    for one in PAST[:gone]:
        tree.append(leaf_hash(one.subject, one.seq, one.data))
    before = Before(tree, "elsewhere")
    verifier = Verifier(heads, stream=STREAM, chained=False, before=before)
    verifier.take(past)
    return verifier.finish()


@pytest.mark.parametrize("gone", [1, SIGNED[0] - 1, SIGNED[0]])
@pytest.mark.parametrize("still_there", [0, 1])
def test_what_is_left_is_verified_from_the_tree_of_what_is_archived(
    gone: int, still_there: int
) -> None:
    found = left_over(gone, HEADS, PAST[gone - still_there :])
    assert (found.first_bad, found.first, found.before) == (None, gone + 1, "elsewhere")
    assert found.messages == len(PAST) - gone
    for seq in range(gone + 1, SIGNED[-1] + 1):
        lied = [*PAST[gone : seq - 1], msgspec.structs.replace(PAST[seq - 1], data=b"?")]
        assert left_over(gone, HEADS, [*lied, *PAST[seq:]]).first_bad == seq
        assert left_over(gone, HEADS, PAST[seq:]).first_bad == gone + 1


def test_a_tree_of_something_else_is_not_continued_by_the_heads() -> None:
    other = Before(Tree(1, [b"x" * 32]), "elsewhere")
    for heads in (HEADS, HEADS[1:]):
        verifier = Verifier(heads, stream=STREAM, chained=False, before=other)
        verifier.take(PAST[1:])
        assert verifier.finish().first_bad is not None


def test_events_whose_first_heads_are_archived_are_compared_by_their_root() -> None:
    bare = msgspec.structs.replace(HEADS[0], leaves=b"")
    for heads in (HEADS[1:], [bare, *HEADS[1:]]):
        verifier = Verifier(heads, stream=STREAM, unlisted=True)
        verifier.take(PAST)
        assert verifier.finish().first_bad is None
        changed = Verifier(heads, stream=STREAM, unlisted=True)
        changed.take([msgspec.structs.replace(PAST[0], data=PAST[0].data + b" "), *PAST[1:]])
        assert changed.finish().first_bad == 1
    strict = Verifier(HEADS[1:], stream=STREAM)
    strict.take(PAST)
    assert strict.finish().first_bad == 1
