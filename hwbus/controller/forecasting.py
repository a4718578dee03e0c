"""A question about what would follow, put to a fork of the world: pure, and as long as it takes."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar, assert_never

import msgspec

from aggregates.what_if import measures
from aggregates.what_if.hands import IdealHands
from aggregates.what_if.mishaps import disk_fails, node_dies
from aggregates.what_if.nodes import Fault
from aggregates.what_if.ties import Lost
from aggregates.world import World
from hwbus.codec import UnreadableError, command_codec
from hwbus.controller.storage import StorageDomain, StorageScript
from hwbus.rehearsal import DECISIONS_MAX, Happened, Rehearsal
from schemas.answers import Refused, refuse
from schemas.draining import ForgetNode
from schemas.grammar import Message, kind_and_verb, type_name
from schemas.operation import OperationEnded, OperationStarted
from schemas.place import place_of
from schemas.plan import (
    LISTED_MAX,
    Counts,
    DiskFails,
    Ended,
    Forecast,
    Foreseen,
    NodeDies,
    PlanStep,
    Said,
    Say,
    WorkFails,
)
from schemas.refusals import Refusal
from schemas.words import command_for, every_event

Step = Message | NodeDies | DiskFails | WorkFails
T = TypeVar("T")
_EVENTS = frozenset(map(type_name, every_event()))


class _Named(msgspec.Struct, frozen=True):
    type: str


class Numbers:
    """Gives out identities that no log has: the same in every rehearsal."""

    def __init__(self) -> None:
        self._number = 0

    def __call__(self) -> str:
        """Return the next one."""
        self._number += 1
        return f"plan{self._number:022d}"


def read(steps: Sequence[PlanStep]) -> tuple[Step, ...] | Refused:
    """Return *steps* with every command read, or why one of them cannot be."""
    found: list[Step] = []
    for number, step in enumerate(steps):
        where = f"steps[{number}]"
        if isinstance(step, WorkFails) and step.event not in _EVENTS:
            return refuse(Refusal.MALFORMED, f"{where}.event: there is no event {step.event!r}")
        one = _command(bytes(step.command), f"{where}.command") if isinstance(step, Say) else step
        if isinstance(one, Refused):
            return one
        found.append(one)
    return tuple(found)


def _command(data: bytes, where: str) -> Message | Refused:
    try:
        named = msgspec.json.decode(data, type=_Named).type
    except msgspec.DecodeError as error:
        return refuse(Refusal.MALFORMED, f"{where}: {error}")
    kind, _, verb = named.partition(".")
    word = command_for(kind, verb.partition(".")[0])
    if word is None or type_name(word) != named:
        return refuse(Refusal.UNKNOWN_COMMAND, f"{where}: {named[:80]!r} is no command")
    try:
        command: Message = command_codec(word).decode(data)
    except UnreadableError as error:
        return refuse(Refusal.MALFORMED, f"{where}: {error}"[:500])
    return command


def forecast(
    world: World,
    steps: Sequence[Step],
    *,
    seq: int,
    at: datetime,
    decisions_max: int = DECISIONS_MAX,
) -> Forecast:
    """Return what would follow from *steps*, one after another, in *world* as it stands at *at*.

    *world* stays as it is.
    """
    fork = world.forked()
    hands = IdealHands(fork)
    before = measures.State(world, Lost(set(hands.lost.nodes)))
    rehearsal = Rehearsal(
        StorageDomain(fork),
        StorageScript(fork),
        hands,
        at=at,
        mint=Numbers(),
        decisions_max=decisions_max,
    )
    said = []
    for step in steps:
        said.append(_taken(step, fork, hands, rehearsal))
        rehearsal.play()
    return _told(rehearsal, before, measures.State(fork, hands.lost), said, seq, at)


def _taken(step: Step, world: World, hands: IdealHands, rehearsal: Rehearsal) -> Said:
    match step:
        case NodeDies():
            name = f"node {step.node} dies" + (" for good" if step.for_good else "")
            told = node_dies(step.node, world, hands, rehearsal.now)
            answer = _all(told, rehearsal)
            if step.for_good and not answer.get("code"):
                rehearsal.play()
                answer = _all((ForgetNode(node=step.node),), rehearsal)
            return Said(said=name, **answer)
        case DiskFails():
            told = disk_fails(step.disk, world, hands)
            return Said(said=f"disk {step.disk} fails", **_all(told, rehearsal))
        case WorkFails():
            hands.faults[Fault(step.node, step.event)] = step.code
            return Said(said=f"{step.event} fails on {step.node}")
        case Message():
            kind, verb = kind_and_verb(step)
            _, place, id_ = place_of(step)
            name = id_ if place == "-" else f"{place}/{id_}"
            return Said(said=f"{kind}.{verb} {name}", **_all((step,), rehearsal))
        case _:
            assert_never(step)


def _all(commands: tuple[Message, ...] | Refused, rehearsal: Rehearsal) -> dict[str, Any]:
    """Have them decided; the last one says how it went."""
    answer: Any = commands
    for command in () if isinstance(commands, Refused) else commands:
        answer = rehearsal.decide(command)
    if isinstance(answer, Refused):
        return {"code": answer.code, "because": answer.because, "fix": answer.fix}
    return {"events": len(answer)}


def _told(
    rehearsal: Rehearsal,
    before: measures.State,
    after: measures.State,
    said: Iterable[Said],
    seq: int,
    at: datetime,
) -> Forecast:
    moves = tuple(measures.moves(before.world, after.world))
    pools = tuple(measures.pools(before.world, after.world))
    volumes = tuple(measures.volumes(before, after))
    events = [
        Foreseen(object=str(one.address), type=type_name(event), operation=one.operation)
        for one in rehearsal.happened
        for event in one.events
    ]
    operations = tuple(_operations(rehearsal.happened))
    under_way = (
        f"{one.kind.value} {one.object}"
        for one in before.world.operations.values()
        if one.outcome is None and one.kind is not None
    )
    return Forecast(
        seq=seq,
        at=at,
        steps=tuple(said),
        operations=_first(operations),
        moves=_first(moves),
        pools=_first(pools),
        volumes=_first(volumes),
        events=_first(events),
        under_way=_first(tuple(under_way)),
        counts=Counts(
            operations=len(operations),
            moves=len(moves),
            pools=len(pools),
            volumes=len(volumes),
            events=len(events),
        ),
        moved_bytes=sum(one.size_bytes for one in moves if one.source and one.target),
        decisions=rehearsal.decisions,
        cut_off=rehearsal.cut_off,
    )


def _first(found: Sequence[T]) -> tuple[T, ...]:
    return tuple(found[:LISTED_MAX])


def _operations(happened: Iterable[Happened]) -> Iterable[Ended]:
    """Return every operation that was begun, with its end if it came to one."""
    found: dict[str, Ended] = {}
    for one in happened:
        for event in one.events:
            if isinstance(event, OperationStarted):
                found[event.operation] = Ended(kind=event.kind, object=event.object)
            elif isinstance(event, OperationEnded):
                found[event.operation] = Ended(
                    kind=event.kind,
                    object=event.object,
                    outcome=event.outcome,
                    code=event.code,
                    because=event.because,
                    leftovers=event.leftovers,
                )
    return found.values()
