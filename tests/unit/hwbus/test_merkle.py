"""The tree and its proofs, against the definitions of RFC 9162 and against whoever changes them."""

import hashlib

import hypothesis
import pytest
from hypothesis import strategies as st

from hwbus.merkle import Tree, consistency, continued, inclusion
from hwbus.proof import ProofError, check_consistency, leaf_hash, node_hash, root_above

sizes = st.integers(1, 40)


def leaf(n: int) -> bytes:
    return hashlib.sha256(b"\0" + bytes([n])).digest()


def leaves(count: int) -> bytes:
    return b"".join(map(leaf, range(count)))


def root_by_definition(nodes: list[bytes]) -> bytes:
    """MTH of section 2.1.1, word by word, over hashes of leaves."""
    if not nodes:
        return hashlib.sha256(b"").digest()
    if len(nodes) == 1:
        return nodes[0]
    half = 1
    while 2 * half < len(nodes):
        half *= 2
    return node_hash(root_by_definition(nodes[:half]), root_by_definition(nodes[half:]))


def tree(count: int) -> Tree:
    grown = Tree()
    grown.extend(leaves(count))
    return grown


@pytest.mark.parametrize("count", range(40))
def test_a_tree_that_grows_has_the_root_of_the_definition(count: int) -> None:
    assert tree(count).root() == root_by_definition([leaf(n) for n in range(count)])


def test_known_roots_of_certificate_transparency_are_ours() -> None:
    """The empty leaf, and the first two of the reference tests that implementations share."""
    nothing = hashlib.sha256(b"\0").hexdigest()
    assert nothing == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    two = node_hash(hashlib.sha256(b"\0").digest(), hashlib.sha256(b"\0\0").digest())
    assert two.hex() == "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"


@hypothesis.given(sizes, st.data())
def test_every_leaf_can_be_proven_and_no_other_in_its_place(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    path = inclusion(leaves(size), index)
    root = tree(size).root()
    assert root_above(leaf(index), index, size, path) == root
    assert root_above(leaf(index + 1), index, size, path) != root
    other = data.draw(
        st.integers(0, size - 1).filter(lambda n: n != index) if size > 1 else st.just(0)
    )
    if other != index:
        with pytest.raises((ProofError, AssertionError)):
            assert root_above(leaf(index), other, size, path) == root


@hypothesis.given(sizes, st.data())
def test_a_tree_continues_each_earlier_one_and_no_other(size: int, data: st.DataObject) -> None:
    earlier = data.draw(st.integers(1, size))
    path = consistency(leaves(size), earlier)
    before, after = tree(earlier).root(), tree(size).root()
    check_consistency(earlier, size, before, after, path)
    with pytest.raises(ProofError):
        check_consistency(earlier, size, leaf(99), after, path)
    with pytest.raises(ProofError):
        check_consistency(earlier, size, before, leaf(99), path)
    with pytest.raises(ProofError):
        check_consistency(earlier, size, before, after, [*path, leaf(99)])


@hypothesis.given(sizes, st.data())
def test_that_a_tree_was_continued_is_shown_without_its_earlier_leaves(
    size: int, data: st.DataObject
) -> None:
    earlier = data.draw(st.integers(1, size))
    news = leaves(size)[earlier * 32 :]
    assert continued(tree(earlier), news) == consistency(leaves(size), earlier)
    with pytest.raises(IndexError):
        continued(tree(0), news)


def test_paths_of_a_wrong_length_prove_nothing() -> None:
    path = inclusion(leaves(5), 2)
    for wrong in (path[:-1], [*path, leaf(0)], []):
        with pytest.raises(ProofError):
            root_above(leaf(2), 2, 5, wrong)
    with pytest.raises(ProofError):
        root_above(leaf(2), 5, 5, path)
    with pytest.raises(ProofError):
        check_consistency(0, 5, leaf(0), leaf(0), [])
    with pytest.raises(ProofError):
        check_consistency(3, 5, leaf(0), leaf(0), [])


def test_a_leaf_tells_subject_sequence_and_message_apart() -> None:
    said = [
        ("a.b", 1, b"x"),
        ("a.b", 11, b"x"),
        ("a.b", 1, b"1\nx"),
        ("a", 1, b"x"),
        ("a.b", 1, b""),
    ]
    assert len({leaf_hash(*one) for one in said}) == len(said)


def test_a_tree_goes_on_from_its_frontier_alone() -> None:
    grown = Tree(11, tree(11).frontier)
    grown.extend(leaves(20)[11 * 32 :])
    assert grown.root() == tree(20).root()
    with pytest.raises(ValueError, match="full subtrees"):
        Tree(11, tree(12).frontier)
