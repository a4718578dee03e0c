# noqa: INP001 - a script to be read and copied, not a package
"""A projection of your own over the log of hwbus, in forty lines and any store you like.

It answers "when was anything last decided about this?". Run it beside a control plane:

    NATS_URL=nats://127.0.0.1:4222 python docs/examples/eventsourcing_projection.py

The view is kept in SQLite here, because that is what the settings below say; leave
``LASTDECIDED_PERSISTENCE_MODULE`` out and derive the view from ``JetStreamTrackingRecorder`` to
keep it on JetStream instead.
"""

from datetime import datetime
from typing import Any

from eventsourcing.persistence import Tracking
from eventsourcing.projection import Projection, ProjectionRunner
from eventsourcing.sqlite import SQLiteTrackingRecorder

from hwbus.eventstore import HwbusLog, LoggedCommit

_TABLE = "CREATE TABLE IF NOT EXISTS last_decided (aggregate TEXT PRIMARY KEY, at TEXT, actor TEXT)"
_UPSERT = "INSERT OR REPLACE INTO last_decided VALUES (?, ?, ?)"


class LastDecidedView(SQLiteTrackingRecorder):
    """One row an aggregate: when something was last decided about it, and who wanted it."""

    def construct_create_table_statements(self) -> list[str]:
        """Return what makes the tables: the library's own, and ours."""
        return [*super().construct_create_table_statements(), _TABLE]

    def note(self, tracking: Tracking, aggregate: str, at: datetime, actor: str) -> None:
        """Write the row and the position in one transaction: twice delivered is once noted."""
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            cursor.execute(_UPSERT, (aggregate, at.isoformat(), actor))

    def last_decided(self) -> dict[str, tuple[str, str]]:
        """Return (when, who) for every aggregate."""
        with self.datastore.transaction(commit=False) as cursor:
            cursor.execute("SELECT aggregate, at, actor FROM last_decided")
            return {row["aggregate"]: (row["at"], row["actor"]) for row in cursor.fetchall()}


class LastDecided(Projection[LastDecidedView]):
    """Follows the log from where the view has got to."""

    name = "lastdecided"

    def process_event(self, domain_event: LoggedCommit, tracking: Tracking) -> None:
        """Note one commit."""
        commit = domain_event.commit
        self.view.note(tracking, domain_event.originator_id, commit.at, commit.actor)


def runner(**env: str) -> ProjectionRunner[Any, LastDecidedView]:
    """Return the running projection; use it as a context, to have it stopped."""
    settings = {
        "LASTDECIDED_PERSISTENCE_MODULE": "eventsourcing.sqlite",
        "LASTDECIDED_SQLITE_DBNAME": "last-decided.db",
    }
    return ProjectionRunner(
        application_class=HwbusLog,
        projection_class=LastDecided,
        view_class=LastDecidedView,
        env=settings | env,
    )


if __name__ == "__main__":
    with runner() as running:
        running.wait(running.app.recorder.max_notification_id(), timeout=60)
        for aggregate, (at, actor) in sorted(running.projection.view.last_decided().items()):
            print(f"{at}  {aggregate}  {actor}")  # noqa: T201
    running.view.datastore.close()
