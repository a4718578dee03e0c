"""Room at every level: what the pools say, added up; each level changes by what a pool changed."""

from collections.abc import Sequence

from msgspec.structs import replace

from projectors.reading import Seen
from projectors.rows import Altered, Changes, Rows, drop, put
from projectors.tables import USAGE, ClaimRow
from schemas.keys import header_bytes
from schemas.snapshot_view import SnapshotRow
from schemas.usage_view import UsageLevel, UsageRow
from schemas.views import NodeRow, NodeState, PoolRow, Row, VolumeRow
from schemas.volume import Layout

CLUSTER = "cluster"


def usage(rows: Rows, seen: Seen, altered: Sequence[Altered]) -> Changes:
    """Change usage by what one commit altered in the rows of pools, claims, volumes and nodes."""
    for _table, key, before, after in altered:
        match after if after is not None else before:
            case PoolRow():
                yield from _pool(rows, seen, key, before, after)  # type: ignore[arg-type]
            case ClaimRow():
                yield from _claim(rows, seen, before, after)  # type: ignore[arg-type]
            case VolumeRow() | SnapshotRow() as owner if after is None:
                yield drop(USAGE, _key(_level(owner), owner.name))
                yield from _whole_disk(rows, seen, before, after)
            case VolumeRow() | SnapshotRow() as owner:
                yield from _owner(rows, seen, owner)
                yield from _whole_disk(rows, seen, before, after)
            case NodeRow() as node:
                yield from _node(rows, seen, node)
            case _:
                continue


def _key(level: UsageLevel, name: str) -> str:
    return f"{level.value}/{name}"


def _at(rows: Rows, level: UsageLevel, name: str, node: str = "") -> UsageRow:
    row = rows.get(USAGE, _key(level, name))
    return row or UsageRow(level=level, name=name, node=node, seq=0)


def _pool(
    rows: Rows, seen: Seen, key: str, before: PoolRow | None, after: PoolRow | None
) -> Changes:
    was, now = _of_pool(before, seen), _of_pool(after, seen)
    if after is None:
        yield drop(USAGE, _key(UsageLevel.POOL, key))
    else:
        yield put(USAGE, _key(UsageLevel.POOL, key), now)
    node = key.partition("/")[0]
    for level, name in ((UsageLevel.NODE, node), (UsageLevel.CLUSTER, CLUSTER)):
        total = _at(rows, level, name, node if level is UsageLevel.NODE else "")
        yield put(USAGE, _key(level, name), _moved(total, was, now))


def _of_pool(row: PoolRow | None, seen: Seen) -> UsageRow:
    if row is None:
        return UsageRow(level=UsageLevel.POOL, name="", seq=seen.seq)
    return UsageRow(
        level=UsageLevel.POOL,
        name=f"{row.node}/{row.name}",
        node=row.node,
        pool=row.name,
        capacity_bytes=row.size_bytes,
        allocated_bytes=row.allocated_bytes,
        reserved_bytes=row.reserved_bytes,
        committed_bytes=row.allocated_bytes + row.reserved_bytes,
        free_bytes=row.free_bytes,
        available_bytes=row.available_bytes,
        thin_bytes=row.thin_bytes,
        thin_committed_bytes=row.thin_committed_bytes,
        volumes=row.volumes,
        seq=seen.seq,
    )


def _moved(total: UsageRow, was: UsageRow, now: UsageRow) -> UsageRow:
    return replace(
        total,
        capacity_bytes=total.capacity_bytes + now.capacity_bytes - was.capacity_bytes,
        allocated_bytes=total.allocated_bytes + now.allocated_bytes - was.allocated_bytes,
        reserved_bytes=total.reserved_bytes + now.reserved_bytes - was.reserved_bytes,
        committed_bytes=total.committed_bytes + now.committed_bytes - was.committed_bytes,
        free_bytes=total.free_bytes + now.free_bytes - was.free_bytes,
        available_bytes=total.available_bytes + now.available_bytes - was.available_bytes,
        thin_bytes=total.thin_bytes + now.thin_bytes - was.thin_bytes,
        thin_committed_bytes=(
            total.thin_committed_bytes + now.thin_committed_bytes - was.thin_committed_bytes
        ),
        volumes=total.volumes + now.volumes - was.volumes,
        seq=now.seq,
    )


def _whole_disk(rows: Rows, seen: Seen, before: Row | None, after: Row | None) -> Changes:
    """Move the sums of node and cluster by a disk that is a volume: no pool counts it."""
    was, now = _of_disk(before, seen), _of_disk(after, seen)
    node = now.node or was.node
    if not node or (was.node, was.capacity_bytes) == (now.node, now.capacity_bytes):
        return
    for level, name in ((UsageLevel.NODE, node), (UsageLevel.CLUSTER, CLUSTER)):
        total = _at(rows, level, name, node if level is UsageLevel.NODE else "")
        yield put(USAGE, _key(level, name), _moved(total, was, now))


def _of_disk(row: Row | None, seen: Seen) -> UsageRow:
    """Return what a volume takes that is a whole disk: all of it, and nothing is left there."""
    if not isinstance(row, VolumeRow) or not row.disk or not row.size_bytes:
        return UsageRow(level=UsageLevel.VOLUME, name="", seq=seen.seq)
    return UsageRow(
        level=UsageLevel.VOLUME,
        name=row.name,
        node=row.node,
        capacity_bytes=row.size_bytes,
        allocated_bytes=row.size_bytes,
        committed_bytes=row.size_bytes,
        volumes=1,
        seq=seen.seq,
    )


def _claim(rows: Rows, seen: Seen, before: ClaimRow | None, after: ClaimRow | None) -> Changes:
    """Move the own row of a volume or snapshot by what its claim takes more or less."""
    either = after or before
    if either is None:
        return
    row = rows.get(USAGE, _key(UsageLevel.VOLUME, either.volume))
    row = row or rows.get(USAGE, _key(UsageLevel.SNAPSHOT, either.volume))
    if row is None:
        return
    was, now = _of_claim(before), _of_claim(after)
    moved = [row_now - row_was for row_was, row_now in zip(was, now, strict=True)]
    allocated, reserved, promised = moved
    row = replace(
        row,
        allocated_bytes=row.allocated_bytes + allocated,
        reserved_bytes=row.reserved_bytes + reserved,
        committed_bytes=row.committed_bytes + allocated + reserved,
        thin_committed_bytes=row.thin_committed_bytes + promised,
        seq=seen.seq,
    )
    yield put(USAGE, _key(row.level, row.name), row)


def _of_claim(claim: ClaimRow | None) -> tuple[int, int, int]:
    if claim is None:
        return 0, 0, 0
    if claim.thin:
        return 0, 0, claim.settled_bytes + claim.reserved_bytes
    return claim.settled_bytes, claim.reserved_bytes, 0


def _level(owner: VolumeRow | SnapshotRow) -> UsageLevel:
    return UsageLevel.VOLUME if isinstance(owner, VolumeRow) else UsageLevel.SNAPSHOT


def _leg_bytes(owner: VolumeRow | SnapshotRow) -> int:
    """Return how large its logical volume is, or will be: a header is room too."""
    if isinstance(owner, VolumeRow):
        return owner.size_bytes + header_bytes(owner.key_ref) if owner.size_bytes else 0
    thin = owner.layout is Layout.THIN
    return owner.size_bytes + owner.header_bytes if thin else owner.reserve_bytes


def _owner(rows: Rows, seen: Seen, owner: VolumeRow | SnapshotRow) -> Changes:
    level, size_bytes = _level(owner), _leg_bytes(owner)
    row = replace(
        _at(rows, level, owner.name),
        node=owner.node,
        pool=owner.pool,
        capacity_bytes=size_bytes,
        volumes=1,
        seq=seen.seq,
    )
    if isinstance(owner, VolumeRow) and owner.disk:
        row = replace(row, allocated_bytes=size_bytes, committed_bytes=size_bytes)
    yield put(USAGE, _key(level, owner.name), row)


def _node(rows: Rows, seen: Seen, node: NodeRow) -> Changes:
    key = _key(UsageLevel.NODE, node.name)
    row = rows.get(USAGE, key)
    if node.state is NodeState.REMOVED:
        # Whatever the log says of it: while pools are listed there, their sum is too.
        if row is None or not (row.capacity_bytes or row.committed_bytes or row.volumes):
            yield drop(USAGE, key)
    elif row is None:
        empty = UsageRow(level=UsageLevel.NODE, name=node.name, node=node.name, seq=seen.seq)
        yield put(USAGE, key, empty)
