"""A past as it would have been: nodes with pools, and volumes that were provisioned one by one."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from hwbus.codec import hash_of
from hwbus.jetstream import Wires
from hwbus.subjects import Address
from schemas.commit import Commit
from schemas.disk import Content, DiskClaimed, DiskClass, DiskFound, Sighting
from schemas.grammar import Event
from schemas.node import Capability, NodeJoined, PoolAttached
from schemas.operation import OperationEnded, OperationKind, OperationStarted, Outcome
from schemas.place import place_of
from schemas.pool import (
    PoolBuildWanted,
    PoolFacts,
    PoolFormed,
    PoolFormingBegan,
    PoolOperationEnded,
    RoomReserved,
    RoomSettled,
)
from schemas.replica import ReplicaCreated, ReplicaSpec, ReplicaWanted
from schemas.volume import Candidate, VolumeProvisioned, VolumeProvisioningBegan

GIB = 1 << 30
EXTENT_BYTES = 4 << 20
POOL = "fast"
VOLUMES_A_NODE = 100
COMMITS_A_VOLUME = 8
_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
_SENT_AT_ONCE = 2000


class Past:
    """Writes commits one after another, each subject with its versions and its chain."""

    def __init__(self) -> None:
        self._encode = msgspec.json.Encoder().encode
        self._ends: dict[str, tuple[int, str]] = {}
        self._count = 0

    def id(self, number: int, of: str) -> str:
        """Return an identity that is always the same."""
        return f"{of}{number:025d}"

    def commit(self, correlation: str, *events: Event) -> tuple[str, bytes]:
        """Return the next message about the aggregate of *events*: its subject and its text."""
        subject = Address(*place_of(events[0])).subject
        version, prev = self._ends.get(subject, (0, ""))
        self._count += 1
        data = self._encode(
            Commit(
                id=self.id(self._count, "c"),
                at=_BEGAN + timedelta(milliseconds=self._count),
                actor="bench",
                command=f"{correlation}.step.{self._count}",
                word="volume.provision.v1",
                request=msgspec.Raw(b'{"volume":"v","size_bytes":1073741824}'),
                correlation=correlation,
                cause=f"event:{self._count}",
                version=version + 1,
                prev=prev,
                events=events,
            )
        )
        self._ends[subject] = (version + 1, hash_of(data))
        return subject, data

    def node(self, number: int) -> Iterator[tuple[str, bytes]]:
        """Tell how a node joined and got a pool of one disk."""
        node, disk, operation = f"n{number}", f"n{number}-d0", self.id(number, "f")
        uid, deadline = self.id(number, "p"), _BEGAN + timedelta(days=1)
        seen = Sighting(
            path="/dev/sdb", size_bytes=200 * GIB, media=DiskClass.SSD, content=Content.BLANK
        )
        facts = PoolFacts(
            size_bytes=200 * GIB, extent_bytes=EXTENT_BYTES, metadata_bytes=8 << 20, disks=(disk,)
        )
        pool: dict[str, Any] = {"pool": POOL, "node": node, "uid": uid}
        about = f"pool/{node}/{POOL}"
        forming = OperationKind.POOL_FORM
        yield self.commit(operation, NodeJoined(node=node, capabilities=(Capability.LVM,)))
        yield self.commit(operation, DiskFound(disk=disk, node=node, sighting=seen))
        yield self.commit(
            operation,
            PoolFormingBegan(operation=operation, deadline=deadline, disks=(disk,), **pool),
        )
        started = OperationStarted(
            operation=operation, kind=forming, object=about, deadline=deadline
        )
        yield self.commit(operation, started)
        claimed = DiskClaimed(disk=disk, node=node, pool=POOL, operation=operation)
        yield self.commit(operation, claimed)
        yield self.commit(operation, PoolAttached(node=node, pool=POOL))
        yield self.commit(operation, PoolBuildWanted(disks=(disk,), **pool))
        yield self.commit(operation, PoolFormed(facts=facts, **pool))
        ended = PoolOperationEnded(pool=POOL, node=node, operation=operation)
        yield self.commit(operation, ended)
        yield self.commit(operation, self._ended(operation, forming, about))

    def volume(self, number: int) -> Iterator[tuple[str, bytes]]:
        """Tell how a volume was provisioned on one of the nodes."""
        volume, node = f"pvc-{number:012d}", f"n{number // VOLUMES_A_NODE}"
        uid, operation = self.id(number, "v"), self.id(number, "o")
        deadline = _BEGAN + timedelta(days=1)
        kind, about = OperationKind.VOLUME_PROVISION, f"volume/{volume}"
        began = VolumeProvisioningBegan(
            volume=volume,
            uid=uid,
            operation=operation,
            deadline=deadline,
            size_bytes=GIB,
            candidates=(Candidate(node=node, pool=POOL, room_bytes=100 * GIB, score=70),),
        )
        spec = ReplicaSpec(uid=uid, pool=POOL, size_bytes=GIB)
        place: dict[str, Any] = {"pool": POOL, "node": node}
        leg: dict[str, Any] = {"volume": volume, "node": node}
        room: dict[str, Any] = {**place, "claim": uid, "size_bytes": GIB}
        device = f"/dev/{POOL}/{volume}"
        started = OperationStarted(operation=operation, kind=kind, object=about, deadline=deadline)
        for event in (
            began,
            started,
            RoomReserved(operation=operation, **room),
            ReplicaWanted(operation=operation, spec=spec, **leg),
            ReplicaCreated(uid=uid, pool=POOL, size_bytes=GIB, device=device, **leg),
            RoomSettled(**room),
            VolumeProvisioned(volume=volume, uid=uid, operation=operation, size_bytes=GIB, **place),
            self._ended(operation, kind, about),
        ):
            yield self.commit(operation, event)

    def _ended(self, operation: str, kind: OperationKind, about: str) -> OperationEnded:
        return OperationEnded(
            operation=operation, kind=kind, object=about, outcome=Outcome.COMPLETED
        )


def of_volumes(volumes: int) -> Iterator[tuple[str, bytes]]:
    """Yield the whole past of so many volumes, and of the nodes they live on."""
    past = Past()
    for number in range(-(-volumes // VOLUMES_A_NODE)):
        yield from past.node(number)
    for number in range(volumes):
        yield from past.volume(number)


async def store(wires: Wires, messages: Iterator[tuple[str, bytes]]) -> int:
    """Put *messages* into the log in their order; returns how many there were."""
    count, batch = 0, list[tuple[str, bytes]]()
    for message in messages:
        batch.append(message)
        if len(batch) == _SENT_AT_ONCE:
            await _send(wires, batch, count)
            count += len(batch)
            batch = []
    await _send(wires, batch, count)
    return count + len(batch)


async def _send(wires: Wires, batch: Sequence[tuple[str, bytes]], start: int) -> None:
    # Tasks begin in the order they were made, and one connection keeps it.
    async with asyncio.TaskGroup() as group:
        for number, (subject, data) in enumerate(batch, start):
            group.create_task(wires.outlet.keep(subject, data, message_id=f"past.{number}"))
