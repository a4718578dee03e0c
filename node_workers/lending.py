"""Lets other nodes read snapshots of this one: the lending side of a loan.

Each loan is of one device, to whoever holds its keys, over one connection (``borrowing`` has the
protocol). While there are loans there is a listener, and none else. A loan ends with its
connection, when it is called in, or when its time is up; then its device is closed. What a stranger
may do is connect and be hung up on: a loan is used up by nobody but who can seal a question for it.
"""

import asyncio
import contextlib
import mmap
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Self

import structlog

from node_workers.borrowing import ASK, BROKEN, DATA, HELLO, ZEROS, Access
from node_workers.copier import open_device
from node_workers.sealed import (
    HEADER_BYTES,
    LENGTH,
    PIECE_BYTES_MAX,
    NotGenuineError,
    Opener,
    Sealer,
    keep_memory,
    length_of,
)

_LOG = structlog.get_logger("node_workers.lending")
LOANS_MAX = 8
STRANGERS_MAX = 16
HELLO_S = 10.0
IDLE_S = 120.0
LOAN_S = 360.0
_TICKET_BYTES = 16
_ZEROS = bytes(PIECE_BYTES_MAX)


class NotLentError(Exception):
    """So many loans are out that another one has to wait, or there is nowhere to listen."""


class Loan(NamedTuple):
    """One device for one borrower: ``uid`` is that of the snapshot, ``of_bytes`` how much of it."""

    uid: str
    path: str
    of_bytes: int
    opens: bytes
    seals: bytes

    def __repr__(self) -> str:
        """Tell nobody the keys, whoever prints it."""
        return f"Loan({self.uid}, {self.path})"


class Ticket(NamedTuple):
    """Where a loan can be had."""

    id: bytes
    host: str
    port: int


class Lender:
    """All loans of this node."""

    def __init__(self, *, port: int = 0, hello_s: float = HELLO_S, idle_s: float = IDLE_S) -> None:
        self._port, self._hello_s, self._idle_s = port, hello_s, idle_s
        self._loans: dict[bytes, Loan] = {}
        self._expiries: dict[bytes, asyncio.TimerHandle] = {}
        self._sessions: dict[asyncio.Task[None], str] = {}
        self._strangers: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self._listening = asyncio.Lock()
        keep_memory()
        self._threads = ThreadPoolExecutor(LOANS_MAX, thread_name_prefix="lend")

    @property
    def loans(self) -> int:
        """How many loans are out, or on offer."""
        return len(self._loans) + len(self._sessions)

    @property
    def listening(self) -> bool:
        """Whether anybody could connect now."""
        return self._listener is not None

    async def lend(self, loan: Loan, host: str, *, for_s: float = LOAN_S) -> Ticket:
        """Offer *loan* at the address *host* of ours. Raises ``NotLentError``."""
        if not host:
            raise NotLentError("it is not known at which address this node is reached")
        if self.loans >= LOANS_MAX:
            raise NotLentError(f"{LOANS_MAX} snapshots are read from here already")
        async with self._listening:
            if self._listener is None:
                try:
                    self._listener = await asyncio.start_server(
                        self._meet, host, self._port, backlog=STRANGERS_MAX
                    )
                except OSError as error:
                    raise NotLentError(f"{host}:{self._port}: {error}") from error
            port: int = self._listener.sockets[0].getsockname()[1]
            ticket = secrets.token_bytes(_TICKET_BYTES)
            self._loans[ticket] = loan
        loop = asyncio.get_running_loop()
        self._expiries[ticket] = loop.call_later(for_s, self._withdraw, ticket)
        return Ticket(ticket, host, port)

    async def call_in(self, uid: str) -> None:
        """End all loans of the snapshot *uid*; when this returns nobody has it open."""
        for ticket in [one for one, loan in self._loans.items() if loan.uid == uid]:
            self._withdraw(ticket)
        await _end({task for task, of in self._sessions.items() if of == uid})

    async def close(self) -> None:
        """End all loans."""
        for ticket in list(self._loans):
            self._withdraw(ticket)
        await _end({*self._sessions, *self._strangers})
        self._stop_listening()
        self._threads.shutdown(wait=False)

    def _withdraw(self, ticket: bytes) -> Loan | None:
        timer = self._expiries.pop(ticket, None)
        if timer is not None:
            timer.cancel()
        loan = self._loans.pop(ticket, None)
        self._stop_listening()
        return loan

    def _stop_listening(self) -> None:
        if self._listener is not None and not self._loans and not self._sessions:
            self._listener.close()
            self._listener = None

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk to somebody who connected, until one of both hangs up."""
        task = asyncio.current_task()
        if task is None or len(self._strangers) >= STRANGERS_MAX:
            writer.close()
            return
        self._strangers.add(task)
        try:
            await self._talk(reader, writer, task)
        except asyncio.IncompleteReadError as error:
            if task not in self._sessions or error.partial:
                _LOG.info("a loan's connection was cut off", peer=_peer(writer))
        except (OSError, TimeoutError, NotGenuineError) as error:
            because = str(error) or type(error).__name__
            _LOG.warning("a loan's connection was ended", peer=_peer(writer), because=because)
        except asyncio.CancelledError:
            _LOG.info("a loan was called in")
        finally:
            self._strangers.discard(task)
            self._sessions.pop(task, None)
            self._stop_listening()
            writer.close()

    async def _talk(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        task: "asyncio.Task[None]",
    ) -> None:
        async with asyncio.timeout(self._hello_s):
            hello = await reader.readexactly(len(HELLO) + _TICKET_BYTES + HEADER_BYTES)
            ticket, header = hello[len(HELLO) : -HEADER_BYTES], hello[-HEADER_BYTES:]
            loan = self._loans.get(ticket)
            if not hello.startswith(HELLO) or loan is None:
                raise NotGenuineError("nothing is lent on that ticket")
            opener, sealer = Opener(loan.opens, header), Sealer(loan.seals)
            # The header first: who has no key for what follows has nothing to say.
            writer.write(sealer.header)
            question = opener.open(await _frame(reader))
            if self._withdraw(ticket) is None:
                raise NotGenuineError("that ticket was used meanwhile")
            self._sessions[task] = loan.uid
            self._strangers.discard(task)
        async with asyncio.timeout(LOAN_S):
            with _Device(loan, sealer) as device:
                while True:
                    writer.writelines(await self._read(device, question))
                    async with asyncio.timeout(self._idle_s):
                        await writer.drain()
                        question = opener.open(await _frame(reader))

    async def _read(self, device: "_Device", question: bytes) -> tuple[bytes, bytes]:
        """Have a thread read; whoever is cancelled waits for it, since it uses the device."""
        loop = asyncio.get_running_loop()
        reading = loop.run_in_executor(self._threads, device.answer, question)
        try:
            return await asyncio.shield(reading)
        except asyncio.CancelledError:
            while not reading.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({reading})
            raise


class _Device:
    """The device of a loan, open for reading, past the page cache."""

    def __init__(self, loan: Loan, sealer: Sealer) -> None:
        self._loan, self._sealer = loan, sealer
        self._file = open_device(loan.path, os.O_RDONLY)
        self._buffer = mmap.mmap(-1, PIECE_BYTES_MAX)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
        self._buffer.close()

    def answer(self, question: bytes) -> tuple[bytes, bytes]:
        """Return the sealed answer to a question. Raises ``NotGenuineError`` for no question."""
        return self._sealer.frame(self._answer(question))

    def _answer(self, question: bytes) -> bytes:
        if len(question) != ASK.size:
            raise NotGenuineError(f"{len(question)} bytes are no question")
        start, size = ASK.unpack(question)
        if not 0 < size <= PIECE_BYTES_MAX or start + size > self._loan.of_bytes:
            return BROKEN + f"{start} to {start + size} is not lent".encode()
        with memoryview(self._buffer)[:size] as piece:
            try:
                got = os.preadv(self._file, [piece], start)
            except OSError as error:
                return BROKEN + f"{self._loan.path}: {error}".encode()
            if got != size:
                return BROKEN + f"{self._loan.path} ends before {start + size}".encode()
            return ZEROS if piece == _ZEROS[:size] else b"".join((DATA, piece))


def _peer(writer: asyncio.StreamWriter) -> str:
    return str(writer.get_extra_info("peername"))


async def _frame(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(length_of(await reader.readexactly(LENGTH.size)))


async def _end(tasks: set["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def access(ticket: Ticket, keys: tuple[bytes, bytes]) -> Access:
    """Return what a borrower needs, *keys* being those by which it opens and seals."""
    return Access(
        ticket=ticket.id, host=ticket.host, port=ticket.port, opens=keys[0], seals=keys[1]
    )
