"""The log as a Merkle tree (RFC 9162, section 2.1): grown leaf by leaf, and proofs about it."""

import hashlib
from collections.abc import Iterable

from hwbus.proof import HASH_BYTES, node_hash


class Tree:
    """A tree that remembers only the roots of its full subtrees, the largest first.

    These are at most as many as ``size`` has binary digits, and all that it takes to grow.
    """

    def __init__(self, size: int = 0, frontier: Iterable[bytes] = ()) -> None:
        """Go on from a tree of *size* leaves. Raises ``ValueError``: it has another frontier."""
        self.size = size
        self.frontier = list(frontier)
        if len(self.frontier) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} full subtrees")

    def append(self, leaf: bytes) -> None:
        """Grow by the hash of one leaf."""
        node, full = leaf, self.size
        while full & 1:
            node = node_hash(self.frontier.pop(), node)
            full >>= 1
        self.frontier.append(node)
        self.size += 1

    def extend(self, leaves: bytes) -> None:
        """Grow by hashes of leaves, one behind the other."""
        for at in range(0, len(leaves), HASH_BYTES):
            self.append(leaves[at : at + HASH_BYTES])

    def root(self) -> bytes:
        """Return the root over all leaves; of none it is the hash of nothing."""
        if not self.frontier:
            return hashlib.sha256().digest()
        node = self.frontier[-1]
        for left in reversed(self.frontier[:-1]):
            node = node_hash(left, node)
        return node

    def copy(self) -> "Tree":
        """Return another one that grows by itself."""
        return Tree(self.size, self.frontier)


def inclusion(leaves: bytes, index: int) -> list[bytes]:
    """Return the path from leaf *index* to the root (section 2.1.3.1), nearest sibling first.

    Raises ``IndexError``: there is no such leaf.
    """
    first, size = 0, len(leaves) // HASH_BYTES
    if not 0 <= index < size:
        raise IndexError(index)
    path: list[bytes] = []
    last = size
    while last - first > 1:
        middle = first + _split(last - first)
        if index < middle:
            path.append(_root(leaves, middle, last))
            last = middle
        else:
            path.append(_root(leaves, first, middle))
            first = middle
    return path[::-1]


def consistency(leaves: bytes, earlier: int) -> list[bytes]:
    """Return the nodes that show that the tree continues that of its *earlier* first leaves.

    Section 2.1.4.1. Raises ``IndexError``: there are not so many, or none were asked for.
    """
    size = len(leaves) // HASH_BYTES
    if not 0 < earlier <= size:
        raise IndexError(earlier)
    path: list[bytes] = []
    first, last, known = 0, size, True
    while earlier != last:
        middle = first + _split(last - first)
        if earlier <= middle:
            path.append(_root(leaves, middle, last))
            last = middle
        else:
            path.append(_root(leaves, first, middle))
            first, known = middle, False
    if not known:
        path.append(_root(leaves, first, last))
    return path[::-1]


def continued(before: Tree, leaves: bytes) -> list[bytes]:
    """Return what ``consistency`` does for *before* grown by *leaves*, without those before it.

    All that the path has of the earlier tree are roots of its full subtrees. Raises ``IndexError``:
    the earlier tree is empty.
    """
    earlier, size = before.size, before.size + len(leaves) // HASH_BYTES
    if earlier < 1:
        raise IndexError(earlier)
    full = _full_subtrees(before)
    path: list[bytes] = []
    first, last = 0, size
    while earlier != last:
        middle = first + _split(last - first)
        if earlier <= middle:
            path.append(_root(leaves, middle - earlier, last - earlier))
            last = middle
        else:
            path.append(full[first])
            first = middle
    if first:
        path.append(full[first])
    return path[::-1]


def _full_subtrees(tree: Tree) -> dict[int, bytes]:
    """Return the roots of the full subtrees of *tree* by their first leaf."""
    found: dict[int, bytes] = {}
    first = 0
    for node, bit in zip(tree.frontier, _bits(tree.size), strict=True):
        found[first] = node
        first += bit
    return found


def _bits(number: int) -> list[int]:
    """Return the powers of two that *number* is made of, the largest first."""
    return [1 << n for n in reversed(range(number.bit_length())) if number >> n & 1]


def _split(size: int) -> int:
    """Return the largest power of two below *size*."""
    return 1 << ((size - 1).bit_length() - 1)


def _root(leaves: bytes, first: int, last: int) -> bytes:
    tree = Tree()
    tree.extend(leaves[first * HASH_BYTES : last * HASH_BYTES])
    return tree.root()
