"""The control plane's figures, read at the moment they are asked for: nothing here goes stale."""

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from aggregates.attaching import behind
from aggregates.ledger import METADATA_PER_VOLUME_BYTES
from aggregates.peers import seen
from aggregates.pool import Pool
from aggregates.world import World
from hwbus.controller.notary import Notary
from hwbus.desk import CommandDesk
from hwbus.driver import Driver
from projectors.projector import Projector

VOLUME_SERIES_MAX = 5000
_POOL = ("pool", "node")


class Figures(Collector):
    """Capacity from the ledgers, work from the driver, lag from the views."""

    def __init__(
        self,
        world: World,
        desk: CommandDesk,
        driver: Driver,
        projector: Projector,
        notaries: Sequence[Notary],
        version: str,
    ) -> None:
        self._world = world
        self._desk = desk
        self._driver = driver
        self._projector = projector
        self._notaries = notaries
        self._version = version

    def collect(self) -> Iterable[Metric]:
        """Return every family, as Prometheus names them: base units, ``_total`` for counters."""
        yield from self._pools()
        yield from self._volumes()
        yield from self._disks()
        yield from self._policies()
        yield qos_behind(self._world)
        yield from self._work()
        yield from self._log()
        build = GaugeMetricFamily("hwbus_build_info", "What is running.", labels=("version",))
        build.add_metric((self._version,), 1)
        yield build

    def _pools(self) -> Iterator[Metric]:
        capacity = _gauge("hwbus_pool_capacity_bytes", "All extents of the pool.", _POOL)
        allocated = _gauge("hwbus_pool_allocated_bytes", "What LVM has given out.", _POOL)
        committed = _gauge(
            "hwbus_pool_committed_bytes", "Given out, or set aside for work in progress.", _POOL
        )
        metadata = _gauge(
            "hwbus_pool_metadata_used_ratio", "Share of the LVM metadata area in use.", _POOL
        )
        for (node, name), pool in self._world.pools.items():
            if pool.facts is None:
                continue
            taken = _taken_bytes(pool)
            capacity.add_metric((name, node), pool.facts.size_bytes)
            allocated.add_metric((name, node), taken)
            committed.add_metric((name, node), taken + pool.ledger.thick_reserved_bytes)
            used = pool.ledger.claims * METADATA_PER_VOLUME_BYTES / pool.facts.metadata_bytes
            metadata.add_metric((name, node), used)
        yield from (capacity, allocated, committed, metadata)

    def _volumes(self) -> Iterator[Metric]:
        size = _gauge("hwbus_volume_capacity_bytes", "How large the volume is.", ("volume",))
        state = _gauge("hwbus_volume_state", "1 for the state it is in.", ("volume", "state"))
        if len(self._world.volumes) <= VOLUME_SERIES_MAX:
            for name, volume in self._world.volumes.items():
                size.add_metric((name,), volume.size_bytes)
                state.add_metric((name, volume.phase.value), 1)
        yield from (size, state)
        yield from compared(self._world)
        yield from moved(self._world)

    def _disks(self) -> Iterator[Metric]:
        health = _gauge(
            "hwbus_disk_health", "1 for what the disk says by SMART.", ("disk", "node", "health")
        )
        for name, disk in self._world.disks.items():
            if disk.known:
                health.add_metric((name, disk.last_node, disk.health.value), 1)
        yield health

    def _policies(self) -> Iterator[Metric]:
        alarms = _gauge(
            "hwbus_policy_alarms", "Objects that a policy cannot act on as it ought.", ("policy",)
        )
        for name, policy in self._world.policies.items():
            alarms.add_metric((name,), len(policy.alarms))
        yield alarms

    def _work(self) -> Iterator[Metric]:
        running = _gauge("hwbus_operations_open", "Operations that have not ended.")
        running.add_metric((), self._driver.open_operations)
        overdue = _gauge("hwbus_operations_overdue", "Open past their deadline: must be 0.")
        overdue.add_metric((), len(self._driver.overdue()))
        drift = _gauge("hwbus_drift_findings", "Open drift findings.", ("node",))
        silent = _gauge("hwbus_node_silent", "1 while nothing is heard of the node.", ("node",))
        for name, node in self._world.nodes.items():
            drift.add_metric((name,), sum(not f.quiet for f in node.findings))
            silent.add_metric((name,), int(node.silent))
        yield from (running, overdue, drift, silent)

    def _log(self) -> Iterator[Metric]:
        commands = CounterMetricFamily(
            "hwbus_commands", "Commands by what became of them.", labels=("outcome",)
        )
        counters = self._desk.counters
        for outcome in ("accepted", "refused", "undecided", "conflicts"):
            commands.add_metric((outcome,), getattr(counters, outcome))
        yield commands
        parked = CounterMetricFamily("hwbus_messages_parked", "Messages nobody could read.")
        parked.add_metric((), counters.parked)
        yield parked
        position = _gauge("hwbus_desk_position", "The last sequence the desk has taken in.")
        position.add_metric((), self._desk.position)
        yield position
        yield from self._signed()
        events = _gauge("hwbus_projector_lag_events", "How far the views are behind.", ("stream",))
        late = _gauge("hwbus_projector_lag_seconds", "For how long they have been.", ("stream",))
        for status in self._projector.status():
            events.add_metric((status.stream,), status.lag_events)
            late.add_metric((status.stream,), status.lag_s)
        yield events
        yield late

    def _signed(self) -> Iterator[Metric]:
        of = ("stream",)
        signed = _gauge("hwbus_notary_signed_position", "The last sequence in a signed head.", of)
        trouble = _gauge("hwbus_notary_trouble", "1 while the head cannot be signed.", of)
        for notary in self._notaries:
            signed.add_metric((notary.stream.name,), notary.signed)
            trouble.add_metric((notary.stream.name,), bool(notary.trouble))
        yield signed
        yield trouble


def moved(world: World) -> Iterator[Metric]:
    """Return what consumers have written and read, as far as nodes have told."""
    of = ("volume", "node")
    written = CounterMetricFamily("hwbus_volume_written_bytes", "Written by consumers.", labels=of)
    read = CounterMetricFamily("hwbus_volume_read_bytes", "Read by consumers.", labels=of)
    if len(world.volumes) <= VOLUME_SERIES_MAX:
        for name, volume in world.volumes.items():
            for node, counted in volume.counted.items():
                written.add_metric((name, node), counted.total_written_bytes)
                read.add_metric((name, node), counted.total_read_bytes)
    yield from (written, read)


def compared(world: World) -> Iterator[Metric]:
    """Return how replicated volumes are, by what was found when their replicas were compared."""
    of = ("volume",)
    differs = _gauge(
        "hwbus_volume_differing_bytes", "Known not to be the same on all replicas.", of
    )
    verified = _gauge(
        "hwbus_volume_verified_timestamp_seconds", "When the replicas were compared last.", of
    )
    replicated = {name: one for name, one in world.volumes.items() if one.members}
    for name, volume in replicated.items() if len(replicated) <= VOLUME_SERIES_MAX else ():
        home = seen(world, volume.node, name)
        peers = () if home is None else home.peers
        differs.add_metric((name,), max((one.out_of_sync_bytes for one in peers), default=0))
        if volume.verified_at is not None:
            verified.add_metric((name,), volume.verified_at.timestamp())
    yield from (differs, verified)


def qos_behind(world: World) -> Metric:
    """Return how many attached volumes of each class do not carry its limits."""
    late = _gauge(
        "hwbus_qos_behind_volumes",
        "Attached volumes that do not carry the limits of their class.",
        ("qos",),
    )
    counts = dict.fromkeys(world.qos, 0)
    for volume in world.volumes.values() if counts else ():
        if behind(volume, world) is not None:
            counts[volume.use.qos] += 1
    for name, count in counts.items():
        late.add_metric((name,), count)
    return late


def _gauge(name: str, meaning: str, labels: tuple[str, ...] = ()) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, meaning, labels=labels)


def _taken_bytes(pool: Pool) -> int:
    if pool.facts is None:
        return 0
    thin = pool.facts.thin_bytes + pool.facts.thin_overhead_bytes
    return thin + pool.ledger.thick_settled_bytes
