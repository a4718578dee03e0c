# noqa: INP001 - a script to be read and copied, not a package
"""A consumer of your own that receives everything hwbus records exactly once, whoever kills it.

It keeps what it received, and how far it is, in one SQLite file and in one transaction: killed
anywhere, it goes on behind the last message that is in the file. Run it beside a control plane:

    python docs/examples/feed.py --server nats://127.0.0.1:4222 --file events.sqlite
    python docs/examples/feed.py --stream HWBUS_AUDIT --file audit.sqlite --once

It takes the whole stream and leaves the choice to whoever reads the table, so that every number
is accounted for: one that is missing is a gap, and never only what a filter left out.
"""

import argparse
import asyncio
import hashlib
import json
import sqlite3
import sys
from pathlib import Path
from typing import NamedTuple

from hwbus.jetstream import connect
from hwbus.ports import EventLog, Stored

SUBJECTS = {"HWBUS_EVENTS": "hwbus.evt.>", "HWBUS_AUDIT": "hwbus.audit.>"}
BATCH_MAX = 100
LOOK_AGAIN_S = 30
_TABLES = """
CREATE TABLE IF NOT EXISTS received (id TEXT PRIMARY KEY, seq INTEGER, subject TEXT, data BLOB);
CREATE TABLE IF NOT EXISTS place (one INTEGER PRIMARY KEY, stream TEXT, seq INTEGER, digest TEXT);
CREATE TABLE IF NOT EXISTS gaps (first INTEGER PRIMARY KEY, last INTEGER);
"""


class Place(NamedTuple):
    """How far one is: the last message received, and what it said."""

    seq: int = 0
    digest: str = ""


class OtherLogError(Exception):
    """What is there is not the log that was read before. Nothing can be said of what was missed."""


class Feed:
    """The file: what was received, and the place."""

    def __init__(self, path: Path, stream: str) -> None:
        self._stream = stream
        # No transaction is begun behind our back: each of ours says where it begins and ends.
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.executescript(_TABLES)

    def place(self) -> Place:
        """Return how far this is."""
        row = self.db.execute("SELECT stream, seq, digest FROM place").fetchone()
        if row is not None and row[0] != self._stream:
            raise OtherLogError(f"the file is a feed of {row[0]}")
        return Place() if row is None else Place(row[1], row[2])

    def take(self, batch: list[Stored]) -> None:
        """Keep a batch and the place behind it, both or neither."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            at = self.place().seq
            for stored in batch:
                if stored.seq <= at:
                    continue
                if stored.seq > at + 1:
                    self.db.execute("INSERT INTO gaps VALUES (?, ?)", (at + 1, stored.seq - 1))
                row = (identity(stored), stored.seq, stored.subject, stored.data)
                self.db.execute("INSERT OR IGNORE INTO received VALUES (?, ?, ?, ?)", row)
                at = stored.seq
            there = (self._stream, at, digest(batch[-1]))
            self.db.execute("INSERT OR REPLACE INTO place VALUES (1, ?, ?, ?)", there)
            self.db.execute("COMMIT")
        except BaseException:
            self.db.execute("ROLLBACK")
            raise

    def gaps(self) -> list[tuple[int, int]]:
        """Return the sequences that were gone before they could be received: from, to."""
        return self.db.execute("SELECT first, last FROM gaps ORDER BY first").fetchall()


def identity(stored: Stored) -> str:
    """Return what tells the message from any other: the id of a commit, else where it stands."""
    try:
        return str(json.loads(stored.data)["id"])
    except (ValueError, KeyError, TypeError):
        return f"seq-{stored.seq}"


def digest(stored: Stored) -> str:
    """Return what the message said, for comparison."""
    return hashlib.sha256(stored.data).hexdigest()


async def compare(log: EventLog, place: Place) -> None:
    """Raise ``OtherLogError`` if the log does not go on where *place* is.

    A message that is gone while later ones are there was removed by a limit of the stream: then
    the next sequence tells whether anything was missed.
    """
    if place.seq == 0:
        return
    there = await log.get(place.seq)
    if there is not None and digest(there) != place.digest:
        raise OtherLogError(f"message {place.seq} is another one now: the stream was made anew")
    if there is None and (head := await log.head()) < place.seq:
        raise OtherLogError(f"the log ends at {head}, before {place.seq}: made anew, or restored")


async def receive(server: str, stream: str, path: Path, *, once: bool) -> None:
    """Receive until killed; with *once* only up to what is there now."""
    feed = Feed(path, stream)
    async with connect(server, name="feed") as wires:
        log = wires.log_of(stream)
        await compare(log, feed.place())
        end = await log.head() if once else None
        after = feed.place().seq
        async with log.follow(
            after=after, subjects=(SUBJECTS[stream],), batch_max=BATCH_MAX
        ) as batches:
            coming = asyncio.ensure_future(anext(batches))
            try:
                while end is None or feed.place().seq < end:
                    await asyncio.wait({coming}, timeout=LOOK_AGAIN_S)
                    # The stream may have been made anew while we were waiting.
                    await compare(log, feed.place())
                    if coming.done():
                        feed.take(coming.result())
                        coming = asyncio.ensure_future(anext(batches))
            finally:
                coming.cancel()


def main() -> int:
    """Receive, and say how far that went."""
    parser = argparse.ArgumentParser(description="Keep all that hwbus records in a SQLite file.")
    parser.add_argument("--server", default="nats://127.0.0.1:4222")
    parser.add_argument("--stream", choices=sorted(SUBJECTS), default="HWBUS_EVENTS")
    parser.add_argument("--file", type=Path, default=Path("feed.sqlite"))
    parser.add_argument("--once", action="store_true", help="end at the end of the log")
    said = parser.parse_args()
    try:
        asyncio.run(receive(said.server, said.stream, said.file, once=said.once))
    except OtherLogError as error:
        sys.stderr.write(f"{error}\nKeep the file, and begin a new one.\n")
        return 3
    except KeyboardInterrupt:
        pass
    feed = Feed(said.file, said.stream)
    print(f"received up to {feed.place().seq}, missed {feed.gaps() or 'nothing'}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
