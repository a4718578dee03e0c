"""A machine to try the storage contract on, and the words in which its tests are told."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

import pytest

from node_workers.inventory import observe
from node_workers.lvm import LvmStorage
from node_workers.observation import ContentKind, Observation, ObservedVolume
from node_workers.ports import (
    Execution,
    PoolDisk,
    Refusal,
    RefusedToTouchError,
    Runner,
    Sysfs,
    VolumeSpec,
)
from tests.support.keys import HeldKeys

T = TypeVar("T")

MIB = 1 << 20
EXTENT = 4 * MIB
NODE = "n1"
POOL, UID = "fast", "01pool"
CAUSE = "01command"


class Bench(Protocol):
    """A machine with at least four blank disks of about 1 GiB, and a person at its console."""

    @property
    def runner(self) -> Runner: ...

    @property
    def sysfs(self) -> Sysfs: ...

    @property
    def disks(self) -> Sequence[str]: ...

    @property
    def identities(self) -> dict[str, str]:
        """Return what is known of the disks' identities by path; stories add what they see."""
        ...

    async def console(self, *argv: str) -> Execution:
        """Run a tool as a person would; it must succeed."""
        ...

    async def put_partition_table(self, disk: str) -> None: ...

    async def put_raid(self, disk: str) -> None: ...

    async def write(self, volume: str, data: str) -> None:
        """Write beyond the reach of signatures, straight on the device of "pool/name".

        "hwbus/name" is what its consumer sees of an attached one.
        """
        ...

    async def read(self, volume: str) -> str: ...

    async def change(self, volume: str, mib: int) -> None:
        """Write over so much of "pool/name", away from what ``write`` leaves."""
        ...

    async def hold(self, volume: str) -> None:
        """Have the device of "pool/name" open, as a program without a filesystem would."""
        ...

    async def let_go(self, volume: str) -> None: ...

    async def finds(self, volume: str, text: str) -> bool:
        """Return whether *text* is anywhere on the device of "pool/name", as it lies there."""
        ...

    async def mounted_bytes(self, target: str) -> int:
        """Return the size of the filesystem mounted at *target*."""
        ...

    async def furnish(self, make: Callable[[], Awaitable[None]]) -> None:
        """Make a pool on the first two disks; on a blank machine, what that made may be there."""
        ...

    async def reboot(self) -> None: ...

    async def keep_busy(self, target: str, *, busy: bool) -> None:
        """Have somebody at work (or no longer) in the filesystem mounted at *target*."""
        ...

    async def make_cgroup(self, name: str) -> None:
        """Make a control group: at the top with the io controller on, deeper down without."""
        ...

    async def io_max(self, name: str) -> list[str]:
        """Return what is limited in a control group."""
        ...


def spec(name: str = "v1", mib: int = 100, **more: Any) -> VolumeSpec:
    wanted: dict[str, Any] = {"uid": f"uid-{name}", "name": name, "pool": POOL}
    return VolumeSpec(**{**wanted, "size_bytes": mib * MIB, **more})


class Story:
    """One test's view of a bench: a storage, and shorthand for what is asked of it."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.keys = HeldKeys("file:old", "file:new")
        self.storage = LvmStorage(bench.runner, bench.sysfs, node=NODE, keys=self.keys)

    async def look(self) -> Observation:
        return await observe(self.bench.runner, self.bench.sysfs, node=NODE, cause=CAUSE)

    async def disks(self, *indices: int) -> list[PoolDisk]:
        paths = [self.bench.disks[index] for index in indices]
        known = self.bench.identities
        if not known.keys() >= set(paths):
            known.update({disk.path: disk.identity for disk in (await self.look()).disks})
        return [PoolDisk(disk=known[path], path=path) for path in paths]

    async def pool(self, *indices: int) -> list[PoolDisk]:
        """Have the pool; without *indices*, when it is only needed, it may come from a shelf."""
        disks = await self.disks(*(indices or (0, 1)))

        async def make() -> None:
            await self.storage.ensure_pool(UID, POOL, disks, cause=CAUSE)

        await (make() if indices else self.bench.furnish(make))
        return disks

    async def volume(self, wanted: VolumeSpec) -> None:
        await self.storage.ensure_volume(UID, wanted, cause=CAUSE)

    async def remove(self, name: str = "v1", uid: str = "") -> None:
        uid = uid or f"uid-{name}"
        await self.storage.ensure_volume_removed(UID, POOL, uid, name, cause=CAUSE)

    async def seen(self, name: str = "v1") -> ObservedVolume | None:
        volumes = (await self.look()).volumes
        return next((one for one in volumes if (one.pool, one.name) == (POOL, name)), None)

    async def refused(self, asked: Awaitable[object]) -> Refusal:
        with pytest.raises(RefusedToTouchError) as caught:
            await asked
        return caught.value.refusal

    async def content(self, index: int) -> ContentKind:
        path = self.bench.disks[index]
        return next(one for one in (await self.look()).disks if one.path == path).content.kind


Play = Callable[[Callable[[Story], Awaitable[None]]], None]


def play_on(bench: Bench) -> Play:
    def play(story: Callable[[Story], Awaitable[None]]) -> None:
        async def act() -> None:
            await story(Story(bench))

        asyncio.run(act())

    return play


class CountingRunner:
    """Remembers which tools another runner ran."""

    def __init__(self, inner: Runner) -> None:
        self._inner = inner
        self.tools: list[str] = []

    async def run(
        self, argv: Sequence[str], *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        self.tools.append(argv[0])
        return await self._inner.run(argv, cause=cause, timeout_s=timeout_s, stdin=stdin)
