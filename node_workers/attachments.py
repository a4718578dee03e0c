"""Volumes in use: device, mount and limits, made in that order and taken away in the other."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from node_workers.devices import StableDevices
from node_workers.drbd_roles import Promoted
from node_workers.filesystems import PRIVATE_MOUNTS, Filesystems
from node_workers.legs import Legs
from node_workers.limits import IoLimits
from node_workers.luks import Luks, Opened
from node_workers.lvm_encrypted import is_thin
from node_workers.lvm_pools import our_group
from node_workers.lvm_report import LogicalVolume
from node_workers.ports import (
    Attachment,
    InUseError,
    NotThereError,
    Refusal,
    RefusedToTouchError,
    Runner,
    StableDevice,
    UnsuitableError,
)
from node_workers.replication import ReplicationSpec
from node_workers.stacks import Stacks
from node_workers.tools import Tools

Parting = Callable[[str], Awaitable[None]]


class Promoter(Protocol):
    """Whoever has this node primary for a volume, and secondary."""

    async def ensure_promoted(self, spec: ReplicationSpec, *, cause: str) -> Promoted:
        """Have this node primary; return the replicated device."""
        ...

    async def ensure_secondary(self, volume: str, uid: str, *, force: bool, cause: str) -> None:
        """Have this node secondary."""
        ...


class Attachments:
    """Gives volumes to their consumers and takes them back."""

    def __init__(self, runner: Runner, luks: Luks, promoter: Callable[[], Promoter]) -> None:
        self._runner = runner
        self._promoter = promoter
        self._legs = Legs(runner)
        self._luks = luks
        self._tools = Tools(runner)
        self._devices = StableDevices(runner)
        self._stacks = Stacks(runner, luks)
        self._filesystems = Filesystems(runner)
        self._limits = IoLimits(runner)

    async def ensure(self, pool_uid: str, wanted: Attachment, *, cause: str) -> StableDevice:
        """Have device, mount and limits, as ``Storage.ensure_attached`` promises."""
        number, size_bytes = await self._below(pool_uid, wanted, cause=cause)
        device = await self._devices.ensure(
            wanted.volume,
            wanted.volume_uid,
            number,
            size_bytes,
            read_only=wanted.read_only,
            cause=cause,
        )
        if wanted.mount_point:
            await self._ensure_mounted(device, wanted, wanted.mount_point, cause=cause)
        if wanted.cgroup:
            await self._limits.ensure(wanted.cgroup, device.number, wanted.limits, cause=cause)
        return device

    async def limits_hold(self, wanted: Attachment, number: str, *, cause: str) -> bool:
        """Return whether the limits stand, as ``Storage.limits_hold`` promises."""
        return await self._limits.hold(wanted.cgroup, number, wanted.limits, cause=cause)

    async def ensure_removed(
        self, wanted: Attachment, *, cause: str, parting: Parting | None = None
    ) -> None:
        """Have nothing of it left, as ``Storage.ensure_detached`` promises."""
        device = await self._devices.find(wanted.volume, wanted.volume_uid, cause=cause)
        if device is not None:
            await self._ensure_unmounted(device, wanted, cause=cause)
            if wanted.cgroup:
                await self._limits.ensure_lifted(wanted.cgroup, device.number, cause=cause)
            if parting is not None:
                await parting(device.number)
        await self._devices.ensure_removed(wanted.volume, wanted.volume_uid, cause=cause)
        if wanted.keys:
            await self._stacks.ensure_closed(wanted.volume, wanted.volume_uid, cause=cause)
        if wanted.replication is not None:
            await self._promoter().ensure_secondary(
                wanted.volume, wanted.volume_uid, force=False, cause=cause
            )

    async def _below(self, pool_uid: str, wanted: Attachment, *, cause: str) -> tuple[str, int]:
        """Have what the device lies on; returns its number, and how large it is."""
        volume = await self._active(pool_uid, wanted, cause=cause)
        number, size_bytes = volume.device, volume.size_bytes
        if wanted.replication is not None:
            promoted = await self._promoter().ensure_promoted(wanted.replication, cause=cause)
            number = promoted.number
            size_bytes = min(promoted.size_bytes, wanted.replication.size_bytes)
        elif volume.open and await self._legs.is_there(
            wanted.volume, wanted.volume_uid, cause=cause
        ):
            raise InUseError(f"{wanted.pool}/{wanted.volume} is a leg of a replicated volume")
        if not (volume.encrypted or wanted.keys):
            return number, size_bytes
        thin = is_thin(volume)
        opened = await self._opened(wanted, number, size_bytes, thin=thin, cause=cause)
        return opened.number, opened.size_bytes

    async def _opened(
        self, wanted: Attachment, below: str, size_bytes: int, *, thin: bool, cause: str
    ) -> Opened:
        """Have the plain side of an encrypted volume; what is open needs no key again."""
        name, uid, leg = wanted.volume, wanted.volume_uid, f"{wanted.pool}/{wanted.volume}"
        stack = await self._stacks.find(name, uid, cause=cause)
        if stack.opened is not None and stack.stable is not None:
            if stack.below != below:
                where = f"{stack.stable.node} lies on {stack.below}, not on {below}"
                raise RefusedToTouchError(Refusal.FOREIGN_DEVICE, where)
            return stack.opened
        if not wanted.keys:
            raise UnsuitableError("wrong-key", f"{leg} is encrypted, and no key is named")
        await self._stacks.ensure_closed(name, uid, cause=cause)
        path = await self._stacks.ensure_backed(name, uid, below, size_bytes, cause=cause)
        opened, _ = await self._luks.open(name, uid, path, wanted.keys, discards=thin, cause=cause)
        return opened

    async def _active(self, pool_uid: str, wanted: Attachment, *, cause: str) -> LogicalVolume:
        name = f"{wanted.pool}/{wanted.volume}"
        for activated in (False, True):
            group = await our_group(self._runner, pool_uid, wanted.pool, cause=cause)
            found = group.volume_with_uid(wanted.volume_uid)
            if found is None:
                break
            if found.name != wanted.volume:
                raise RefusedToTouchError(
                    Refusal.RENAMED_VOLUME, f"{name} was renamed to {found.name} by hand"
                )
            if found.active:
                return found
            if not activated:
                await self._tools.must("lvchange", "--activate", "y", name, cause=cause)
        raise NotThereError("volume-missing", f"there is no active volume {name}")

    async def _ensure_mounted(
        self, device: StableDevice, wanted: Attachment, target: str, *, cause: str
    ) -> None:
        mounts = await self._filesystems.all_mounts(cause=cause)
        if target in mounts.get(device.number, ()):
            return
        if any(target in targets for targets in mounts.values()):
            raise RefusedToTouchError(
                Refusal.MOUNT_POINT_TAKEN, f"something else is mounted at {target}"
            )
        real = (await self._tools.must("realpath", "-m", target, cause=cause)).stdout.strip()
        if real != target:
            # The kernel knows a mount by where it really is: by this name it would not be found.
            raise RefusedToTouchError(
                Refusal.MOUNT_POINT_ELSEWHERE, f"{target} leads to {real}: name that instead"
            )
        options = "X-mount.mkdir,ro" if wanted.read_only else "X-mount.mkdir"
        await self._tools.must(
            *("mount", "-t", wanted.filesystem.value, "-o", options, device.path, target),
            cause=cause,
        )

    async def _ensure_unmounted(
        self, device: StableDevice, wanted: Attachment, *, cause: str
    ) -> None:
        mounts = await self._filesystems.mounts(device.number, cause=cause)
        for target in mounts:
            if target != wanted.mount_point and not target.startswith(f"{PRIVATE_MOUNTS}/"):
                raise InUseError(f"{device.path} is mounted at {target} too", target)
        for target in mounts:
            await self._tools.must("umount", target, cause=cause)
