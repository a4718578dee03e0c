"""What there is to look after: how full things are, which disks are free, and which are failing."""

from abc import abstractmethod
from collections.abc import Iterator
from datetime import datetime
from typing import assert_never

import msgspec

from aggregates import disk
from aggregates.pool import Pool, PoolPhase
from aggregates.snapshot import Snapshot
from aggregates.thin_growth import METADATA_BYTES_MAX, metadata_bytes
from aggregates.volume import Volume
from aggregates.world import World
from schemas.answers import Refused, refuse
from schemas.disk import DiskClass, Health
from schemas.growing import GrowSnapshot, GrowThinPool
from schemas.policy import PolicyKind, PolicySpec, PolicyWish
from schemas.pool import GrowPool, PoolFacts
from schemas.refusals import Refusal
from schemas.shrinking import ShrinkPool
from schemas.units import readable
from schemas.verifying import VerifyVolume
from schemas.volume import GrowVolume

_PERCENT = 100


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a policy may have to act on: its address, where it lies, how full it is.

    ``once``: it is left alone unless the last act on it has failed.
    """

    object: str
    node: str
    pool: str
    volume: str = ""
    level_percent: int = _PERCENT
    once: bool = False

    def is_for(self, spec: PolicySpec) -> bool:
        """Whether a policy with that *spec* selects it."""
        chosen = spec.selector
        return (
            chosen.node in {None, self.node}
            and chosen.pool in {None, self.pool}
            and chosen.volume in {None, self.volume}
        )

    @abstractmethod
    def wish(self, spec: PolicySpec) -> PolicyWish | Refused:
        """Return what is to be asked for, or why the policy itself forbids it."""


class VolumeNeed(Need, frozen=True, kw_only=True):
    """A volume of which the filesystem is filling up; it grows by whole ``unit_bytes``."""

    size_bytes: int
    unit_bytes: int

    def wish(self, spec: PolicySpec) -> GrowVolume | Refused:
        """Ask for the next size."""
        size = next_bytes(self.object, self.size_bytes, spec, self.unit_bytes)
        return (
            size if isinstance(size, Refused) else GrowVolume(volume=self.volume, size_bytes=size)
        )


class SnapshotNeed(Need, frozen=True, kw_only=True):
    """A thick snapshot of which the reserve is filling up."""

    snapshot: str
    reserve_bytes: int
    unit_bytes: int

    def wish(self, spec: PolicySpec) -> GrowSnapshot | Refused:
        """Ask for the next size of the reserve."""
        size = next_bytes(self.object, self.reserve_bytes, spec, self.unit_bytes)
        if isinstance(size, Refused):
            return size
        return GrowSnapshot(snapshot=self.snapshot, reserve_bytes=size)


class ThinNeed(Need, frozen=True, kw_only=True):
    """A thin pool of which data or metadata is filling up."""

    facts: PoolFacts
    data_percent: int
    metadata_percent: int

    def wish(self, spec: PolicySpec) -> GrowThinPool | Refused:
        """Ask for the next size of the data; metadata that fills up grows by a half of itself."""
        size: int | Refused = self.facts.thin_bytes
        if self.data_percent >= spec.threshold_percent:
            size = next_bytes(self.object, self.facts.thin_bytes, spec, self.facts.extent_bytes)
        if isinstance(size, Refused):
            return size
        metadata = 0
        if self.metadata_percent >= spec.threshold_percent:
            metadata = min(metadata_bytes(self.facts) * 3 // 2, METADATA_BYTES_MAX)
        return GrowThinPool(
            pool=self.pool, node=self.node, thin_bytes=size, metadata_bytes=metadata
        )


class BlankDisk(Need, frozen=True, kw_only=True):
    """A disk that any pool of its node could have; ``sizes`` are those of the pools there are."""

    disk: str
    media: DiskClass
    size_bytes: int
    sizes: dict[str, int]

    def is_for(self, spec: PolicySpec) -> bool:
        """Whether a policy wants disks of that class for a pool of that node."""
        chosen = spec.selector
        here = chosen.node in {None, self.node} and chosen.pool in self.sizes
        return here and spec.media is self.media

    def wish(self, spec: PolicySpec) -> GrowPool | Refused:
        """Ask that it join its pool."""
        pool = spec.selector.pool or ""
        size_bytes = self.sizes[pool] + self.size_bytes
        if 0 < spec.ceiling_bytes < size_bytes:
            name, ceiling = f"{self.node}/{pool}", readable(spec.ceiling_bytes)
            with_it = f"{name} would have {readable(size_bytes)} with {self.disk}"
            return refuse(Refusal.CEILING_REACHED, f"{with_it}; the ceiling is {ceiling}")
        return GrowPool(pool=pool, node=self.node, disks=(self.disk,))


class FailingDisk(Need, frozen=True, kw_only=True):
    """A disk of a pool that says that it is failing, or one that is a volume."""

    disk: str

    def wish(self, spec: PolicySpec) -> ShrinkPool | Refused:  # noqa: ARG002
        """Ask that it be emptied and leave its pool."""
        if self.volume:
            whole = f"disk {self.disk} is the volume {self.volume}: it cannot be drained"
            return refuse(Refusal.IS_RAW_DISK, whole)
        return ShrinkPool(pool=self.pool, node=self.node, disks=(self.disk,))


class ReplicasNeed(Need, frozen=True, kw_only=True):
    """A replicated volume; ``done_at`` is when its replicas were compared last."""

    groups: frozenset[str] = frozenset()
    done_at: datetime | None = None

    def is_for(self, spec: PolicySpec) -> bool:
        """Whether a policy selects it, by its group perhaps."""
        chosen = spec.selector
        return super().is_for(spec) and (chosen.group is None or chosen.group in self.groups)

    def due_since(self, spec: PolicySpec, since: datetime | None, now: datetime) -> datetime | None:
        """Return since when it is due, or None: not before the round after the last."""
        rhythm, known = spec.rhythm, [one for one in (since, self.done_at) if one is not None]
        if rhythm is None:
            return None
        round_ = rhythm.number(now)
        fresh = bool(known) and rhythm.number(max(known)) >= round_
        return None if fresh else rhythm.due(round_)

    def wish(self, spec: PolicySpec) -> VerifyVolume | Refused:
        """Ask that they be compared."""
        return VerifyVolume(volume=self.volume, repair=spec.repair)


def needs(kind: PolicyKind, world: World) -> Iterator[Need]:
    """Yield all that a policy of that kind could have to act on."""
    match kind:
        case PolicyKind.GROW_VOLUMES:
            yield from _volumes(world)
        case PolicyKind.GROW_SNAPSHOTS:
            yield from _snapshots(world)
        case PolicyKind.GROW_THIN_POOLS:
            yield from _thin_pools(world)
        case PolicyKind.ADD_DISKS:
            yield from _blank_disks(world)
        case PolicyKind.DRAIN_DISKS:
            yield from _failing_disks(world)
        case PolicyKind.VERIFY_REPLICAS:
            yield from _replicated(world)
        case _:
            assert_never(kind)


def next_bytes(object_: str, has_bytes: int, spec: PolicySpec, unit_bytes: int) -> int | Refused:
    """Return the next size: one step more in whole units, and never above the ceiling."""
    step = spec.step_bytes or -(-has_bytes * spec.step_percent // _PERCENT)
    size = -(-(has_bytes + step) // unit_bytes) * unit_bytes
    if spec.ceiling_bytes:
        size = min(size, spec.ceiling_bytes // unit_bytes * unit_bytes)
    if size > has_bytes:
        return size
    has, ceiling = readable(has_bytes), readable(spec.ceiling_bytes)
    return refuse(Refusal.CEILING_REACHED, f"{object_} has {has}; the ceiling is {ceiling}")


def _volumes(world: World) -> Iterator[VolumeNeed]:
    for name, volume in world.volumes.items():
        extent = _extent_bytes(world, volume) if volume.fill_percent else 0
        if extent:
            yield VolumeNeed(
                object=f"volume/{name}",
                node=volume.node,
                pool=volume.pool,
                volume=name,
                level_percent=volume.fill_percent,
                size_bytes=volume.size_bytes,
                unit_bytes=extent * volume.stripes,
            )


def _snapshots(world: World) -> Iterator[SnapshotNeed]:
    for name, snapshot in world.snapshots.items():
        wanting = snapshot.fill_percent and snapshot.reserve_bytes
        extent = _extent_bytes(world, snapshot) if wanting else 0
        if extent:
            yield SnapshotNeed(
                object=f"snapshot/{name}",
                node=snapshot.node,
                pool=snapshot.pool,
                volume=snapshot.volume,
                level_percent=snapshot.fill_percent,
                snapshot=name,
                reserve_bytes=snapshot.reserve_bytes,
                unit_bytes=extent,
            )


def _extent_bytes(world: World, one: Volume | Snapshot) -> int:
    pool = world.pools.get((one.node, one.pool))
    return 0 if pool is None or pool.facts is None else pool.facts.extent_bytes


def _thin_pools(world: World) -> Iterator[ThinNeed]:
    for (node, name), pool in world.pools.items():
        level = max(pool.thin_percent, pool.thin_metadata_percent)
        if level and pool.facts is not None and pool.facts.thin_bytes:
            yield ThinNeed(
                object=f"pool/{node}/{name}",
                node=node,
                pool=name,
                level_percent=level,
                facts=pool.facts,
                data_percent=pool.thin_percent,
                metadata_percent=pool.thin_metadata_percent,
            )


def _blank_disks(world: World) -> Iterator[BlankDisk]:
    sizes: dict[str, dict[str, int]] = {}
    for (node, name), pool in world.pools.items():
        if pool.phase is PoolPhase.READY:
            sizes.setdefault(node, {})[name] = _size_bytes(pool)
    for name, one in world.disks.items():
        for node, sighting in one.sightings.items():
            media = one.media
            free = disk.unclaimable(one, name, node) is None
            if node in sizes and media is not None and free:
                yield BlankDisk(
                    object=f"disk/{name}",
                    node=node,
                    pool="",
                    disk=name,
                    media=media,
                    size_bytes=sighting.size_bytes,
                    sizes=sizes[node],
                    once=one.was_used,
                )


def _size_bytes(pool: Pool) -> int:
    return 0 if pool.facts is None else pool.facts.size_bytes


def _replicated(world: World) -> Iterator[ReplicasNeed]:
    """Yield who was compared longest ago first; who is being compared needs nothing."""
    waiting = [
        (name, one)
        for name, one in world.volumes.items()
        if one.members and one.verifying is None and one.until is None
    ]
    # Of those that never were, the first by name; and all of them before the others.
    known = [one for one in waiting if one[1].verified_at is not None]
    known.sort(key=lambda one: str(one[1].verified_at))
    for name, volume in (*(one for one in waiting if one[1].verified_at is None), *known):
        yield ReplicasNeed(
            object=f"volume/{name}",
            node=volume.node,
            pool=volume.pool,
            volume=name,
            groups=frozenset(g for g, one in world.groups.items() if name in one.members),
            done_at=volume.verified_at,
        )


def _failing_disks(world: World) -> Iterator[FailingDisk]:
    for name, one in world.disks.items():
        if one.health is Health.FAILING and one.owner is not None:
            owner = one.owner
            yield FailingDisk(
                object=f"disk/{name}",
                node=owner.node,
                pool=owner.pool,
                volume=owner.volume,
                disk=name,
            )
