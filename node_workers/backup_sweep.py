"""Removes a manifest, and what no manifest needs: mark, then sweep, never beside a writer.

Whoever writes puts an object under ``writers/`` and then looks for a sweeper; a sweeper puts its
own object and then looks for writers. So at least one of two sees the other: the sweeper then
sweeps nothing, the writer waits. Besides, nothing is taken that is younger than a time of grace.
"""

import time
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from datetime import datetime, timedelta

import msgspec

from hwbus.bucket import DELETED_AT_ONCE, AlreadyThereError, Bucket, MissingError, Object
from node_workers import backup_format
from node_workers.backup_format import DIGEST_BYTES, DamagedError, ForeignError
from node_workers.backup_journal import Journal
from node_workers.backup_upload import SWEEPER_LEASE, WRITER_LEASE

_SHARDS = 256
_KEY_BYTES = 8
_SWEPT = b"s"
_STOPS_AFTER_S = SWEEPER_LEASE.total_seconds() / 2


class SweptByOthersError(Exception):
    """Somebody else sweeps, or took over from us; nothing more was removed."""


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """What was removed; ``writers``: so many were at work, so the chunks were left."""

    done: bool
    shards: int = 0
    chunks: int = 0
    freed_bytes: int = 0
    writers: int = 0


class Marks:
    """Which chunks and lists are needed; of each chunk 8 bytes of its name are kept.

    Should two names begin alike, one chunk too many is kept, never one too few.
    """

    def __init__(self, bucket: Bucket) -> None:
        """Raises ``DamagedError`` and ``ForeignError``: what cannot be read may need anything."""
        self.lists: set[str] = set()
        self._shards = [array("Q") for _ in range(_SHARDS)]
        for found in bucket.all(backup_format.MANIFESTS):
            self._mark(bucket, found.path)
        for number, shard in enumerate(self._shards):
            self._shards[number] = array("Q", sorted(set(shard)))

    def needs(self, name: bytes) -> bool:
        """Return whether a backup needs the chunk of that name."""
        shard, key = self._shards[name[0]], int.from_bytes(name[:_KEY_BYTES])
        place = bisect_left(shard, key)
        return place < len(shard) and shard[place] == key

    def _mark(self, bucket: Bucket, path: str) -> None:
        try:
            manifest = backup_format.read(bucket.get(path))
            if manifest.list in self.lists:
                return
            names = bucket.get(backup_format.list_path(manifest.list))
            backup_format.check_list(manifest, names)
        except MissingError as error:
            raise DamagedError(f"{path}: its list of chunks is missing") from error
        except (DamagedError, ForeignError) as error:
            raise type(error)(f"{path}: {error}") from error
        self.lists.add(manifest.list)
        for at in range(0, len(names), DIGEST_BYTES):
            self._shards[names[at]].append(int.from_bytes(names[at : at + _KEY_BYTES]))


class Sweep:
    """One sweep of *bucket*, by *sweeper*: removes what has no manifest and is old enough."""

    def __init__(self, bucket: Bucket, sweeper: str, grace: timedelta, journal: Journal) -> None:
        self._bucket = bucket
        self._sweeper = sweeper.encode()
        self._grace = grace
        self._journal = journal
        self._now: datetime | None = None
        self._said_s = 0.0
        self._chunks = 0
        self._freed_bytes = 0

    def turn(self, seconds: float) -> Swept:
        """Sweep some folders more. Raises ``SweptByOthersError``, ``DamagedError``."""
        stops_s = time.monotonic() + seconds
        self._begin()
        writers = self._writers()
        if writers:
            self._bucket.delete([backup_format.SWEEPER])
            return self._told(writers=writers)
        marks = Marks(self._bucket)
        while self._journal.done < _SHARDS:
            self._sweep_shard(self._journal.done, marks)
            if time.monotonic() >= stops_s and self._journal.done < _SHARDS:
                return self._told()
        self._delete(self._unneeded_lists(marks))
        self._bucket.delete([backup_format.SWEEPER])
        return self._told()

    def _told(self, writers: int = 0) -> Swept:
        digests = self._journal.digests()
        figures = [digests[at : at + 16] for at in range(0, len(digests), DIGEST_BYTES)]
        return Swept(
            done=writers > 0 or self._journal.done == _SHARDS,
            shards=self._journal.done,
            chunks=sum(int.from_bytes(one[:8]) for one in figures),
            freed_bytes=sum(int.from_bytes(one[8:]) for one in figures),
            writers=writers,
        )

    def _begin(self) -> None:
        """Say that we sweep, unless somebody else does."""
        try:
            self._bucket.put(backup_format.SWEEPER, self._sweeper, new=True)
        except AlreadyThereError:
            if self._others() and not self._is_left_over():
                raise SweptByOthersError("somebody else sweeps just now") from None
            self._bucket.put(backup_format.SWEEPER, self._sweeper)
        self._said_s = time.monotonic()
        said = self._bucket.look(backup_format.SWEEPER)
        if said is None or self._others():
            raise SweptByOthersError("somebody else sweeps just now")
        self._now = said.at

    def _others(self) -> bool:
        try:
            return self._bucket.get(backup_format.SWEEPER) != self._sweeper
        except MissingError:
            return True

    def _is_left_over(self) -> bool:
        """Return whether whoever said to sweep has long ceased to say so, by the store's clock."""
        probe = f"{backup_format.PROBES}/{self._sweeper.decode()}"
        self._bucket.put(probe, b"")
        now, said = (self._bucket.look(path) for path in (probe, backup_format.SWEEPER))
        self._bucket.delete([probe])
        return now is not None and (said is None or now.at - said.at > SWEEPER_LEASE)

    def _writers(self) -> int:
        """Return how many are at work; those that were given up long ago do not count."""
        found = list(self._bucket.all(backup_format.WRITERS))
        old = [one.path for one in found if self._age(one) > WRITER_LEASE]
        self._bucket.delete(old)
        return len(found) - len(old)

    def _age(self, one: Object) -> timedelta:
        return (self._now or one.at) - one.at

    def _sweep_shard(self, shard: int, marks: Marks) -> None:
        self._chunks = self._freed_bytes = 0
        self._delete(self._unneeded_chunks(shard, marks))
        figures = self._chunks.to_bytes(8) + self._freed_bytes.to_bytes(8)
        self._journal.add([(_SWEPT, figures.ljust(DIGEST_BYTES, b"\0"))])

    def _unneeded_chunks(self, shard: int, marks: Marks) -> Iterator[Object]:
        for one in self._bucket.all(f"{backup_format.CHUNKS}/{shard:02x}"):
            try:
                name = bytes.fromhex(one.path.rpartition("/")[2])
            except ValueError:
                continue  # nothing of ours
            if len(name) == DIGEST_BYTES and not marks.needs(name):
                yield one

    def _unneeded_lists(self, marks: Marks) -> Iterator[Object]:
        for one in self._bucket.all(backup_format.LISTS):
            if one.path.rpartition("/")[2] not in marks.lists:
                yield one

    def _delete(self, unneeded: Iterator[Object]) -> None:
        """Delete what is old enough, some at a time, each time still being the one who sweeps."""
        some: list[Object] = []
        for one in unneeded:
            if self._age(one) >= self._grace:
                some.append(one)
            if len(some) == DELETED_AT_ONCE:
                self._delete_some(some)
                some = []
        if some:
            self._delete_some(some)

    def _delete_some(self, some: list[Object]) -> None:
        if self._others() or time.monotonic() - self._said_s > _STOPS_AFTER_S:
            raise SweptByOthersError("the sweep took too long, and begins anew")
        self._bucket.put(backup_format.SWEEPER, self._sweeper)
        self._said_s = time.monotonic()
        self._bucket.delete([one.path for one in some])
        self._chunks += len(some)
        self._freed_bytes += sum(one.size_bytes for one in some)
