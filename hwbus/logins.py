"""What the broker tells of logins, as records; the first of many alike whole, the rest counted.

Nothing here waits or writes. What several control planes make of the same notices is the same.
"""

import hashlib
from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from schemas.audit import LoginOutcome, LoginRecord
from schemas.units import Moment

CONNECTED = "$SYS.ACCOUNT.*.CONNECT"
DISCONNECTED = "$SYS.ACCOUNT.*.DISCONNECT"
TURNED_AWAY = "$SYS.SERVER.*.CLIENT.AUTH.ERR"
SUBJECTS = (CONNECTED, DISCONNECTED, TURNED_AWAY)
BRIEF = timedelta(seconds=2)
SOURCES_MAX = 64
_KEPT_FOR = timedelta(seconds=65)
_TEXT_MAX = 128
# Turned away in the end, too; a failure has a notice of its own besides.
_TOLD_ALREADY = "Authentication Failure"
_NEVER_IN = frozenset(
    {
        "Authentication Timeout",
        "Maximum Connections Exceeded",
        "Maximum Account Connections Exceeded",
    }
)
# Told whole in a minute, of each source and of all of one broker.
_WHOLE_MAX = {
    LoginOutcome.TURNED_AWAY: (5, 100),
    LoginOutcome.LET_IN: (30, 600),
    LoginOutcome.LEFT: (30, 600),
}
_ALIKE = ("user", "client", "account", "address", "connection", "because")


class _Server(msgspec.Struct, frozen=True):
    name: str = ""
    id: str = ""


class _Client(msgspec.Struct, frozen=True):
    start: Moment
    id: int
    stop: Moment | None = None
    host: str = ""
    acc: str = ""
    user: str = ""
    name: str = ""
    kind: str = ""
    client_type: str = ""


class _Notice(msgspec.Struct, frozen=True):
    """What of a notice is kept: all else that may be in it, such as a JWT, is not read."""

    timestamp: Moment
    server: _Server
    client: _Client
    reason: str = ""


_NOTICE = msgspec.json.Decoder(_Notice)


def read(subject: str, data: bytes) -> LoginRecord | None:
    """Return what a notice says; None: nobody logged in or out, or another notice says it.

    Raises:
        msgspec.DecodeError: it is no such notice.
    """
    notice = _NOTICE.decode(data)
    client = notice.client
    end = client.stop or notice.timestamp
    if subject.endswith(".CONNECT"):
        return _record(notice, LoginOutcome.LET_IN, client.start)
    if subject.endswith(".CLIENT.AUTH.ERR") or notice.reason in _NEVER_IN:
        return _record(notice, LoginOutcome.TURNED_AWAY, end)
    # Who only looked whether somebody listens has no name, and was never let in.
    if notice.reason == _TOLD_ALREADY or not client.user:
        return None
    return replace(_record(notice, LoginOutcome.LEFT, end), since=client.start, until=end)


def _record(notice: _Notice, outcome: LoginOutcome, at: datetime) -> LoginRecord:
    client = notice.client
    away = outcome is LoginOutcome.TURNED_AWAY
    return LoginRecord(
        at=at,
        outcome=outcome,
        server=notice.server.name[:_TEXT_MAX],
        server_id=notice.server.id[:_TEXT_MAX],
        number=client.id,
        user=client.user[:_TEXT_MAX],
        client=client.name[:_TEXT_MAX],
        account="" if away else client.acc[:_TEXT_MAX],
        address=client.host[:_TEXT_MAX],
        connection=(client.client_type or client.kind.lower())[:_TEXT_MAX],
        because=notice.reason[:_TEXT_MAX],
    )


def message_id(record: LoginRecord) -> str:
    """Return by what the broker knows a record again, whoever writes it."""
    about = (
        *(record.server_id, record.number, record.outcome, record.at),
        *(record.address, record.user, record.times),
    )
    return f"login.{hashlib.sha256(msgspec.json.encode(about)).hexdigest()[:40]}"


class Sessions:
    """Holds back who was let in for a moment: who leaves at once is told of by one record.

    At most *held_max* are held back; then the oldest is told of at once.
    """

    def __init__(self, held_max: int = 2000) -> None:
        self._held: dict[tuple[str, int], tuple[LoginRecord, datetime]] = {}
        self._held_max = held_max

    def take(self, record: LoginRecord, now: datetime) -> list[LoginRecord]:
        """Return what is to be told now that this was heard, at *now* by our clock."""
        key = (record.server_id, record.number)
        if record.outcome is LoginOutcome.TURNED_AWAY:
            return [record]
        if record.outcome is LoginOutcome.LET_IN:
            # The end of a session may be heard first, and tells all that the beginning does.
            self._held.setdefault(key, (record, now))
        elif record.since is None or record.at - record.since >= BRIEF:
            begun = self._held.pop(key, None)
            return [record] if begun is None else [begun[0], record]
        else:
            brief = replace(record, outcome=LoginOutcome.LET_IN, at=record.since)
            self._held[key] = (brief, self._held.get(key, (brief, now))[1])
        if len(self._held) > self._held_max:
            return [self._held.pop(next(iter(self._held)))[0]]
        return []

    def due(self, now: datetime | None) -> list[LoginRecord]:
        """Return what was held back long enough by *now*; with None, all of it."""
        over = [key for key, (_, since) in self._held.items() if now is None or now - since > BRIEF]
        return [self._held.pop(key)[0] for key in over]


class _Minute:
    """What came of one broker in one minute of its clock."""

    def __init__(self, opened: datetime) -> None:
        self.opened = opened
        self.whole: dict[tuple[str, ...], int] = {}
        self.counted: dict[tuple[str, ...], LoginRecord] = {}


class Bound:
    """Lets the first records of a source and minute pass, and makes one of the rest."""

    def __init__(self) -> None:
        self._minutes: dict[tuple[str, int], _Minute] = {}

    def take(self, record: LoginRecord, now: datetime) -> LoginRecord | None:
        """Return *record* if it is to be told whole; None: it was counted, and is told later.

        *now* is when it was heard, by our clock.
        """
        key = (record.server_id, int(record.at.timestamp()) // 60)
        minute = self._minutes.setdefault(key, _Minute(now))
        # Who is turned away may give another name each time.
        away = record.outcome is LoginOutcome.TURNED_AWAY
        of_all: tuple[str, ...] = (record.outcome,)
        source = (*of_all, record.address, "" if away else record.user)
        source_max, all_max = _WHOLE_MAX[record.outcome]
        if minute.whole.get(of_all, 0) < all_max and minute.whole.get(source, 0) < source_max:
            minute.whole[source] = minute.whole.get(source, 0) + 1
            minute.whole[of_all] = minute.whole.get(of_all, 0) + 1
            return record
        if source not in minute.counted and len(minute.counted) >= SOURCES_MAX:
            source = of_all
        before = minute.counted.get(source)
        minute.counted[source] = record if before is None else _merged(before, record)
        return None

    def due(self, now: datetime | None) -> list[LoginRecord]:
        """Return what was counted in minutes that are over by *now*; with None, in all."""
        over = [
            key
            for key, minute in self._minutes.items()
            if now is None or now - minute.opened > _KEPT_FOR
        ]
        return [record for key in over for record in self._minutes.pop(key).counted.values()]


def _merged(before: LoginRecord, record: LoginRecord) -> LoginRecord:
    """Return one record of both, which says what they have in common."""
    common = {
        name: getattr(before, name) if getattr(before, name) == getattr(record, name) else ""
        for name in _ALIKE
    }
    ends = (before.at, before.until or before.at, record.at, record.until or record.at)
    times = before.times + record.times
    return replace(
        before, **common, number=0, at=min(ends), since=None, until=max(ends), times=times
    )
