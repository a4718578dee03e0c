"""A shipped projection: who decided how much, on which day, about what."""

import hashlib
from collections import Counter
from datetime import date

import msgspec
from eventsourcing.persistence import Tracking
from eventsourcing.projection import Projection

from hwbus.eventstore.log import LoggedCommit
from hwbus.eventstore.tracking import JetStreamTrackingRecorder


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """How many commits about aggregates of one kind one actor caused on one day (UTC)."""

    day: date
    kind: str
    actor: str
    commits: int


_count = msgspec.json.Decoder(Count)


class CommitCounts(JetStreamTrackingRecorder):
    """The view: one row a day, kind and actor."""

    def add(self, tracking: Tracking, *, day: date, kind: str, actor: str) -> None:
        """Count one commit. Raises ``IntegrityError`` if it has been counted before."""
        # An actor may be called anything, at any length; a subject may not.
        who = hashlib.sha256(actor.encode()).hexdigest()[:32]
        key = f"{day.isoformat()}/{kind}/{who}"
        found = self.row(key)
        before = 0 if found is None else _count.decode(found).commits
        count = Count(day=day, kind=kind, actor=actor, commits=before + 1)
        self.insert_rows(tracking, {key: msgspec.json.encode(count)})

    def counts(self) -> list[Count]:
        """Return all counts, by day, kind and actor."""
        found = map(_count.decode, self.rows().values())
        return sorted(found, key=lambda count: (count.day, count.kind, count.actor))

    def per_kind_and_day(self) -> dict[tuple[date, str], int]:
        """Return the number of commits by day and kind."""
        total: Counter[tuple[date, str]] = Counter()
        for count in self.counts():
            total[count.day, count.kind] += count.commits
        return dict(total)

    def per_actor(self) -> dict[str, int]:
        """Return the number of commits by actor."""
        total: Counter[str] = Counter()
        for count in self.counts():
            total[count.actor] += count.commits
        return dict(total)


class CommitsPerDay(Projection[CommitCounts]):
    """Counts the commits of ``HwbusLog`` by kind, day and actor.

    The day is that of the desk's clock when it decided, in UTC.
    """

    name = "commitsperday"

    def process_event(self, domain_event: LoggedCommit, tracking: Tracking) -> None:
        """Count *domain_event* once, however often it is delivered."""
        self.view.add(
            tracking,
            day=domain_event.commit.at.date(),
            kind=domain_event.kind,
            actor=domain_event.commit.actor,
        )
