"""Where commands come in: asked for at once, or left in the durable queue for later."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import structlog

from hwbus.asking import ACTOR, COMMAND_ID
from hwbus.desk import CommandDesk
from hwbus.ports import Bus, Call, Clock, Delivery, Endpoint, Inbox, OutcomeUnknownError, Outlet
from hwbus.subjects import ROOT, BadNameError, audit, parse_command
from schemas.answers import Accepted, Answer, Undecided
from schemas.audit import DecidedRecord
from schemas.grammar import type_name
from schemas.words import every_command

SUBMITTED_AT_ONCE_MAX = 64
AGAIN_AFTER_S = 2.0
KEEP_ATTEMPTS_MAX = 5

_LOG = structlog.get_logger("hwbus.counter")
_ENCODER = msgspec.json.Encoder()


class Counter:
    """Hands commands to the desk and its answers back."""

    def __init__(
        self, desk: CommandDesk, bus: Bus, inbox: Inbox, outlet: Outlet, clock: Clock
    ) -> None:
        self._desk = desk
        self._bus = bus
        self._inbox = inbox
        self._outlet = outlet
        self._clock = clock

    @asynccontextmanager
    async def open(self, version: str) -> AsyncIterator["asyncio.Task[None]"]:
        """Serve commands until the context is left; yield the task that takes submitted ones.

        It ends only by a failure, which is for the caller to watch for.

        One endpoint takes them all: so an unknown command is answered too, with its code.
        """
        commands = " ".join(sorted(type_name(word) for word in every_command()))
        endpoint = Endpoint(
            name="commands",
            subject=f"{ROOT}.cmd.>",
            metadata={"schema": "asyncapi.json", "idempotent": "by command id", "words": commands},
        )
        async with self._bus.serve("hwbus", version, [endpoint], self._answer):
            queue = asyncio.create_task(self._take_submitted())
            try:
                yield queue
            finally:
                queue.cancel()
                await asyncio.gather(queue, return_exceptions=True)

    async def _answer(self, call: Call) -> bytes:
        answer = await self._desk.call(call)
        if not call.awaited:
            await self._note(call.subject, call.headers, answer)
        return _ENCODER.encode(answer)

    async def _take_submitted(self) -> None:
        room = asyncio.Semaphore(SUBMITTED_AT_ONCE_MAX)
        async with self._inbox.take() as deliveries, asyncio.TaskGroup() as group:
            async for delivery in deliveries:
                await room.acquire()
                task = group.create_task(self._settle(delivery))
                task.add_done_callback(lambda _: room.release())

    async def _settle(self, delivery: Delivery) -> None:
        call = Call(delivery.subject, delivery.data, delivery.headers, awaited=False)
        answer = await self._desk.call(call)
        if isinstance(answer, Undecided):
            _LOG.warning("submitted command is undecided", because=answer.because)
            await delivery.later(AGAIN_AFTER_S)
            return
        await self._note(call.subject, call.headers, answer)
        await delivery.done()

    async def _note(self, subject: str, headers: dict[str, str], answer: Answer) -> None:
        """Keep an acceptance that nobody waits for; refusals are on the audit already."""
        if not isinstance(answer, Accepted):
            return
        try:
            kind, verb = parse_command(subject)
        except BadNameError:
            return
        record = DecidedRecord(
            at=self._clock.now(),
            actor=headers.get(ACTOR, "anonymous"),
            command=answer.command,
            word=f"{kind}.{verb}",
            object="",
            seq=answer.seq,
            operation=answer.operation,
        )
        message_id = f"decided.{headers.get(COMMAND_ID) or answer.command}"
        for _ in range(KEEP_ATTEMPTS_MAX):
            try:
                await self._outlet.keep(
                    audit("decided", kind), _ENCODER.encode(record), message_id=message_id
                )
            except OutcomeUnknownError:
                continue
            return
        _LOG.error("an acceptance is not on the audit", command=answer.command)
