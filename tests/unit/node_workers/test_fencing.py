"""The way from the kernel's question to the log's answer: the handler, the socket, the judge."""

import asyncio
import os
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from node_workers import evict, fence_peer
from node_workers.fence_peer import GRANTED, LOST
from node_workers.fencing import FenceServer, Promises
from node_workers.replication import Verdict

HANDLER = Path(fence_peer.__file__)


class Log:
    """A judge that says one thing after another, and remembers who asked."""

    def __init__(self, *verdicts: Verdict) -> None:
        self._verdicts = list(verdicts)
        self.asked: list[tuple[str, str, str]] = []

    async def __call__(self, volume: str, uid: str, peer: str) -> Verdict:
        self.asked.append((volume, uid, peer))
        return self._verdicts.pop(0) if len(self._verdicts) > 1 else self._verdicts[0]


async def handler(socket: Path, **names: str) -> int:
    argv = (sys.executable, "-I", "-S", str(HANDLER), str(socket), "v1", "uid-v1")
    program = await asyncio.create_subprocess_exec(*argv, env={**os.environ, **names})
    return await asyncio.wait_for(program.wait(), 30)


def play(tmp_path: Path, log: Log, story: Callable[[Path, Promises], Awaitable[None]]) -> None:
    async def act() -> None:
        socket, promises = tmp_path / "fence.sock", Promises()
        async with FenceServer(socket, log, promises).serving():
            await story(socket, promises)
        assert not socket.exists()

    asyncio.run(act())


@pytest.mark.parametrize(("verdict", "status"), [(Verdict.GRANTED, GRANTED), (Verdict.LOST, LOST)])
def test_the_kernel_is_told_what_the_log_says(
    tmp_path: Path, verdict: Verdict, status: int
) -> None:
    log = Log(verdict)

    async def story(socket: Path, _: Promises) -> None:
        assert await handler(socket, DRBD_PEER="n2", DRBD_PEERS="n2") == status
        assert stat.S_IMODE(os.stat(socket).st_mode) == stat.S_IRWXU  # noqa: PTH116

    play(tmp_path, log, story)
    assert log.asked == [("v1", "uid-v1", "n2")]


def test_nothing_is_told_while_nothing_is_known(tmp_path: Path) -> None:
    log = Log(Verdict.UNKNOWN, Verdict.UNKNOWN, Verdict.GRANTED)

    async def story(socket: Path, _: Promises) -> None:
        assert await handler(socket, DRBD_PEER_NODE_ID="3", DRBD_NODE_ID_3="n3") == GRANTED

    play(tmp_path, log, story)
    assert log.asked == [("v1", "uid-v1", "n3")] * 3


def test_a_worker_that_is_away_is_waited_for(tmp_path: Path) -> None:
    async def act() -> None:
        socket = tmp_path / "fence.sock"
        asking = asyncio.create_task(handler(socket, DRBD_PEER="n2"))
        await asyncio.sleep(0.1)
        assert not asking.done()
        async with FenceServer(socket, Log(Verdict.LOST), Promises()).serving():
            assert await asking == LOST

    asyncio.run(act())


def test_what_was_granted_already_is_not_asked_again(tmp_path: Path) -> None:
    log = Log(Verdict.LOST)

    async def story(socket: Path, promises: Promises) -> None:
        with promises.granted("uid-v1", "n2"):
            assert await handler(socket, DRBD_PEER="n2") == GRANTED
            assert await handler(socket, DRBD_PEER="n3") == LOST
        assert await handler(socket, DRBD_PEER="n2") == LOST

    play(tmp_path, log, story)


def test_nonsense_gets_no_answer_and_harms_nobody(tmp_path: Path) -> None:
    async def story(socket: Path, _: Promises) -> None:
        reader, writer = await asyncio.open_unix_connection(str(socket))
        writer.write(b"let me in\n")
        assert await reader.read() == b""
        writer.close()
        assert await handler(socket, DRBD_PEER="n2") == GRANTED

    play(tmp_path, Log(Verdict.GRANTED), story)


def test_the_programs_the_kernel_waits_for_need_nothing_but_python() -> None:
    for module in (fence_peer, evict):
        source = Path(str(module.__file__)).read_text()
        imports = {line.split()[1] for line in source.splitlines() if line.startswith("import ")}
        assert imports <= set(sys.stdlib_module_names)
        assert "\nfrom " not in source


def test_who_uses_a_device_is_told_from_who_does_not(tmp_path: Path) -> None:
    number = tmp_path.stat().st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    (tmp_path / "file").touch()
    script = "import sys; kept = open(sys.argv[1]); print(1, flush=True); sys.stdin.read()"
    argv = (sys.executable, "-I", "-S", "-c", script, str(tmp_path / "file"))
    with subprocess.Popen(
        argv, cwd="/proc", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        program.stdout.readline()
        assert evict.uses(program.pid, device)
        assert not evict.uses(program.pid, "7:4095")
        program.communicate()
    assert not evict.uses(program.pid, device)
