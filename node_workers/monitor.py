"""A window for machines: is it alive, what are its figures; small, because it is always there."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from node_workers.figures import Figures

_REQUEST_TIMEOUT_S = 5.0
_PAGE_BYTES = 4096
_MEANINGS = {
    "executions_total": "Tools that were run.",
    "executions_failed_total": "Tools that ended with another status than 0.",
    "lvm_executions_total": "Processes of LVM.",
    "faults_total": "Steps that broke by a fault of the worker.",
    "letters_waiting": "Reports that nobody has answered yet.",
    "log_too_short_total": "Times the log ended before what had been read of it.",
    "messages_parked_total": "Messages nobody could read.",
    "records_dropped_total": "Audit records lost because too many waited.",
    "records_total": "Audit records kept on the audit stream.",
    "records_waiting": "Audit records that wait for the audit stream.",
    "reports_refused_total": "Reports that were refused: a fault of the worker.",
    "reports_total": "Reports that were answered.",
    "scans_failed_total": "Looks at the machine that failed.",
    "scans_total": "Looks at the machine.",
    "steps_total": "Things that were ensured.",
    "troubles_total": "Things that could not be ensured, for the time being or for good.",
    "connected": "1 while there is a bus.",
    "disks_failing": "Disks that say by SMART that they are failing.",
    "drift_findings": "Differences between what was decided and what is.",
    "position": "The last sequence of the log that was folded.",
}


class WorkerFigures(Collector):
    """The counters of one worker, as Prometheus names them."""

    def __init__(self, figures: Figures, node: str) -> None:
        self._figures = figures
        self._node = node

    def collect(self) -> Iterable[Metric]:
        """Return all families; a counter that never counted is 0."""
        for name, meaning in _MEANINGS.items():
            full = f"hwbus_worker_{name}"
            if name.endswith("_total"):
                counter = CounterMetricFamily(full, meaning, labels=("node",))
                counter.add_metric((self._node,), self._figures.counters[name])
                yield counter
            else:
                gauge = GaugeMetricFamily(full, meaning, labels=("node",))
                gauge.add_metric((self._node,), self._figures.gauges.get(name, 0.0))
                yield gauge
        memory = GaugeMetricFamily(
            "hwbus_worker_resident_bytes", "Memory the worker has in use.", labels=("node",)
        )
        memory.add_metric((self._node,), resident_bytes())
        yield memory


def resident_bytes() -> int:
    """Return how much memory this process has in use; 0 where the kernel does not say."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * _PAGE_BYTES


@asynccontextmanager
async def serving(figures: Figures, node: str, host: str, port: int) -> AsyncIterator[int]:
    """Serve ``/livez`` and ``/metrics`` until the context is left; gives the port.

    Raises ``OSError`` when the port is taken.
    """
    registry = CollectorRegistry()
    registry.register(WorkerFigures(figures, node))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError, ValueError):
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                request = await reader.readline()
                writer.write(_page(request, registry))
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, host, port)
    async with server:
        yield int(server.sockets[0].getsockname()[1])


def _page(request: bytes, registry: CollectorRegistry) -> bytes:
    match request.split():
        case [b"GET", b"/livez", *_]:
            return _response("200 OK", "application/json", msgspec.json.encode({"alive": True}))
        case [b"GET", b"/metrics", *_]:
            return _response("200 OK", CONTENT_TYPE_LATEST, generate_latest(registry))
        case _:
            return _response("404 Not Found", "text/plain", b"/livez or /metrics\n")


def _response(status: str, kind: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body
