"""What holds for every test: how many examples, what may be left out, and that it is said."""

import contextlib
import fcntl
import functools
import math
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pytest
import structlog
from hypothesis import HealthCheck, settings

import hwbus.lab.requirements
from tests.support.house import EXCHANGED_LABS

IN_CI = os.environ.get("CI", "").lower() not in {"", "0", "false"}

settings.register_profile("quick", max_examples=25, deadline=None)
settings.register_profile(
    "ci", max_examples=100, deadline=None, derandomize=True, print_blob=True, database=None
)
settings.register_profile(
    "night",
    max_examples=20_000,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if IN_CI else "quick"))

_NOT_RUN = pytest.StashKey[dict[str, list[str]]]()
_SHOWN_MAX = 10
_LABS, _UNITS = "lab", Path(__file__).parent / "unit"
_SLOW_ARE_THROUGH_BY = 0.8
_LABS_AT_ONCE = 2
_LOOK_S = 0.1


@functools.cache
def _why_no_lab() -> str | None:
    return hwbus.lab.requirements.why_not()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_NOT_RUN] = {}
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell has its jobs in the background ignore it, and what they start; here it matters.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.pluginmanager.register(_Bookkeeping(config), "what-was-not-run")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have files with labs begun first, but not all side by side.

    They take longest, and mostly wait. Several processes take the files in this order.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    slow = [file for file in files if file.parent.name == _LABS]
    quick = [file for file in files if file.parent.name != _LABS]
    slow.sort(key=lambda file: -len(files[file]))
    quick.sort(key=lambda file: (file.is_relative_to(_UNITS), "simulation" not in file.parts))
    each = math.ceil(len(quick) * _SLOW_ARE_THROUGH_BY / max(1, len(slow)))
    order: list[Path] = []
    while slow or quick:
        order += slow[:1]
        order += quick[:each]
        del slow[:1], quick[:each]
    items[:] = [item for file in order for item in files[file]]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Have no more tests with labs at work side by side than two cores can bear."""
    several = hasattr(item.config, "workerinput") and item.get_closest_marker("lab") is not None
    with _one_of(_LABS_AT_ONCE) if several else contextlib.nullcontext():
        return (yield)


@contextlib.contextmanager
def _one_of(places: int) -> Iterator[None]:
    folder = Path(tempfile.gettempdir())
    names = [folder / f"hwbus-tests-{os.getuid()}-{number}.lock" for number in range(places)]
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(name.open("w")) for name in names]
        while not any(_is_free(file) for file in files):
            time.sleep(_LOOK_S)  # the kernel wakes nobody who waits for either of two
        yield  # closing the files gives the place back


def _is_free(place: IO[str]) -> bool:
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """Have no program that a test runs in this process say what the next test's logs are."""
    yield
    structlog.reset_defaults()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("lab") is None:
        return
    reason = _why_no_lab()
    if reason is not None and IN_CI:
        pytest.fail(f"CI runs everything, but {reason}", pytrace=False)
    if reason is not None:
        pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    exchanged = terminalreporter.config.stash.get(EXCHANGED_LABS, [])
    if exchanged:
        terminalreporter.section("labs that were exchanged because not all was well in them")
        for found in exchanged:
            terminalreporter.line(found, red=True)
    not_run = terminalreporter.config.stash[_NOT_RUN]
    if not not_run:
        return
    terminalreporter.section("what was not run here")
    for reason, names in not_run.items():
        terminalreporter.line(f"{len(names)} not run: {reason}")
        for name in names[:_SHOWN_MAX]:
            terminalreporter.line(f"    {name}")
        if len(names) > _SHOWN_MAX:
            terminalreporter.line(f"    and {len(names) - _SHOWN_MAX} more")
    if IN_CI:
        terminalreporter.line("CI is set, so everything must be run: this is a failure.", red=True)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    told = getattr(session.config, "workeroutput", None)
    if told is not None:
        # One of several processes: the one that started them prints what all of them found.
        told["not_run"] = session.config.stash[_NOT_RUN]
        told["exchanged"] = session.config.stash.get(EXCHANGED_LABS, [])
    if IN_CI and session.config.stash[_NOT_RUN] and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


class _Bookkeeping:
    """Notes every test that was collected and not run, under its reason."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._not_run = config.stash[_NOT_RUN]

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what one of several processes found."""
        told = getattr(node, "workeroutput", {})
        for reason, names in told.get("not_run", {}).items():
            self._note(reason, *names)
        exchanged = self._config.stash.setdefault(EXCHANGED_LABS, [])
        exchanged.extend(told.get("exchanged", ()))

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        self._note("left out on the command line", *(item.nodeid for item in items))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped:
            self._note(_reason(report.longrepr), report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._note(_reason(report.longrepr), report.nodeid)

    def _note(self, reason: str, *names: str) -> None:
        # Each of several processes collects all tests.
        known = self._not_run.setdefault(reason, [])
        known.extend(name for name in names if name not in known)


def _reason(longrepr: object) -> str:
    if isinstance(longrepr, tuple):
        return str(longrepr[-1]).removeprefix("Skipped: ")
    return "expected to fail"
