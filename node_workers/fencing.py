"""Where DRBD's question ends up: may this node go on without a peer that it does not reach?

The kernel runs ``fence_peer.py``, which asks here, over a socket only root can reach. A question is
a line of JSON, the answer a line of one word, as in ``Verdict``. The log is asked, and nobody else,
unless it has been asked already on behalf of what is being done right now.
"""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec

from node_workers import fence_peer
from node_workers.replication import Judge, Verdict

SOCKET = "fence.sock"

_QUESTION_BYTES_MAX = 4096
_QUESTION_TIMEOUT_S = 10.0
_JUDGE_TIMEOUT_S = 20.0

_log = logging.getLogger(__name__)


def handler(socket: Path) -> tuple[str, ...]:
    """Return the program that asks at *socket*, up to the volume's name."""
    return (sys.executable, "-I", "-S", str(Path(fence_peer.__file__).resolve()), str(socket))


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What the handler asks."""

    volume: str
    uid: str
    peer: str


class Promises:
    """What the log has granted for as long as something is being done, so as not to ask twice.

    While a node becomes primary, DRBD waits for its handler, and all it is asked for that volume.
    """

    def __init__(self) -> None:
        self._granted: list[tuple[str, str]] = []

    @contextlib.contextmanager
    def granted(self, uid: str, *peers: str) -> Iterator[None]:
        """Answer for the volume and these peers that this node may go on."""
        given = [(uid, peer) for peer in peers]
        self._granted += given
        try:
            yield
        finally:
            for one in given:
                self._granted.remove(one)

    def hold(self, question: Question) -> bool:
        """Return whether the question is answered."""
        return (question.uid, question.peer) in self._granted


class FenceServer:
    """Answers at *socket* for as long as it is served."""

    def __init__(self, socket: Path, judge: Judge, promises: Promises) -> None:
        self._socket = socket
        self._judge = Promised(judge, promises)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Answer meanwhile."""
        self._socket.unlink(missing_ok=True)
        mask = os.umask(0o077)
        try:
            server = await asyncio.start_unix_server(
                self._answer, str(self._socket), limit=_QUESTION_BYTES_MAX
            )
        finally:
            os.umask(mask)
        async with server:
            yield
        self._socket.unlink(missing_ok=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_QUESTION_TIMEOUT_S):
                line = await reader.readline()
            question = msgspec.json.decode(line, type=Question)
            verdict = await self._judge(question.volume, question.uid, question.peer)
            writer.write(f"{verdict.value}\n".encode())
            await writer.drain()
        except (TimeoutError, ValueError, ConnectionError, msgspec.DecodeError) as error:
            _log.warning("a question whether to go on without a peer was not understood: %s", error)
        finally:
            writer.close()


class Promised:
    """A judge who asks another only for what has not been promised."""

    def __init__(self, judge: Judge, promises: Promises) -> None:
        self._judge = judge
        self._promises = promises

    async def __call__(self, volume: str, uid: str, peer: str) -> Verdict:
        """Return what the log says, or that it cannot be asked."""
        if self._promises.hold(Question(volume=volume, uid=uid, peer=peer)):
            return Verdict.GRANTED
        try:
            async with asyncio.timeout(_JUDGE_TIMEOUT_S):
                return await self._judge(volume, uid, peer)
        except TimeoutError:
            return Verdict.UNKNOWN
