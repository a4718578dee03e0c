"""Pulling from one consumer by hand: requests, their accounting, and signs of life.

nats-py's own ``fetch`` of more than one message can stall until its timeout, and costs a task a
message. Here the requests are ours, and messages come straight from the parser.
"""

import asyncio
from typing import TYPE_CHECKING

import msgspec

from hwbus.fastnats import Hear, Unhear, read_headers
from hwbus.jetstream_core import Core
from hwbus.ports import OutcomeUnknownError

if TYPE_CHECKING:
    from collections.abc import Callable

HEARTBEAT_S = 3.0
_SILENT_BEATS_MAX = 2
_EXPIRES_S = 30.0
_NS = 1_000_000_000
_HEARTBEAT = 100
_WAS_OPEN = frozenset({404, 408, 409})
_HARMLESS = frozenset({"Request Timeout", "No Messages", "Batch Completed"})
_TOO_LARGE = "Message Size Exceeds MaxBytes"


class Pull:
    """Open requests at one consumer; *trouble* is set when a new one must be made."""

    def __init__(self, core: Core, stream: str, consumer: str, take: Hear) -> None:
        self._core = core
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._take = take
        self._heard = False
        self._inbox = core.client.new_inbox()
        self._unhear: Unhear | None = None
        self._undo: Callable[[], None] | None = None
        self.asked = 0
        self.trouble = asyncio.Event()
        self.because = ""

    async def open(self) -> None:
        """Listen; nothing comes before ``ask_for``."""
        self._undo = self._core.on_change(self._connection_changed)
        self._unhear = await self._core.client.hear(self._inbox, self._hear)

    async def close(self) -> None:
        """Stop listening; what still arrives is ignored."""
        if self._undo is not None:
            self._undo()
        if self._unhear is not None:
            await self._unhear()

    async def ask_for(self, messages: int, max_bytes: int) -> None:
        """Ask for *messages* more, as they come. Sets ``trouble`` if it cannot be asked."""
        request = {
            "batch": messages,
            "max_bytes": max_bytes,
            "expires": int(_EXPIRES_S * _NS),
            "idle_heartbeat": int(HEARTBEAT_S * _NS),
        }
        self._heard = True
        self.asked += messages
        try:
            await self._core.client.send(
                self._next, msgspec.json.encode(request), reply=self._inbox
            )
        except OutcomeUnknownError:
            self.say("the connection is down")

    async def watch(self) -> None:
        """Return as soon as there is trouble, silence on an open request being trouble."""
        silent_beats = 0
        while not self.trouble.is_set():
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await self.trouble.wait()
            except TimeoutError:
                silent_beats = 0 if self._heard or self.asked <= 0 else silent_beats + 1
                self._heard = False
                if silent_beats > _SILENT_BEATS_MAX:
                    self.say("the consumer is silent")

    def say(self, because: str) -> None:
        """Declare trouble; the first reason is kept."""
        self.because = self.because or because
        self.trouble.set()

    def _connection_changed(self) -> None:
        self.say("the connection was renewed")

    def _hear(self, subject: bytes, reply: bytes, data: bytes, block: bytes) -> None:
        self._heard = True
        if reply:
            self.asked -= 1
            self._take(subject, reply, data, block)
        else:
            self._status(block)

    def _status(self, block: bytes) -> None:
        status, headers = read_headers(block)
        if status == _HEARTBEAT:
            return
        reason = block[: block.find(b"\r\n")].decode("utf-8", "replace")[13:]
        ended = status in _WAS_OPEN and (reason in _HARMLESS or reason == _TOO_LARGE)
        if not ended:
            self.say(f"status {status} {reason}")
            return
        # A request ended with some of what it asked for undelivered: it is asked for again by
        # whoever looks at `asked`. On the empty take nothing happens but that look.
        self.asked -= int(headers.get("Nats-Pending-Messages", "0"))
        self._take(b"", b"", b"", block)
