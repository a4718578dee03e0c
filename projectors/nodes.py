"""The nodes as people ask about them: the first true thing that keeps a node from being ready."""

from msgspec.structs import replace

from projectors.reading import Seen
from projectors.rows import Changes, Rows, put
from projectors.tables import NODES
from schemas.draining import DrainBegan, DrainEnded, ForgettingBegan
from schemas.grammar import Event
from schemas.node import (
    NodeAdmitted,
    NodeCordoned,
    NodeFellSilent,
    NodeHeard,
    NodeJoined,
    NodeRemovalBegan,
    NodeRemovalEnded,
    NodeRemoved,
    NodeUncordoned,
    PoolAttached,
    PoolDetached,
)
from schemas.views import NodeRow, NodeState


def nodes(rows: Rows, seen: Seen, event: Event) -> Changes:
    """Change the row of the node that *event* is about."""
    name = seen.address.id
    row = rows.get(NODES, name)
    if isinstance(event, NodeJoined):
        yield put(NODES, name, _stamped(_joined(row, seen, event), seen))
    elif row is not None and isinstance(event, NodeAdmitted):
        # It may come back later, as if it had never been there; until then it is just known.
        yield put(NODES, name, _stamped(_blank(name, seen, NodeState.ADMITTED), seen))
    elif row is not None:
        after = _membership(_presence(row, event), event)
        yield put(NODES, name, _stamped(after, seen))


def _blank(name: str, seen: Seen, state: NodeState) -> NodeRow:
    return NodeRow(name=name, state=state, created_at=seen.at, changed_at=seen.at, seq=seen.seq)


def _joined(row: NodeRow | None, seen: Seen, event: NodeJoined) -> NodeRow:
    if row is None or row.state in {NodeState.REMOVED, NodeState.ADMITTED}:
        row = _blank(event.node, seen, NodeState.READY)
    return replace(
        row,
        address=event.address,
        zone=event.zone,
        capabilities=event.capabilities,
        worker_version=event.worker_version,
    )


def _presence(row: NodeRow, event: Event) -> NodeRow:
    match event:
        case NodeFellSilent():
            return replace(row, silent=True, last_heard=event.last_heard)
        case NodeHeard():
            return replace(row, silent=False, last_heard=None)
        case NodeCordoned():
            return replace(row, cordoned=True, why=event.because)
        case NodeUncordoned():
            return replace(row, cordoned=False, why="")
        case _:
            return row


def _membership(row: NodeRow, event: Event) -> NodeRow:
    match event:
        case PoolAttached(volume=None):
            return replace(row, pools=tuple(sorted({*row.pools, event.pool})))
        case PoolDetached():
            return replace(row, pools=tuple(p for p in row.pools if p != event.pool))
        case DrainBegan():
            draining = replace(row, operation=event.operation, deadline=event.deadline)
            return replace(draining, draining=True, cordoned=True, why="")
        case DrainEnded():
            left = f"drained, but for {', '.join(event.left)}" if event.left else ""
            return replace(row, operation="", deadline=None, draining=False, why=left[:1000])
        case NodeRemovalBegan() | ForgettingBegan():
            return replace(row, operation=event.operation, deadline=event.deadline)
        case NodeRemovalEnded():
            return replace(row, operation="", deadline=None)
        case NodeRemoved():
            return NodeRow(
                name=row.name,
                state=NodeState.REMOVED,
                address=row.address,
                zone=row.zone,
                created_at=row.created_at,
                changed_at=row.changed_at,
                seq=row.seq,
            )
        case _:
            return row


def _stamped(row: NodeRow, seen: Seen) -> NodeRow:
    return replace(
        row,
        state=_state(row),
        seq=seen.seq,
        version=seen.commit.version,
        changed_at=seen.at,
    )


def _state(row: NodeRow) -> NodeState:
    if row.state in {NodeState.REMOVED, NodeState.ADMITTED}:
        return row.state
    if row.operation and not row.draining:
        return NodeState.REMOVING
    if row.silent:
        return NodeState.SILENT
    if row.draining:
        return NodeState.DRAINING
    return NodeState.CORDONED if row.cordoned else NodeState.READY


def counted(rows: Rows, name: str, disks: int) -> Changes:
    """Count *disks* more, or fewer, at the node; a node that never joined is not counted."""
    row = rows.get(NODES, name)
    if row is not None:
        yield put(NODES, name, replace(row, disks=max(0, row.disks + disks)))
