"""Differences between what was decided and what is: since when, and who settled them."""

from msgspec.structs import replace

from projectors.reading import Seen
from projectors.rows import Changes, Rows, drop, put
from projectors.tables import DRIFT, DRIFT_PAST, FINDINGS, NODES, VOLUMES, FindingsRow
from schemas.grammar import Event
from schemas.node import Drift, DriftFound, DriftSettled, Finding, NodeAdmitted, NodeRemoved
from schemas.settling import DriftSettlingBegan, DriftSettlingEnded, mark
from schemas.views import DriftRow, PastDriftRow

PAST_MAX = 200


def drift(rows: Rows, seen: Seen, event: Event) -> Changes:
    """Open or close findings. One that is found again with other sides is as old as before."""
    node = seen.address.id
    index = rows.get(FINDINGS, node)
    keys = index.keys if index is not None else ()
    match event:
        case DriftFound():
            key = _key(node, event.finding)
            known = rows.get(DRIFT, key)
            row = _row(node, seen, event.finding)
            yield put(DRIFT, key, row if known is None else replace(row, since=known.since))
            yield from _marked(rows, event.finding, found=True)
            yield from _counted(rows, node, (*(k for k in keys if k != key), key))
        case DriftSettled():
            key = _key(node, event.finding)
            yield from _past(rows, node, seen, rows.get(DRIFT, key))
            yield drop(DRIFT, key)
            yield from _marked(rows, event.finding, found=False)
            yield from _counted(rows, node, tuple(k for k in keys if k != key))
        case DriftSettlingBegan() | DriftSettlingEnded():
            key = _key(node, event.finding)
            yield from _settling(key, rows.get(DRIFT, key), seen, event)
        case NodeRemoved() | NodeAdmitted():
            for key in keys:
                yield from _forgiven(rows, rows.get(DRIFT, key))
                yield drop(DRIFT, key)
            yield from _counted(rows, node, ())
        case _:
            return


def _marked(rows: Rows, finding: Finding, *, found: bool) -> Changes:
    """Have a finding on the row of the volume whose leg it is about, or no longer."""
    kind, _, rest = finding.object.partition("/")
    node, _, volume = rest.partition("/")
    row = rows.get(VOLUMES, volume) if kind == "replica" else None
    if row is None or row.node != node:
        return
    others = tuple(one for one in row.defects if one is not finding.drift)
    yield put(VOLUMES, volume, replace(row, defects=(*others, finding.drift) if found else others))


def _forgiven(rows: Rows, row: DriftRow | None) -> Changes:
    if row is not None:
        yield from _marked(rows, Finding(drift=row.drift, object=row.object), found=False)


def _key(node: str, finding: Finding) -> str:
    return f"{node}/{finding.drift.value}/{finding.object}"


def _row(node: str, seen: Seen, finding: Finding) -> DriftRow:
    return DriftRow(
        node=node,
        drift=finding.drift,
        object=finding.object,
        wanted=finding.wanted,
        observed=finding.observed,
        settle=finding.settle,
        since=seen.at,
        last_seen=seen.at,
        seen=mark(finding),
        lv=finding.lv,
        quiet=finding.quiet,
        seq=seen.seq,
    )


def _settling(
    key: str, row: DriftRow | None, seen: Seen, event: DriftSettlingBegan | DriftSettlingEnded
) -> Changes:
    if row is None:
        return
    if isinstance(event, DriftSettlingBegan):
        about = {"operation": event.operation, "verb": event.verb, "by": seen.commit.actor}
        yield put(DRIFT, key, replace(row, **about, why="", code=None, seq=seen.seq))
    elif event.code is not None and row.operation == event.operation:
        open_ = replace(row, operation="", verb=None, by="", seq=seen.seq)
        yield put(DRIFT, key, replace(open_, why=event.because, code=event.code))


def _past(rows: Rows, node: str, seen: Seen, row: DriftRow | None) -> Changes:
    """Keep what was settled, and by whom; the oldest make room."""
    if row is None:
        return
    key, index = f"{node}/{seen.seq:020d}/{row.drift.value}/{row.object}", f"past/{node}"
    known = rows.get(FINDINGS, index)
    keys = (*(known.keys if known is not None else ()), key)
    for old in keys[:-PAST_MAX]:
        yield drop(DRIFT_PAST, old)
    yield put(FINDINGS, index, FindingsRow(keys=keys[-PAST_MAX:]))
    past = PastDriftRow(
        node=node,
        drift=row.drift,
        object=row.object,
        wanted=row.wanted,
        observed=row.observed,
        since=row.since,
        until=seen.at,
        verb=row.verb,
        by=row.by,
        operation=row.operation,
        seq=seen.seq,
    )
    yield put(DRIFT_PAST, key, past)


def _counted(rows: Rows, node: str, keys: tuple[str, ...]) -> Changes:
    yield put(FINDINGS, node, FindingsRow(keys=keys)) if keys else drop(FINDINGS, node)
    row = rows.get(NODES, node)
    if row is not None:
        quiet = f"{node}/{Drift.VOLUME_QUARANTINED.value}/"
        loud = sum(not key.startswith(quiet) for key in keys)
        yield put(NODES, node, replace(row, drifts=loud))
