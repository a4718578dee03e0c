"""What a node does with backup targets, on a simulated machine."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from node_workers.errands import Going
from node_workers.inventory import observe
from node_workers.lvm import LvmStorage
from node_workers.ports import (
    Execution,
    NotThereError,
    PoolDisk,
    Runner,
    SnapshotSpec,
    StorageError,
    UnsuitableError,
    VolumeSpec,
)
from node_workers.reports import trouble_of
from node_workers.simulated.machine import SimulatedMachine
from node_workers.simulated.runner import SimulatedRunner
from schemas.backups import FromBackup
from schemas.errand import (
    Errand,
    Found,
    ListAll,
    Listed,
    Probe,
    Probed,
    Sweep,
    Uploaded,
    Verified,
    Verify,
)
from schemas.refusals import Refusal
from tests.support import s3
from tests.support.backup_words import PLACE, SEAL
from tests.support.clock import ManualClock
from tests.support.errands import TestersSecrets, upload

MIB, GIB = 1 << 20, 1 << 30
UID, POOL, CAUSE = "01pool", "fast", "01command"
SIZE = 104 * MIB
UPLOAD = upload(SIZE)


class Watching:
    """A runner that remembers what it was given."""

    def __init__(self, inner: Runner) -> None:
        self._inner = inner
        self.given: list[tuple[tuple[str, ...], bytes]] = []

    async def run(
        self, argv: Any, *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        self.given.append((tuple(argv), stdin))
        return await self._inner.run(argv, cause=cause, timeout_s=timeout_s, stdin=stdin)


class Node:
    """A machine with the volume v1, on which "before" is written, and its snapshot s1."""

    def __init__(self) -> None:
        self.machine = SimulatedMachine.with_disks("n1", [GIB] * 2)
        self.runner = Watching(SimulatedRunner(self.machine, ManualClock().now))
        self.storage = self.with_secrets(TestersSecrets())

    def with_secrets(self, secrets: Any) -> LvmStorage:
        return LvmStorage(self.runner, self.machine, node="n1", credentials=secrets)

    async def furnish(self) -> None:
        seen = await observe(self.runner, self.machine, node="n1", cause=CAUSE)
        disks = [PoolDisk(disk=one.identity, path=one.path) for one in seen.disks[1:]]
        await self.storage.ensure_pool(UID, POOL, disks, cause=CAUSE)
        spec = VolumeSpec(uid="uid-v1", name="v1", pool=POOL, size_bytes=SIZE)
        await self.storage.ensure_volume(UID, spec, cause=CAUSE)
        self.machine.write("fast/v1", "before")
        kept = SnapshotSpec(
            uid="uid-s1",
            name="s1",
            pool=POOL,
            size_bytes=20 * MIB,
            volume="v1",
            volume_uid="uid-v1",
        )
        await self.storage.ensure_snapshot(UID, kept, cause=CAUSE)

    async def done(self, errand: Errand, operation: str = "op") -> Found:
        done_bytes = -1
        while True:
            found = await self.storage.do_errand(operation, errand, UID, cause=CAUSE)
            if not isinstance(found, Going):
                return found
            assert found.done_bytes > done_bytes
            done_bytes = found.done_bytes


def on_a_node(story: Callable[[Node], Awaitable[None]]) -> None:
    async def whole() -> None:
        node = Node()
        await node.furnish()
        await story(node)

    asyncio.run(whole())


def from_backup(manifest: str, backup: str = "b1") -> FromBackup:
    return FromBackup(place=PLACE, target="s3", backup=backup, manifest=manifest, size_bytes=SIZE)


async def restored(node: Node, source: FromBackup) -> None:
    spec = VolumeSpec(uid="uid-v2", name="v2", pool=POOL, size_bytes=SIZE)
    while True:
        state = await node.storage.ensure_copied(UID, spec, source, cause=CAUSE)
        if state.volume is not None:
            return


def test_what_was_uploaded_is_listed_and_comes_back() -> None:
    async def story(node: Node) -> None:
        assert await node.done(Probe(place=PLACE)) == Probed()
        made = await node.done(UPLOAD)
        assert isinstance(made, Uploaded)
        node.machine.write("fast/v1", "after")
        listed = await node.done(ListAll(place=PLACE))
        assert isinstance(listed, Listed)
        (stored,) = listed.backups
        assert (stored.backup, stored.manifest) == ("b1", made.manifest)
        await restored(node, from_backup(made.manifest))
        assert node.machine.read("fast/v2") == "before"
        chunks = made.chunks
        assert await node.done(Verify(place=PLACE, backup="b1")) == Verified(chunks=chunks)

    on_a_node(story)


def test_said_again_it_is_done_again_and_finds_the_same() -> None:
    async def story(node: Node) -> None:
        made = await node.done(UPLOAD)
        assert await node.done(UPLOAD) == made
        sweep = Sweep(place=PLACE, backup="b1")
        await node.done(sweep, "sw")
        again = await node.done(sweep, "sw")
        assert again is not None

    on_a_node(story)


@pytest.mark.parametrize(
    ("errand", "code"),
    [
        (Verify(place=PLACE, backup="no"), Refusal.UNKNOWN_BACKUP),
        (Sweep(place=PLACE, backup="no"), Refusal.UNKNOWN_BACKUP),
        (replace(UPLOAD, snapshot="s9", snapshot_uid="uid-s9"), Refusal.SNAPSHOT_MISSING),
    ],
)
def test_what_can_never_be_done_is_said_for_good(errand: Errand, code: Refusal) -> None:
    async def story(node: Node) -> None:
        with pytest.raises(StorageError) as error:
            await node.done(errand)
        trouble = trouble_of(error.value)
        assert (trouble.code, trouble.permanent) == (code, True)

    on_a_node(story)


def test_a_volume_is_made_of_one_backup_or_not_at_all() -> None:
    async def story(node: Node) -> None:
        await node.done(UPLOAD)
        with pytest.raises(UnsuitableError) as error:
            await restored(node, from_backup(SEAL))
        assert trouble_of(error.value).code is Refusal.BACKUP_CHANGED

    on_a_node(story)


def test_a_snapshot_that_overflowed_is_not_backed_up() -> None:
    async def story(node: Node) -> None:
        node.machine.change("fast/v1", SIZE)
        with pytest.raises(UnsuitableError) as error:
            await node.done(UPLOAD)
        assert error.value.reason == "snapshot-lost"
        node.machine.remove_volume("fast/s1")
        with pytest.raises(NotThereError):
            await node.done(UPLOAD)

    on_a_node(story)


def test_credentials_go_to_the_input_of_the_tool_and_nowhere_else() -> None:
    async def story(node: Node) -> None:
        await node.done(UPLOAD)
        tools = [(argv, stdin) for argv, stdin in node.runner.given if "upload" in argv]
        assert tools
        for argv, stdin in node.runner.given:
            assert s3.SECRET not in " ".join(argv)
            assert s3.KEY_ID not in " ".join(argv)
            assert (s3.SECRET.encode() in stdin) == ("upload" in argv)

    on_a_node(story)


def test_without_credentials_nothing_is_tried() -> None:
    async def story(node: Node) -> None:
        node.storage = node.with_secrets(None)
        with pytest.raises(StorageError) as error:
            await node.done(Probe(place=PLACE))
        trouble = trouble_of(error.value)
        assert (trouble.code, trouble.permanent) == (Refusal.NO_CREDENTIALS, True)
        await node.storage.ensure_no_errand("op", UPLOAD, UID, cause=CAUSE)

    on_a_node(story)


def test_what_is_given_up_leaves_nothing_behind() -> None:
    async def story(node: Node) -> None:
        found = await node.storage.do_errand("op", UPLOAD, UID, cause=CAUSE)
        assert isinstance(found, Going)
        assert node.machine.state.copied
        await node.storage.ensure_no_errand("op", UPLOAD, UID, cause=CAUSE)
        assert not node.machine.state.copied
        assert any("withdraw" in argv for argv, _ in node.runner.given)

    on_a_node(story)
