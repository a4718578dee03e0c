"""The QoS classes as people ask about them: what each allows, and which volumes carry that."""

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from projectors.reading import Seen
from projectors.rows import Changes, Rows, drop, put
from projectors.tables import QOS
from schemas.grammar import Event
from schemas.qos import QosClassChanged, QosClassCreated, QosClassDeleted
from schemas.qos_view import QosBehind, QosRow, QosState
from schemas.views import VolumeRow

BEHIND_MAX = 100


def qos(rows: Rows, seen: Seen, event: Event) -> Changes:
    """Change the row of the QoS class that *event* is about."""
    name = seen.address.id
    row = rows.get(QOS, name)
    match event:
        case QosClassCreated():
            row = QosRow(
                name=name,
                uid=event.uid,
                limits=event.limits,
                limits_since=event.at,
                created_at=seen.at,
                changed_at=seen.at,
                seq=seen.seq,
            )
        case QosClassChanged() if row is not None:
            row = replace(row, limits=event.limits, limits_since=event.at)
        case QosClassDeleted():
            yield drop(QOS, name)
            return
        case _:
            return
    version = seen.commit.version
    yield put(QOS, name, replace(row, seq=seen.seq, version=version, changed_at=seen.at))


def told(row: QosRow, members: Iterable[VolumeRow], lost: Mapping[str, str]) -> QosRow:
    """Return the row with what is true of its *members* now.

    *lost* are the attachments, as ``attachment/NODE/VOLUME``, of which a node says that something
    is missing, its limits perhaps, and what it says.
    """
    volumes = attached = carrying = 0
    failed = False
    behind: list[QosBehind] = []
    for one in members:
        volumes += 1
        if not one.consumer:
            continue
        attached += 1
        missing = lost.get(f"attachment/{one.node}/{one.name}", "")
        if one.limits == row.limits and not missing:
            carrying += 1
            continue
        failed = failed or bool(missing or one.code)
        if len(behind) < BEHIND_MAX:
            behind.append(
                QosBehind(
                    volume=one.name,
                    node=one.node,
                    limits=one.limits,
                    operation=one.operation,
                    code=one.code,
                    why=missing or one.why,
                )
            )
    state = QosState.APPLIED if carrying == attached else QosState.CHANGING
    return replace(
        row,
        state=QosState.ALARM if failed else state,
        volumes=volumes,
        attached=attached,
        carrying=carrying,
        behind=tuple(behind),
    )
