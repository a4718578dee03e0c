"""What every chapter needs: the command line as a user has it, tools in the nodes, the views."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from hwbus import subjects
from hwbus.client import Client
from hwbus.demo.place import Place
from hwbus.demo.teller import NotSoError, Teller
from hwbus.identity import Mint
from hwbus.jetstream import connect

ACTOR = "alice"
GIB = 1 << 30
Row = dict[str, Any]
_ROOT = Path(__file__).resolve().parents[2]
_CLI_S = 60.0
_VIEW_MS = 10_000
_POLL_S = 0.1
_VGS = "vg_name,pv_count,lv_count,vg_size,vg_free,vg_tags"
_LVS = "lv_name,lv_size,lv_layout,lv_tags"


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """How the command line ended, and what it wrote."""

    status: int
    out: str
    err: str


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """A volume group as ``vgs`` prints it."""

    name: str
    disks: int
    volumes: int
    size_bytes: int
    free_bytes: int
    tags: tuple[str, ...]


class LogicalVolume(msgspec.Struct, frozen=True, kw_only=True):
    """A logical volume as ``lvs`` prints it."""

    name: str
    size_bytes: int
    layout: str
    tags: tuple[str, ...]


class Stage:
    """The place, the teller, a client for questions, and the command line for everything else."""

    def __init__(
        self, place: Place, teller: Teller, client: Client, env: Mapping[str, str]
    ) -> None:
        self.place = place
        self.teller = teller
        self.client = client
        self._env = env

    async def hwbus(
        self,
        *args: str,
        status: int = 0,
        progress: bool = False,
        output: bool = True,
        show: bool = True,
    ) -> Said:
        """Show ``hwbus ARGS``, run it, and show its *output*; nothing of it without *show*.

        *progress* shows stderr too. Raises ``NotSoError`` if it does not end with *status*.
        """
        if show:
            self.teller.command(("hwbus", *args))
        said = await self._cli(args)
        self.teller.output(said.err if progress else "")
        self.teller.output(said.out if output and show else "")
        return _ended(args, said, status)

    async def side_by_side(self, *commands: Sequence[str]) -> list[Said]:
        """Show and run several command lines at the same time. Raises ``NotSoError``."""
        for args in commands:
            self.teller.command(("hwbus", *args), beside=True)
        self.teller.command(("wait",))
        said = await asyncio.gather(*(self._cli(args) for args in commands))
        for args, one in zip(commands, said, strict=True):
            self.teller.output(one.out)
            _ended(args, one, 0)
        return said

    async def inside(self, node: str, *argv: str, show: bool = True) -> str:
        """Run a tool that only looks in a node; returns what it prints. Raises ``NotSoError``."""
        if show:
            self.teller.command(argv, node=node)
        ran = await self.place.run(node, argv)
        if ran.status:
            words = f"{ran.stdout}{ran.stderr}".strip()
            raise NotSoError(f"{' '.join(argv)} works in {node} (exit {ran.status}: {words})")
        if show:
            self.teller.output(ran.stdout)
        return ran.stdout

    async def by_hand(self, node: str, *commands: Sequence[str]) -> None:
        """Change something in a node behind the back of hwbus. Raises ``NotSoError``."""
        ran = await self.place.by_hand(node, commands)
        for argv, one in zip(commands, ran, strict=False):
            self.teller.command(argv, node=node)
            self.teller.output(one.stdout)
            if one.status:
                raise NotSoError(f"{' '.join(argv)} works in {node} (it said: {one.stderr})")

    async def look_again(self, node: str) -> None:
        """Ask the worker of a node to look at it now, rather than within a minute."""
        subject = subjects.live("rescan", node)
        self.teller.command(("nats", "publish", subject, ""))
        await self.client.bus.publish(subject, b"")

    async def signature(self, node: str, device: str) -> str:
        """Return what ``blkid`` finds on a device: ``ext4``, or nothing."""
        argv = ("blkid", "-p", "-s", "TYPE", "-o", "value", device)
        return (await self.inside(node, *argv)).strip()

    async def vgs(self, node: str, *, show: bool = True) -> dict[str, Group]:
        """Ask the node's LVM for its volume groups, by name."""
        argv = ("vgs", "--units", "b", "--nosuffix", "-o", _VGS)
        rows = _cells(await self.inside(node, *argv, show=show), 6)
        return {
            row[0]: Group(
                name=row[0],
                disks=int(row[1]),
                volumes=int(row[2]),
                size_bytes=int(row[3]),
                free_bytes=int(row[4]),
                tags=tuple(row[5].split(",")),
            )
            for row in rows
        }

    async def lvs(self, node: str, group: str, *, show: bool = True) -> dict[str, LogicalVolume]:
        """Ask the node's LVM for the logical volumes of a group, by name."""
        argv = ("lvs", "--units", "b", "--nosuffix", "-o", _LVS, group)
        rows = _cells(await self.inside(node, *argv, show=show), 4)
        return {
            row[0]: LogicalVolume(
                name=row[0],
                size_bytes=int(row[1]),
                layout=row[2],
                tags=tuple(row[3].split(",")),
            )
            for row in rows
        }

    async def rows(self, view: str, **where: str | bool) -> tuple[Row, ...]:
        """Return the rows of a view that has seen all there is in the log now."""
        head = await self.client.log.head()
        page = await self.client.query_all(view, where, min_seq=head, wait_ms=_VIEW_MS)
        if page.behind:
            raise NotSoError(f"the views follow (they have not reached {page.behind} in time)")
        return page.items

    async def row(self, view: str, **where: str | bool) -> Row:
        """Return the only row. Raises ``NotSoError`` if there is none, or another."""
        rows = await self.rows(view, **where)
        if len(rows) != 1:
            raise NotSoError(f"there is one row of {view} with {where} (there are {len(rows)})")
        return rows[0]

    async def until(self, view: str, count: int, within_s: float, **where: str) -> tuple[Row, ...]:
        """Return the rows of a view when there are *count*, or what there is after *within_s*."""
        rows = await self.rows(view, **where)
        deadline = time.monotonic() + within_s
        while len(rows) != count and time.monotonic() < deadline:
            await asyncio.sleep(_POLL_S)
            rows = await self.rows(view, **where)
        return rows

    async def _cli(self, args: Sequence[str]) -> Said:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "hwbus", *args),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._env,
        )
        told = asyncio.ensure_future(process.communicate())
        try:
            async with asyncio.timeout(_CLI_S):
                out, err = await asyncio.shield(told)
        except TimeoutError as error:
            process.kill()
            words = b" ".join(b"".join(await told).split()).decode()
            claim = f"hwbus {' '.join(args)} ends within {_CLI_S:.0f} s"
            raise NotSoError(f"{claim} (it said: {words})") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return Said(status=process.returncode or 0, out=out.decode(), err=err.decode())


@asynccontextmanager
async def stage(place: Place, teller: Teller) -> AsyncIterator[Stage]:
    """Open a connection to the place, and let the command line keep its small things there."""
    home = place.home
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    env = {
        **os.environ,
        "PYTHONPATH": path,
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_STATE_HOME": str(home / "state"),
        "HWBUS_SERVER": place.nats_url,
        "HWBUS_ACTOR": ACTOR,
    }
    async with connect(place.nats_url, name="hwbus-demo") as wires:
        yield Stage(place, teller, Client(wires.bus, wires.log, actor=ACTOR, mint=Mint()), env)


def _ended(args: Sequence[str], said: Said, status: int) -> Said:
    if said.status != status:
        words = " ".join(said.err.split())
        raise NotSoError(
            f"hwbus {' '.join(args)} ends with status {status} (it ended with {said.status}: "
            f"{words})"
        )
    return said


def _cells(table: str, columns: int) -> list[list[str]]:
    rows = [line.split() for line in table.splitlines()[1:]]
    return [[*row, *[""] * (columns - len(row))] for row in rows if row]
