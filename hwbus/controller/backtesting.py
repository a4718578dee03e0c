"""What was asked in the past, decided again with other weights, and beside that with the same.

The log tells what was asked, and when; nodes on which all goes well do what is wanted. With the
weights that were in force that must give what was: if it does not, nothing is concluded.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, TypeGuard

import msgspec

from aggregates.ledger import room_bytes
from aggregates.placement import Weights
from aggregates.what_if.hands import IdealHands
from aggregates.what_if.nodes import POOL_WISHES
from aggregates.world import World
from hwbus.codec import command_codec
from hwbus.controller.forecasting import Numbers
from hwbus.controller.storage import StorageDomain, StorageScript
from hwbus.rehearsal import Rehearsal
from schemas.answers import Refused
from schemas.attachment import AttachmentCommand
from schemas.commit import Commit
from schemas.errand import ErrandCommand
from schemas.grammar import Event, Message, Report
from schemas.handing import FencePeer
from schemas.legs import MigrationBegan
from schemas.operation import OperationEnded, OperationKind, Outcome
from schemas.replica import ReplicaCommand, ReplicaCreated
from schemas.replication import ReplicationCommand
from schemas.volume import VolumeProvisioningBegan
from schemas.words import command_for

DECISIONS_MAX = 10_000_000
_INNER = ("operation:", "command:", "rule", "silent:", "replica-lost")
_PARTIAL = frozenset({OperationKind.NODE_DRAIN, OperationKind.NODE_FORGET})
"""What these have done stays, also where they fail."""

_ANSWERS = ReplicaCommand | AttachmentCommand | ErrandCommand | ReplicationCommand | FencePeer


Place = tuple[str, str, str]
"""A volume, and the node and pool of a leg of it."""


class Asked(msgspec.Struct, frozen=True):
    """One command of the past that nobody inside gave, and the identities that it was given."""

    at: datetime
    command: Message
    ids: tuple[str, ...]


class History(msgspec.Struct, frozen=True):
    """What was asked, and where legs were made for it.

    ``left_out`` operations did not complete, for a reason that is not in the log, and are not asked
    for again; what remains of a drain that did not move all is kept, and is among ``failed``.
    """

    asked: tuple[Asked, ...]
    places: tuple[Place, ...]
    failed: tuple[str, ...]
    moves: int
    left_out: int


class Track(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a history: each leg as (volume, node, pool), in the order of their making.

    ``failed`` are commands that were accepted then and are refused here, or come to nothing.
    ``imbalance`` is by how many per cent of their size the fullest and the emptiest pool differ,
    at the end; ``imbalance_max`` the most it was after a placement.
    """

    places: tuple[Place, ...]
    failed: tuple[str, ...]
    moves: int
    imbalance: float
    imbalance_max: float
    cut_off: bool


def history(commits: Sequence[Commit[Any]]) -> History:
    """Return what *commits*, a whole log from its beginning, tell of what was asked."""
    ends = [e for commit in commits for e in commit.events if isinstance(e, OperationEnded)]
    lasting = {e.operation for e in ends if e.outcome is Outcome.COMPLETED or e.kind in _PARTIAL}
    domain = StorageDomain()
    asked, places, moves, left_out = [], list[Place](), 0, 0
    for commit in commits:
        if commit.correlation in lasting:
            places += [(e.volume, e.node, e.pool) for e in commit.events if _is_leg(e)]
            moves += sum(isinstance(e, MigrationBegan) for e in commit.events)
        command = None if commit.cause.startswith(_INNER) else _command(commit)
        begun = domain.operation(commit.events)
        if command is not None and (not begun or begun in lasting):
            asked.append(Asked(commit.at, command, _identities(commit.events)))
        elif command is not None:
            left_out += 1
    failed = (e for e in ends if e.operation in lasting and e.outcome is not Outcome.COMPLETED)
    return History(
        asked=tuple(asked),
        places=tuple(places),
        failed=tuple(f"{e.kind.value} {e.object}" for e in failed),
        moves=moves,
        left_out=left_out,
    )


def _command(commit: Commit[Any]) -> Message | None:
    """Return what was asked, unless a node answered a wish with it, or a rule followed."""
    kind, _, verb = commit.word.partition(".")
    word = command_for(kind, verb.partition(".")[0])
    if word is None:
        return None
    command: Message = command_codec(word).decode(bytes(commit.request))
    if isinstance(command, _ANSWERS):
        return None
    # A rule is a report that the control plane makes because of an event, never a wish.
    follows = commit.cause.startswith("event:") and commit.actor == "hwbus"
    return None if follows and isinstance(command, Report) else command


def _identities(events: Iterable[Event]) -> tuple[str, ...]:
    """Return the identities in the order in which the desk makes them: operation, then uid."""
    for event in events:
        found = (getattr(event, "operation", None), getattr(event, "uid", None))
        return tuple(one or "" for one in found)
    return ()


class _Recorded:
    """Gives out the identities of the past again, and new ones where there were none."""

    def __init__(self) -> None:
        self.next: list[str] = []
        self._fresh = Numbers()

    def __call__(self) -> str:
        fresh = self._fresh()
        return (self.next.pop(0) if self.next else "") or fresh


def replayed(past: History, weights: Weights) -> Track:
    """Return what would have come of *past* with *weights*."""
    world, mint = World(), _Recorded()
    world.weights = weights
    hands = IdealHands(world, leave=POOL_WISHES)
    rehearsal: Rehearsal | None = None
    failed: list[str] = []
    imbalance_max = 0.0
    for one in past.asked:
        if rehearsal is None:
            rehearsal = Rehearsal(
                StorageDomain(world),
                StorageScript(world),
                hands,
                at=one.at,
                mint=mint,
                decisions_max=DECISIONS_MAX,
            )
        rehearsal.now = one.at
        mint.next = list(one.ids)
        answer = rehearsal.decide(one.command)
        mint.next = []
        if isinstance(answer, Refused):
            failed.append(_said(one.command))
        rehearsal.play(time_passes=False)
        if not isinstance(answer, Refused) and isinstance(
            answer[0] if answer else None, VolumeProvisioningBegan
        ):
            imbalance_max = max(imbalance_max, _imbalance(world))
    return _track(rehearsal, world, failed, imbalance_max)


def _is_leg(event: Event) -> TypeGuard[ReplicaCreated]:
    """Whether a leg of a volume was made: that of a snapshot lies where its volume does."""
    return isinstance(event, ReplicaCreated) and event.consistency is None


def _said(command: Message) -> str:
    name = getattr(command, "volume", None) or getattr(command, "node", "")
    return f"{type(command).__name__} {name}"


def _track(
    rehearsal: Rehearsal | None, world: World, failed: list[str], imbalance_max: float
) -> Track:
    places, moves = list[Place](), 0
    for one in () if rehearsal is None else rehearsal.happened:
        for event in one.events:
            if _is_leg(event):
                places.append((event.volume, event.node, event.pool))
            elif isinstance(event, OperationEnded) and event.outcome is not Outcome.COMPLETED:
                failed.append(f"{event.kind.value} {event.object}")
            moves += isinstance(event, MigrationBegan)
    return Track(
        places=tuple(places),
        failed=tuple(failed),
        moves=moves,
        imbalance=_imbalance(world),
        imbalance_max=imbalance_max,
        cut_off=rehearsal is not None and rehearsal.cut_off,
    )


def _imbalance(world: World) -> float:
    used = [
        100 - 100 * room_bytes(pool.ledger, pool.facts) / pool.facts.size_bytes
        for pool in world.pools.values()
        if pool.facts is not None
    ]
    return max(used) - min(used) if used else 0.0


def differences(one: Iterable[Place], other: Iterable[Place]) -> tuple[list[Place], list[Place]]:
    """Return which places only *one* has, and which only the *other*."""
    here, there = Counter(one), Counter(other)
    return sorted((here - there).elements()), sorted((there - here).elements())
