"""Findings and what somebody decides about them: each by one operation, and only as it was seen."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, assert_never

from msgspec.structs import replace

from aggregates import node as nodes
from aggregates.decision import Decision, Facts
from aggregates.node import Node, NodePhase, Quarantined, Settling, unheard
from aggregates.volume import Volume
from aggregates.volume_settling import unmendable
from schemas.answers import Refused, refuse
from schemas.mending import Mend, no_volume, taken_bytes
from schemas.node import Drift, Finding, NodeCommand, NodeEvent, ReportDrift
from schemas.refusals import Refusal
from schemas.settling import (
    WAYS,
    ConcludeSettling,
    DriftSettlingBegan,
    DriftSettlingEnded,
    ForeignQuarantined,
    ForeignReleased,
    SettleDrift,
    SettlingCommand,
    SettlingEvent,
    Verb,
    mark,
)
from schemas.units import NAME

if TYPE_CHECKING:
    from collections.abc import Collection

_NAME = re.compile(NAME)
_NAME_CHARACTERS_MAX = 63
_STRANGE = frozenset({Drift.VOLUME_FOREIGN, Drift.VOLUME_QUARANTINED})
_Event = NodeEvent | SettlingEvent


def decide(node: Node, command: NodeCommand | SettlingCommand, facts: Facts) -> Decision[_Event]:
    """Say what shall happen. May refuse a request; never refuses a report."""
    match command:
        case SettleDrift():
            if node.phase in {NodePhase.UNKNOWN, NodePhase.REMOVED} or node.silent:
                return unheard(node, command.node) or ()
            return _settle(node, command, facts)
        case ConcludeSettling():
            return _conclude(node, command)
        case ReportDrift():
            told = nodes.decide(node, command, facts)
            gone = _out_of_quarantine(node, command)
            return told if isinstance(told, Refused) else (*told, *gone)
        case _:
            return nodes.decide(node, command, facts)


def mend_of(finding: Finding, verb: Verb) -> Mend | None:
    """Return how the leg that *finding* is about is put right by *verb*; None: it has none."""
    match verb:
        case Verb.ACCEPT:
            return Mend.FORGET if finding.drift is Drift.VOLUME_MISSING else Mend.SIZE
        case Verb.UNDO:
            return Mend.UNDO
        case Verb.RECREATE:
            return Mend.RECREATE
        case Verb.ADOPT | Verb.QUARANTINE | Verb.RELEASE:
            return None
        case _:
            assert_never(verb)


def name_of(finding: Finding) -> str:
    """Return the name of what the finding is about: the last word of its address."""
    return finding.object.rpartition("/")[2]


def _settle(node: Node, command: SettleDrift, facts: Facts) -> Decision[_Event]:
    found = (f for f in node.findings if (f.drift, f.object) == (command.drift, command.object))
    finding = next(found, None)
    if finding is None:
        nothing = f"{command.node} has no finding {command.drift.value} of {command.object}"
        return refuse(Refusal.UNKNOWN_FINDING, nothing[:1000])
    no = _unsettleable(node, finding, command) or _unfit(node, finding, command, facts)
    return no or (
        DriftSettlingBegan(
            node=command.node,
            operation=facts.operation,
            deadline=facts.at + timedelta(seconds=command.deadline_s),
            uid=facts.uid,
            verb=command.verb,
            finding=finding,
            volume=_called(finding, command),
            filesystem=command.filesystem,
        ),
    )


def _unsettleable(node: Node, finding: Finding, command: SettleDrift) -> Refused | None:
    if mark(finding) != command.seen:
        now = f"{command.object} is {mark(finding)} now, not {command.seen[:64]}: "
        return refuse(Refusal.FINDING_CHANGED, f"{now}{finding.observed}"[:1000])
    if command.verb not in WAYS.get(finding.drift, ()):
        odd = f"{finding.drift.value} of {command.object} cannot be settled by {command.verb.value}"
        return refuse(Refusal.WRONG_WAY, odd[:1000])
    busy = next((s for s in node.settling if s.finding.object == finding.object), None)
    if busy is not None:
        return refuse(Refusal.FINDING_BUSY, f"operation {busy.operation} settles {command.object}")
    return None


def _unfit(node: Node, finding: Finding, command: SettleDrift, facts: Facts) -> Refused | None:
    mend = mend_of(finding, command.verb)
    if mend is not None:
        name = name_of(finding)
        if mend is Mend.RECREATE and command.volume != name:
            said = f"{name} is made anew, empty, only for whoever says its name"
            return refuse(Refusal.NOT_CONFIRMED, said)
        volume = facts.world.volumes.get(name)
        return unmendable(volume, name, mend, finding.lv) or _never_smaller(volume, finding, mend)
    if finding.lv is None:
        return refuse(Refusal.CANNOT_TAKE_OVER, f"{command.object} was not looked at closely")
    match command.verb:
        case Verb.ADOPT:
            return _unadoptable(finding, command, facts)
        case Verb.QUARANTINE if taken_bytes(finding.lv) is None:
            odd = f"{command.object} is {finding.lv.layout}: nobody can say what room it takes"
            return refuse(Refusal.CANNOT_TAKE_OVER, odd[:1000])
        case Verb.RELEASE if finding.lv.claim not in {q.claim for q in node.quarantined}:
            odd = f"{command.object} bears a tag of a quarantine that is not known here"
            return refuse(Refusal.UNKNOWN_FINDING, odd[:1000])
        case _:
            return None


def _never_smaller(volume: Volume | None, finding: Finding, mend: Mend) -> Refused | None:
    size_bytes = 0 if finding.lv is None else finding.lv.size_bytes
    larger = volume is not None and size_bytes > volume.size_bytes + volume.header_bytes
    if mend is not Mend.UNDO or finding.drift is not Drift.VOLUME_RESIZED or not larger:
        return None
    grown = f"{name_of(finding)} was made larger by hand: it is never cut off again, only accepted"
    return refuse(Refusal.WRONG_WAY, grown)


def _unadoptable(finding: Finding, command: SettleDrift, facts: Facts) -> Refused | None:
    odd = "" if finding.lv is None else no_volume(finding.lv)
    if odd is not None:
        return refuse(Refusal.CANNOT_TAKE_OVER, f"{command.object}: {odd}"[:1000])
    name = _called(finding, command)
    if name is None:
        bad = f"{name_of(finding)[:80]} is no name of a volume: say how it shall be called"
        return refuse(Refusal.BAD_NAME, bad)
    taken: tuple[tuple[Collection[str], Refusal], ...] = (
        (facts.world.volumes, Refusal.VOLUME_EXISTS),
        (facts.world.snapshots, Refusal.SNAPSHOT_EXISTS),
    )
    return next(
        (refuse(code, f"there is one called {name}") for names, code in taken if name in names),
        None,
    )


def _called(finding: Finding, command: SettleDrift) -> str | None:
    name = command.volume or name_of(finding)
    fits = len(name) <= _NAME_CHARACTERS_MAX and _NAME.match(name) is not None
    return name if fits else None


def _conclude(node: Node, report: ConcludeSettling) -> Decision[_Event]:
    mine = next((s for s in node.settling if s.operation == report.operation), None)
    if mine is None:
        return ()
    ended = DriftSettlingEnded(
        node=report.node,
        operation=report.operation,
        verb=mine.verb,
        finding=mine.finding,
        code=report.code,
        because=report.because,
    )
    lv, object_ = mine.finding.lv, mine.finding.object
    if report.code is not None or lv is None:
        return (ended,)
    if mine.verb is Verb.QUARANTINE:
        about = {"node": report.node, "object": object_, "pool": lv.pool, "claim": mine.uid}
        return (ended, ForeignQuarantined(**about))
    if mine.verb is Verb.RELEASE:
        quarantined = (q for q in node.quarantined if q.claim == lv.claim)
        return (ended, *(_released(report.node, one) for one in quarantined))
    return (ended,)


def _out_of_quarantine(node: Node, report: ReportDrift) -> Iterator[ForeignReleased]:
    """Yield what was in quarantine, and was seen there, and is not any more by this report."""
    now = {f.lv.claim for f in report.findings if f.lv is not None and f.lv.claim}
    strange = {f.object for f in report.findings if f.drift in _STRANGE}
    known = {f.object for f in node.findings if f.drift in _STRANGE}
    for one in node.quarantined:
        gone = one.object in known and one.object not in strange
        untagged = one.seen and one.claim not in now
        if one.claim not in now and (gone or untagged):
            yield _released(report.node, one)


def _released(node: str, one: Quarantined) -> ForeignReleased:
    return ForeignReleased(node=node, object=one.object, pool=one.pool, claim=one.claim)


def evolve(node: Node, event: _Event) -> Node:
    """Apply what happened. Never refuses: the past cannot be wrong."""
    match event:
        case DriftSettlingBegan():
            begun = Settling(
                operation=event.operation, uid=event.uid, verb=event.verb, finding=event.finding
            )
            return replace(node, settling=(*node.settling, begun))
        case DriftSettlingEnded():
            left = tuple(s for s in node.settling if s.operation != event.operation)
            return replace(node, settling=left)
        case ForeignQuarantined():
            one = Quarantined(claim=event.claim, object=event.object, pool=event.pool)
            return replace(node, quarantined=(*node.quarantined, one))
        case ForeignReleased():
            kept = tuple(q for q in node.quarantined if q.claim != event.claim)
            return replace(node, quarantined=kept)
        case _:
            return _noted(nodes.evolve(node, event))


def _noted(node: Node) -> Node:
    """Remember which quarantines were seen: only what was seen can be missed."""
    if not node.quarantined:
        return node
    seen = {f.lv.claim for f in node.findings if f.lv is not None and f.lv.claim}
    noted = tuple(replace(q, seen=True) if q.claim in seen else q for q in node.quarantined)
    return replace(node, quarantined=noted)
