"""Work with a backup target that a node does once: wanted, done or stopped, and then forgotten."""

from enum import StrEnum
from typing import assert_never

import msgspec
from msgspec.structs import replace

from aggregates.decision import Decision, Facts
from aggregates.node import unheard
from schemas.answers import refuse
from schemas.errand import (
    ErrandCommand,
    ErrandDone,
    ErrandEvent,
    ErrandStopped,
    ErrandStopWanted,
    ErrandTroubled,
    ErrandWanted,
    PutAside,
    ReportErrandDone,
    ReportErrandStopped,
    ReportErrandTrouble,
    RunErrand,
    StopErrand,
)
from schemas.refusals import Refusal


class ErrandPhase(StrEnum):
    """Whether a node is to do it."""

    ABSENT = "absent"
    WANTED = "wanted"
    STOPPING = "stopping"


class Errand(msgspec.Struct, frozen=True, kw_only=True):
    """One errand; its id is that of its operation.

    ``taken_back``: a node that is to stop takes back what it has done.
    """

    phase: ErrandPhase = ErrandPhase.ABSENT
    taken_back: bool = False
    trouble: tuple[Refusal, str] | None = None


def decide(errand: Errand, command: ErrandCommand, facts: Facts) -> Decision[ErrandEvent]:
    """Say what shall happen. May refuse a request; never refuses a report."""
    about = {"operation": command.operation, "node": command.node}
    match command:
        case RunErrand():
            if errand.phase is not ErrandPhase.ABSENT:
                return ()
            no = unheard(facts.world.nodes.get(command.node), command.node)
            return no or (ErrandWanted(**about, errand=command.errand),)
        case StopErrand():
            if errand.phase is ErrandPhase.ABSENT:
                return refuse(Refusal.NOT_YOURS, f"{command.node} has no such errand")
            stopping = errand.phase is ErrandPhase.STOPPING
            return () if stopping else (ErrandStopWanted(**about),)
        case ReportErrandDone():
            # Said before the node knew that it is to stop, it is not so any more once it knows.
            moot = errand.phase is ErrandPhase.STOPPING and errand.taken_back
            there = errand.phase is not ErrandPhase.ABSENT and not moot
            return (ErrandDone(**about, found=command.found),) if there else ()
        case ReportErrandStopped():
            stopping = errand.phase is ErrandPhase.STOPPING
            return (ErrandStopped(**about),) if stopping else ()
        case ReportErrandTrouble():
            return _trouble(errand, command)
        case _:
            assert_never(command)


def _trouble(errand: Errand, report: ReportErrandTrouble) -> Decision[ErrandEvent]:
    told = errand.trouble == (report.code, report.because) and not report.permanent
    if errand.phase is ErrandPhase.ABSENT or told:
        return ()
    return (
        ErrandTroubled(
            operation=report.operation,
            node=report.node,
            code=report.code,
            because=report.because,
            permanent=report.permanent,
        ),
    )


def evolve(errand: Errand, event: ErrandEvent) -> Errand:
    """Apply what happened. Never refuses: the past cannot be wrong."""
    match event:
        case ErrandWanted():
            taken_back = isinstance(event.errand, PutAside)
            return Errand(phase=ErrandPhase.WANTED, taken_back=taken_back)
        case ErrandStopWanted():
            return replace(errand, phase=ErrandPhase.STOPPING, trouble=None)
        case ErrandTroubled():
            return replace(errand, trouble=(event.code, event.because))
        case ErrandDone() | ErrandStopped():
            return Errand()
        case _:
            assert_never(event)
