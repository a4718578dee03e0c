"""Loans over real sockets: what was lent comes out, or the copier says that it was cut off."""

import asyncio
import contextlib
import json
import os
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgspec
import pytest
from msgspec.structs import replace

from node_workers import copier, lending, sealed
from node_workers.borrowing import Access, Borrowed, CutOffError
from node_workers.copier import CHUNK_BYTES, CUT_OFF, DONE, FAILED, TIME_OVER
from node_workers.lending import Lender, Loan, NotLentError
from tests.support.nats import until

HERE = "127.0.0.1"
MIB = 1 << 20
SIZE = CHUNK_BYTES + 3 * MIB + 4096
UID = "uid-s1"


class Lent(NamedTuple):
    lender: Lender
    access: Access


def agreed(device: Path, of_bytes: int = SIZE) -> tuple[Loan, tuple[bytes, bytes]]:
    """Return a loan, and the keys of whom it is for."""
    mine, theirs = sealed.new_keys(), sealed.new_keys()
    opens, seals = sealed.lender_keys(mine, theirs.public)
    loan = Loan(UID, str(device), of_bytes, opens, seals)
    return loan, sealed.borrower_keys(theirs, mine.public)


async def offered(lender: Lender, device: Path, of_bytes: int = SIZE, **more: Any) -> Access:
    loan, keys = agreed(device, of_bytes)
    return lending.access(await lender.lend(loan, HERE, **more), keys)


@asynccontextmanager
async def lent(device: Path, of_bytes: int = SIZE, **how: Any) -> AsyncIterator[Lent]:
    lender = Lender(**how)
    try:
        yield Lent(lender, await offered(lender, device, of_bytes))
    finally:
        await lender.close()
        assert (lender.loans, lender.listening) == (0, False)


def borrowed(access: Access, *, ahead: int = 4, size: int = SIZE) -> Borrowed:
    return Borrowed(access, size, ahead=ahead)


def read(source: Borrowed, position: int, size: int = MIB) -> tuple[bytes, int]:
    piece = bytearray(size)
    return bytes(piece), source.read(memoryview(piece), position)


def whole(access: Access, *, ahead: int = 4) -> bytes:
    """Read all of it, as the copier does."""
    data = bytearray(SIZE)
    with borrowed(access, ahead=ahead) as source, memoryview(data) as view:
        for position in range(0, SIZE, MIB):
            source.read(view[position : position + MIB], position)
    return bytes(data)


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(SIZE))
    return path


def content(path: Path) -> bytes:
    return path.read_bytes()


def play(story: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await story()

    asyncio.run(bounded())


@pytest.mark.parametrize("ahead", [1, 4])
def test_what_is_lent_is_read_byte_by_byte(device: Path, ahead: int) -> None:
    async def story() -> None:
        async with lent(device) as (lender, access):
            assert await asyncio.to_thread(whole, access, ahead=ahead) == content(device)
            await until(lambda: lender.loans == 0)
            assert not lender.listening

    play(story)


def test_a_piece_may_be_read_again_from_anywhere(device: Path) -> None:
    def borrow(access: Access) -> list[bytes]:
        with borrowed(access) as source:
            pieces = []
            for position in (0, MIB, 0, 5 * MIB, SIZE - 4096):
                piece = bytearray(min(MIB, SIZE - position))
                source.read(memoryview(piece), position)
                pieces.append(bytes(piece))
            return pieces

    async def story() -> None:
        async with lent(device) as (_, access):
            data = content(device)
            found = await asyncio.to_thread(borrow, access)
            starts = (0, MIB, 0, 5 * MIB, SIZE - 4096)
            assert found == [data[start : start + MIB] for start in starts]

    play(story)


def test_zeros_do_not_travel(device: Path) -> None:
    with device.open("r+b") as file:
        file.write(bytes(MIB))

    def borrow(access: Access) -> list[int]:
        with borrowed(access) as source:
            piece = bytearray(b"x" * MIB)
            counted = [source.read(memoryview(piece), 0)]
            assert piece == bytes(MIB)
            return [*counted, source.read(memoryview(piece), MIB)]

    async def story() -> None:
        async with lent(device) as (_, access):
            assert await asyncio.to_thread(borrow, access) == [0, MIB]

    play(story)


def test_nobody_reads_without_the_right_ticket_and_keys(device: Path) -> None:
    async def story() -> None:
        async with lent(device) as (lender, access):
            key = os.urandom(32)
            wrong = (
                replace(access, ticket=os.urandom(16)),
                replace(access, seals=key),
                replace(access, opens=key),
            )
            for one in wrong[:2]:
                with pytest.raises(CutOffError):
                    await asyncio.to_thread(whole, one)
                assert lender.loans == 1, "a stranger has used up the loan"
            with pytest.raises(CutOffError, match="not what was sent"):
                await asyncio.to_thread(whole, wrong[2])

    play(story)


def test_a_ticket_is_good_once(device: Path) -> None:
    async def story() -> None:
        async with lent(device) as (_, access):
            await asyncio.to_thread(whole, access)
            with pytest.raises(CutOffError):
                await asyncio.to_thread(whole, access)

    play(story)


def test_more_than_was_lent_is_not_read(device: Path) -> None:
    async def story() -> None:
        async with lent(device, of_bytes=MIB) as (_, access):
            with pytest.raises(OSError, match="is not lent"):
                await asyncio.to_thread(whole, access)

    play(story)


def test_a_device_that_ends_early_is_said(device: Path) -> None:
    os.truncate(device, 2 * MIB)

    async def story() -> None:
        async with lent(device) as (_, access):
            with pytest.raises(OSError, match="ends before"):
                await asyncio.to_thread(whole, access)

    play(story)


def test_who_is_called_in_has_nothing_open_any_more(device: Path) -> None:
    async def story() -> None:
        async with lent(device) as (lender, access):
            source = await asyncio.to_thread(borrowed, access, ahead=1)
            with source:
                await asyncio.to_thread(read, source, 0)
                other = await offered(lender, device)
                await lender.call_in("another")
                assert opened(device)
                await lender.call_in(UID)
                assert not opened(device)
                for one in (source, None):
                    with pytest.raises(CutOffError):
                        await asyncio.to_thread(_more, one, other)

    def _more(source: Borrowed | None, access: Access) -> None:
        if source is None:
            borrowed(access)
        else:
            read(source, MIB)

    play(story)


def opened(device: Path) -> bool:
    links = Path("/proc/self/fd").iterdir()
    return str(device) in {str(one.readlink()) for one in links if one.is_symlink()}


def test_whoever_says_nothing_is_hung_up_on(device: Path) -> None:
    async def story() -> None:
        async with lent(device, hello_s=0.05, idle_s=0.05) as (lender, access):
            silent = socket.create_connection((HERE, access.port), timeout=10)
            with silent:
                assert await asyncio.to_thread(silent.recv, 1) == b""
            assert lender.loans == 1
            with await asyncio.to_thread(borrowed, access) as source:
                await asyncio.to_thread(read, source, 0)
                await until(lambda: lender.loans == 0)
                assert not opened(device)

    play(story)


def test_a_loan_that_nobody_takes_up_lapses(device: Path) -> None:
    async def story() -> None:
        lender = Lender()
        await offered(lender, device, for_s=0.01)
        await until(lambda: not lender.listening)
        assert lender.loans == 0
        await lender.close()

    play(story)


def test_so_many_loans_are_out_at_once_and_no_more(device: Path) -> None:
    async def story() -> None:
        async with lent(device) as (lender, _):
            for _ in range(lending.LOANS_MAX - 1):
                await offered(lender, device)
            with pytest.raises(NotLentError, match="already"):
                await offered(lender, device)
            await lender.call_in(UID)
            await offered(lender, device)

    play(story)


def test_where_nobody_can_listen_nothing_is_lent(device: Path) -> None:
    async def story() -> None:
        taken = socket.create_server((HERE, 0))
        with taken:
            lender = Lender(port=taken.getsockname()[1])
            with pytest.raises(NotLentError, match=HERE):
                await offered(lender, device)
            assert (lender.loans, lender.listening) == (0, False)
            await lender.close()

    play(story)


class Between:
    """Sits between both, and passes on what the lender says, changed or only a part of it."""

    def __init__(self, access: Access, change: Callable[[bytes], bytes], most: int) -> None:
        self._there = (access.host, access.port)
        self._change, self._left = change, most
        self._server = socket.create_server((HERE, 0))
        self.access = replace(access, port=self._server.getsockname()[1])
        self._thread = threading.Thread(target=self._pass_on)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _pass_on(self) -> None:
        here, _ = self._server.accept()
        there = socket.create_connection(self._there, timeout=10)
        here.settimeout(10)
        back = threading.Thread(target=_copy_all, args=(here, there))
        back.start()
        with here, there, contextlib.suppress(OSError):
            while self._left and (data := there.recv(65536)):
                data = data[: self._left]
                self._left -= len(data)
                here.sendall(self._change(data))
        back.join(10)


def _copy_all(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


def flipped_after(start: int) -> Callable[[bytes], bytes]:
    """Flip one bit of the byte at *start* of all that passes."""
    passed = 0

    def change(data: bytes) -> bytes:
        nonlocal passed
        at, passed = start - passed, passed + len(data)
        if not 0 <= at < len(data):
            return data
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    return change


@pytest.mark.parametrize("start", [3, 26, 30, 5 * MIB])
def test_a_flipped_bit_is_found(device: Path, start: int) -> None:
    """Wherever it is: in the header, in a length, in the data."""

    async def story() -> None:
        async with lent(device) as (_, access):
            with (
                Between(access, flipped_after(start), SIZE * 2) as between,
                pytest.raises(CutOffError),
            ):
                await asyncio.to_thread(whole, between.access)

    play(story)


Told = dict[str, Any]
Run = Callable[..., tuple[int, Told, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return how the copier is run on what is lent: its status, what it told, and why."""
    with (tmp_path / "target").open("wb") as target:
        target.truncate(SIZE)

    def run(access: Access, *more: str) -> tuple[int, Told, str]:
        secret = tmp_path / "secret"
        secret.write_bytes(msgspec.json.encode(access))
        with secret.open() as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            argv = ("n1:/dev/fast/s1", str(tmp_path / "target"), "--bytes", str(SIZE), "--far")
            status = copier.main((*argv, "--journal", str(tmp_path / "journal"), *more))
        said = capsys.readouterr()
        told = [line for line in said.out.splitlines() if line.startswith("{")]  # none of the log
        return status, json.loads(told[0]) if told else {}, said.err

    return run


def test_a_copy_goes_on_after_the_lender_was_cut_off_in_the_middle(
    device: Path, tmp_path: Path, run: Run
) -> None:
    async def story() -> None:
        async with lent(device) as (lender, access):
            with Between(access, lambda data: data, CHUNK_BYTES + 2 * MIB) as between:
                status, _, because = await asyncio.to_thread(run, between.access)
            assert status == CUT_OFF
            assert because.startswith("n1:/dev/fast/s1: the lender ")
            with device.open("r+b") as file:
                file.write(b"not read again")
            status, told, _ = await asyncio.to_thread(run, await offered(lender, device))
            assert (status, told["done_bytes"]) == (DONE, SIZE)
            copied, now = content(tmp_path / "target"), content(device)
            assert copied[14:] == now[14:]
            assert copied[:14] != now[:14], "it began anew"

    play(story)


def test_turns_and_a_limit_hold_for_what_is_lent_too(
    device: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[int] = []
    monkeypatch.setattr(copier.Pace, "wait", lambda _, more_bytes: waited.append(more_bytes))
    with device.open("r+b") as file:
        file.write(bytes(MIB))

    async def story() -> None:
        async with lent(device) as (lender, access):
            limit = ("--rate", str(MIB))
            status, told, _ = await asyncio.to_thread(run, access, "--for", "0", *limit)
            assert (status, told["done_bytes"]) == (TIME_OVER, CHUNK_BYTES)
            status, _, _ = await asyncio.to_thread(run, await offered(lender, device), *limit)
            assert status == DONE
            assert content(tmp_path / "target") == content(device)
            assert sum(waited) == SIZE - MIB, "zeros do not travel, and count for nothing"

    play(story)


def test_who_is_not_there_is_no_fault_of_the_target(device: Path, run: Run) -> None:
    async def story() -> None:
        async with lent(device) as (lender, access):
            await lender.close()
            status, told, because = await asyncio.to_thread(run, access)
            assert (status, told) == (CUT_OFF, {})
            assert "no connection to 127.0.0.1" in because
            os.truncate(device, MIB)
            status, _, because = await asyncio.to_thread(run, await offered(Lender(), device))
            assert (status, "ends before" in because) == (FAILED, True)

    play(story)


def test_a_lender_that_falls_silent_is_not_waited_for(
    device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node_workers.borrowing.PATIENCE_S", 0.05)
    loan, keys = agreed(device)
    with socket.create_server((HERE, 0)) as silent:
        port = silent.getsockname()[1]
        access = lending.access(lending.Ticket(b"t" * 16, HERE, port), keys)
        with pytest.raises(CutOffError, match="says nothing more"):
            borrowed(access)
    assert loan.of_bytes == SIZE
