"""A header, its keys, and that no key is ever seen anywhere but in the input of one tool."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any

import msgspec
import pytest

from node_workers.devices import StableDevices
from node_workers.figures import Figures
from node_workers.keeping import KeepingRunner
from node_workers.keys import NoKeyError
from node_workers.luks import Luks, luks_uuid
from node_workers.lvm import LvmStorage
from node_workers.ports import (
    Attachment,
    Execution,
    Filesystem,
    RefusedToTouchError,
    Runner,
    StorageError,
    UnsuitableError,
    VolumeSpec,
)
from node_workers.presence import probe
from node_workers.reports import trouble_of
from node_workers.simulated.machine import SimulatedMachine
from node_workers.simulated.runner import SimulatedRunner
from node_workers.stacks import Stacks
from node_workers.store import Record
from schemas.keys import HEADER_BYTES
from schemas.node import Capability
from schemas.refusals import Refusal
from tests.support.clock import ManualClock
from tests.support.keys import HeldKeys, secret

GIB, MIB = 1 << 30, 1 << 20
UID, POOL, CAUSE = "01pool", "fast", "01command"
OLD, NEW = "file:old", "file:new"
WANTED = VolumeSpec(
    uid="uid-v1",
    name="v1",
    pool=POOL,
    size_bytes=200 * MIB,
    filesystem=Filesystem.EXT4,
    keys=(OLD,),
)
USE = Attachment(volume="v1", volume_uid="uid-v1", pool=POOL, keys=(OLD,))


class Watched:
    """Remembers all that goes into a runner and comes out of it."""

    def __init__(self, inner: Runner) -> None:
        self._inner = inner
        self.fed: list[tuple[str, bytes]] = []
        self.seen: list[str] = []

    async def run(
        self, argv: Sequence[str], *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        self.fed.append((argv[0], stdin))
        done = await self._inner.run(argv, cause=cause, timeout_s=timeout_s, stdin=stdin)
        self.seen += [*argv, done.stdout, done.stderr, *done.argv]
        return done


class Bench:
    """A simulated machine with a pool, and a driver that is watched and audited."""

    def __init__(self) -> None:
        self.machine = SimulatedMachine.with_disks("n1", [2 * GIB] * 2)
        clock, self.kept = ManualClock(), list[Record]()
        self.watched = Watched(SimulatedRunner(self.machine, clock.now))

        async def keep(records: Sequence[Record]) -> None:
            self.kept += records

        self.runner = KeepingRunner(self.watched, keep, node="n1", clock=clock, figures=Figures())
        self.keys = HeldKeys(OLD, NEW)
        self.storage = LvmStorage(self.runner, self.machine, node="n1", keys=self.keys)
        self.luks = Luks(self.runner, self.keys)

    async def pool(self) -> None:
        argv = ("vgcreate", "--addtag", f"hwbus.pool={UID}", POOL, "/dev/sdb", "/dev/sdc")
        await self.runner.run(argv, cause=CAUSE, timeout_s=1)


def play(story: Callable[[Bench], Awaitable[None]]) -> Bench:
    async def whole() -> Bench:
        bench = Bench()
        await bench.pool()
        await story(bench)
        return bench

    return asyncio.run(whole())


async def whole_life(on: Bench) -> None:
    storage, larger = on.storage, msgspec.structs.replace(WANTED, size_bytes=300 * MIB)
    await storage.ensure_volume(UID, WANTED, cause=CAUSE)
    await storage.ensure_attached(UID, USE, cause=CAUSE)
    await storage.ensure_volume_size(UID, larger, cause=CAUSE)
    both = msgspec.structs.replace(larger, keys=(NEW, OLD))
    await storage.ensure_volume_keys(UID, both, (), cause=CAUSE)
    alone = msgspec.structs.replace(larger, keys=(NEW,))
    await storage.ensure_volume_keys(UID, alone, (OLD,), cause=CAUSE)
    await storage.ensure_detached(USE, cause=CAUSE)
    await storage.ensure_volume_removed(UID, POOL, "uid-v1", "v1", cause=CAUSE)


def test_a_key_is_seen_nowhere_but_in_the_input_of_cryptsetup() -> None:
    on = play(whole_life)
    records = b"".join(record.data for record in on.kept)
    verbs = {"luksFormat", "open", "resize", "luksAddKey", "luksRemoveKey", "luksErase", "close"}
    assert verbs <= set(on.watched.seen)
    assert all(verb.encode() in records for verb in verbs)
    for reference in (OLD, NEW):
        key = secret(reference)
        assert {tool for tool, stdin in on.watched.fed if key in stdin} == {"cryptsetup"}
        assert key not in records
        assert not any(key.decode(errors="replace")[:20] in text for text in on.watched.seen)
        assert key not in msgspec.json.encode(on.machine.state)


def test_what_is_in_use_lies_on_what_can_be_laid_elsewhere_and_that_goes_with_it() -> None:
    async def story(on: Bench) -> None:
        await on.storage.ensure_volume(UID, WANTED, cause=CAUSE)
        stacks = Stacks(on.runner, on.luks)
        for left in (False, True):
            if left:  # who died before there was anything on it
                await stacks.ensure_backed("v1", "uid-v1", "254:0", 100 * MIB, cause=CAUSE)
            await on.storage.ensure_attached(UID, USE, cause=CAUSE)
            stack = await stacks.find("v1", "uid-v1", cause=CAUSE)
            assert stack.movable
            assert stack.opened is not None
            assert stack.backing is not None
            assert (stack.opened.below, stack.below) == (stack.backing.number, "254:0")
            await on.storage.ensure_detached(USE, cause=CAUSE)
            assert on.machine.state.mapped == []

    play(story)


def test_what_an_earlier_version_has_in_use_is_laid_on_nothing_else_but_works() -> None:
    async def story(on: Bench) -> None:
        await on.storage.ensure_volume(UID, WANTED, cause=CAUSE)
        opened, _ = await on.luks.open(
            "v1", "uid-v1", f"/dev/{POOL}/v1", (OLD,), discards=False, cause=CAUSE
        )
        await StableDevices(on.runner).ensure(
            "v1", "uid-v1", opened.number, opened.size_bytes, read_only=False, cause=CAUSE
        )
        await on.storage.ensure_attached(UID, USE, cause=CAUSE)
        larger = msgspec.structs.replace(WANTED, size_bytes=300 * MIB)
        await on.storage.ensure_volume_size(UID, larger, cause=CAUSE)
        stacks = Stacks(on.runner, on.luks)
        stack = await stacks.find("v1", "uid-v1", cause=CAUSE)
        with pytest.raises(UnsuitableError) as caught:
            await stacks.ensure_moved("v1", stack, "147:1000", 300 * MIB, cause=CAUSE)
        assert trouble_of(caught.value).code is Refusal.CANNOT_REPLICATE
        await on.storage.ensure_detached(USE, cause=CAUSE)
        assert on.machine.state.mapped == []

    play(story)


def test_nothing_is_made_on_a_leg_that_is_one_of_several() -> None:
    async def story(on: Bench) -> None:
        leg = msgspec.structs.replace(WANTED, filesystem=Filesystem.NONE, leg=True)
        for _ in range(2):
            await on.storage.ensure_volume(UID, leg, cause=CAUSE)
        assert "luksFormat" not in on.watched.seen
        on.keys.held.clear()
        with pytest.raises(NoKeyError):  # it will be written to here some day
            await on.storage.ensure_volume(UID, leg, cause=CAUSE)

    play(story)


def test_the_header_takes_exactly_what_is_set_aside_for_it() -> None:
    on = play(whole_life)
    argv = on.watched.seen
    assert int(argv[argv.index("--offset") + 1]) * 512 == HEADER_BYTES == 16 * MIB


def test_keys_that_cannot_be_had_do_not_hide_one_that_can() -> None:
    async def story(on: Bench) -> None:
        await on.storage.ensure_volume(UID, WANTED, cause=CAUSE)
        found = await on.luks.key_for(
            "/dev/fast/v1", "uid-v1", ("file:gone", NEW, OLD), cause=CAUSE
        )
        assert found.reveal() == secret(OLD)

    play(story)


class Silent(HeldKeys):
    """A key source that does not answer for one of its keys."""

    async def key(self, reference: str) -> Any:
        if reference == "file:silent":
            raise NoKeyError("key-source-silent", "the test says nothing")
        return await super().key(reference)


@pytest.mark.parametrize(
    ("references", "code", "permanent"),
    [
        (("file:gone",), Refusal.KEY_MISSING, True),
        ((NEW,), Refusal.WRONG_KEY, True),
        ((NEW, "file:gone"), Refusal.KEY_MISSING, True),
        (("file:gone", NEW, "file:silent"), Refusal.KEY_SOURCE_SILENT, False),
    ],
)
def test_the_trouble_that_may_pass_is_the_one_that_is_told(
    references: tuple[str, ...],
    code: Refusal,
    permanent: bool,
) -> None:
    async def story(on: Bench) -> None:
        await on.storage.ensure_volume(UID, WANTED, cause=CAUSE)
        luks = Luks(on.runner, Silent(OLD, NEW))
        with pytest.raises(StorageError) as caught:
            await luks.key_for("/dev/fast/v1", "uid-v1", references, cause=CAUSE)
        trouble = trouble_of(caught.value)
        assert (trouble.code, trouble.permanent) == (code, permanent)

    play(story)


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("bad-key-reference", Refusal.BAD_KEY_REFERENCE),
        ("key-source-unset", Refusal.KEY_SOURCE_UNSET),
        ("key-denied", Refusal.KEY_DENIED),
        ("key-unfit", Refusal.KEY_UNFIT),
        ("key-exposed", Refusal.KEY_EXPOSED),
    ],
)
def test_every_trouble_with_a_key_has_a_code_and_is_told_at_once(
    reason: str, code: Refusal
) -> None:
    trouble = trouble_of(NoKeyError(reason, "so it is"))
    assert (trouble.code, trouble.because, trouble.permanent) == (code, "so it is", True)


def test_a_plain_side_of_somebody_else_is_neither_used_nor_closed() -> None:
    async def story(on: Bench) -> None:
        await on.storage.ensure_volume(UID, WANTED, cause=CAUSE)
        argv = ("cryptsetup", "open", "--type", "luks2", "--key-file", "-", "/dev/fast/v1")
        await on.runner.run(
            (*argv, "hwbus-crypt:v2"), cause="a person", timeout_s=1, stdin=secret(OLD)
        )
        for use in (on.luks.find, on.luks.ensure_closed):
            with pytest.raises(RefusedToTouchError):
                await use("v2", "uid-v2", cause=CAUSE)
        assert on.machine.state.mapped_as("hwbus-crypt:v2") is not None

    play(story)


class Without:
    """A runner on a machine that has not that tool."""

    def __init__(self, inner: Runner, *missing: str) -> None:
        self._inner = inner
        self._missing = missing

    async def run(
        self, argv: Sequence[str], *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        done = await self._inner.run(argv, cause=cause, timeout_s=timeout_s, stdin=stdin)
        missing = argv[0] in self._missing
        return msgspec.structs.replace(done, exit_status=127, stdout="") if missing else done


def test_a_node_says_whether_it_can_encrypt_and_one_that_cannot_says_why() -> None:
    async def story(on: Bench) -> None:
        assert await on.luks.find("v1", "uid-v1", cause=CAUSE) is None
        lacking = Luks(Without(on.runner, "cryptsetup"), on.keys)
        with pytest.raises(UnsuitableError) as caught:
            await lacking.close("v1", cause=CAUSE)
        assert trouble_of(caught.value).code is Refusal.CANNOT_ENCRYPT
        assert await can_encrypt(on.runner)
        assert await can_encrypt(Without(on.runner, "modprobe"))  # it may be built in
        assert not await can_encrypt(Without(on.runner, "cryptsetup"))
        assert not await can_encrypt(Without(on.runner, "dmsetup"))

    play(story)


class Probed:
    """Answers what a probe asks of other tools than those of encryption with nothing."""

    def __init__(self, inner: Runner) -> None:
        self._inner = inner

    async def run(
        self, argv: Sequence[str], *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        if argv[0] in {"lvm", "mkfs.ext4", "mkfs.xfs"}:
            argv = ("dmsetup", "targets")
        return await self._inner.run(argv, cause=cause, timeout_s=timeout_s, stdin=stdin)


async def can_encrypt(runner: Runner) -> bool:
    return Capability.ENCRYPTION in await probe(Probed(runner))


def test_a_header_is_known_by_its_volume_and_by_no_other() -> None:
    chance = Random(1)
    names = [f"uid-{chance.random()}" for _ in range(50)]
    assert len({luks_uuid(name) for name in names}) == len(names)
    assert luks_uuid(names[0]) == luks_uuid(names[0])
