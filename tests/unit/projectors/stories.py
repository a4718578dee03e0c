"""Histories to tell to the views: events in the order in which a log has them."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from hypothesis import strategies as st

from hwbus.memory import MemoryLog
from hwbus.ports import EventLog, Outlet, Stored
from hwbus.subjects import address
from projectors.fold import Folded, fold_event, fold_record
from projectors.projector import Projector, Sources
from projectors.rows import Rows
from projectors.tables import Table
from schemas.audit import AuditRecord, ExecutedRecord
from schemas.commit import Commit
from schemas.deleting import VolumeDeleted
from schemas.disk import Content, DiskClass, DiskFound, Sighting
from schemas.grammar import Event
from schemas.labels import VolumeLabelled
from schemas.node import Drift, DriftFound, Finding, NodeJoined, NodeRemoved, PoolAttached
from schemas.operation import OperationEnded, OperationKind, OperationStarted, Outcome
from schemas.place import place_of
from schemas.pool import (
    PoolFacts,
    PoolFormed,
    PoolFormingBegan,
    PoolRemoved,
    RoomReleased,
    RoomReserved,
    RoomSettled,
    RoomUnreserved,
)
from schemas.replica import Consistency, ReplicaCreated, ReplicaSpec, ReplicaWanted
from schemas.rhythm import Keep, Rhythm
from schemas.schedule import ScheduleCreated
from schemas.snapshot import SnapshotCreated, SnapshotCreationBegan
from schemas.target import TargetRemoved
from schemas.views import Row
from schemas.volume import Layout, VolumeProvisioned, VolumeProvisioningBegan
from schemas.volume_group import GroupCreated, Member
from tests.support.backup_words import ADDED, backup_began, backup_made
from tests.support.clock import NOON, ManualClock
from tests.support.purged import PurgedLog

GIB = 1 << 30
MIB = 1 << 20
R = TypeVar("R", bound=Row)


def uid(number: int) -> str:
    return f"{number:026d}"


class Story:
    """Commits and audit records, one second apart, with the sequences a log would give them."""

    def __init__(self) -> None:
        self.events: list[Stored] = []
        self.records: list[Stored] = []
        self._versions: dict[str, int] = {}

    @property
    def at(self) -> datetime:
        return NOON + timedelta(seconds=len(self.events) + len(self.records))

    def say(
        self, *events: Event, actor: str = "alice", correlation: str = "", word: str = ""
    ) -> int:
        """Record one decision about one aggregate; return its sequence."""
        subject = address(*place_of(events[0])).subject
        version = self._versions[subject] = self._versions.get(subject, 0) + 1
        seq = len(self.events) + 1
        commit = Commit(
            id=uid(seq),
            at=self.at,
            actor=actor,
            command=f"cmd-{seq}",
            word=word or "test.word.v1",
            correlation=correlation or f"cmd-{seq}",
            version=version,
            events=events,
        )
        return self.write(subject, msgspec.json.encode(commit))

    def write(self, subject: str, data: bytes) -> int:
        """Put bytes into the events stream as they are."""
        self.events.append(Stored(len(self.events) + 1, subject, data, self.at))
        return len(self.events)

    def note(self, subject: str, record: AuditRecord | bytes) -> int:
        """Put a record into the audit stream."""
        data = record if isinstance(record, bytes) else msgspec.json.encode(record)
        self.records.append(Stored(len(self.records) + 1, subject, data, self.at))
        return len(self.records)

    def rows(self) -> Rows:
        """Fold all of it in memory."""
        rows = Rows(lambda _table, _key: None)
        for stored in self.events:
            fold_event(rows, stored, "events", Folded())
        for stored in self.records:
            fold_record(rows, stored, "audit", Folded())
        return rows

    def row(self, table: Table[R], key: str) -> R | None:
        return self.rows().get(table, key)

    def all(self, table: Table[R]) -> list[R]:
        changed = self.rows().dirty.get(table.name, {})
        return [table.decode(msgspec.json.encode(row)) for _t, row in changed.values() if row]

    # What usually happens, in a few words.

    def node(self, name: str = "n1") -> "Story":
        self.say(NodeJoined(node=name, address="10.0.0.1", zone="a"))
        return self

    def disk(self, disk: str, node: str = "n1", sighting: Sighting | None = None) -> "Story":
        self.say(DiskFound(disk=disk, node=node, sighting=sighting or blank()))
        return self

    def pool(
        self,
        name: str = "fast",
        node: str = "n1",
        *,
        size: int = 20 * GIB,
        thin: int = 0,
        number: int = 900,
    ) -> "Story":
        operation = uid(number + 1)
        self.say(
            PoolFormingBegan(
                pool=name,
                node=node,
                uid=uid(number),
                operation=operation,
                deadline=self.at + timedelta(minutes=10),
                disks=("d1",),
                thin_bytes=thin,
                thin_ratio_percent=200,
            ),
            correlation=operation,
        )
        self.say(PoolAttached(node=node, pool=name), correlation=operation)
        self.say(
            PoolFormed(pool=name, node=node, uid=uid(number), facts=facts(size, thin)),
            correlation=operation,
        )
        return self

    def begin(self, name: str, number: int, size: int, layout: Layout = Layout.LINEAR) -> str:
        """Begin to provision a volume; return its operation."""
        operation = uid(number + 500_000)
        deadline = self.at + timedelta(minutes=10)
        self.say(
            VolumeProvisioningBegan(
                volume=name,
                uid=uid(number),
                operation=operation,
                deadline=deadline,
                size_bytes=size,
                candidates=(),
                layout=layout,
            ),
            correlation=operation,
            word="volume.provision.v1",
        )
        self.say(
            OperationStarted(
                operation=operation,
                kind=OperationKind.VOLUME_PROVISION,
                object=f"volume/{name}",
                deadline=deadline,
            ),
            actor="hwbus:driver",
            correlation=operation,
        )
        return operation

    def volume(
        self,
        name: str,
        number: int,
        size: int = GIB,
        *,
        node: str = "n1",
        pool: str = "fast",
        layout: Layout = Layout.LINEAR,
    ) -> "Story":
        """Provision a volume from its beginning to its end."""
        operation = self.begin(name, number, size, layout)
        thin = layout is Layout.THIN
        for event in (
            RoomReserved(
                pool=pool,
                node=node,
                claim=uid(number),
                size_bytes=size,
                operation=operation,
                thin=thin,
            ),
            ReplicaWanted(
                volume=name,
                node=node,
                operation=operation,
                spec=ReplicaSpec(uid=uid(number), pool=pool, size_bytes=size, layout=layout),
            ),
            ReplicaCreated(
                volume=name,
                node=node,
                uid=uid(number),
                pool=pool,
                size_bytes=size,
                device=f"/dev/{pool}/{name}",
                thin=thin,
            ),
            RoomSettled(pool=pool, node=node, claim=uid(number), size_bytes=size, thin=thin),
            VolumeProvisioned(
                volume=name,
                uid=uid(number),
                operation=operation,
                node=node,
                pool=pool,
                size_bytes=size,
            ),
            OperationEnded(
                operation=operation,
                kind=OperationKind.VOLUME_PROVISION,
                object=f"volume/{name}",
                outcome=Outcome.COMPLETED,
            ),
        ):
            self.say(event, actor="hwbus:driver", correlation=operation)
        return self

    def snapshot(
        self, name: str, number: int, of: str, volume: int, *, layout: Layout = Layout.LINEAR
    ) -> "Story":
        """Take a snapshot of a volume of 1 GiB in n1/fast, with a reserve of 200 MiB if thick."""
        operation, thin = uid(number + 500_000), layout is Layout.THIN
        room = GIB if thin else 200 * MIB
        here: dict[str, Any] = {"pool": "fast", "node": "n1"}
        claim: dict[str, Any] = {**here, "claim": uid(number), "size_bytes": room, "thin": thin}
        for event in (
            SnapshotCreationBegan(
                **here,
                snapshot=name,
                uid=uid(number),
                operation=operation,
                deadline=self.at + timedelta(minutes=10),
                volume=of,
                volume_uid=uid(volume),
                size_bytes=GIB,
                reserve_bytes=0 if thin else room,
                layout=layout,
            ),
            RoomReserved(**claim, operation=operation),
            ReplicaCreated(
                **here,
                volume=name,
                uid=uid(number),
                size_bytes=room,
                device=f"/dev/fast/{name}",
                thin=thin,
            ),
            RoomSettled(**claim),
            SnapshotCreated(
                snapshot=name,
                uid=uid(number),
                operation=operation,
                reserve_bytes=0 if thin else room,
                consistency=Consistency.FILESYSTEM,
            ),
        ):
            self.say(event, correlation=operation)
        return self

    def group(self, name: str, *members: tuple[str, int]) -> "Story":
        """Have volumes, each with the number of its uid, belong together."""
        joined = tuple(Member(volume=volume, uid=uid(number)) for volume, number in members)
        self.say(GroupCreated(group=name, at=self.at, members=joined))
        return self

    def schedule(self, name: str, number: int, volume: str) -> "Story":
        """Have snapshots of a volume taken every hour."""
        rhythm, keep = Rhythm(every_s=3600), Keep(hourly=24)
        self.say(
            ScheduleCreated(
                schedule=name, uid=uid(number), at=self.at, rhythm=rhythm, keep=keep, volume=volume
            )
        )
        return self


def blank() -> Sighting:
    return sighting()


def sighting(size: int = 20 * GIB, **more: object) -> Sighting:
    given = {
        "path": "/dev/sdb",
        "size_bytes": size,
        "media": DiskClass.SSD,
        "content": Content.BLANK,
        **more,
    }
    return msgspec.convert(given, Sighting)


def facts(size: int, thin: int = 0, disks: tuple[str, ...] = ("d1",)) -> PoolFacts:
    return PoolFacts(
        size_bytes=size,
        extent_bytes=4 * MIB,
        metadata_bytes=8 * MIB,
        disks=disks,
        thin_bytes=thin,
        thin_overhead_bytes=8 * MIB if thin else 0,
    )


class AuditLog:
    """An outlet whose stream can be followed, as the audit stream of a broker can."""

    def __init__(self) -> None:
        self.log = PurgedLog(ManualClock())
        self._kept: set[str] = set()

    async def keep(self, subject: str, data: bytes, *, message_id: str) -> None:
        if message_id not in self._kept:
            self._kept.add(message_id)
            await put(self.log, subject, data)


class Bench:
    """A projector over logs in memory, to be told stories."""

    def __init__(self, path: Path, *, outlet: Outlet | None = None) -> None:
        self.path = path
        self.clock = ManualClock()
        self.events = MemoryLog(self.clock)
        self.audit = AuditLog()
        self.outlet = outlet or self.audit
        self.made: list[Projector] = []

    def projector(self) -> Projector:
        sources = Sources(self.events, self.audit.log)
        self.made.append(Projector(self.path, sources, self.outlet, self.clock))
        return self.made[-1]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Projector]:
        async with self.projector().running() as projector:
            yield projector

    async def tell(self, story: Story) -> None:
        for stored in story.events:
            await put(self.events, stored.subject, stored.data)
        for stored in story.records:
            await put(self.audit.log, stored.subject, stored.data)


async def put(log: EventLog, subject: str, data: bytes) -> int:
    past = await log.history(subject)
    after = past[-1].seq if past else 0
    return await log.append(subject, data, after=after, message_id=f"{subject}-{after}")


async def until(true: Callable[[], bool], *, within_s: float = 10.0) -> None:
    """Wait for a condition; gives up loudly."""
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def batches(stored: Sequence[Stored], cuts: Sequence[int]) -> list[list[Stored]]:
    """Cut *stored* into batches at these places."""
    places = [0, *sorted({cut % (len(stored) + 1) for cut in cuts}), len(stored)]
    pieces = [list(stored[a:b]) for a, b in itertools.pairwise(places)]
    return [piece for piece in pieces if piece]


def any_story() -> st.SearchStrategy[Story]:
    """Stories of anything that may happen to two nodes, even what never should."""
    node, number = st.sampled_from(["n1", "n2"]), st.integers(1, 4)
    size = st.sampled_from([GIB, 2 * GIB, 5 * GIB])
    move: st.SearchStrategy[Callable[[Story], object]] = st.one_of(
        st.builds(lambda n: lambda s: s.node(n), node),
        st.builds(lambda n, d: lambda s: s.disk(f"d{d}", n), node, number),
        st.builds(
            lambda n, thin, u: lambda s: s.pool(node=n, thin=thin, number=900 + 2 * u),
            node,
            st.sampled_from([0, GIB]),
            number,
        ),
        st.builds(
            lambda n, v, z, layout: lambda s: s.volume(f"v{v}", v, z, node=n, layout=layout),
            node,
            number,
            size,
            st.sampled_from([Layout.LINEAR, Layout.THIN]),
        ),
        st.builds(
            lambda v, layout: lambda s: s.snapshot(f"s{v}", 20 + v, f"v{v}", v, layout=layout),
            number,
            st.sampled_from([Layout.LINEAR, Layout.THIN]),
        ),
        st.builds(lambda n, c: lambda s: s.say(_room(RoomReleased, n, c)), node, number),
        st.builds(lambda n, c: lambda s: s.say(_room(RoomUnreserved, n, c)), node, number),
        st.builds(
            lambda n, u: (
                lambda s: s.say(PoolRemoved(pool="fast", node=n, uid=uid(900 + 2 * u), disks=()))
            ),
            node,
            number,
        ),
        st.builds(lambda v: lambda s: s.say(_deleted(v)), number),
        _labellings(),
        st.sampled_from([ADDED, backup_began(), backup_made(), TargetRemoved(target="s3")]).map(
            lambda event: lambda s: s.say(event)
        ),
        st.builds(lambda n: lambda s: s.say(NodeRemoved(node=n, operation=uid(1))), node),
        st.builds(
            lambda n: (
                lambda s: s.say(
                    DriftFound(
                        node=n, finding=Finding(drift=Drift.POOL_MISSING, object="pool/n1/x")
                    )
                )
            ),
            node,
        ),
        st.just(lambda s: s.write("hwbus.evt.volume.-.bad", b"{not json")),
        st.just(lambda s: s.note("hwbus.audit.executed.n1", tool(s, "event:3"))),
        st.just(lambda s: s.note("hwbus.audit.executed.n1", b"\xff")),
    )
    return st.lists(move, max_size=14).map(_told).filter(_each_life_is_its_own)


def _labellings() -> st.SearchStrategy[Callable[[Story], object]]:
    keys, values = st.sampled_from(["team", "tier"]), st.sampled_from(["a", "b", ""])
    return st.builds(
        lambda v, new, gone: (
            lambda s: s.say(
                VolumeLabelled(
                    volume=f"v{v}",
                    uid=uid(v),
                    set=new,
                    removed=tuple(key for key in gone if key not in new),  # both is refused
                )
            )
        ),
        st.integers(1, 4),
        st.dictionaries(keys, values),
        st.sampled_from([(), ("team",), ("other",)]),
    )


def _told(moves: list[Callable[[Story], object]]) -> Story:
    story = Story()
    for move in moves:
        move(story)
    return story


def _each_life_is_its_own(story: Story) -> bool:
    """Whether no volume comes again as what was deleted: whatever is made has a new identity."""
    gone = set[bytes]()
    for stored in story.events:
        volume = stored.subject.rpartition(".")[2].encode()
        if b"volume.deleted.v1" in stored.data:
            gone.add(volume)
        elif b"volume.provisioning-began.v1" in stored.data and volume in gone:
            return False
    return True


def _room(word: type[RoomReleased | RoomUnreserved], node: str, claim: int) -> Event:
    return word(pool="fast", node=node, claim=uid(claim))


def _deleted(number: int) -> Event:
    return VolumeDeleted(volume=f"v{number}", uid=uid(number), operation=uid(1))


def tool(story: Story, cause: str, correlation: str = "", status: int = 0) -> ExecutedRecord:
    return ExecutedRecord(
        at=story.at,
        node="n1",
        argv=("lvcreate", "-L", "1g"),
        exit_status=status,
        duration_ms=12.5,
        cause=cause,
        correlation=correlation,
    )
