"""The wires log for daemons; a command line speaks for itself and prints data only."""

import logging
import os
import sys

import structlog


def silence() -> None:
    """Send what the wires log to stderr, and only what ``HWBUS_LOG`` (a level) asks for."""
    level = logging.getLevelNamesMapping().get(os.environ.get("HWBUS_LOG", "").upper())
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level or logging.CRITICAL),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.getLogger("nats").setLevel(level or logging.CRITICAL)
