"""Accounts of what is taken, and for how long: each entry adds up what was until then.

An account is changed by what one commit altered in the rows of pools, claims, volumes and
backups. So it can be asked for as it was at two moments, and the difference is the period
between them: nothing else is read.
"""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from projectors.audit import moment
from projectors.holdings import CLUSTER, Account, Shares, accounts_of, holdings, shares
from projectors.reading import Seen
from projectors.rows import Altered, Change, Changes, Rows, drop, put
from projectors.tables import (
    ACCOUNT_DAYS,
    ACCOUNTS,
    BACKUPS,
    CLOSED_ACCOUNTS,
    HOLDINGS,
    HOURS,
    POOLS,
    USAGE,
    HoldingRow,
    HourRow,
)
from schemas.account_view import AccountLevel, AccountRow, accrued, more
from schemas.backup_view import BackupRow, BackupState
from schemas.counting import VolumeIoCounted
from schemas.operation import OperationEnded
from schemas.target import BackupMade, TargetSwept
from schemas.units import Moment
from schemas.usage_view import UsageLevel, UsageRow
from schemas.views import PoolRow

_WHOLE: Account = (AccountLevel.CLUSTER, CLUSTER)
_LEVELS = {
    UsageLevel.CLUSTER: AccountLevel.CLUSTER,
    UsageLevel.NODE: AccountLevel.NODE,
    UsageLevel.POOL: AccountLevel.POOL,
}
_THERE = frozenset({BackupState.READY, BackupState.DAMAGED})
_HOUR = "now"


def accounts(rows: Rows, seen: Seen, altered: Sequence[Altered]) -> Changes:
    """Enter into the accounts what one commit did and altered."""
    hour = rows.get(HOURS, _HOUR)
    now = seen.stored_at if hour is None else max(hour.at, seen.stored_at)
    yield put(HOURS, _HOUR, HourRow(at=now))
    books = _Books(rows, seen.seq, now)
    for made in altered:
        if made.table is USAGE:
            _stand(books, made)
        elif made.table is POOLS:
            _fill(books, made)
    for name, holding in holdings(rows, seen, altered).items():
        yield from _hold(books, rows, name, holding)
    for made in altered:
        if made.table is BACKUPS:
            yield from _backed_up(books, rows, made)
    for event in seen.events:
        if isinstance(event, OperationEnded):
            yield from _ended(books, rows, event)
        elif isinstance(event, BackupMade | TargetSwept | VolumeIoCounted):
            _moved(books, rows, event)
    yield from books.changes()


class _Books:
    """The accounts that one commit touches, each brought up to its moment before it is changed."""

    def __init__(self, rows: Rows, seq: int, now: Moment) -> None:
        self._rows = rows
        self._seq = seq
        self._now = now
        self._open: dict[Account, AccountRow] = {}
        self._done: list[Change] = []

    def stand(self, account: Account, **fields: int) -> None:
        """Have these fields of the account be so from now on."""
        row = self._known(account)
        if any(getattr(row, field) != value for field, value in fields.items()):
            self._enter(account, row, fields)

    def shift(self, was: Shares, now: Shares) -> None:
        """Move the accounts from what somebody counted in them to what it counts now."""
        for account in dict.fromkeys((*was, *now)):
            before, after = was.get(account, {}), now.get(account, {})
            if before == after:
                continue
            row = self._known(account)
            moved = {
                field: getattr(row, field) + by
                for field in before or after
                if (by := after.get(field, 0) - before.get(field, 0))
            }
            if moved:
                self._enter(account, row, moved)

    def count(self, accounts: Sequence[Account], **by: int) -> None:
        """Add to what the accounts have counted."""
        for account in accounts:
            row = self._known(account)
            self.stand(account, **{name: getattr(row, name) + n for name, n in by.items()})

    def ended(self, account: Account, what: str) -> None:
        """Count one more operation that has ended like *what*."""
        row = self._known(account)
        ended = row.operations | {what: row.operations.get(what, 0) + 1}
        self._enter(account, row, {"operations": ended})

    def close(self, name: str, uid: str) -> None:
        """Take away the account of a volume that is gone; what it came to is kept."""
        account = (AccountLevel.VOLUME, name)
        row = replace(accrued(self._known(account), self._now), uid=uid, closed=True)
        self._open.pop(account, None)
        key = f"{moment(self._now)}/{name}/{uid}"
        self._done.append(put(CLOSED_ACCOUNTS, key, replace(row, seq=self._seq)))
        self._done.append(drop(ACCOUNTS, _key(account)))

    def begin(self, name: str, uid: str) -> None:
        """Open the account of a volume that is being made."""
        account = (AccountLevel.VOLUME, name)
        self._open[account] = replace(_new(account, self._now, self._seq), uid=uid)

    def changes(self) -> Changes:
        """Give what has to be written: accounts that are closed go before new ones of the name."""
        yield from self._done
        for account, row in self._open.items():
            yield put(ACCOUNTS, _key(account), row)

    def _known(self, account: Account) -> AccountRow:
        row = self._open.get(account) or self._rows.get(ACCOUNTS, _key(account))
        return row or _new(account, self._now, self._seq)

    def _enter(self, account: Account, row: AccountRow, fields: dict[str, Any]) -> None:
        if row.at.date() != self._now.date() and row.level is not AccountLevel.VOLUME:
            day = row.at.date().isoformat()
            self._done.append(put(ACCOUNT_DAYS, f"{_key(account)}/{day}", replace(row, day=day)))
        self._open[account] = replace(row, **more(row, self._now), seq=self._seq, **fields)


def _key(account: Account) -> str:
    return f"{account[0].value}/{account[1]}"


def _new(account: Account, now: Moment, seq: int) -> AccountRow:
    return AccountRow(level=account[0], name=account[1], since=now, at=now, seq=seq)


def _stand(books: _Books, made: Altered) -> None:
    """Have the account of a pool, a node or the cluster say what the ledgers say."""
    was, now = _ledger(made.before), _ledger(made.after)
    row = made.after if made.after is not None else made.before
    if was == now or not isinstance(row, UsageRow) or row.level not in _LEVELS:
        return
    allocated, promised, capacity = now
    books.stand(
        (_LEVELS[row.level], row.name),
        allocated_bytes=allocated,
        promised_bytes=promised,
        capacity_bytes=capacity,
    )


def _ledger(row: object) -> tuple[int, int, int]:
    if not isinstance(row, UsageRow):
        return 0, 0, 0
    return row.allocated_bytes, row.thin_committed_bytes, row.capacity_bytes


def _fill(books: _Books, made: Altered) -> None:
    """Have the account of a pool say how large and how full its thin pool is."""
    was, now = made.before, made.after
    pool = now if now is not None else was
    if not isinstance(pool, PoolRow):
        return
    thin = (pool.thin_bytes, pool.thin_fill_percent) if now is not None else (0, 0)
    if isinstance(was, PoolRow) and thin == (was.thin_bytes, was.thin_fill_percent):
        return
    account = (AccountLevel.POOL, f"{pool.node}/{pool.name}")
    books.stand(account, thin_bytes=thin[0], thin_fill_percent=thin[1])


def _hold(books: _Books, rows: Rows, name: str, holding: HoldingRow) -> Changes:
    was = rows.get(HOLDINGS, name)
    if was is not None and was.uid != holding.uid:
        books.shift(shares(name, was), {})
        books.close(name, was.uid)
        was = None
    if was is None:
        books.begin(name, holding.uid)
    books.shift(shares(name, was), shares(name, holding))
    if holding.gone and not holding.ending:
        yield from _close(books, name, holding)
    else:
        yield put(HOLDINGS, name, holding)


def _close(books: _Books, name: str, holding: HoldingRow) -> Changes:
    books.shift(shares(name, holding), {})
    books.close(name, holding.uid)
    yield drop(HOLDINGS, name)


def _backed_up(books: _Books, rows: Rows, made: Altered) -> Changes:
    row = made.after if made.after is not None else made.before
    grown = _lasting(made.after) - _lasting(made.before)
    if not isinstance(row, BackupRow) or not grown:
        return
    books.count((_WHOLE, (AccountLevel.TARGET, row.target)), backup_bytes=grown)
    holding = rows.get(HOLDINGS, row.volume)
    if holding is not None and holding.uid == row.volume_uid:
        fuller = replace(holding, backup_bytes=holding.backup_bytes + grown)
        yield from _hold(books, rows, row.volume, fuller)


def _moved(books: _Books, rows: Rows, event: BackupMade | TargetSwept | VolumeIoCounted) -> None:
    """Count what went to a target or a volume, or was read or removed there."""
    if isinstance(event, VolumeIoCounted):
        _counted(books, rows, event)
        return
    both = (_WHOLE, (AccountLevel.TARGET, event.target))
    if isinstance(event, TargetSwept):
        books.count(both, freed_bytes=event.swept.freed_bytes)
        return
    holding = rows.get(HOLDINGS, event.volume)
    own = holding if holding is not None and holding.uid == event.volume_uid else None
    books.count(
        (*both, *accounts_of(event.volume, own)), uploaded_bytes=event.uploaded.uploaded_bytes
    )


def _counted(books: _Books, rows: Rows, event: VolumeIoCounted) -> None:
    """Count what consumers wrote and read where they did, and for whom the volume is now."""
    places: list[Account] = [_WHOLE, (AccountLevel.NODE, event.node)]
    if event.pool is not None:
        places.append((AccountLevel.POOL, f"{event.node}/{event.pool}"))
    holding = rows.get(HOLDINGS, event.volume)
    own = holding if holding is not None and holding.uid == event.uid else None
    books.count(
        (*places, *accounts_of(event.volume, own)),
        written_bytes=event.more_written_bytes,
        read_bytes=event.more_read_bytes,
    )


def _lasting(row: object) -> int:
    return row.size_bytes if isinstance(row, BackupRow) and row.state in _THERE else 0


def _ended(books: _Books, rows: Rows, event: OperationEnded) -> Changes:
    """Count the operation where its object belongs; close the account of what it removed."""
    what = f"{event.kind.value}/{event.outcome.value}"
    books.ended(_WHOLE, what)
    match event.object.split("/"):
        case ["volume", name]:
            holding = rows.get(HOLDINGS, name)
            for account in accounts_of(name, holding):
                books.ended(account, what)
            if holding is not None and holding.gone and holding.ending == event.operation:
                yield from _close(books, name, holding)
        case ["pool", node, pool]:
            books.ended((AccountLevel.POOL, f"{node}/{pool}"), what)
            books.ended((AccountLevel.NODE, node), what)
        case ["node", node]:
            books.ended((AccountLevel.NODE, node), what)
        case ["target", target]:
            books.ended((AccountLevel.TARGET, target), what)
        case _:
            return
