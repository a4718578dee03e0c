"""What was taken out of the audit stream, as the events record it, and what is left to verify."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

import msgspec

from hwbus.cli.paint import local
from hwbus.cli.world import Link
from hwbus.merkle import Tree
from hwbus.ports import Stored
from hwbus.proof import ProofError, check_head
from hwbus.subjects import CLUSTER, Address
from hwbus.verifying import Before
from projectors.reading import UnreadableError, read_commit
from schemas.audit import HeadRecord
from schemas.trail import AUDIT_TRAIL, TRAILS, TrailReleased

SUBJECT = Address(TRAILS, CLUSTER, AUDIT_TRAIL).subject


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """All up to ``until`` may be missing, says the event ``seq``: it is archived at ``place``."""

    until: int
    root: str
    frontier: tuple[str, ...]
    place: str
    by: str
    at: datetime
    seq: int

    def tree(self) -> Tree | None:
        """Return the tree over what was released, which the next signed head has to continue.

        None: what was recorded of it leads to another root.
        """
        try:
            tree = Tree(self.until, map(bytes.fromhex, self.frontier))
        except ValueError:
            return None
        return tree if tree.root().hex() == self.root else None

    def __str__(self) -> str:
        """Say where it is, and who took it out when."""
        return (
            f"messages 1 to {self.until} are in the archive {self.place} "
            f"(pruned by {self.by}, {local(self.at)})"
        )


class Remains(msgspec.Struct, frozen=True):
    """What is left of the audit stream: it begins at ``first``.

    ``release`` records why; None: nothing is missing, or nobody recorded it. ``undone`` is recorded
    and has not been taken out yet.
    """

    first: int
    release: Release | None = None
    undone: Release | None = None

    def before(self) -> Before | None:
        """Return what the rest is verified from; None: nothing that was recorded makes sense."""
        release = self.release
        tree = None if release is None else release.tree()
        return None if tree is None else Before(tree, str(release))


async def releases_in(link: Link) -> list[Release]:
    """Return what was released, in its order."""
    return list(releases_of(await link.log.history(SUBJECT)))


def releases_of(messages: Iterable[Stored]) -> Iterator[Release]:
    """Give what these messages about the trail release."""
    for stored in messages:
        try:
            seen = read_commit(stored)
        except UnreadableError:
            continue  # whoever verifies the events tells of it
        for event in seen.events:
            if isinstance(event, TrailReleased):
                yield Release(
                    until=event.until,
                    root=event.root,
                    frontier=event.frontier,
                    place=event.place,
                    by=seen.commit.actor,
                    at=seen.at,
                    seq=seen.seq,
                )


def remains(first: int, releases: Sequence[Release]) -> Remains:
    """Return what is left of a stream that begins at *first*.

    The least release that explains what is missing does so; if none goes that far, the furthest.
    """
    ordered = sorted(releases, key=lambda one: one.until)
    release = None
    if first > 1 and ordered:
        release = next((one for one in ordered if one.until >= first - 1), ordered[-1])
    done = first - 1 if release is None else max(release.until, first - 1)
    undone = ordered[-1] if ordered and ordered[-1].until > done else None
    return Remains(first, release, undone)


def tree_of(head: HeadRecord) -> Tree | None:
    """Return the tree that *head* was signed over; None: it was not, or of another tree."""
    try:
        check_head(msgspec.to_builtins(head))
        tree = Tree(head.seq, head.frontier)
    except (ProofError, ValueError):
        return None
    return tree if tree.root().hex() == head.root else None
