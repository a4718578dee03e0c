"""Starting and stopping the supervisor, and waiting until what it runs is really there."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from hwbus.cli.cells import Row
from hwbus.cli.options import Options
from hwbus.cli.session import conversation
from hwbus.embedded.child import python
from hwbus.embedded.layout import Layout, Report, Said, Settings

_ROOT = Path(__file__).resolve().parents[2]
_START_S = 90.0
_STOP_S = 45.0
_NODES_S = 60.0
_POLL_S = 0.05
_LOG_TAIL_BYTES = 1500


class StartError(Exception):
    """It did not start, or did not stop; the message says why."""


async def start(layout: Layout, settings: Settings, progress: Callable[[str], None]) -> Report:
    """Start the supervisor in the background and return what it says once all is ready.

    Raises:
        StartError: it failed; nothing is left running.
    """
    try:
        layout.prepare()
    except OSError as error:
        raise StartError(f"{layout.root} cannot be used: {error}") from error
    receiver, sender = os.pipe()
    try:
        daemon = _spawn(layout, settings, sender)
    except BaseException:
        os.close(receiver)
        raise
    finally:
        os.close(sender)
    try:
        async with asyncio.timeout(_START_S):
            await _listen(receiver, layout, progress)
    except BaseException as error:
        daemon.terminate()
        await asyncio.to_thread(daemon.wait)
        if isinstance(error, TimeoutError):
            raise StartError(f"not ready within {_START_S:.0f} s") from error
        raise
    # It outlives us on purpose; init will wait for it.
    daemon.returncode = 0
    report = layout.report()
    if report is None:
        raise StartError("it was ready, but says nothing of itself")
    return report


def _spawn(layout: Layout, settings: Settings, report: int) -> subprocess.Popen[bytes]:
    argv = (
        *python("hwbus.embedded", "--state", str(layout.root), "--report-fd", str(report)),
        *("--nodes", str(settings.nodes), "--disks", str(settings.disks)),
        *("--disk-size-bytes", str(settings.disk_size_bytes)),
    )
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    with (layout.logs / "supervisor.log").open("ab") as log:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(report,),
            start_new_session=True,
            cwd="/",
            env={**os.environ, "PYTHONPATH": path},
        )


async def _listen(receiver: int, layout: Layout, progress: Callable[[str], None]) -> None:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(receiver, "rb")
    )
    try:
        async for line in reader:
            said = msgspec.json.decode(line, type=Said)
            match said.what:
                case "step":
                    progress(said.words)
                case "failed":
                    raise StartError(said.words)
                case _:
                    return
    finally:
        transport.close()
    log = layout.logs / "supervisor.log"
    tail = log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()
    raise StartError(f"the supervisor died; its log ends:\n{tail}")


async def until_nodes_ready(options: Options, wanted: Mapping[str, int]) -> dict[str, int]:
    """Return how many disks each node has to give, once it has as many as *wanted*, and is heard.

    After a bound it returns what there is by then.
    """
    counts: dict[str, int] = {}
    deadline = time.monotonic() + _NODES_S
    async with conversation(options) as client:
        while time.monotonic() < deadline:
            nodes = await client.query_all("nodes")
            ready = {row["name"] for row in nodes.items if row["state"] in {"ready", "cordoned"}}
            disks = await client.query_all("disks")
            counts = {
                node: sum(row["node"] == node and _may_be_used(row) for row in disks.items)
                for node in wanted
            }
            if set(wanted) <= ready and all(counts[node] >= n for node, n in wanted.items()):
                break
            await asyncio.sleep(_POLL_S)
    return counts


def _may_be_used(disk: Row) -> bool:
    return disk.get("content") != "system" and not disk.get("gone")


async def stop(layout: Layout, report: Report) -> None:
    """End the supervisor and all it runs, in order. Raises ``StartError`` if it does not end."""
    if not _is_supervisor(report.pid):
        raise StartError(f"process {report.pid} is not our supervisor; nothing was stopped")
    os.kill(report.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_S
    while layout.running():
        if time.monotonic() > deadline:
            raise StartError(f"process {report.pid} has not ended within {_STOP_S:.0f} s")
        await asyncio.sleep(_POLL_S)


def _is_supervisor(pid: int) -> bool:
    try:
        return b"hwbus.embedded" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
