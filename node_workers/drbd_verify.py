"""Legs compared by checksum, turn by turn, and what differs copied from the one written to.

DRBD does both in the kernel, in its own time, whatever becomes of the worker. What it does not say
is whether a comparison that is over came to its end. It did, if it was begun from the first block
on the connection that is there still, and both disks are: nothing else ends one before its time. A
connection is known by the ports of its two ends, of which a later one has others. With which it was
begun is kept in a file that does not outlive a reboot, so a worker that starts anew finds it.
"""

import asyncio
import ipaddress
import re

import msgspec

from node_workers.devices import StableDevices
from node_workers.drbd_config import mine, others, resource
from node_workers.drbd_roles import Roles
from node_workers.drbd_status import Resource
from node_workers.drbd_tools import PUT, DrbdTools, Seen
from node_workers.ports import Bytes, Runner, UnsuitableError
from node_workers.replication import (
    Comparison,
    Connection,
    DiskState,
    ReplicationSpec,
    Role,
    Sync,
)
from node_workers.tools import Tools

MARKS = "/run/hwbus/verify"

# Arguments: the file with the mark, and what the connections of the volume look like.
LINE = (
    "sh",
    "-c",
    r"""
[ ! -e "$1" ] || { read -r mark <"$1"; echo "mark $mark"; }
cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -E "$2" || true
""",
    "hwbus",
)
_POLL_S = 0.5
_MEETING_S = 15.0
_TRIES_MAX = 3
_SOCKET = re.compile(r"^\s*\d+: ([0-9A-F]+):([0-9A-F]{4}) ([0-9A-F]+):([0-9A-F]{4}) 01 ")


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """That a comparison was begun for ``run``, on the connections with these ends."""

    run: str
    ends: tuple[str, ...]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What was noted when a comparison began, if one was, and the connections there are now."""

    mark: Mark | None
    ends: tuple[str, ...]


class Comparing:
    """Compares the legs of one volume after another, or several at once. Any turn may be the last.

    Raises ``UnsuitableError`` (``verify-broken``) when it cannot come to an end any more.
    """

    def __init__(self, runner: Runner, drbd: DrbdTools, roles: Roles, *, node: str) -> None:
        self._node = node
        self._tools = Tools(runner)
        self._drbd = drbd
        self._roles = roles
        self._devices = StableDevices(runner)
        self._tries: dict[str, int] = {}

    async def compare(self, volume: str, uid: str, run: str, *, cause: str) -> Comparison:
        """Have the legs compared for *run*, from the first block to the last."""
        spec, found = await self._found(volume, uid, cause=cause)
        line = await self._line(spec, cause=cause)
        begun = line.mark is not None and line.mark.run == run
        _require_whole(volume, found)
        if begun and line.mark is not None and line.mark.ends != line.ends:
            raise _broken(f"the connection of {volume} was lost while it was compared")
        percents = [one.done_percent or 0.0 for one in found.peers if one.sync is Sync.VERIFYING]
        if percents:
            # One that is not ours is waited for: from where it was begun nobody knows.
            done = int(found.size_bytes * min(percents) / 100) if begun else 0
            return Comparison(size_bytes=found.size_bytes, done_bytes=done)
        if begun:
            return Comparison(
                size_bytes=found.size_bytes,
                done_bytes=found.size_bytes,
                differing_bytes=_differing_bytes(found),
                done=True,
            )
        if not line.ends:
            raise _broken(f"the connection of {volume} is not to be seen from here")
        # Without being told where to begin, DRBD goes on where an earlier one was broken off.
        await self._drbd.adm("--", "--start=0", "verify", resource(volume), cause=cause)
        mark = msgspec.json.encode(Mark(run=run, ends=line.ends))
        await self._tools.must(*PUT, f"{MARKS}/{uid}", cause=cause, stdin=mark + b"\n")
        return Comparison(size_bytes=found.size_bytes)

    async def even_out(self, volume: str, uid: str, *, cause: str) -> Comparison:
        """Have what is known to differ copied from the leg that is written to."""
        spec, found = await self._found(volume, uid, cause=cause)
        if not _is_connected(found):
            found = await self._met(spec, found, cause=cause)
        left = _differing_bytes(found)
        if any(one.sync is not Sync.NONE for one in found.peers):
            return Comparison(differing_bytes=left)
        _require_whole(volume, found)
        if not left:
            self._tries.pop(uid, None)
            seen = await self._drbd.see(volume, uid, cause=cause)
            await self._at_rest(volume, uid, seen, cause=cause)
            return Comparison(done=True)
        tries = self._tries[uid] = self._tries.get(uid, 0) + 1
        if tries > _TRIES_MAX:
            raise _broken(
                f"{left} bytes of {volume} still differ, connected again {tries - 1} times"
            )
        if Role.PRIMARY not in {found.role, *(one.role for one in found.peers)}:
            # Legs that nobody writes to take one another for equal, whatever is marked.
            await self._roles.promote(spec, cause=cause)
        await self._reconnect(spec, cause=cause)
        return Comparison(differing_bytes=left)

    async def stop(self, volume: str, uid: str, run: str, *, cause: str) -> None:
        """Have nothing compared for *run* any more. What is being copied is copied to its end."""
        self._tries.pop(uid, None)
        look = await self._drbd.look(cause=cause)
        note = look.note(volume, uid)
        if note is None or look.version is None:
            return
        seen = look.seen(volume, uid, look.version)
        line = await self._line(note.spec, cause=cause)
        if line.mark is not None and line.mark.run == run:
            await self.break_off(note.spec, seen, cause=cause)
            await self._tools.must("rm", "-f", f"{MARKS}/{uid}", cause=cause)
        await self._at_rest(volume, uid, seen, cause=cause)

    async def break_off(self, spec: ReplicationSpec, seen: Seen, *, cause: str) -> bool:
        """Have nothing compared; returns whether anything was. DRBD knows no other way."""
        peers = seen.resource.peers if seen.resource is not None else ()
        if all(one.sync is not Sync.VERIFYING for one in peers):
            return False
        await self._reconnect(spec, cause=cause)
        return True

    async def _met(self, spec: ReplicationSpec, found: Resource, *, cause: str) -> Resource:
        """Return the leg once it has met its peers again."""
        if not found.peers or any(p.connection is Connection.STANDALONE for p in found.peers):
            await self._drbd.adm("connect", resource(spec.volume), cause=cause)
        loop = asyncio.get_running_loop()
        until_s = loop.time() + _MEETING_S
        while loop.time() < until_s:
            _, found = await self._found(spec.volume, spec.uid, cause=cause)
            if _is_connected(found):
                return found
            await asyncio.sleep(_POLL_S)
        raise _broken(f"a peer of {spec.volume} is lost: it is filled by itself when it is back")

    async def _reconnect(self, spec: ReplicationSpec, *, cause: str) -> None:
        """Have the legs meet again: then what was marked is copied, from the primary."""
        await self._drbd.adm("disconnect", resource(spec.volume), cause=cause)
        # Not "adjust": that would also have a leg that is to grow do so while it has no peer.
        await self._drbd.adm("connect", resource(spec.volume), cause=cause)
        self._roles.note_begun(spec.uid)

    async def _at_rest(self, volume: str, uid: str, seen: Seen, *, cause: str) -> None:
        """Have a leg secondary that was primary for the copying alone."""
        primary = seen.resource is not None and seen.resource.role is Role.PRIMARY
        if primary and await self._devices.find(volume, uid, cause=cause) is None:
            await self._roles.demote(volume, uid, force=False, cause=cause)

    async def _found(
        self, volume: str, uid: str, *, cause: str
    ) -> tuple[ReplicationSpec, Resource]:
        seen = await self._drbd.see(volume, uid, cause=cause)
        if seen.resource is not None and _may_be_torn(seen.resource):
            seen = await self._drbd.see(volume, uid, cause=cause)
        if seen.note is None or seen.resource is None:
            raise _broken(f"{volume} is not running in DRBD")
        return seen.note.spec, seen.resource

    async def _line(self, spec: ReplicationSpec, *, cause: str) -> Line:
        ports = (mine(spec, self._node).port, *(one.port for one in others(spec, self._node)))
        pattern = ":(" + "|".join(sorted({f"{port:04X}" for port in ports})) + ") "
        said = await self._tools.must(*LINE, f"{MARKS}/{spec.uid}", pattern, cause=cause)
        return parse_line(said.stdout, spec, self._node)


def parse_line(said: str, spec: ReplicationSpec, node: str) -> Line:
    """Return what ``LINE`` says, of the volume's own connections."""
    mark, ends = None, set[str]()
    here = mine(spec, node)
    peers = {(_address(one.address), one.port) for one in others(spec, node)}
    for line in said.splitlines():
        if line.startswith("mark "):
            mark = _mark(line.removeprefix("mark "))
        elif (found := _SOCKET.match(line)) is not None:
            near, far = int(found[2], 16), int(found[4], 16)
            if near == here.port or (found[3], far) in peers:
                ends.add(f"{found[1]}:{near} {found[3]}:{far}")
    return Line(mark=mark, ends=tuple(sorted(ends)))


def _mark(text: str) -> Mark | None:
    try:
        return msgspec.json.decode(text, type=Mark)
    except msgspec.DecodeError:
        return None


def _address(text: str) -> str:
    """Return an address as the kernel's table has it: words of four bytes, each turned round."""
    packed = ipaddress.ip_address(text).packed
    words = (packed[at : at + 4][::-1].hex() for at in range(0, len(packed), 4))
    return "".join(words).upper()


def _is_connected(found: Resource) -> bool:
    return bool(found.peers) and found.connected


def _may_be_torn(found: Resource) -> bool:
    """Return whether it looks as if a resync had ended while it was looked at.

    DRBD tells of disks before it tells of peers, each as it is at that moment.
    """
    quiet = _is_connected(found) and all(one.sync is Sync.NONE for one in found.peers)
    return quiet and any(disk is not DiskState.UP_TO_DATE for disk in _disks(found))


def _disks(found: Resource) -> tuple[DiskState, ...]:
    return (found.disk, *(one.disk for one in found.peers))


def _require_whole(volume: str, found: Resource) -> None:
    if not _is_connected(found):
        raise _broken(f"a peer of {volume} is not connected")
    bad = next((disk for disk in _disks(found) if disk is not DiskState.UP_TO_DATE), None)
    if bad is not None:
        raise _broken(f"a replica of {volume} is {bad.value}")


def _differing_bytes(found: Resource) -> Bytes:
    return max((one.out_of_sync_bytes for one in found.peers), default=0)


def _broken(sentence: str) -> UnsuitableError:
    return UnsuitableError("verify-broken", sentence)
