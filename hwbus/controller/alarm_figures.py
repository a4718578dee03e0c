"""Figures that alarms are made of: what fills up, what is ill, what is in limbo."""

from collections.abc import Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from aggregates.snapshot import SnapshotPhase
from aggregates.world import World
from hwbus.controller.limbo import LimboWatch
from hwbus.controller.wellbeing import VOLUMES_MAX, Wellbeing

_POOL = ("pool", "node")
_PERCENT = 100


class AlarmFigures(Collector):
    """What the rules in ``deploy/prometheus`` look at, beside what others tell."""

    def __init__(self, world: World, limbo: LimboWatch, wellbeing: Wellbeing) -> None:
        self._world = world
        self._limbo = limbo
        self._wellbeing = wellbeing

    def collect(self) -> Iterable[Metric]:
        """Return every family, whether there is anything to tell or not."""
        yield from self._thin_pools()
        yield from self._snapshots()
        yield self._volumes()
        yield self._backups()
        yield from self._log()
        found = _gauge("hwbus_limbo_findings", "What is in limbo: must be 0.", ("check",))
        for check, count in self._limbo.counts().items():
            found.add_metric((check,), count)
        yield found

    def _thin_pools(self) -> Iterator[Metric]:
        size = _gauge("hwbus_pool_thin_bytes", "The data of the thin pool.", _POOL)
        promised = _gauge(
            "hwbus_pool_thin_promised_bytes", "What thin volumes were promised of it.", _POOL
        )
        data = _gauge(
            "hwbus_pool_thin_used_ratio", "Share of its data in use, at the last mark.", _POOL
        )
        metadata = _gauge(
            "hwbus_pool_thin_metadata_used_ratio", "Share of its metadata, at that mark.", _POOL
        )
        for (node, name), pool in self._world.pools.items():
            if pool.facts is None or not pool.facts.thin_bytes:
                continue
            size.add_metric((name, node), pool.facts.thin_bytes)
            promised.add_metric((name, node), pool.ledger.thin_promised_bytes)
            data.add_metric((name, node), pool.thin_percent / _PERCENT)
            metadata.add_metric((name, node), pool.thin_metadata_percent / _PERCENT)
        yield from (size, promised, data, metadata)

    def _snapshots(self) -> Iterator[Metric]:
        of = ("snapshot", "volume")
        used = _gauge(
            "hwbus_snapshot_used_ratio", "Share of its reserve in use, at the last mark.", of
        )
        lost = _gauge("hwbus_snapshot_lost", "1 if it is of no use any more.", of)
        for name, one in list(self._world.snapshots.items())[:VOLUMES_MAX]:
            if one.phase is not SnapshotPhase.CREATING:
                lost.add_metric((name, one.volume), bool(one.lost))
            if one.reserve_bytes:
                used.add_metric((name, one.volume), one.fill_percent / _PERCENT)
        yield from (used, lost)

    def _volumes(self) -> Metric:
        health = _gauge(
            "hwbus_volume_health",
            "1 for how a volume with several replicas is.",
            ("volume", "health"),
        )
        for name, how in self._wellbeing.health.items():
            health.add_metric((name, how.value), 1)
        return health

    def _backups(self) -> Metric:
        last = _gauge(
            "hwbus_backup_last_success_timestamp_seconds",
            "When a volume that is there was last backed up to a target that is there.",
            ("volume", "target"),
        )
        for (name, uid, target), at in self._wellbeing.backed_up.items():
            volume = self._world.volumes.get(name)
            if volume is not None and volume.uid == uid and target in self._world.targets:
                last.add_metric((name, target), at.timestamp())
        return last

    def _log(self) -> Iterator[Metric]:
        of = ("stream",)
        size = _gauge("hwbus_log_bytes", "How large the stream is.", of)
        limit = _gauge("hwbus_log_limit_bytes", "How large it may become, if that is limited.", of)
        for name, stream in self._wellbeing.streams.items():
            size.add_metric((name,), stream.size_bytes)
            if stream.limit_bytes is not None:
                limit.add_metric((name,), stream.limit_bytes)
        free = _gauge("hwbus_state_free_bytes", "Room left where the control plane has its state.")
        if self._wellbeing.free_bytes is not None:
            free.add_metric((), self._wellbeing.free_bytes)
        yield from (size, limit, free)


def _gauge(name: str, meaning: str, labels: tuple[str, ...] = ()) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, meaning, labels=labels)
