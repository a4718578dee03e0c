"""Where commands come in: asked for at once, or left in the durable queue for later."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from hashlib import sha256

import msgspec
import structlog

from hwbus.asking import ACTOR, COMMAND_ID
from hwbus.desk import CommandDesk
from hwbus.identity import ulid
from hwbus.ports import (
    Bus,
    Call,
    Clock,
    Delivery,
    Endpoint,
    ForbiddenError,
    Inbox,
    LogFullError,
    OutcomeUnknownError,
    Outlet,
)
from hwbus.subjects import ROOT, BadNameError, audit, parse_command
from schemas.answers import Accepted, Answer, Undecided
from schemas.audit import DecidedRecord
from schemas.grammar import type_name
from schemas.words import every_command

AGAIN_AFTER_S = (2.0, 4.0, 8.0)
AFTER_FAILURE_S = 30.0
MARK_EVERY_S = 10.0
"""A third of what the broker waits for a sign: one that is lost does no harm."""
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
        self._in_hand: set[Delivery] = set()

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
        async with self._inbox.take() as deliveries, asyncio.TaskGroup() as group:
            group.create_task(self._mark())
            async for delivery in deliveries:  # as many at once as the inbox hands out
                group.create_task(self._settle(delivery))

    async def _mark(self) -> None:
        """Say of what is in hand that it is in work, so that it is not delivered once more."""
        while True:
            await asyncio.sleep(MARK_EVERY_S)
            for delivery in list(self._in_hand):
                await delivery.working()

    async def _settle(self, delivery: Delivery) -> None:
        headers = {**delivery.headers}
        headers[COMMAND_ID] = headers.get(COMMAND_ID) or id_of(delivery)
        call = Call(delivery.subject, delivery.data, headers, awaited=False)
        self._in_hand.add(delivery)
        try:
            answer = await self._decided(delivery, call)
            await self._note(call.subject, headers, answer)
        except Exception:  # noqa: BLE001 -- whatever it was, it is logged
            # One command that breaks the desk must not end all others. This one is tried again,
            # and set aside if it goes on like that.
            _LOG.exception("a submitted command broke the desk", command=headers[COMMAND_ID])
            await self._tell(delivery.later(AFTER_FAILURE_S), headers[COMMAND_ID])
        else:
            await self._tell(delivery.done(), headers[COMMAND_ID])
        finally:
            self._in_hand.discard(delivery)

    async def _decided(self, delivery: Delivery, call: Call) -> Answer:
        """Have it decided, however long that takes: that the log takes nothing is not its fault.

        It stays in hand meanwhile: given back, it would count as delivered in vain.
        """
        number = 0
        while True:
            answer = await self._desk.call(call)
            if not isinstance(answer, Undecided):
                return answer
            say = _LOG.debug if number else _LOG.warning
            say("submitted command is undecided", command=answer.command, because=answer.because)
            await delivery.make_room()
            await asyncio.sleep(AGAIN_AFTER_S[min(number, len(AGAIN_AFTER_S) - 1)])
            number += 1

    async def _tell(self, settled: Awaitable[None], command: str) -> None:
        """Tell the queue how a delivery ended."""
        try:
            await settled
        except OutcomeUnknownError as error:
            # It comes again, and by its id it is given the answer that it has got.
            _LOG.warning("submitted command comes again", command=command, because=str(error))

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
        because = ""
        message_id = f"decided.{headers.get(COMMAND_ID) or answer.command}"
        for _ in range(KEEP_ATTEMPTS_MAX):
            try:
                await self._outlet.keep(
                    audit("decided", kind), _ENCODER.encode(record), message_id=message_id
                )
            except OutcomeUnknownError as error:
                because = str(error)
                continue
            except (LogFullError, ForbiddenError) as error:
                because = str(error)
                break  # What was accepted stands in the log; this is a note of it.
            return
        _LOG.error("an acceptance is not on the audit", command=answer.command, because=because)


def id_of(delivery: Delivery) -> str:
    """Return the id of a command that came without one: the same at each of its deliveries.

    It is made of its place in the queue and of the moment when the queue took it, since places are
    counted from 1 again in a queue that was made anew.
    """
    place = f"{delivery.seq} {delivery.at.isoformat()}".encode()
    return ulid(delivery.at, int.from_bytes(sha256(place).digest()[:10]))
