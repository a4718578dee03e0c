"""Settling a finding: which way that goes is in the verb that somebody chose."""

from typing import assert_never

from aggregates.processes.adopt_volume import Adopt
from aggregates.processes.mend_volume import MendVolume
from aggregates.processes.put_aside import Put
from aggregates.processes.settling import Settle
from aggregates.settling import mend_of, name_of
from schemas.mending import SeenVolume
from schemas.operation import OperationKind
from schemas.settling import DriftSettlingBegan, Verb

_NOWHERE = SeenVolume(pool="", name="", lv="", size_bytes=0)


def begin(event: DriftSettlingBegan) -> Settle:
    """Return the operation that *event* began."""
    finding = event.finding
    seen = finding.lv or _NOWHERE
    operation, deadline, kind = event.operation, event.deadline, OperationKind.DRIFT_SETTLE
    mend = mend_of(finding, event.verb)
    if mend is not None:
        return MendVolume(
            operation=operation,
            kind=kind,
            object=f"volume/{name_of(finding)}",
            deadline=deadline,
            wish=event,
            volume=name_of(finding),
            mend=mend,
        )
    match event.verb:
        case Verb.ADOPT:
            return Adopt(
                operation=operation,
                kind=kind,
                object=f"volume/{event.volume}",
                deadline=deadline,
                wish=event,
                volume=event.volume or name_of(finding),
                seen=seen,
            )
        case Verb.QUARANTINE | Verb.RELEASE:
            return Put(
                operation=operation,
                kind=kind,
                object=finding.object,
                deadline=deadline,
                wish=event,
                seen=seen,
            )
        case Verb.ACCEPT | Verb.UNDO | Verb.RECREATE:
            raise AssertionError(f"{event.verb.value} puts a leg right")
        case _:
            assert_never(event.verb)
