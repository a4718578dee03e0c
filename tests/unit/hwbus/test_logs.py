"""What is logged of a fault: where it was, and never with which values."""

import io
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from hwbus.logs import configure_logs


class Terminal(io.StringIO):
    """Where somebody looks on."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(params=[io.StringIO, Terminal])
def written(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[io.StringIO]:
    file: io.StringIO = request.param()
    monkeypatch.setattr(sys, "stderr", file)
    # Whatever was asked for before counts no longer.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    configure_logs()
    yield file
    structlog.reset_defaults()


def test_a_traceback_shows_no_variable(written: io.StringIO) -> None:
    def breaks(stdin: bytes) -> None:
        raise OSError(f"{len(stdin)} bytes could not be written")

    try:
        breaks(b"a key that nobody" + b" shall read")
    except OSError:
        structlog.get_logger("a test").exception("a step broke")
    assert "28 bytes could not be written" in written.getvalue()
    assert "in breaks" in written.getvalue()
    assert "nobody shall" not in written.getvalue()
