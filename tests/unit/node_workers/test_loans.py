"""Loans as they are asked for over the bus: by whom, of what, and what is answered."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from hwbus import subjects
from hwbus.memory import MemoryBus, MemoryLog, MemoryOutlet
from node_workers import loans
from node_workers.borrowing import Borrowed, CutOffError
from node_workers.lending import Lender
from node_workers.loans import Borrower, LoanDesk
from node_workers.ports import (
    LoanError,
    NotThereError,
    StorageError,
    UnsuitableError,
)
from node_workers.reports import trouble_of
from node_workers.wanted import Origin, Wanted, WantedReplica
from schemas.commit import Commit
from schemas.refusals import Refusal
from schemas.replica import ReplicaSpec, SnapshotOf
from schemas.snapshot import SnapshotEvent, SnapshotReadingBegan, SnapshotReadingEnded
from tests.support.clock import ManualClock
from tests.support.nats import until

HERE, MIB = "127.0.0.1", 1 << 20
OPERATION, UID, OTHER = "o" * 26, "u" * 26, "v" * 26
READ: dict[str, str] = {"snapshot": "s1", "uid": UID, "operation": OPERATION}
SUBJECT = subjects.address("snapshot", "-", "s1").subject
SNAPSHOT = WantedReplica(
    uid=UID,
    origin=Origin(seq=1),
    folded_seq=1,
    may_create=False,
    volume="s1",
    spec=ReplicaSpec(
        uid=UID, pool="fast", size_bytes=MIB, snapshot_of=SnapshotOf(volume="pg", uid=OTHER)
    ),
)


class House:
    """A bus, a log, and a node that has one snapshot; the other node asks."""

    def __init__(self, device: Path) -> None:
        self.bus, self.log, self.outlet = MemoryBus(), MemoryLog(ManualClock()), MemoryOutlet()
        self.connected = True
        self.wanted: Mapping[str, Wanted] = {"replica/s1": SNAPSHOT}
        self.caught_up = True
        self.host = HERE
        self.trouble: StorageError | None = None
        self.on_look: Callable[[], None] = lambda: None
        self.lender = Lender()
        self.device = str(device)
        self.borrower = Borrower("n2")
        self.borrower.link = self
        self.desk = LoanDesk("n1", lambda: self.wanted, self, self.lender, lambda: self.host)

    async def ensure_snapshot_readable(
        self, pool_uid: str, pool: str, uid: str, name: str, *, cause: str
    ) -> str:
        assert (pool_uid, pool, uid, name) == ("", "fast", UID, "s1")
        assert cause == f"loan:{OPERATION}"
        self.on_look()
        if self.trouble is not None:
            raise self.trouble
        return self.device

    async def happen(self, *events: SnapshotEvent) -> None:
        newest = await self.log.last(SUBJECT)
        after = 0 if newest is None else newest.seq
        commit = Commit(
            id=f"c{after}",
            at=ManualClock().now(),
            actor="test",
            command=f"c{after}",
            word="test.v1",
            correlation=OPERATION,
            version=after + 1,
            events=events,
        )
        data = msgspec.json.encode(commit)
        await self.log.append(SUBJECT, data, after=after, message_id=commit.id)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.desk.serve(self, lambda: self.caught_up))
        await asyncio.sleep(0)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
            await self.desk.close()

    async def borrow(self, **other: Any) -> bytes:
        about: dict[str, Any] = {
            "operation": OPERATION,
            "snapshot": "s1",
            "uid": UID,
            "size_bytes": MIB,
        }
        access = await self.borrower.borrow("n1", **about | other)

        def read() -> bytes:
            piece = bytearray(MIB)
            with Borrowed(access, MIB, piece_bytes=MIB) as source:
                source.read(memoryview(piece), 0)
            return bytes(piece)

        return await asyncio.to_thread(read)

    async def not_lent(self, **other: Any) -> str:
        with pytest.raises(LoanError) as caught:
            await self.borrow(**other)
        trouble = trouble_of(caught.value)
        assert (trouble.code, trouble.permanent) == (Refusal.SOURCE_NOT_LENT, False)
        assert self.lender.loans == 0
        return caught.value.sentence


def play(tmp_path: Path, story: Callable[[House], Awaitable[None]]) -> bytes:
    device = tmp_path / "s1"
    device.write_bytes(os.urandom(MIB))

    async def bounded() -> None:
        async with asyncio.timeout(20):
            house = House(device)
            async with house.serving():
                await story(house)

    asyncio.run(bounded())
    return device.read_bytes()


def test_what_the_log_says_is_read_is_lent_again_and_again(tmp_path: Path) -> None:
    found: list[bytes] = []

    async def story(house: House) -> None:
        await house.happen(SnapshotReadingBegan(**READ))
        found.extend([await house.borrow(), await house.borrow()])
        await house.happen(SnapshotReadingBegan(**READ | {"operation": OTHER}))
        found.append(await house.borrow())

    data = play(tmp_path, story)
    assert found == [data, data, data]


def test_what_the_log_does_not_say_is_read_is_not_lent(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        assert "does not read s1" in await house.not_lent()
        await house.happen(SnapshotReadingBegan(**READ))
        assert "does not read s1" in await house.not_lent(operation=OTHER)
        assert "no snapshot" in await house.not_lent(uid=OTHER)
        assert "no snapshot" in await house.not_lent(snapshot="s2")
        await house.borrow()
        await house.happen(SnapshotReadingEnded(**READ))
        assert "does not read s1" in await house.not_lent()

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("change", "because"),
    [
        ({"present": False}, "about to go"),
        ({"merging": True}, "about to go"),
        ({"may_create": True}, "no snapshot"),
        ({"spec": replace(SNAPSHOT.spec, snapshot_of=None)}, "no snapshot"),
    ],
)
def test_only_snapshots_that_are_there_and_stay_are_lent(
    tmp_path: Path, change: dict[str, Any], because: str
) -> None:
    async def story(house: House) -> None:
        await house.happen(SnapshotReadingBegan(**READ))
        house.wanted = {"replica/s1": replace(SNAPSHOT, **change)}
        assert because in await house.not_lent()

    play(tmp_path, story)


def test_a_node_that_does_not_know_what_is_wanted_lends_nothing(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.happen(SnapshotReadingBegan(**READ))
        house.caught_up = False
        assert "does not know" in await house.not_lent()
        house.caught_up, house.host = True, ""
        assert "address" in await house.not_lent()

    play(tmp_path, story)


def test_a_loan_is_called_in_when_its_snapshot_is_to_go_just_then(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.happen(SnapshotReadingBegan(**READ))

        def withdraw() -> None:
            house.wanted = {"replica/s1": replace(SNAPSHOT, present=False)}

        house.on_look = withdraw
        assert "about to go" in await house.not_lent()
        assert not house.lender.listening

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("trouble", "code", "permanent"),
    [
        (NotThereError("snapshot-missing", "gone"), Refusal.SNAPSHOT_MISSING, True),
        (UnsuitableError("snapshot-lost", "full"), Refusal.SNAPSHOT_LOST, True),
        (NotThereError("pool-missing", "gone"), Refusal.SOURCE_NOT_LENT, False),
    ],
)
def test_what_is_wrong_with_the_source_is_told_on_the_other_node(
    tmp_path: Path, trouble: StorageError, code: Refusal, permanent: bool
) -> None:
    async def story(house: House) -> None:
        await house.happen(SnapshotReadingBegan(**READ))
        house.trouble = trouble
        with pytest.raises(StorageError) as caught:
            await house.borrow()
        told = trouble_of(caught.value)
        assert (told.code, told.permanent) == (code, permanent)

    play(tmp_path, story)


def test_nobody_there_and_nobody_who_answers_are_the_same_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loans, "_ANSWER_S", 0.02)

    async def story(house: House) -> None:
        await house.happen(SnapshotReadingBegan(**READ))
        for silent in ("n3", "n1", ""):
            house.on_look = lambda: (_ for _ in ()).throw(RuntimeError("broken"))
            if not silent:
                house.borrower.link = None
            with pytest.raises(LoanError) as caught:
                await house.borrower.borrow(silent or "n1", OPERATION, "s1", UID, MIB)
            assert trouble_of(caught.value).code is Refusal.SOURCE_SILENT

    play(tmp_path, story)


def test_what_is_said_over_the_bus_does_not_open_the_loan(tmp_path: Path) -> None:
    """Whoever hears question and answer has both public keys, the ticket and the address."""

    async def story(house: House) -> None:
        heard: list[bytes] = []
        request = house.bus.request

        async def overheard(subject: str, data: bytes, **more: Any) -> bytes:
            answer = await request(subject, data, **more)
            heard.extend((data, answer))
            return answer

        house.bus.request = overheard  # type: ignore[method-assign]
        await house.happen(SnapshotReadingBegan(**READ))
        access = await house.borrower.borrow("n1", OPERATION, "s1", UID, MIB)
        for key in (access.opens, access.seals):
            assert all(msgspec.json.encode(key)[1:-1] not in said for said in heard)
        assert str(key) not in repr(access)
        wish = msgspec.json.decode(heard[0], type=loans.Wish)
        guess = replace(access, seals=wish.key, opens=wish.key)

        def read() -> None:
            with Borrowed(guess, MIB, piece_bytes=MIB) as source, pytest.raises(CutOffError):
                source.read(memoryview(bytearray(MIB)), 0)

        await asyncio.to_thread(read)
        assert house.lender.loans == 1
        await house.desk.call_in(UID)
        await until(lambda: not house.lender.listening)

    play(tmp_path, story)


def test_what_is_no_wish_is_answered_too(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        said = await house.bus.request(subjects.lend("n1"), b"{", headers={}, timeout_s=2)
        assert b"not-lent" in said

    play(tmp_path, story)
