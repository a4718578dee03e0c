"""The command desk: read, decide, append, and start over when somebody was faster."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import msgspec

from hwbus.asking import COMMAND_ID, Asked, actor_of, asked
from hwbus.codec import Codec, TooLargeError, UnreadableError, command_codec, excerpt
from hwbus.domain import Domain
from hwbus.parking import park
from hwbus.ports import (
    Call,
    Clock,
    EventLog,
    ForbiddenError,
    LogFullError,
    OutcomeUnknownError,
    Outlet,
    StaleError,
    Stored,
)
from hwbus.record import Record, Records, digest_of
from hwbus.subjects import Address, BadNameError, audit, parse_command, parse_event
from hwbus.telemetry import current_traceparent, remote_span
from schemas.answers import Accepted, Answer, Refused, Undecided, refuse
from schemas.audit import RefusedRecord
from schemas.commit import Commit
from schemas.grammar import Event, Message, kind_and_verb, type_name
from schemas.refusals import Refusal

ATTEMPTS_MAX = 5
REQUEST_KEPT_MAX = 4096
OWN_KEPT_MAX = 4096

M = TypeVar("M", bound=Message)


class Seen(msgspec.Struct, frozen=True):
    """One commit as it came along the log."""

    seq: int
    address: Address
    commit: Commit[Any]


class Counters(msgspec.Struct):
    """What the desk has done since it started."""

    accepted: int = 0
    refused: int = 0
    undecided: int = 0
    conflicts: int = 0
    parked: int = 0


@contextlib.contextmanager
def taking_in_the_past() -> Iterator[None]:
    """Keep Python from looking for garbage in what is read meanwhile, then and afterwards.

    The past is kept for as long as the process lives and has no circles in it. Looking for some
    takes a third of the time of reading it, and later stops everything for a tenth of a second.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class CommandDesk:
    """Decides commands against the whole past, kept in memory and carried on with the log.

    Several desks may work side by side: the expectation on each append lets one of them win.
    """

    def __init__(
        self,
        domain: Domain,
        log: EventLog,
        outlet: Outlet,
        codec: Codec[Commit[Any]],
        clock: Clock,
        mint: Callable[[], str],
    ) -> None:
        self.counters = Counters()
        self.position = 0
        self._domain = domain
        self._log = log
        self._outlet = outlet
        self._codec = codec
        self._clock = clock
        self._mint = mint
        self._records = Records()
        self._locks: WeakValueDictionary[Address, asyncio.Lock] = WeakValueDictionary()
        self._codecs: dict[type[Message], Codec[Any]] = {}
        # What was appended here and has not come along the log yet: it need not be read again.
        self._own: dict[int, tuple[Address, Commit[Any]]] = {}

    async def follow(self) -> AsyncIterator[list[Seen]]:
        """Carry the past on from where it is, for ever, and yield each stretch of it."""
        async with self._log.follow(after=self.position) as batches:
            async for batch in batches:
                seen = [one for stored in batch if (one := await self._take(stored)) is not None]
                self.position = batch[-1].seq
                self._forget_own()
                yield seen

    def seq_of(self, address: Address) -> int:
        """Return the sequence of the last commit about *address* that is known here; 0: none."""
        return self._records.get(address).seq

    async def call(self, call: Call) -> Answer:
        """Decide what came over the bus. Never raises for bad input: it answers."""
        try:
            kind, verb = parse_command(call.subject)
        except BadNameError as error:
            return await self._refuse_unread(call, "", refuse(Refusal.BAD_NAME, str(error)))
        wish = asked(call, kind, verb, call.headers.get(COMMAND_ID) or self._mint())
        if isinstance(wish, Refused):
            return await self._refuse_unread(call, f"{kind}.{verb}", wish)
        return await self.handle(wish)

    async def handle(self, wish: Asked) -> Answer:
        """Decide *wish*: accepted and durable, refused and kept on the audit, or undecided."""
        word = self._domain.word(wish.kind, wish.verb)
        if word is None:
            unknown = f"{wish.kind}.{wish.verb} is no command"
            return await self._refuse(wish, refuse(Refusal.UNKNOWN_COMMAND, unknown), "")
        try:
            command: Message = self._codec_of(word).decode(wish.data)
        except UnreadableError as error:
            return await self._refuse(wish, self._unreadable(error, wish.data), "")
        no = self._domain.forbids(wish, command)
        if no is not None:
            return await self._refuse(wish, no, str(self._domain.address(command)))
        return await self.settle(wish, command)

    async def settle(self, wish: Asked, command: Message) -> Answer:
        """Decide *command*, whose text is that of *wish*, while nobody else does here."""
        address = self._domain.address(command)
        lock = self._locks.setdefault(address, asyncio.Lock())
        with remote_span(f"decide {type_name(command)}", wish.traceparent) as span:
            async with lock:
                try:
                    answer = await self._settle(wish, command, address)
                except OutcomeUnknownError as error:
                    self.counters.undecided += 1
                    answer = Undecided(command=wish.id, because=f"the log was silent: {error}")
            span.set_attribute("hwbus.answer", type(answer).__name__)
        return answer

    async def _settle(self, wish: Asked, command: Message, address: Address) -> Answer:
        request = self._codec_of(type(command)).encode(command)
        for _ in range(ATTEMPTS_MAX):
            record = self._records.get(address)
            known = self._known(wish, record, request)
            if known is not None:
                return await self._answer(wish, known, str(address))
            decision = self._domain.decide(
                command, actor=wish.actor, at=self._clock.now(), mint=self._mint
            )
            if isinstance(decision, Refused) or not decision:
                if await self._has_moved(address, record):
                    continue
                if isinstance(decision, Refused):
                    return await self._refuse(wish, decision, str(address))
                self.counters.accepted += 1
                return Accepted(command=wish.id, seq=record.seq, version=record.version)
            condition = self._domain.condition(wish, command, request, at=self._clock.now())
            if condition is not None:
                no = await self._meet(condition, wish, command, request)
                if no is not None:
                    return await self._answer(wish, no, str(address))
                continue  # Others may have been here meanwhile.
            commit = self._commit(wish, command, request, record, decision)
            try:
                return await self._append(wish, commit, address, record)
            except StaleError:
                self.counters.conflicts += 1
                await self._read_again(address)
            except (LogFullError, ForbiddenError) as error:
                self.counters.undecided += 1
                return Undecided(command=wish.id, because=f"the log does not take it: {error}")
        beaten = f"{address} changed {ATTEMPTS_MAX} times meanwhile"
        return await self._refuse(wish, refuse(Refusal.CONTENDED, beaten), str(address))

    async def _meet(
        self, condition: Message, wish: Asked, command: Message, request: bytes
    ) -> Refused | Undecided | None:
        """Have *condition* decided; return why *command* may not be decided even then, or None."""
        kind, verb = kind_and_verb(condition)
        before = Asked(
            id=self._mint(),
            actor=wish.actor,
            kind=kind,
            verb=verb,
            data=b"",
            correlation=wish.correlation or wish.id,
            cause=f"command:{wish.id}",
            traceparent=wish.traceparent,
            within=True,
        )
        answer = await self.settle(before, condition)
        if not isinstance(answer, Accepted):
            return msgspec.structs.replace(answer, command=wish.id)
        left = self._domain.condition(wish, command, request, at=self._clock.now())
        return None if left is None else self._domain.unmet(left)

    def _known(self, wish: Asked, record: Record, request: bytes) -> Answer | None:
        before = record.recent.get(wish.id)
        if before is not None:
            if before.digest != digest_of(request):
                other = f"{wish.id} stands at sequence {before.seq} for something else"
                return refuse(Refusal.COMMAND_ID_REUSED, other)
            return Accepted(
                command=wish.id,
                seq=before.seq,
                version=before.version,
                operation=before.operation,
            )
        if wish.expected_version not in {None, record.version}:
            stale = f"it is at version {record.version}, not {wish.expected_version}"
            return refuse(Refusal.STALE_VERSION, stale)
        return None

    def _commit(
        self,
        wish: Asked,
        command: Message,
        request: bytes,
        record: Record,
        events: tuple[Event, ...],
    ) -> Commit[Any]:
        belongs_to = self._domain.belongs_to(command) or self._domain.operation(events)
        return Commit(
            id=self._mint(),
            at=self._clock.now(),
            actor=wish.actor,
            command=wish.id,
            word=type_name(command),
            request=msgspec.Raw(request),
            correlation=belongs_to or wish.correlation or wish.id,
            cause=wish.cause,
            traceparent=current_traceparent() or wish.traceparent,
            version=record.version + 1,
            prev=record.last_hash,
            events=events,
        )

    async def _append(
        self, wish: Asked, commit: Commit[Any], address: Address, record: Record
    ) -> Answer:
        data = self._codec.encode(commit)
        try:
            seq = await self._log.append(
                address.subject, data, after=record.seq, message_id=commit.id
            )
        except OutcomeUnknownError as error:
            found = await self._look_for(commit, address)
            if found is None:
                self.counters.undecided += 1
                return Undecided(command=wish.id, because=str(error) or "the log did not answer")
            seq = found
        self._apply(seq, address, data, commit)
        if seq > self.position and len(self._own) < OWN_KEPT_MAX:
            self._own[seq] = (address, commit)
        self.counters.accepted += 1
        return Accepted(
            command=wish.id,
            seq=seq,
            version=commit.version,
            operation=self._domain.operation(commit.events),
            events=tuple(type_name(event) for event in commit.events),
        )

    async def _look_for(self, commit: Commit[Any], address: Address) -> int | None:
        """Return where *commit* was stored although nobody said so, or None if it is not known.

        None is not "no": a message that is still on its way may yet arrive. It will then be found
        under its command id, or lose against the expectation it carries.
        """
        with contextlib.suppress(OutcomeUnknownError):
            last = await self._log.last(address.subject)
            if last is not None:
                with contextlib.suppress(UnreadableError):
                    if self._codec.decode(last.data).id == commit.id:
                        return last.seq
        return None

    async def _take(self, stored: Stored) -> Seen | None:
        own = self._own.pop(stored.seq, None)
        if own is not None:
            return Seen(stored.seq, *own)
        try:
            address = parse_event(stored.subject)
            commit = self._codec.decode(stored.data)
        except (BadNameError, UnreadableError) as error:
            await self._park(stored, str(error))
            return None
        self._apply(stored.seq, address, stored.data, commit)
        return Seen(stored.seq, address, commit)

    def _forget_own(self) -> None:
        """Drop what came along the log before its acknowledgement was noted here."""
        while self._own and (oldest := next(iter(self._own))) <= self.position:
            del self._own[oldest]

    async def _park(self, stored: Stored, because: str) -> None:
        self.counters.parked += 1
        with contextlib.suppress(BadNameError):
            address = parse_event(stored.subject)
            record = self._records.of(address)
            if stored.seq > record.seq:
                record.skip(stored.seq, stored.data)
        await park(self._outlet, self._clock, "desk", stored, because)

    def _apply(self, seq: int, address: Address, data: bytes, commit: Commit[Any]) -> None:
        record = self._records.of(address)
        if seq <= record.seq:
            return
        record.note(seq, data, commit, self._domain.operation(commit.events))
        self._domain.evolve(address, commit.events)
        forgotten = self._records.mark(address, over=self._domain.is_over(address))
        if forgotten is not None:
            self._domain.forget(forgotten)

    async def _has_moved(self, address: Address, record: Record) -> bool:
        """Return whether another desk has been here, and if so, catch up.

        An append carries its expectation; a decision that appends nothing has to look.
        """
        last = await self._log.last(address.subject)
        if last is None or last.seq <= record.seq:
            return False
        await self._read_again(address)
        return True

    async def _read_again(self, address: Address) -> None:
        for stored in await self._log.history(address.subject):
            if stored.seq > self._records.get(address).seq:
                await self._take(stored)

    def _codec_of(self, word: type[Message]) -> Codec[Any]:
        codec = self._codecs.get(word)
        if codec is None:
            codec = self._codecs[word] = command_codec(word)
        return codec

    def _unreadable(self, error: UnreadableError, data: bytes) -> Refused:
        if isinstance(error, TooLargeError):
            return refuse(Refusal.TOO_LARGE, str(error))
        field = error.where.removeprefix("$.").partition("[")[0]
        if self._domain.is_name(field) and "`str`" in error.because:
            place = error.where.removeprefix("$.")
            return refuse(Refusal.BAD_NAME, f"{place} {excerpt(data, error.where)} is no name")
        return refuse(Refusal.MALFORMED, str(error)[:500])

    async def _answer(self, wish: Asked, answer: Answer, about: str) -> Answer:
        if isinstance(answer, Refused):
            return await self._refuse(wish, answer, about)
        return answer

    async def _refuse(self, wish: Asked, refused: Refused, about: str) -> Answer:
        """Keep the refusal on the audit, then say it."""
        self.counters.refused += 1
        word = self._domain.word(wish.kind, wish.verb)
        record = RefusedRecord(
            at=self._clock.now(),
            actor=wish.actor,
            command=wish.id,
            word=f"{wish.kind}.{wish.verb}" if word is None else type_name(word),
            object=about,
            code=refused.code,
            because=refused.because,
            correlation=wish.correlation,
            cause=wish.cause,
            traceparent=wish.traceparent,
            request=wish.data[:REQUEST_KEPT_MAX].decode(errors="replace"),
        )
        return await self._keep(record, audit("refused", wish.kind), refused)

    async def _refuse_unread(self, call: Call, word: str, refused: Refused) -> Answer:
        self.counters.refused += 1
        record = RefusedRecord(
            at=self._clock.now(),
            actor=actor_of(call),
            command=self._mint(),
            word=word,
            object=call.subject[:256],
            code=refused.code,
            because=refused.because,
            request=call.data[:REQUEST_KEPT_MAX].decode(errors="replace"),
        )
        return await self._keep(record, audit("refused", "unread"), refused)

    async def _keep(self, record: RefusedRecord, subject: str, refused: Refused) -> Answer:
        message_id = f"refused.{record.command}.{self._mint()}"
        why = ""
        for _ in range(ATTEMPTS_MAX):
            try:
                await self._outlet.keep(subject, msgspec.json.encode(record), message_id=message_id)
            except OutcomeUnknownError as error:
                why = str(error)
                continue
            except (LogFullError, ForbiddenError) as error:
                why = str(error)
                break  # Now, repeating does not help. Whoever asks again may find room.
            return msgspec.structs.replace(refused, command=record.command)
        unkept = f"{refused.code}: {refused.because} (but the audit could not be written: {why})"
        return Undecided(command=record.command, because=unkept)
