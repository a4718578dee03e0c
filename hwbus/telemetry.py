"""Traces: one thread from the wish to the last tool, free of charge while nobody looks.

The context travels as a W3C ``traceparent`` in headers and commits. Spans are exported where
``OTEL_EXPORTER_OTLP_ENDPOINT`` says (with the package opentelemetry-exporter-otlp-proto-http), or
as JSON lines to the file that ``HWBUS_TRACE_FILE`` names; else they are not even made.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace.export import SpanExporter

OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACE_FILE = "HWBUS_TRACE_FILE"
_OTLP_EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
_LOG = structlog.get_logger("hwbus.telemetry")
_PROPAGATOR = TraceContextTextMapPropagator()


def configure(service: str, environment: Mapping[str, str]) -> Callable[[], None]:
    """Export spans as *environment* asks; return what to call at the end, to send the last ones.

    Only the first call in a process counts: that is OpenTelemetry's own rule.
    """
    exporters = _exporters(environment)
    if not exporters:
        return lambda: None
    # Late, because the SDK costs memory that a worker without traces need not pay.
    resources = importlib.import_module("opentelemetry.sdk.resources")
    sdk = importlib.import_module("opentelemetry.sdk.trace")
    provider = sdk.TracerProvider(
        resource=resources.Resource.create({"service.name": service}), shutdown_on_exit=False
    )
    for exporter in exporters:
        provider.add_span_processor(exporter)
    trace.set_tracer_provider(provider)

    def end() -> None:
        provider.shutdown()

    return end


def tracer() -> trace.Tracer:
    """Return the tracer of hwbus; its spans are nothing until ``configure`` was asked for some."""
    return trace.get_tracer("hwbus")


@contextmanager
def remote_span(
    name: str, traceparent: str, attributes: Mapping[str, str | int] | None = None
) -> Iterator[trace.Span]:
    """Give a span that continues the trace which *traceparent* tells of (empty: a new one)."""
    if not traceparent and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        # Nobody looks and nobody before us did: even a span that is nothing would cost 20 us.
        yield trace.INVALID_SPAN
        return
    context: Context | None = None
    if traceparent:
        context = _PROPAGATOR.extract({"traceparent": traceparent}, Context())
    with tracer().start_as_current_span(name, context=context, attributes=attributes) as span:
        yield span


def current_traceparent() -> str:
    """Return the present span as a ``traceparent``, or nothing outside of a trace."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent", "")


def _exporters(environment: Mapping[str, str]) -> "list[SpanProcessor]":
    exporters: list[SpanProcessor] = []
    if path := environment.get(TRACE_FILE):
        exporters.append(_to_file(Path(path)))
    if environment.get(OTLP_ENDPOINT):
        exporter = _otlp()
        if exporter is not None:
            export = importlib.import_module("opentelemetry.sdk.trace.export")
            exporters.append(export.BatchSpanProcessor(exporter))
    return exporters


def _to_file(path: Path) -> "SpanProcessor":
    export = importlib.import_module("opentelemetry.sdk.trace.export")
    file = path.open("a", encoding="utf-8", buffering=1)

    class Lines(export.ConsoleSpanExporter):  # type: ignore[misc, name-defined]
        """Closes its file with itself."""

        def shutdown(self) -> None:
            file.close()

    lines = Lines(out=file, formatter=lambda span: span.to_json(indent=None) + "\n")
    processor: SpanProcessor = export.SimpleSpanProcessor(lines)
    return processor


def _otlp() -> "SpanExporter | None":
    try:
        exporter: SpanExporter = importlib.import_module(_OTLP_EXPORTER).OTLPSpanExporter()
    except ImportError:
        _LOG.warning(
            "spans are not exported",
            because=f"{OTLP_ENDPOINT} is set, its exporter is not installed",
            fix="pip install opentelemetry-exporter-otlp-proto-http",
        )
        return None
    return exporter
