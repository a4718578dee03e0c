"""Real processes: their output, their ends, and that nothing of them stays behind."""

import asyncio
import errno
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from node_workers import runner as running
from node_workers.ports import (
    Execution,
    StorageError,
    ToolNotStartedError,
    ToolStuckError,
    ToolTimedOutError,
)
from node_workers.runner import RealRunner, RecordingRunner
from tests.support.clock import NOON, ManualClock

CAUSE = "01command"


def runner() -> RealRunner:
    return RealRunner(ManualClock().now, {"PATH": "/nowhere", "LANG": "de_DE.UTF-8"})


def run(*argv: str, timeout_s: float = 10, stdin: bytes = b"") -> Execution:
    return asyncio.run(runner().run(argv, cause=CAUSE, timeout_s=timeout_s, stdin=stdin))


def test_an_execution_says_all_there_is_to_say() -> None:
    execution = run("sh", "-c", "cat; echo bad >&2; exit 3", stdin=b"good")
    assert (execution.exit_status, execution.stdout, execution.stderr) == (3, "good", "bad\n")
    assert execution.argv == ("sh", "-c", "cat; echo bad >&2; exit 3")
    assert (execution.cause, execution.started_at) == (CAUSE, NOON)
    assert execution.duration_ms > 0


def test_tools_speak_english_and_are_found_in_sbin() -> None:
    seen = run("sh", "-c", "echo $LC_ALL $LVM_SUPPRESS_FD_WARNINGS $PATH").stdout
    assert seen.startswith("C 1 /nowhere:")
    assert "/usr/sbin" in seen


def test_a_signal_is_a_negative_exit_status() -> None:
    assert run("sh", "-c", "kill -9 $$").exit_status == -signal.SIGKILL


def test_a_missing_tool_is_exit_status_127() -> None:
    execution = run("no-such-tool")
    assert execution.exit_status == 127
    assert "no-such-tool" in execution.stderr


@pytest.mark.parametrize("cause", ["", "  "])
def test_no_tool_runs_without_a_cause(cause: str) -> None:
    with pytest.raises(ValueError, match="no tool runs without a cause"):
        asyncio.run(runner().run(["true"], cause=cause, timeout_s=1))


def test_output_that_is_no_text_does_not_break_anything() -> None:
    assert run("printf", r"\377").stdout == "�"


def test_a_tool_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    script = f"trap 'echo asked' TERM; sleep 1000 & echo $! > {tmp_path}/child; wait; exit 9"
    with pytest.raises(ToolTimedOutError, match="sh took longer") as caught:
        run("sh", "-c", script, timeout_s=0.5)
    assert caught.value.execution.stdout == "asked\n"
    assert_gone(int((tmp_path / "child").read_text()))


def test_cancelling_ends_the_tool_before_the_cancellation_goes_on(tmp_path: Path) -> None:
    async def story() -> None:
        script = f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; sleep 1000"
        task = asyncio.create_task(runner().run(["sh", "-c", script], cause=CAUSE, timeout_s=1000))
        async with asyncio.timeout(10):
            while not (tmp_path / "pid").exists():  # noqa: ASYNC110 - no event in a file
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert_gone(int((tmp_path / "pid").read_text()))

    asyncio.run(story())


def test_cancelling_during_the_start_leaves_nothing_behind(tmp_path: Path) -> None:
    async def story(turns: int) -> None:
        script = f"sleep 1000 & echo $! >> {tmp_path}/children; wait"
        task = asyncio.create_task(runner().run(["sh", "-c", script], cause=CAUSE, timeout_s=1000))
        for _ in range(turns):
            await asyncio.sleep(0)
        if turns:
            time.sleep(0.05)  # noqa: ASYNC251 - the loop stands still while the tool gets going
        task.cancel()
        async with asyncio.timeout(10):
            with pytest.raises(asyncio.CancelledError):
                await task

    for turns in range(6):
        asyncio.run(story(turns))
    for line in (tmp_path / "children").read_text().split():
        assert_gone(int(line))


def test_every_execution_is_told_also_the_killed_ones() -> None:
    told: list[Execution] = []
    recording = RecordingRunner(runner(), told.append, ManualClock().now)

    async def story() -> None:
        await recording.run(["true"], cause="one", timeout_s=10)
        with pytest.raises(ToolTimedOutError):
            await recording.run(["sleep", "1000"], cause="two", timeout_s=0.05)
        task = asyncio.create_task(recording.run(["sleep", "99"], cause="three", timeout_s=100))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(story())
    assert [one.cause for one in told] == ["one", "two", "three"]
    assert [one.exit_status < 0 for one in told] == [False, True, True]


@pytest.fixture
def unkillable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signals end nothing, as when a process waits for a disk that does not answer."""
    monkeypatch.setattr(os, "killpg", lambda *_: None)
    monkeypatch.setattr(running, "_TERMINATE_TIMEOUT_S", 0.05)
    monkeypatch.setattr(running, "_REAP_TIMEOUT_S", 0.05)


async def until_it_runs_again(tools: RealRunner, argv: list[str], pid: int) -> None:
    """Let the process *pid* end; wait until *argv* is run anew instead of being refused."""
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        while True:
            try:
                await tools.run(argv, cause=CAUSE, timeout_s=10)
            except ToolNotStartedError:
                await asyncio.sleep(0.01)
            else:
                return


@pytest.mark.usefixtures("unkillable")
def test_a_tool_that_cannot_be_killed_is_trouble_with_the_machine(tmp_path: Path) -> None:
    told: list[Execution] = []

    async def story() -> None:
        tools = runner()
        recording = RecordingRunner(tools, told.append, ManualClock().now)
        argv = ["sh", "-c", f"[ -e {tmp_path}/well ] || exec sleep 1000"]
        with pytest.raises(ToolStuckError) as caught:
            await recording.run(argv, cause=CAUSE, timeout_s=0.05)
        (pid,) = map(int, re.findall(r"/proc/(\d+)/stack", caught.value.sentence))
        os.kill(pid, 0)  # it is still there
        assert "or boot anew" in caught.value.sentence
        # Each look at the disk would leave one more; other tools go on.
        with pytest.raises(ToolNotStartedError, match=f"not over yet, process {pid} "):
            await tools.run(argv, cause=CAUSE, timeout_s=0.05)
        assert (await tools.run(["true"], cause=CAUSE, timeout_s=10)).exit_status == 0
        (tmp_path / "well").touch()
        await until_it_runs_again(tools, argv, pid)

    asyncio.run(story())
    assert [(one.exit_status, one.stderr) for one in told] == [(-9, "it survived SIGKILL")]


@pytest.mark.usefixtures("unkillable")
def test_who_is_cancelled_does_not_wait_for_what_cannot_be_killed(tmp_path: Path) -> None:
    async def story() -> None:
        tools = runner()
        script = f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; exec sleep 1000"
        argv = ["sh", "-c", f"[ -e {tmp_path}/pid ] || {{ {script}; }}"]
        task = asyncio.create_task(tools.run(argv, cause=CAUSE, timeout_s=1000))
        async with asyncio.timeout(10):
            while not (tmp_path / "pid").exists():  # noqa: ASYNC110 - no event in a file
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until_it_runs_again(tools, argv, int((tmp_path / "pid").read_text()))

    asyncio.run(story())


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOMEM, errno.EAGAIN])
def test_a_machine_without_room_for_a_tool_is_trouble_with_the_machine(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(asyncio, "create_subprocess_exec", full)
    with pytest.raises(StorageError, match=f"true was not started: .*{os.strerror(code)}"):
        run("true")


def test_no_file_of_ours_is_open_in_a_tool() -> None:
    with Path("/dev/null").open() as mine:
        os.set_inheritable(mine.fileno(), True)
        listing = run(sys.executable, "-c", "import os; print(os.listdir('/proc/self/fd'))")
        assert f"'{mine.fileno()}'" not in listing.stdout or mine.fileno() <= 3


def assert_gone(pid: int) -> None:
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return  # ended, and waiting for the machine's init to reap it
    pytest.fail(f"process {pid} is still there")
