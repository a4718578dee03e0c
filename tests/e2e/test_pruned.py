"""The audit pruned on a real broker: what is archived is taken out, and all that reads it holds."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hwbus.blocks import blocks_of, read_block
from hwbus.bucket import Where
from hwbus.client import Client
from hwbus.controller.__main__ import ControlPlane, Settings, control_plane
from hwbus.identity import Mint
from hwbus.jetstream import Wires, connect
from hwbus.server import Broker, ServerSettings
from hwbus.streams import AUDIT
from schemas.node import CordonNode, ReportNodeJoined, UncordonNode
from tests.support import s3
from tests.support.command_line import said
from tests.support.nats import (
    current,
    fresh_cluster,
    replicated,
    until_async,
    wires_to,
)


class House:
    """A broker, control planes that come and go, and somebody at a command line."""

    def __init__(
        self, home: Path, url: str, wires: Wires, *, bucket: str = "", replicas: int = 1
    ) -> None:
        """*bucket* is the endpoint of the S3 server that is archived to, instead of a folder."""
        self.home = home
        self.place = "s3://audit/berlin" if bucket else f"{home}/archive/"
        self.there = (self.place, *(("--endpoint", bucket) if bucket else ()))
        self.wires = wires
        self.audit = wires.log_of(AUDIT.name)
        self.store = home / "store"
        self._url, self._bucket, self._replicas = url, bucket, replicas
        self._client = Client(wires.bus, wires.log, actor="alice", mint=Mint())

    @asynccontextmanager
    async def control_plane(self, state: str = "state") -> AsyncIterator[ControlPlane]:
        settings = Settings(
            nats_url=self._url,
            state=self.home / state,
            http="",
            replicas=self._replicas,
            sign_every_s=0.05,
            archive_to=self.place,
            archive_endpoint=self._bucket,
            archive_every_s=0.1,
        )
        stop = asyncio.Event()
        async with control_plane(settings) as plane:
            running = asyncio.create_task(plane.run(stop))

            async def ready() -> bool:
                return not plane.unready()

            await until_async(ready, within_s=60)
            yield plane
            stop.set()
            await running

    async def live(self, plane: ControlPlane) -> None:
        """Have something accepted and refused, and all of it signed and archived."""
        await self._client.command(ReportNodeJoined(node="n1"))
        await self._client.command(CordonNode(node="n1", because="to be seen"))
        await self._client.command(UncordonNode(node="n1"))
        await self._client.command(CordonNode(node="nobody", because="to be refused"))
        head, archivist = await self.audit.head(), plane.archivist
        assert archivist is not None

        async def archived() -> bool:
            return archivist.until.get(AUDIT.name, 0) >= head

        await until_async(archived, within_s=60)

    async def run(self, *argv: str) -> tuple[int, str]:
        env = s3.ENTER if self._bucket else {}
        return await asyncio.to_thread(said, *argv, home=self.home, server=self._url, env=env)

    async def prune(self, *more: str) -> tuple[int, str]:
        given = ("--archived-in", *self.there, "--older-than", "0s", "--yes", *more)
        return await self.run("audit", "prune", *given)

    async def verify(self, *argv: str) -> tuple[int, dict[str, Any], dict[str, Any]]:
        code, out = await self.run("audit", "verify", "-o", "json", *argv)
        events, audit = json.loads(out)["items"]
        return code, events, audit

    async def take_out(self, until: int) -> None:
        """Do what an administrator can, and tell nobody."""
        where = f"STREAM.PURGE.{AUDIT.name}"
        await self.wires._core.api(where, {"seq": until + 1}, dict)


def play(home: Path, tale: Callable[[House], Awaitable[None]]) -> None:
    async def run() -> None:
        broker = Broker(ServerSettings(store=home / "store", sync_always=False))
        await broker.start()
        try:
            async with wires_to(broker) as wires:
                await tale(House(home, broker.url, wires))
        finally:
            await broker.stop()

    asyncio.run(run())


def test_what_is_archived_is_taken_out_and_everything_goes_on(tmp_path: Path) -> None:
    async def tale(here: House) -> None:
        async with here.control_plane() as plane:
            for _ in range(3):
                await here.live(plane)
            rows = (await here.run("audit", "-o", "name"))[1]
            planned = await here.prune("--plan", "-o", "json")
            [would] = json.loads(planned[1])["items"]
            assert await here.audit.first() == would["first"] == 1
            assert (await here.prune())[0] == 0
            first = await here.audit.first()
            assert first == would["until"] + 1 > 2
            # Again, and with nothing that is older: nothing happens, and nothing is wrong.
            again = await asyncio.gather(*(here.prune() for _ in range(2)))
            assert [code for code, _ in again] == [0, 0]
            await here.live(plane)
            await holds(here)
            views = (await here.run("projector", "rebuild"))[0]
            assert (views, (await here.run("projector", "fsck"))[0]) == (0, 0)
            assert set(rows.split()) <= set((await here.run("audit", "-o", "name"))[1].split())
        # Another life, and a control plane with a key of its own, of which no head is there.
        async with here.control_plane() as plane:
            await here.live(plane)
            assert set(rows.split()) <= set((await here.run("audit", "-o", "name"))[1].split())
            assert (await here.prune())[0] == 0
            assert await here.audit.first() > first
        async with here.control_plane("other") as plane:
            await here.live(plane)
            await holds(here)

    play(tmp_path, tale)


async def holds(here: House) -> None:
    """What is left is as it was signed, alone and together with what is archived."""
    first = await here.audit.first()
    code, events, audit = await here.verify()
    assert (code, events["first_bad"], audit["first_bad"]) == (0, None, None)
    assert (events["first"], events["messages"], audit["first"]) == (1, events["seq"], first)
    assert f"messages 1 to {first - 1} are in the archive {here.place}" in audit["before"]
    assert "pruned by ada" in audit["before"]
    code, events, audit = await here.verify("--with-archive", *here.there)
    assert (code, events["first_bad"], audit["first_bad"]) == (0, None, None)
    assert audit["messages"] == audit["seq"]
    code, _, audit = await here.verify("--from-archive", *here.there)
    assert (code, audit["first_bad"], audit["messages"] >= first - 1) == (0, None, True)
    for copy in ((), ("--from-archive", *here.there)):
        assert (await here.run("doctor", "--log", *copy))[0] == 0


@pytest.mark.slow
def test_three_brokers_prune_what_is_archived_in_a_bucket_and_one_of_them_may_be_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def tale(brokers: list[Broker], endpoint: str) -> None:
        urls = [broker.url for broker in brokers]
        async with connect(urls, name="test") as wires:
            await until_async(partial(replicated, wires), within_s=60)
            here = House(tmp_path, ",".join(urls), wires, bucket=endpoint, replicas=3)
            async with here.control_plane() as plane:

                async def steady(followers: int) -> bool:
                    return await current(wires, followers) and not plane.unready()

                for _ in range(3):
                    await here.live(plane)
                away = brokers[2]
                await away.stop()
                await until_async(partial(steady, 1), within_s=60)
                assert (await here.prune())[0] == 0
                first = await here.audit.first()
                assert first > 2
                await here.live(plane)
                await holds(here)
                await away.start()
                # The two others go, one after the other: what was away must know it by then.
                for other in brokers[:2]:
                    await until_async(partial(steady, 2), within_s=60)
                    await other.stop()
                    await until_async(partial(steady, 1), within_s=60)
                    assert await here.audit.first() == first
                    await other.start()
                await until_async(partial(steady, 2), within_s=60)
                await here.live(plane)
                await holds(here)

    for name, value in s3.ENTER.items():
        monkeypatch.setenv(name, value)
    with s3.serving(tmp_path) as where:
        s3.bucket(Where(url="s3://audit", endpoint=where.endpoint)).put("made", b"")

        async def run() -> None:
            async with fresh_cluster() as brokers:
                await tale(brokers, where.endpoint)

        asyncio.run(run())


@pytest.mark.parametrize("recorded", [False, True])
def test_what_was_taken_out_and_not_recorded_is_named(tmp_path: Path, recorded: bool) -> None:
    async def tale(here: House) -> None:
        async with here.control_plane() as plane:
            await here.live(plane)
            if recorded:
                assert (await here.prune())[0] == 0
            await here.live(plane)
        until = await here.audit.first() - 1
        await here.take_out(until + 2)
        code, _, audit = await here.verify()
        assert (code, audit["first_bad"]) == (1, until + 1)
        found = [(one["what"], one["seq"], one["until"]) for one in audit["findings"]]
        assert ("missing", until + 1, until + 2) in found

    play(tmp_path, tale)


def test_a_copy_of_the_store_tells_the_same(tmp_path: Path) -> None:
    async def tale(here: House) -> None:
        async with here.control_plane() as plane:
            for _ in range(3):
                await here.live(plane)
            assert (await here.prune())[0] == 0
            await here.live(plane)
        first = await here.audit.first()
        code, events, audit = await here.verify("--from-store", str(here.store))
        assert (code, events["first_bad"], audit["first_bad"]) == (0, None, None)
        [path] = blocks_of(here.store, AUDIT.name)
        # The broker leaves the bytes of what is gone where they are until it makes room.
        data = path.read_bytes()
        path.write_bytes(data[int.from_bytes(data[:4], "little") & 0x7FFFFFFF :])
        code, events, audit = await here.verify("--from-store", str(here.store))
        assert (code, events["first_bad"], audit["first_bad"]) == (0, None, None)
        assert (audit["first"], "pruned by ada" in audit["before"]) == (first, True)
        left = next(one for one in read_block(path) if one.seq > first and b"because" in one.data)
        path.write_bytes(path.read_bytes().replace(left.data, left.data[:-9] + b"X" * 9))
        code, _, audit = await here.verify("--from-store", str(here.store))
        assert (code, audit["first_bad"]) == (1, left.seq)

    play(tmp_path, tale)
