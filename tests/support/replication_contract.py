"""What every ReplicatedStorage must do: two machines, the network between them, and a log."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import pytest

from node_workers.lvm import LvmStorage
from node_workers.ports import (
    Attachment,
    Filesystem,
    InUseError,
    NotThereError,
    StorageError,
    UnsuitableError,
    VolumeSpec,
)
from node_workers.replication import (
    Comparison,
    Connection,
    DiskState,
    Member,
    ReplicationSpec,
    ReplicationState,
    Role,
    Start,
    Sync,
    Verdict,
)
from schemas.keys import HEADER_BYTES
from schemas.replicating import head_room_bytes
from tests.support.storage_bench import CAUSE, MIB, POOL

DEVICE = "/dev/hwbus/v1"
TARGET = "/mnt/v1"
SIZE = 32 * MIB


class Machine(Protocol):
    """One of the two, with a pool on it."""

    @property
    def node(self) -> str: ...

    @property
    def pool_uid(self) -> str: ...

    @property
    def storage(self) -> LvmStorage: ...

    async def shell(self, script: str) -> str:
        """Run it as a person would; it must succeed."""
        ...

    async def judge(self, verdict: Verdict) -> None:
        """Have the log answer so, on this machine, whoever asks."""
        ...

    async def write_on(self, path: str) -> None:
        """Begin to write numbers to *path*, one after another, each when the last is safe."""
        ...

    async def copied_bytes(self) -> int:
        """Return how much the last resync was, as this machine's kernel knows it."""
        ...

    def written(self) -> int:
        """Return the last number that was told to be safe; 0: none was."""
        ...

    async def stop_writing(self) -> None: ...

    async def found(self, path: str) -> int:
        """Return the last number in *path*."""
        ...

    async def sum(self, mib: int) -> str:
        """Return the checksum of so much of the leg, as it lies there."""
        ...

    @property
    def held(self) -> dict[str, bytes]:
        """The keys that can be had on this machine, by reference."""
        ...

    async def finds(self, text: str) -> bool:
        """Return whether it is to be read in the leg, as that lies there."""
        ...

    async def spoil(self) -> None:
        """Change 4 KiB of the leg that lies there, past all that is above it."""
        ...

    async def blank(self) -> None:
        """Have nothing but zeros on the leg, as a new thin one has."""
        ...

    def start_anew(self) -> None:
        """Have what it is run by know nothing of before."""
        ...

    async def power_off(self) -> None: ...

    async def power_on(self) -> None: ...


class Pair(Protocol):
    """Both, and what is between them."""

    @property
    def a(self) -> Machine: ...

    @property
    def b(self) -> Machine: ...

    def members(self) -> tuple[Member, ...]: ...

    def move(self) -> None:
        """Have the members meet at other ports from now on."""
        ...

    def tie_anew(self) -> None:
        """Have the members in another tie from now on."""
        ...

    async def part(self) -> None:
        """Cut the network between them."""
        ...

    async def join(self) -> None: ...


def members_of(keys: tuple[bytes, bytes], port: int, ties: int) -> tuple[Member, ...]:
    """Return n1 and n2 as they are tied for that many times, with these public keys."""
    return tuple(
        Member(
            node=f"n{index + 1}",
            index=index,
            address=f"198.51.100.{11 + index}",
            port=port,
            minor=100 + index,
            key=base64.b64encode(key).decode(),
            since=f"tie-{ties}",
        )
        for index, key in enumerate(keys)
    )


class Tale:
    """One test's view of a pair: what is wanted, and shorthand for it.

    With ``keys`` the volume is encrypted: what is replicated is larger than it by the header.
    """

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.a, self.b = pair.a, pair.b
        self.rate = 0
        self.keys: tuple[str, ...] = ()

    def device_bytes(self, size_bytes: int = SIZE) -> int:
        return size_bytes + (HEADER_BYTES if self.keys else 0)

    def spec(self, size_bytes: int = SIZE) -> ReplicationSpec:
        return ReplicationSpec(
            volume="v1",
            uid="uid-v1",
            pool=POOL,
            size_bytes=self.device_bytes(size_bytes),
            members=self.pair.members(),
            resync_bytes_per_s=self.rate,
        )

    async def compare(self, machine: Machine, run: str) -> Comparison:
        return await machine.storage.compare("v1", "uid-v1", run, cause=CAUSE)

    async def compared(self, machine: Machine, run: str) -> int:
        """Have the legs compared, and return how much of them differs."""
        found = await self.to_its_end(lambda: self.compare(machine, run))
        assert found.done_bytes == found.size_bytes == SIZE
        return found.differing_bytes

    async def evened_out(self, machine: Machine) -> None:
        even_out = machine.storage.even_out
        await self.to_its_end(lambda: even_out("v1", "uid-v1", cause=CAUSE))

    async def to_its_end(self, turn: Callable[[], Awaitable[Comparison]]) -> Comparison:
        async with asyncio.timeout(60):
            while not (found := await turn()).done:  # noqa: ASYNC110
                await asyncio.sleep(0.3)
        return found

    def plain(self, **more: Any) -> VolumeSpec:
        wanted: dict[str, Any] = {"uid": "uid-v1", "name": "v1", "pool": POOL, "keys": self.keys}
        wanted |= {"size_bytes": self.device_bytes()}
        return VolumeSpec(**{**wanted, **more})

    def leg(self, size_bytes: int = SIZE, **more: Any) -> VolumeSpec:
        device_bytes = self.device_bytes(size_bytes)
        size_bytes = device_bytes + head_room_bytes(device_bytes)
        return self.plain(size_bytes=size_bytes, leg=True, **more)

    def use(self, **more: Any) -> Attachment:
        wanted: dict[str, Any] = {"volume": "v1", "volume_uid": "uid-v1", "pool": POOL}
        wanted |= {"keys": self.keys, "replication": self.spec()}
        return Attachment(**{**wanted, **more})

    async def tie(
        self,
        machine: Machine,
        start: Start = Start.DATA,
        *,
        size_bytes: int = SIZE,
        may: bool = True,
    ) -> ReplicationState:
        return await machine.storage.ensure_replicated(
            machine.pool_uid,
            self.leg(size_bytes),
            self.spec(size_bytes),
            start=start,
            may_create=may,
            cause=CAUSE,
        )

    async def tied(self) -> None:
        """Have two new legs in step."""

        async def tied(machine: Machine) -> None:
            await machine.storage.ensure_volume(machine.pool_uid, self.leg(), cause=CAUSE)
            await machine.blank()
            await self.tie(machine)

        await asyncio.gather(tied(self.a), tied(self.b))
        await self.in_step()

    async def state(self, machine: Machine) -> ReplicationState:
        return (await machine.storage.replication_states(cause=CAUSE))["v1"]

    async def until(
        self, machine: Machine, wanted: Callable[[ReplicationState], bool], within_s: float = 60
    ) -> ReplicationState:
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + within_s
        while not wanted(found := await self.state(machine)):
            if loop.time() > ends_s:
                pytest.fail(f"{machine.node} is still {found}")
            await asyncio.sleep(0.3)
        return found

    async def in_step(self) -> None:
        await asyncio.gather(*(self.until(one, is_in_step) for one in (self.a, self.b)))

    async def attach(self, machine: Machine, **more: Any) -> None:
        await machine.storage.ensure_attached(machine.pool_uid, self.use(**more), cause=CAUSE)

    async def detach(self, machine: Machine, **more: Any) -> None:
        await machine.storage.ensure_detached(self.use(**more), cause=CAUSE)

    async def same(self, mib: int = 0) -> bool:
        mib = mib or self.device_bytes() // MIB
        return await self.a.sum(mib) == await self.b.sum(mib)

    async def goes_on(self, machine: Machine) -> None:
        """Wait until more is safe than is now."""
        before, waits = machine.written(), 0
        while machine.written() <= before:
            waits += 1
            assert waits < 1200, f"{machine.node} writes nothing any more"
            await asyncio.sleep(0.05)


PlayPair = Callable[[Callable[[Tale], Awaitable[None]]], None]


def is_in_step(state: ReplicationState) -> bool:
    (peer,) = state.peers
    good = state.disk is peer.disk is DiskState.UP_TO_DATE
    return good and peer.connection is Connection.CONNECTED and peer.sync is Sync.NONE


def is_missed(state: ReplicationState) -> bool:
    return state.peers[0].connection is not Connection.CONNECTED


async def reason(asked: Awaitable[object], kind: type[StorageError]) -> str:
    with pytest.raises(kind) as caught:
        await asked
    return caught.value.reason


async def loses(on: Tale) -> None:
    """Have the frozen a give way to b, and follow it."""
    a, b = on.a, on.b
    before = a.written()
    await on.until(b, is_missed)
    await on.attach(b)
    assert await b.found(DEVICE) >= before
    await b.write_on(DEVICE)
    assert await reason(on.attach(a), UnsuitableError) == "not-up-to-date"
    for _ in range(2):
        await a.storage.ensure_secondary("v1", "uid-v1", force=True, cause=CAUSE)
    left = await on.state(a)
    assert (left.role, left.disk) == (Role.SECONDARY, DiskState.OUTDATED)
    assert a.written() == before
    await on.pair.join()
    await on.in_step()
    await b.stop_writing()
    assert await on.same()
    assert await b.found(DEVICE) >= b.written()


class ReplicationContract:
    """Inherit it and give a ``pair`` fixture of two machines with empty pools."""

    def test_what_is_written_to_two_new_legs_is_on_both(self, pair: PlayPair) -> None:
        async def tale(on: Tale) -> None:
            await on.tied()
            first = await on.state(on.a)
            assert (first.role, first.size_bytes) == (Role.SECONDARY, SIZE)
            kind = on.leg(filesystem=Filesystem.EXT4)
            for _ in range(2):
                await on.a.storage.ensure_filesystem(kind, on.spec(), cause=CAUSE)
            mounted = {"filesystem": Filesystem.EXT4, "mount_point": TARGET}
            for _ in range(2):
                await on.attach(on.a, **mounted)
            await on.a.shell(f"echo precious > {TARGET}/file; sync {TARGET}/file")
            assert await reason(on.attach(on.b, **mounted), InUseError) == "peer-is-primary"
            down = on.a.storage.ensure_replica_down("v1", "uid-v1", force=False, cause=CAUSE)
            assert await reason(down, InUseError) == "in-use"
            await on.detach(on.a, **mounted)
            await on.attach(on.b, **mounted)
            assert await on.b.shell(f"cat {TARGET}/file") == "precious\n"
            await on.detach(on.b, **mounted)
            assert await on.same()

        pair(tale)

    def test_what_differs_is_found_and_members_may_move(self, pair: PlayPair) -> None:
        async def tale(on: Tale) -> None:
            a, b = on.a, on.b
            await on.tied()
            await b.spoil()
            assert await on.compared(a, "first") == 4096
            assert [(await on.state(one)).peers[0].out_of_sync_bytes for one in (a, b)] == [
                4096,
                4096,
            ]
            await on.evened_out(a)  # nobody uses it: then a is the one that counts
            assert await on.same()
            assert (await on.state(a)).role is Role.SECONDARY
            await on.attach(b)
            await b.spoil()
            counts = await b.sum(SIZE // MIB)
            assert await on.compared(a, "second") == 4096
            for _ in range(2):
                await on.evened_out(a)
            assert await a.sum(SIZE // MIB) == await b.sum(SIZE // MIB) == counts
            assert (await on.state(b)).role is Role.PRIMARY
            await on.detach(b)
            await b.spoil()
            assert await on.compared(b, "third") == 4096
            await on.attach(a)
            await a.write_on(DEVICE)
            on.pair.move()
            await on.tie(a, may=False)
            await on.goes_on(a)
            await on.tie(b, may=False)
            await on.in_step()
            await a.stop_writing()
            # With what was written meanwhile came what was found to differ.
            assert await on.same()

        pair(tale)

    def test_a_comparison_ends_whole_or_broken_whoever_starts_anew(self, pair: PlayPair) -> None:
        async def tale(on: Tale) -> None:
            a, b = on.a, on.b
            await on.tied()
            await on.attach(a)
            on.rate = 4 * MIB
            for machine in (a, b):
                await on.tie(machine, may=False)
            began_s = asyncio.get_running_loop().time()
            assert not (await on.compare(a, "slow")).done
            a.start_anew()
            found = await on.compare(a, "slow")
            assert not found.done
            assert found.done_bytes < found.size_bytes == SIZE
            assert await on.compared(a, "slow") == 0
            assert asyncio.get_running_loop().time() - began_s > SIZE / on.rate / 2
            await b.spoil()
            await on.compare(a, "parted")
            await on.pair.part()
            await on.until(a, is_missed)
            await on.pair.join()
            await on.in_step()
            assert await reason(on.compare(a, "parted"), UnsuitableError) == "verify-broken"
            await on.compare(a, "stopped")
            for _ in range(2):
                await a.storage.stop_comparing("v1", "uid-v1", "stopped", cause=CAUSE)
            await on.in_step()
            await on.compare(a, "grown")
            size_bytes = 2 * SIZE
            for machine in (a, b, a):
                await machine.storage.ensure_replicated_size(
                    machine.pool_uid, on.leg(size_bytes), on.spec(size_bytes), cause=CAUSE
                )
                await on.in_step()
            assert (await on.state(a)).size_bytes == size_bytes
            assert await reason(on.compare(a, "grown"), UnsuitableError) == "verify-broken"

        pair(tale)

    def test_a_volume_in_use_becomes_replicated_and_plain_again(self, pair: PlayPair) -> None:
        async def tale(on: Tale) -> None:
            a, b = on.a, on.b
            await a.storage.ensure_volume(a.pool_uid, on.plain(), cause=CAUSE)
            await on.attach(a, replication=None)
            await a.write_on(DEVICE)
            for _ in range(2):
                await on.tie(a)
                assert (await on.state(a)).role is Role.PRIMARY
            await on.goes_on(a)
            await b.storage.ensure_volume(b.pool_uid, on.leg(), cause=CAUSE)
            await on.tie(b, Start.NOTHING)
            down = a.storage.ensure_volume_removed(a.pool_uid, POOL, "uid-v1", "v1", cause=CAUSE)
            assert await reason(down, InUseError) == "in-use"
            await on.in_step()
            assert await b.copied_bytes() == SIZE
            await a.stop_writing()
            assert await on.same()
            await a.write_on(DEVICE)
            for _ in range(2):
                await a.storage.ensure_plain(a.pool_uid, on.leg(), uid="uid-v1", cause=CAUSE)
            assert await a.storage.replication_states(cause=CAUSE) == {}
            await on.goes_on(a)
            await a.stop_writing()
            assert await a.found(DEVICE) >= a.written()
            assert (await on.state(b)).disk is DiskState.OUTDATED
            plain = b.storage.ensure_plain(b.pool_uid, on.leg(), uid="uid-v1", cause=CAUSE)
            assert await reason(plain, UnsuitableError) == "not-up-to-date"
            await b.storage.ensure_replica_down("v1", "uid-v1", force=False, cause=CAUSE)
            await b.storage.ensure_volume_removed(b.pool_uid, POOL, "uid-v1", "v1", cause=CAUSE)

        pair(tale)

    def test_what_an_earlier_tie_left_counts_for_nothing(self, pair: PlayPair) -> None:
        async def tale(on: Tale) -> None:
            a, b = on.a, on.b
            await on.tied()
            await on.attach(a)
            await b.storage.ensure_replica_down("v1", "uid-v1", force=False, cause=CAUSE)
            await a.judge(Verdict.GRANTED)
            await a.storage.ensure_plain(a.pool_uid, on.leg(), uid="uid-v1", cause=CAUSE)
            await a.write_on(DEVICE)
            await on.goes_on(a)
            # What b has looks just like what two new legs begin with, and lacks all of this.
            on.pair.tie_anew()
            await on.tie(a)
            assert await reason(on.tie(b, may=False), NotThereError) == "metadata-missing"
            for _ in range(2):
                await on.tie(b, Start.NOTHING)
            await on.in_step()
            assert await b.copied_bytes() == SIZE
            await a.stop_writing()
            assert await on.same()

        pair(tale)

    def test_nothing_that_was_safe_is_lost_with_a_machine(self, pair: PlayPair) -> None:
        async def tale(on: Tale) -> None:
            a, b = on.a, on.b
            await on.tied()
            await on.attach(a)
            await a.write_on(DEVICE)
            await a.power_off()
            await on.until(b, is_missed)
            assert await reason(on.attach(b), NotThereError) == "verdict-unknown"
            await b.judge(Verdict.LOST)
            assert await reason(on.attach(b), UnsuitableError) == "not-up-to-date"
            await b.judge(Verdict.GRANTED)
            await on.attach(b)
            assert await b.found(DEVICE) >= a.written() > 0
            await b.write_on(DEVICE)
            await a.power_on()
            await a.storage.ensure_active({POOL: a.pool_uid}, cause=CAUSE)
            await on.tie(a, may=False)
            await on.in_step()
            assert (await on.state(a)).role is Role.SECONDARY
            assert 0 < await b.copied_bytes() < SIZE
            await b.stop_writing()
            assert await on.same()

        pair(tale)

    def test_a_machine_that_misses_its_peer_does_as_the_log_says(self, pair: PlayPair) -> None:
        async def tale(on: Tale) -> None:
            a, b = on.a, on.b
            await on.tied()
            await on.attach(a)
            await a.write_on(DEVICE)
            await on.pair.part()
            await on.until(a, lambda state: state.frozen)
            before = a.written()
            assert await reason(on.attach(a), NotThereError) == "verdict-unknown"
            assert a.written() == before
            await on.pair.join()
            await on.in_step()
            await on.goes_on(a)
            await a.judge(Verdict.GRANTED)
            await on.pair.part()
            await on.until(a, is_missed)
            await on.goes_on(a)
            await a.judge(Verdict.UNKNOWN)
            await on.pair.join()
            await on.in_step()
            await a.judge(Verdict.LOST)
            await b.judge(Verdict.GRANTED)
            await on.pair.part()
            await on.until(a, lambda state: state.frozen)
            await loses(on)

        pair(tale)

    def test_a_split_brain_is_seen_and_settled_by_who_is_told_to_lose(self, pair: PlayPair) -> None:
        async def tale(on: Tale) -> None:
            await on.tied()
            await on.pair.part()
            for machine, said in ((on.a, "mine"), (on.b, "theirs")):
                await machine.judge(Verdict.GRANTED)
                await on.until(machine, is_missed)
                await on.attach(machine)
                await machine.shell(f"echo {said} | dd of={DEVICE} conv=fsync status=none")
                await on.detach(machine)
            await on.pair.join()
            for machine in (on.a, on.b):
                found = await on.until(machine, lambda state: state.split)
                assert found.generations is not None
                assert (await on.tie(machine, may=False)).split
            await on.b.storage.settle_split(on.spec(), loses=True, cause=CAUSE)
            await on.a.storage.settle_split(on.spec(), loses=False, cause=CAUSE)
            await on.in_step()
            assert not (await on.state(on.b)).split
            await on.attach(on.b)
            assert await on.b.shell(f"head -n1 {DEVICE}") == "mine\n"
            await on.detach(on.b)
            assert await on.same()

        pair(tale)

    def test_a_leg_that_looks_for_its_peer_may_begin_again(self, pair: PlayPair) -> None:
        async def tale(on: Tale) -> None:
            await on.tied()
            await on.pair.part()
            await on.until(on.a, is_missed)
            await on.until(on.b, is_missed)
            for machine in (on.a, on.b, on.b):
                await machine.storage.connect_anew("v1", "uid-v1", cause=CAUSE)
                assert is_missed(await on.state(machine))
            await on.pair.join()
            await on.in_step()
            before = await on.state(on.a)
            await on.a.storage.connect_anew("v1", "uid-v1", cause=CAUSE)
            assert await on.state(on.a) == before

        pair(tale)

    def test_a_replicated_volume_grows_when_all_of_its_legs_have(self, pair: PlayPair) -> None:
        async def tale(on: Tale) -> None:
            a, b, size_bytes = on.a, on.b, SIZE + 8 * MIB
            kind: dict[str, Any] = {"filesystem": Filesystem.EXT4}
            await on.tied()
            await a.storage.ensure_filesystem(on.leg(**kind), on.spec(), cause=CAUSE)
            await on.attach(a, mount_point=TARGET, **kind)
            await a.shell(f"echo precious > {TARGET}/file; sync {TARGET}/file")

            async def grow(machine: Machine) -> int:
                grown = await machine.storage.ensure_replicated_size(
                    machine.pool_uid,
                    on.leg(size_bytes, **kind),
                    on.spec(size_bytes),
                    cause=CAUSE,
                )
                return grown.size_bytes

            assert SIZE <= await grow(b) < size_bytes
            assert [await grow(one) for one in (a, b, a)] == [size_bytes] * 3
            await on.in_step()
            blocks = await a.shell(f"stat -f -c '%b * %S' {TARGET}")
            assert eval(blocks) > SIZE  # noqa: S307 -- two numbers
            await on.detach(a, mount_point=TARGET, **kind)
            for machine in (a, b):
                await machine.storage.ensure_replica_down("v1", "uid-v1", force=False, cause=CAUSE)
                await on.tie(machine, size_bytes=size_bytes, may=False)
            await on.in_step()
            assert await on.same(size_bytes // MIB)

        pair(tale)
