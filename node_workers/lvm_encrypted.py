"""Encrypted volumes: a header, and behind it what is asked for, open only while needed."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from node_workers.filesystems import Filesystems
from node_workers.luks import Luks, Opened
from node_workers.lvm_report import LogicalVolume
from node_workers.ports import (
    Filesystem,
    Layout,
    Runner,
    StorageError,
    UnsuitableError,
    VolumeSpec,
)
from node_workers.stacks import Stack, Stacks
from schemas.keys import HEADER_BYTES

if TYPE_CHECKING:
    from node_workers.keys import Key


class EncryptedVolumes:
    """Brings encrypted volumes to what they shall be, and closes and erases them.

    The plain side is there while the volume is attached or worked on, and at no other time.
    """

    def __init__(self, runner: Runner, luks: Luks) -> None:
        self._luks = luks
        self._filesystems = Filesystems(runner)
        self._stacks = Stacks(runner, luks)

    async def require_key(self, spec: VolumeSpec) -> None:
        """Raise ``NoKeyError`` if there is no key to begin with."""
        await self._luks.require_key(spec.keys[0])

    async def complete(
        self,
        spec: VolumeSpec,
        size_bytes: int,
        extend: Callable[[], Awaitable[None]],
        *,
        growing: bool,
        cause: str,
    ) -> bool:
        """Have header, plain side and filesystem, on a leg that *extend* makes *size_bytes* large.

        The leg is active. *growing*: it was ready once, so nothing is made on it that is missing.
        Returns whether a header or a filesystem was made. A key that opens it is found first:
        without one, nothing is changed.
        """
        if not spec.keys:
            raise UnsuitableError("wrong-key", f"{_path(spec)} is encrypted, and no key is named")
        path = _path(spec)
        fresh = False
        if not growing:
            fresh = await self._luks.ensure_formatted(path, spec.uid, spec.keys[0], cause=cause)
        return await self.fill(
            spec, path, size_bytes, extend, fresh=fresh, growing=growing, cause=cause
        )

    async def fill(
        self,
        spec: VolumeSpec,
        path: str,
        size_bytes: int,
        extend: Callable[[], Awaitable[None]],
        *,
        fresh: bool,
        growing: bool,
        cause: str,
    ) -> bool:
        """Have plain side and filesystem behind the header on *path*, as ``complete`` promises.

        *fresh*: the header was made just now, so nobody has anything open.
        """
        stack = Stack() if fresh else await self._stacks.find(spec.name, spec.uid, cause=cause)
        used, path = stack.stable is not None, stack.header_path or path
        wanted_bytes = size_bytes - HEADER_BYTES
        async with self._opened(spec, path, stack, wanted_bytes, cause=cause) as (opened, resize):
            if not growing and not used:
                await self._luks.ensure_blank(opened, made=fresh, cause=cause)
            made = await self._ensure_filesystem(
                spec, opened, growing=growing, mounted=used, cause=cause
            )
            await extend()
            await resize(size_bytes)
            kind = Filesystem.NONE if made else spec.filesystem
            await self._grow_above(spec.name, kind, opened, stack, wanted_bytes, cause=cause)
        return fresh or made

    async def _grow_above(
        self,
        volume: str,
        kind: Filesystem,
        opened: Opened,
        stack: Stack,
        plain_bytes: int,
        *,
        cause: str,
    ) -> None:
        """Have stable device and filesystem as large as the plain side."""
        node, number = opened.node, opened.number
        if stack.stable is not None:
            node, number = stack.stable.node, stack.stable.number
            await self._stacks.devices.ensure_size(
                volume, stack.stable, opened.number, plain_bytes, cause=cause
            )
        if kind is not Filesystem.NONE:
            mounts = await self._filesystems.mounts(number, cause=cause)
            await self._filesystems.ensure_grown(node, kind, plain_bytes, mounts, cause=cause)

    async def ensure_closed(self, volume: str, uid: str, *, cause: str) -> bool:
        """Have no plain side of it; returns whether there was one. Raises ``InUseError``."""
        return await self._stacks.ensure_closed(volume, uid, cause=cause)

    async def erase(self, path: str, uid: str, *, cause: str) -> None:
        """Leave no key that opens it."""
        await self._luks.erase(path, uid, cause=cause)

    async def ensure_keys(self, spec: VolumeSpec, dropped: tuple[str, ...], *, cause: str) -> None:
        """Have it open by ``spec.keys``, and by none of *dropped*."""
        stack = await self._stacks.find(spec.name, spec.uid, cause=cause)
        path = stack.header_path or _path(spec)
        await self._luks.ensure_keys(path, spec.uid, spec.keys, dropped, cause=cause)

    @asynccontextmanager
    async def _opened(
        self, spec: VolumeSpec, path: str, stack: Stack, wanted_bytes: int, *, cause: str
    ) -> AsyncIterator[tuple[Opened, Callable[[int], Awaitable[None]]]]:
        """Give the plain side, and what has it fill so much below it, header and all.

        Afterwards it is there only if attached. No key is needed for one that is open, and has
        the *wanted_bytes*.
        """
        name, backing = spec.name, stack.backing
        key: Key | None = None
        if stack.opened is None:
            thin = spec.layout is Layout.THIN
            await self._stacks.backings.ensure_removed(name, spec.uid, cause=cause)
            opened, key = await self._luks.open(
                name, spec.uid, path, spec.keys, discards=thin, cause=cause
            )
        else:
            opened = stack.opened
            if opened.size_bytes < wanted_bytes:
                key = await self._luks.key_for(path, spec.uid, spec.keys, cause=cause)

        async def resize(size_bytes: int) -> None:
            if backing is not None:
                await self._stacks.backings.ensure_size(
                    name, backing, stack.below, size_bytes, cause=cause
                )
            if key is not None:
                await self._luks.ensure_size(name, opened, wanted_bytes, key, cause=cause)

        try:
            yield opened, resize
        except StorageError:
            # The first trouble is the one to be told; whoever comes next closes what is left.
            with contextlib.suppress(StorageError):
                if stack.stable is None:
                    await self._stacks.ensure_closed(name, spec.uid, cause=cause)
            raise
        if stack.stable is None:
            await self._stacks.ensure_closed(name, spec.uid, cause=cause)

    async def _ensure_filesystem(
        self, spec: VolumeSpec, opened: Opened, *, growing: bool, mounted: bool, cause: str
    ) -> bool:
        if spec.filesystem is Filesystem.NONE:
            return False
        if growing:
            await self._filesystems.ensure_kind(opened.node, spec.filesystem, cause=cause)
            return False
        return await self._filesystems.ensure_made(
            opened.node, spec.filesystem, spec.uid, mounted=mounted, cause=cause
        )


def plain_bytes(spec: VolumeSpec) -> int:
    """Return how much of the leg that is asked for is there for what lies on it."""
    return spec.size_bytes - (HEADER_BYTES if spec.keys else 0)


def is_thin(volume: LogicalVolume) -> bool:
    """Whether a volume shares its room, so that what is discarded in it comes back."""
    return Layout.THIN in volume.layout


def _path(spec: VolumeSpec) -> str:
    return f"/dev/{spec.pool}/{spec.name}"
