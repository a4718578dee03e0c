"""Who may write: a leg made primary by the log's leave, and secondary again, even by force."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import msgspec

from node_workers import evict
from node_workers.drbd_config import others, resource
from node_workers.drbd_status import Resource
from node_workers.drbd_tools import DrbdTools, Seen
from node_workers.fencing import Promises
from node_workers.filesystems import Filesystems
from node_workers.ports import (
    InUseError,
    NotThereError,
    Runner,
    UnsuitableError,
)
from node_workers.replication import (
    Connection,
    DiskState,
    Judge,
    ReplicationSpec,
    Role,
    Verdict,
)
from node_workers.stacks import Stack, Stacks
from node_workers.tools import Tools

MAJOR = 147  # DRBD's own, by Documentation/admin-guide/devices.txt of Linux

EVICT = (sys.executable, "-I", "-S", str(Path(evict.__file__).resolve()))
_MEETING_S = 4.0  # how long two legs take to find each other, with some to spare
_POLL_S = 0.2
_SETTLED_S = 10.0
_PRIMARY_TIMEOUT_S = 90.0
_ROUNDS_MAX = 20
_GOOD = frozenset({DiskState.CONSISTENT, DiskState.UP_TO_DATE})


class Promoted(msgspec.Struct, frozen=True, kw_only=True):
    """A replicated device one may write to: "147:3", and how large it is."""

    number: str
    path: str
    size_bytes: int


class See(Protocol):
    """Looks at one volume, and has it written down if its leg is without its disk."""

    async def __call__(self, volume: str, uid: str, *, cause: str) -> Seen:
        """Return what there is of it."""
        ...


class Roles:
    """Makes legs primary and secondary."""

    def __init__(
        self,
        runner: Runner,
        drbd: DrbdTools,
        see: See,
        judge: Judge,
        promises: Promises,
        stacks: Stacks,
        *,
        node: str,
    ) -> None:
        self._node = node
        self._tools = Tools(runner)
        self._drbd = drbd
        self._see = see
        self._stacks = stacks
        self._filesystems = Filesystems(runner)
        self._judge = judge
        self._promises = promises
        self._begun_s: dict[str, float] = {}

    def note_begun(self, uid: str) -> None:
        """Remember that the leg has just begun to look for its peers: they may need a moment."""
        self._begun_s[uid] = _now_s()

    async def promote(
        self,
        spec: ReplicationSpec,
        *,
        cause: str,
        granted: bool = False,
        untying: bool = False,
    ) -> Promoted:
        """Have this node primary, as ``ReplicatedStorage.ensure_primary`` promises.

        *granted*: nobody else has the volume yet, so nobody is asked. *untying*: its peers are
        given up, and what is on the leg is taken as it is.
        """
        found = await self._met(spec, self._drbd.see if untying else self._see, cause=cause)
        missing = self._missing(found, spec)
        if found.role is Role.PRIMARY and not found.frozen:
            return _promoted(found)
        if missing and not granted:
            # Before the log is asked: what it grants makes the peers outdated, the good ones too.
            _require_good(found, spec, missing)
            await self._ask(spec, missing)
        name = resource(spec.volume)
        with self._promises.granted(spec.uid, *missing):
            if found.role is Role.PRIMARY:
                await self._drbd.adm("resume-io", name, cause=cause)
            else:
                await self._drbd.adm("primary", name, cause=cause, timeout_s=_PRIMARY_TIMEOUT_S)
        return _promoted(found)

    async def demote(self, volume: str, uid: str, *, force: bool, cause: str) -> bool:
        """Have this node secondary; returns whether the leg was taken down for that.

        Without *force*, raises ``InUseError`` while it is attached. With it, who uses it is killed.
        One that stood still is down afterwards, its data known as old.
        """
        seen = await self._see(volume, uid, cause=cause)
        found, stack = seen.resource, await self._stack(volume, uid, seen, cause=cause)
        stable = stack.stable
        if stable is not None and not force:
            mounts = await self._filesystems.mounts(stable.number, cause=cause)
            raise InUseError(f"{stable.path} is attached", mounts[0] if mounts else "")
        if found is None:
            return False
        # Without its leg a primary has long since lost it, or this has been begun before.
        lost = found.role is Role.PRIMARY and (found.frozen or not seen.attached)
        if force and (lost or stable is not None):
            await self._evict(volume, uid, seen, stack, cause=cause)
        elif found.role is Role.PRIMARY:
            # Who died at work on an encrypted volume has left it open.
            await self._stacks.ensure_taken_away(volume, uid, cause=cause)
        if found.role is Role.PRIMARY:
            await self._patiently("secondary", resource(volume), cause=cause)
        if force and found.role is not Role.PRIMARY and not seen.attached:
            # Who died on the way has left it without its disk: it comes up again as after a boot.
            await self.take_down(volume, cause=cause)
        if not (force and lost):
            return False
        await self.take_down(volume, cause=cause)
        if seen.note is not None and found.minor is not None:
            await self._drbd.outdate(volume, found.minor, seen.version, cause=cause)
        return True

    async def take_down(self, volume: str, *, cause: str) -> None:
        """Have nothing of the leg in the kernel, which is secondary."""
        await self._patiently("down", resource(volume), cause=cause)

    async def connect_anew(self, volume: str, uid: str, *, cause: str) -> None:
        """Have a leg that is not written to, and looks for its one peer, begin to look again."""
        found = (await self._see(volume, uid, cause=cause)).resource
        if found is None or found.role is not Role.SECONDARY:
            return
        # Of several all would be given up, those as well that it has met.
        if [one.connection for one in found.peers] == [Connection.CONNECTING]:
            await self._drbd.adm("disconnect", resource(volume), cause=cause)
            await self._drbd.adm("adjust", resource(volume), cause=cause)
            self.note_begun(uid)

    async def _met(self, spec: ReplicationSpec, see: See, *, cause: str) -> Resource:
        """Return the leg once it has met its peers, or has had the time to."""
        until_s = self._begun_s.get(spec.uid, float("-inf")) + _MEETING_S
        while True:
            found = _running(spec, await see(spec.volume, spec.uid, cause=cause))
            waits = any(one.connection is Connection.CONNECTING for one in found.peers)
            if not waits or found.role is Role.PRIMARY or _now_s() >= until_s:
                return found
            await asyncio.sleep(_POLL_S)

    async def _ask(self, spec: ReplicationSpec, missing: Sequence[str]) -> None:
        for peer in missing:
            verdict = await self._judge(spec.volume, spec.uid, peer)
            if verdict is Verdict.LOST:
                raise UnsuitableError("not-up-to-date", f"{peer} has gone on without this node")
            if verdict is Verdict.UNKNOWN:
                raise NotThereError(
                    "verdict-unknown", f"neither {peer} nor the log can be reached: not going on"
                )

    def _missing(self, found: Resource, spec: ReplicationSpec) -> tuple[str, ...]:
        """Return the peers that are not connected; 8.4 has one, and does not name it."""
        if found.peers and found.connected:
            return ()
        there = {one.node for one in found.peers if one.connection is Connection.CONNECTED}
        return tuple(one.node for one in others(spec, self._node) if one.node not in there)

    async def _stack(self, volume: str, uid: str, seen: Seen, *, cause: str) -> Stack:
        """Return what lies on the replicated device."""
        stack = await self._stacks.find(volume, uid, cause=cause)
        minor = None if seen.resource is None else seen.resource.minor
        return stack if minor is not None and stack.below == number(minor) else Stack()

    async def _evict(
        self,
        volume: str,
        uid: str,
        seen: Seen,
        stack: Stack,
        *,
        cause: str,
    ) -> None:
        """Have nobody use the device: users killed, mounts taken away, what was written let go of.

        Nobody may come to use it between the last look for users and that.
        """
        found = seen.resource
        minor = None if found is None else found.minor
        devices = [one.number for one in (stack.stable, stack.opened) if one is not None]
        devices += [] if minor is None else [number(minor)]
        await self._kill_users(volume, devices, cause=cause)
        async with self._unmounted(stack, cause=cause):
            await self._kill_users(volume, devices, cause=cause)
            if found is not None and found.frozen and minor is not None:
                if seen.attached:
                    await self._drbd.detach(minor, cause=cause)
                await self._drbd.adm("resume-io", resource(volume), cause=cause)
        if stack.below:
            await self._stacks.ensure_taken_away(volume, uid, cause=cause)

    async def _kill_users(self, volume: str, devices: Sequence[str], *, cause: str) -> None:
        """Have nobody alive who uses one of the devices, nor whom they started meanwhile."""
        for _ in range(_ROUNDS_MAX):
            said = [await self._tools.must(*EVICT, device, cause=cause) for device in devices]
            if not any(one.stdout.split() for one in said):
                return
        raise InUseError(f"{volume} is used by ever new processes, however many are killed")

    @asynccontextmanager
    async def _unmounted(self, stack: Stack, *, cause: str) -> AsyncIterator[None]:
        """Have the stable device mounted nowhere, nor to be found by its link, meanwhile and after.

        The mount is gone from sight at once. But whoever takes away the last one has the filesystem
        shut down, and waits for the device if that is frozen: it is waited for at the end.
        """
        stable, begun = stack.stable, list[asyncio.Task[object]]()
        try:
            if stable is not None:
                for target in await self._filesystems.mounts(stable.number, cause=cause):
                    argv = ("umount", "--lazy", target)
                    begun.append(asyncio.create_task(self._tools.must(*argv, cause=cause)))
                    await self._until_gone(stable.number, target, begun[-1], cause=cause)
                await self._tools.must("rm", "-f", stable.path, cause=cause)
            yield
        except BaseException as error:
            for task in begun:
                task.cancel()
            for one in await asyncio.gather(*begun, return_exceptions=True):
                if isinstance(one, Exception):
                    error.add_note(f"and unmounting: {one!r}")
            raise
        for task in begun:
            await task

    async def _until_gone(
        self, device: str, target: str, unmounting: asyncio.Task[object], *, cause: str
    ) -> None:
        until_s = _now_s() + _SETTLED_S
        while True:
            ended, left = unmounting.done(), await self._filesystems.mounts(device, cause=cause)
            if target not in left:
                return
            if ended:
                await unmounting  # it says why, if it knows
            if ended or _now_s() >= until_s:
                raise InUseError(f"{target} is still mounted", target)
            await asyncio.sleep(_POLL_S)

    async def _patiently(self, verb: str, name: str, *, cause: str) -> None:
        """Run it again for a while if somebody still has the device open, who is on his way out."""
        until_s = _now_s() + _SETTLED_S
        while True:
            try:
                await self._drbd.adm(verb, name, cause=cause)
            except InUseError:
                if _now_s() >= until_s:
                    raise
                await asyncio.sleep(_POLL_S)
            else:
                return


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _running(spec: ReplicationSpec, seen: Seen) -> Resource:
    if seen.resource is None or seen.resource.minor is None:
        raise NotThereError("volume-missing", f"{spec.volume} is not running in DRBD")
    return seen.resource


def _require_good(found: Resource, spec: ReplicationSpec, missing: Sequence[str]) -> None:
    """Raise ``UnsuitableError`` unless the leg may be all there is of the volume."""
    if found.disk not in _GOOD:
        alone = f"{', '.join(missing)} cannot be reached"
        sentence = f"the leg of {spec.volume} is {found.disk.value}, and {alone}"
        raise UnsuitableError("not-up-to-date", sentence)


def number(minor: int) -> str:
    """Return "147:3"."""
    return f"{MAJOR}:{minor}"


def _promoted(found: Resource) -> Promoted:
    if found.minor is None:
        raise NotThereError("volume-missing", f"{found.name} has no device")
    return Promoted(
        number=number(found.minor), path=f"/dev/drbd{found.minor}", size_bytes=found.size_bytes
    )
