"""Encrypted logical volumes: a header, and behind it what is asked for, open only while needed."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from node_workers.devices import StableDevices
from node_workers.filesystems import Filesystems
from node_workers.luks import Luks, Opened
from node_workers.lvm_report import LogicalVolume
from node_workers.ports import (
    Filesystem,
    Layout,
    Runner,
    StableDevice,
    StorageError,
    UnsuitableError,
    VolumeSpec,
)
from schemas.keys import HEADER_BYTES


class EncryptedVolumes:
    """Brings encrypted volumes to what they shall be, and closes and erases them.

    The plain side is there while the volume is attached or worked on, and at no other time.
    """

    def __init__(self, runner: Runner, luks: Luks) -> None:
        self._luks = luks
        self._filesystems = Filesystems(runner)
        self._devices = StableDevices(runner)

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
        stable = None
        if not fresh:
            stable = await self._devices.find(spec.name, spec.uid, cause=cause)
        async with self._opened(spec, stable, cause=cause) as (opened, resize):
            if not growing and stable is None:
                await self._luks.ensure_blank(opened, made=fresh, cause=cause)
            made = await self._ensure_filesystem(
                spec, opened, growing=growing, mounted=stable is not None, cause=cause
            )
            await extend()
            plain_bytes = size_bytes - HEADER_BYTES
            await resize(plain_bytes)
            node = opened.node
            if stable is not None:
                node = stable.node
                await self._devices.ensure_size(
                    spec.name, stable, opened.number, plain_bytes, cause=cause
                )
            if spec.filesystem is not Filesystem.NONE and not made:
                number = opened.number if stable is None else stable.number
                mounts = await self._filesystems.mounts(number, cause=cause)
                await self._filesystems.ensure_grown(
                    node, spec.filesystem, plain_bytes, mounts, cause=cause
                )
        return fresh or made

    async def ensure_closed(self, volume: str, uid: str, *, cause: str) -> bool:
        """Have no plain side of it; returns whether there was one. Raises ``InUseError``."""
        return await self._luks.ensure_closed(volume, uid, cause=cause)

    async def erase(self, path: str, uid: str, *, cause: str) -> None:
        """Leave no key that opens it."""
        await self._luks.erase(path, uid, cause=cause)

    async def ensure_keys(self, spec: VolumeSpec, dropped: tuple[str, ...], *, cause: str) -> None:
        """Have it open by ``spec.keys``, and by none of *dropped*."""
        await self._luks.ensure_keys(_path(spec), spec.uid, spec.keys, dropped, cause=cause)

    @asynccontextmanager
    async def _opened(
        self, spec: VolumeSpec, stable: StableDevice | None, *, cause: str
    ) -> AsyncIterator[tuple[Opened, Callable[[int], Awaitable[None]]]]:
        """Give the plain side, and what resizes it; afterwards it is there only if attached."""
        path = _path(spec)
        found = await self._luks.find(spec.name, spec.uid, cause=cause)
        if found is None:
            thin = spec.layout is Layout.THIN
            opened, key = await self._luks.open(
                spec.name, spec.uid, path, spec.keys, discards=thin, cause=cause
            )
        else:
            opened = found
            key = await self._luks.key_for(path, spec.uid, spec.keys, cause=cause)

        async def resize(size_bytes: int) -> None:
            await self._luks.ensure_size(spec.name, opened, size_bytes, key, cause=cause)

        try:
            yield opened, resize
        except StorageError:
            # The first trouble is the one to be told; whoever comes next closes what is left.
            with contextlib.suppress(StorageError):
                if stable is None:
                    await self._luks.close(spec.name, cause=cause)
            raise
        if stable is None:
            await self._luks.close(spec.name, cause=cause)

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
