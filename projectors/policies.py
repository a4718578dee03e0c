"""The policies as people ask about them: what they look after, what they did, what they cannot."""

from msgspec.structs import replace

from projectors.reading import Seen
from projectors.rows import Changes, Rows, drop, put
from projectors.tables import POLICIES
from schemas.grammar import Event
from schemas.policy import (
    PolicyActed,
    PolicyAlarmed,
    PolicyAnswered,
    PolicyCalmed,
    PolicyChanged,
    PolicyPaused,
    PolicyRemoved,
    PolicyResumed,
    PolicySpec,
)
from schemas.policy_view import PolicyAlarm, PolicyRow, PolicyState


def policies(rows: Rows, seen: Seen, event: Event) -> Changes:
    """Change the row of the policy that *event* is about."""
    name = seen.address.id
    row = rows.get(POLICIES, name)
    match event:
        case PolicyChanged():
            yield put(POLICIES, name, _stamped(_set(row or _new(seen, event), event.spec), seen))
        case PolicyRemoved():
            yield drop(POLICIES, name)
        case _ if row is not None:
            yield put(POLICIES, name, _stamped(_changed(row, event), seen))
        case _:
            return


def _new(seen: Seen, event: PolicyChanged) -> PolicyRow:
    return PolicyRow(
        name=event.policy,
        uid=event.uid,
        kind=event.spec.kind,
        state=PolicyState.ACTIVE,
        created_at=seen.at,
        changed_at=seen.at,
        seq=seen.seq,
    )


def _set(row: PolicyRow, spec: PolicySpec) -> PolicyRow:
    return replace(
        row,
        kind=spec.kind,
        node=spec.selector.node or "",
        pool=spec.selector.pool or "",
        volume=spec.selector.volume or "",
        threshold_percent=spec.threshold_percent,
        step_bytes=spec.step_bytes,
        step_percent=spec.step_percent,
        ceiling_bytes=spec.ceiling_bytes,
        media=spec.media,
        cool_down_s=spec.cool_down_s,
        group=spec.selector.group or "",
        every_s=0 if spec.rhythm is None else spec.rhythm.every_s,
        offset_s=0 if spec.rhythm is None else spec.rhythm.offset_s,
        at_once=spec.at_once,
        repair=spec.repair,
    )


def _changed(row: PolicyRow, event: Event) -> PolicyRow:
    match event:
        case PolicyPaused():
            return replace(row, state=PolicyState.PAUSED, why=event.because)
        case PolicyResumed():
            return _judged(replace(row, state=PolicyState.ACTIVE))
        case PolicyActed():
            return replace(
                row,
                acts=event.number,
                last_object=event.object,
                last_act_at=event.at,
                last_operation="",
                last_code=None,
            )
        case PolicyAnswered() if event.number == row.acts:
            return replace(row, last_operation=event.operation, last_code=event.code)
        case PolicyAlarmed():
            alarm = PolicyAlarm(
                object=event.object, code=event.code, because=event.because, since=event.at
            )
            return _judged(replace(row, alarms=(*_others(row, event.object), alarm)))
        case PolicyCalmed():
            return _judged(replace(row, alarms=_others(row, event.object)))
        case _:
            return row


def _others(row: PolicyRow, object_: str) -> tuple[PolicyAlarm, ...]:
    return tuple(alarm for alarm in row.alarms if alarm.object != object_)


def _judged(row: PolicyRow) -> PolicyRow:
    """Return the row with its state by its alarms, and the newest of them as the reason."""
    if row.state is PolicyState.PAUSED:
        return row
    if not row.alarms:
        return replace(row, state=PolicyState.ACTIVE, why="")
    newest = row.alarms[-1]
    return replace(row, state=PolicyState.ALARM, why=f"{newest.code} {newest.because}")


def _stamped(row: PolicyRow, seen: Seen) -> PolicyRow:
    return replace(row, seq=seen.seq, version=seen.commit.version, changed_at=seen.at)
