"""A lab with hwbus at home in it: real kernels, real broker, real control plane, real workers."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from tempfile import NamedTemporaryFile
from typing import Any

import msgspec
import pytest

from hwbus import subjects
from hwbus.cli.lab import CONTROLLER, WORKER
from hwbus.client import Client
from hwbus.identity import Mint
from hwbus.jetstream import Wires, connect
from hwbus.lab.client import LabClient
from hwbus.lab.evidence import evidence
from hwbus.lab.uml.errors import ConsoleError
from hwbus.streams import AUDIT
from schemas.answers import Accepted, Refused
from schemas.audit import ExecutedRecord
from schemas.deleting import DeleteVolume
from schemas.grammar import Message
from schemas.node import AdmitNode
from schemas.operation import Outcome
from schemas.pool import FormPool, RemovePool
from schemas.volume import ProvisionVolume

EXCHANGED_LABS = pytest.StashKey[list[str]]()
NODES = ("n1", "n2", "n3")
SERVICES = (CONTROLLER, WORKER)
ACTOR = "alice"
MIB = 1 << 20
GIB = 1 << 30
_WITHIN_S = 60.0
_ENDS_WITHIN_S = 60.0
_POLL_S = 0.1
AWAY_S = float(os.environ.get("HWBUS_AWAY_S", "0"))
_SCENE_S = 240.0 + AWAY_S  # whatever a scene forgets to bound

Row = dict[str, Any]
Scene = Callable[["House"], Awaitable[None]]


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """A logical volume as ``lvs`` tells it."""

    name: str
    size_bytes: int
    tags: tuple[str, ...]
    uuid: str


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """A volume group as ``vgs`` tells it."""

    size_bytes: int
    free_bytes: int


class Plugged(msgspec.Struct, frozen=True, kw_only=True):
    """A disk that was plugged in, as the lab and as hwbus call it."""

    node: str
    letter: str
    device: str
    id: str
    serial: str


class House:
    """What a test may do: speak as a client, look as a person with a shell, break things."""

    def __init__(self, lab: LabClient, wires: Wires) -> None:
        self.lab = lab
        self.wires = wires
        self.mint = Mint()
        self.client = Client(wires.bus, wires.log, actor=ACTOR, mint=self.mint)

    async def say(self, word: Message, *, command_id: str | None = None) -> Accepted:
        """Say *word*, which is accepted."""
        answer = await self.client.command(word, command_id=command_id)
        assert isinstance(answer, Accepted), answer
        return answer

    async def refused(self, word: Message, *, command_id: str | None = None) -> Refused:
        """Say *word*, which is refused."""
        answer = await self.client.command(word, command_id=command_id)
        assert isinstance(answer, Refused), answer
        return answer

    async def end(self, operation: str, *, within_s: float = _ENDS_WITHIN_S) -> Row:
        """Return how *operation* ended, with ``outcome``, ``code`` and ``because``."""
        assert operation
        try:
            happening = await self.client.wait(operation, timeout_s=within_s)
        except TimeoutError as error:
            row = await self.row("operations", id=operation)
            raise AssertionError(f"not ended within {within_s} s: {row}") from error
        return next(e for e in happening.events if e["type"] == "operation.ended.v1")

    async def done(self, word: Message, *, within_s: float = _ENDS_WITHIN_S) -> str:
        """Say *word* and see its operation completed; return the operation."""
        operation = (await self.say(word)).operation
        end = await self.end(operation, within_s=within_s)
        assert end["outcome"] == Outcome.COMPLETED, end
        return operation

    async def failed(self, word: Message, *, within_s: float = _ENDS_WITHIN_S) -> Row:
        """Say *word* and see its operation fail; return how."""
        end = await self.end((await self.say(word)).operation, within_s=within_s)
        assert end["outcome"] == Outcome.FAILED, end
        return end

    async def rows(self, view: str, **where: Any) -> list[Row]:
        """Return the rows as they are after all that is in the log by now."""
        head = await self.wires.log.head()
        page = await self.client.query_all(view, where, min_seq=head, wait_ms=10_000)
        assert not page.behind, f"{view} is behind {page.behind}"
        return list(page.items)

    async def row(self, view: str, **where: Any) -> Row:
        """Return the one row there is."""
        rows = await self.rows(view, **where)
        assert len(rows) == 1, rows
        return rows[0]

    async def until(
        self, true: Callable[[], Awaitable[bool]], within_s: float = _WITHIN_S, *, what: str = ""
    ) -> float:
        """Wait until it is true; return after how many seconds."""
        started_s = time.monotonic()
        while not await true():
            waited_s = time.monotonic() - started_s
            assert waited_s < within_s, f"not so within {within_s} s: {what or true}"
            await asyncio.sleep(_POLL_S)
        return time.monotonic() - started_s

    async def scanned(self, *nodes: str) -> None:
        """Wait until each worker has looked at its machine, from beginning to end, after this call.

        Of two scans that were told of since, the second began after the first ended.
        """
        await asyncio.gather(*(self._scanned(node) for node in nodes))

    async def _scanned(self, node: str) -> None:
        audit = self.wires.log_of(AUDIT.name)
        after, seen = await audit.head(), set[str]()
        await self.look_again(node)
        async with (
            asyncio.timeout(_WITHIN_S),
            audit.follow(after=after, subjects=(subjects.audit("executed", node),)) as batches,
        ):
            async for stored in (one async for batch in batches for one in batch):
                record = msgspec.json.decode(stored.data, type=ExecutedRecord)
                if record.cause.startswith("scan:") and record.argv[:2] == ("lvm", "fullreport"):
                    seen.add(record.cause)
                    if len(seen) > 1:
                        return
                    await self.look_again(node)

    async def look_again(self, *nodes: str) -> None:
        """Give the workers a hint to look at their machines."""
        for node in nodes:
            await self.wires.bus.publish(subjects.live("rescan", node), b"")

    async def sh(self, node: str, script: str, *, timeout_s: float = 120) -> str:
        """Do something by hand on a node."""
        return await self.lab.shell(
            node, f"export LC_ALL=C LVM_SUPPRESS_FD_WARNINGS=1\n{script}", timeout_s=timeout_s
        )

    async def vgs(self, node: str) -> dict[str, Group]:
        """Return the volume groups of a node, as LVM has them."""
        out = await self.sh(
            node,
            "vgs --noheadings --units b --nosuffix --separator ' ' -o vg_name,vg_size,vg_free",
        )
        lines = [line.split() for line in out.splitlines()]
        return {
            name: Group(size_bytes=int(size), free_bytes=int(free)) for name, size, free in lines
        }

    async def lvs(self, node: str, group: str) -> dict[str, Volume]:
        """Return the logical volumes of a group, as LVM has them."""
        out = await self.sh(
            node,
            "lvs --noheadings --units b --nosuffix --separator '|'"
            f" -o lv_name,lv_size,lv_uuid,lv_tags {group}",
        )
        volumes = [line.strip().split("|") for line in out.splitlines()]
        return {
            name: Volume(name=name, size_bytes=int(size), uuid=uuid, tags=tuple(tags.split(",")))
            for name, size, uuid, tags in volumes
        }

    async def plug(
        self, node: str, size: str = "2G", *, serial: str | None = None, letter: str | None = None
    ) -> Plugged:
        """Plug a blank disk in and wait until hwbus knows it."""
        disk = await self.lab.add_disk(node, size, serial=serial, letter=letter)
        row = await self.found(node, disk.device, disk.serial)
        return Plugged(
            node=node, letter=disk.letter, device=disk.device, id=row["id"], serial=disk.serial
        )

    async def found(self, node: str, device: str, serial: str) -> Row:
        """Wait until hwbus knows that a disk is free; return its row."""
        rows: list[Row] = []

        async def known() -> bool:
            rows[:] = [
                row
                for row in await self.rows("disks", node=node, state="free")
                if (row["path"], row["serial"]) == (device, serial)
            ]
            return bool(rows)

        await self.until(known, 20, what=f"{node} {device} is free")
        return rows[0]

    async def unplug(self, *disks: Plugged) -> None:
        """Pull disks out and throw them away, as soon as nobody looks at them."""
        for disk in disks:

            async def is_out(disk: Plugged = disk) -> bool:
                try:
                    await self.lab.remove_disk(disk.node, disk.letter)
                except ConsoleError:
                    return False
                return True

            await self.until(is_out, 10, what=f"{disk.device} of {disk.node} is not open")

    async def form(self, pool: str, disks: Sequence[Plugged], **more: Any) -> str:
        """Make a pool of disks of one node; return the operation."""
        word = FormPool(pool=pool, node=disks[0].node, disks=tuple(d.id for d in disks), **more)
        return await self.done(word)

    async def clear(self, pool: str, node: str, *disks: Plugged) -> None:
        """Delete the volumes of a pool, remove it and pull its disks out."""
        volumes = await self.rows("volumes", pool=pool, node=node)
        await asyncio.gather(*(self.done(DeleteVolume(volume=row["name"])) for row in volumes))
        await self.done(RemovePool(pool=pool, node=node))
        await self.unplug(*disks)

    async def make(self, volume: str, disk: Plugged, pool: str, mib: int, **more: Any) -> Row:
        """Provision a volume in a pool and return its row."""
        word = ProvisionVolume(
            volume=volume, size_bytes=mib * MIB, pool=pool, node=disk.node, **more
        )
        await self.done(word)
        return await self.row("volumes", name=volume)

    async def ran(self, operation: str, program: str) -> list[Row]:
        """Wait until *program* has succeeded for an operation, as the audit has it.

        An operation may end before all of its executions are told. Return those that are.
        """
        tools: list[Row] = []

        async def told() -> bool:
            tools[:] = await self.tools(operation)
            ended = {tool["argv"][0] for tool in tools if tool["exit_status"] == 0}
            return program in ended

        await self.until(told, what=f"the audit has {program} of {operation}")
        return tools

    async def tools(self, operation: str) -> list[Row]:
        """Return the executions that are on the audit for an operation, oldest first."""
        rows = await self.rows("audit", kind="tool", correlation=operation)
        return sorted(rows, key=lambda row: int(row["seq"]))

    async def holds(self, pool: str, node: str) -> None:
        """Compare the ledger and the usage view with what LVM has, to the byte."""
        group, volumes = (await self.vgs(node))[pool], await self.lvs(node, pool)
        row = await self.row("pools", name=pool, node=node)
        assert (row["size_bytes"], row["free_bytes"]) == (group.size_bytes, group.free_bytes)
        assert row["reserved_bytes"] == 0
        usage = await self.row("usage", level="pool", pool=pool, node=node)
        assert usage["capacity_bytes"] == group.size_bytes
        assert usage["free_bytes"] == group.free_bytes
        assert usage["allocated_bytes"] == group.size_bytes - group.free_bytes
        wanted = {
            row["name"]: row["capacity_bytes"]
            for level in ("volume", "snapshot")
            for row in await self.rows("usage", level=level, pool=pool, node=node)
        }
        tagged = {
            v.name: v.size_bytes
            for v in volumes.values()
            if any(tag.startswith("hwbus.volume=") for tag in v.tags)
        }
        assert wanted == tagged

    async def settled(self, pool: str, node: str) -> None:
        """Wait until nothing is set aside in the pool, then compare it with LVM."""

        async def at_rest() -> bool:
            row = await self.row("pools", name=pool, node=node)
            return bool(row["reserved_bytes"] == 0 and row["state"] == "ready")

        await self.until(at_rest, 20, what=f"{pool} is at rest")
        await self.holds(pool, node)

    async def let_in(self) -> None:
        """Let nodes in again that an earlier scene, which failed, has left outside."""
        for row in await self.rows("nodes", state="removed"):
            await self.say(AdmitNode(node=row["name"]))

    async def ready(self, *nodes: str, within_s: float = _WITHIN_S) -> None:
        """Wait until the workers of these nodes are heard, and their disks known."""

        states: dict[str, str] = {}

        async def heard() -> bool:
            states.update({row["name"]: row["state"] for row in await self.rows("nodes")})
            return all(states.get(node) == "ready" for node in nodes)

        try:
            await self.until(heard, within_s, what=f"{nodes} are ready")
        except AssertionError as error:
            raise AssertionError(f"{error}, but {states}") from error


def playing(lab: LabClient, nodes: Sequence[str] = NODES) -> Callable[[Scene], None]:
    """Return a way to play a scene in the house of *lab*, with its workers heard.

    When a scene fails it prints what there is to see, for the next scene gets another lab.
    """

    def play(scene: Scene) -> None:
        async def whole() -> None:
            try:
                async with asyncio.timeout(_SCENE_S):
                    await played()
            except Exception as error:
                seen = await evidence(lab)
                print(seen)
                with NamedTemporaryFile("w", prefix="hwbus-evidence-", delete=False) as file:
                    file.write(seen)
                error.add_note(f"what there was to see is in {file.name}")
                raise

        async def played() -> None:
            for service in (await lab.status()).services:
                if service.state != "running":
                    await lab.service_start(service.name, service.node)
            async with AsyncExitStack() as stack:
                wires = await stack.enter_async_context(connect(lab.nats_url, name="test"))
                house = House(lab, wires)
                await house.let_in()
                await house.ready(*nodes)
                await scene(house)

        asyncio.run(whole())

    return play


def signatures(tools: Sequence[Mapping[str, Any]], program: str) -> list[tuple[str, ...]]:
    """Return the command lines of *program* that succeeded."""
    return [
        tuple(tool["argv"])
        for tool in tools
        if tool["argv"][0] == program and tool["exit_status"] == 0
    ]
