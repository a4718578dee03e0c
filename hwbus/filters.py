"""Wildcards of subjects, understood the way the broker understands them."""

from collections.abc import Sequence

_ONE = "*"
_REST = ">"


def matches(pattern: str, subject: str) -> bool:
    """Say whether *pattern* (with wildcards) takes in the concrete *subject*."""
    wanted, given = pattern.split("."), subject.split(".")
    for i, token in enumerate(wanted):
        if token == _REST:
            return len(given) > i
        if i >= len(given) or token not in {_ONE, given[i]}:
            return False
    return len(wanted) == len(given)


def collide(left: str, right: str) -> bool:
    """Say whether some subject is taken in by both patterns; the broker forbids such pairs."""
    one, other = left.split("."), right.split(".")
    for a, b in zip(one, other, strict=False):
        if _REST in {a, b}:
            return True
        if a != b and _ONE not in {a, b}:
            return False
    return len(one) == len(other)


def disjoint(patterns: Sequence[str]) -> bool:
    """Say whether no subject is taken in by two of *patterns*."""
    return not any(
        collide(left, right) for i, left in enumerate(patterns) for right in patterns[i + 1 :]
    )
