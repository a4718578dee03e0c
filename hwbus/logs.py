"""One line of JSON an entry for machines, readable lines for people at a terminal."""

import logging
import sys

import msgspec
import structlog

_EVERYTHING = structlog.make_filtering_bound_logger(logging.NOTSET)


def configure_logs() -> None:
    """Write log entries to stderr: pretty on a terminal, JSON lines everywhere else."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if sys.stderr.isatty():
        # The pretty tracebacks show the variables of every frame: a key may be one of them.
        plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        structlog.configure(
            processors=[*shared, plain],
            wrapper_class=_EVERYTHING,
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        )
        return
    structlog.configure(
        processors=[
            *shared,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_json),
        ],
        wrapper_class=_EVERYTHING,
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _json(entry: object, **_: object) -> str:
    return msgspec.json.encode(entry, enc_hook=repr).decode()
