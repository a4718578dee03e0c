"""The control plane archives to a real S3 by the clock, also after that was away for a while."""

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from hwbus.bucket import Where
from hwbus.client import Client
from hwbus.controller.__main__ import ControlPlane, Settings, control_plane
from hwbus.controller.archivist import ArchiveFigures
from hwbus.identity import Mint
from hwbus.streams import AUDIT, EVENTS
from schemas.node import CordonNode, ReportNodeJoined, UncordonNode
from tests.support import s3
from tests.support.command_line import said
from tests.support.nats import fresh_broker, until_async, wires_to

PLACE = "s3://audit/berlin"


class House:
    """A control plane, what its archivist says of itself, and somebody who has it do things."""

    def __init__(self, plane: ControlPlane, client: Client) -> None:
        self._plane = plane
        self._client = client
        self._figures = CollectorRegistry()
        self._figures.register(ArchiveFigures(plane.archivist))

    def figures(self) -> dict[str, float]:
        """What is to be seen of the events: position, age_seconds, every_seconds, trouble."""
        page = generate_latest(self._figures).decode()
        line = re.compile(rf'hwbus_archive_(\w+)\{{stream="{EVENTS.name}"\}} (\S+)')
        return {name: float(value) for name, value in line.findall(page)}

    async def until(self, true: Callable[[], bool]) -> None:
        async def holds() -> bool:
            return true()

        await until_async(holds, within_s=15)

    async def ready(self) -> None:
        await self.until(lambda: not self._plane.unready())
        await self._client.command(ReportNodeJoined(node="n1"))

    async def live(self) -> int:
        """Have commands accepted, and one refused; return where the log is."""
        await self._client.command(CordonNode(node="n1", because="to be seen"))
        await self._client.command(UncordonNode(node="n1"))
        await self._client.command(CordonNode(node="nobody", because="to be refused"))
        return self._plane.desk.position

    @property
    def archived(self) -> dict[str, int]:
        """How much of each stream is archived."""
        assert self._plane.archivist is not None
        return dict(self._plane.archivist.until)

    async def archived_up_to(self, seq: int, *, audit_after: int) -> None:
        """Wait until that is archived, and some more of the audit, too."""
        done = {EVENTS.name: seq, AUDIT.name: audit_after + 1}
        await self.until(lambda: all(self.archived.get(one, 0) >= at for one, at in done.items()))


async def lived_through(store: s3.Server, broker: str, state: Path, client: Client) -> int:
    """Archive, miss the store, and catch up; return how many events there are at least.

    Nothing is heard of the node: when it counts as silent, that is an event more.
    """
    settings = Settings(
        nats_url=broker,
        state=state,
        http="",
        replicas=1,
        sign_every_s=0.05,
        archive_to=PLACE,
        archive_endpoint=store.endpoint,
        archive_every_s=0.1,
    )
    stop = asyncio.Event()
    async with control_plane(settings) as plane:
        running = asyncio.create_task(plane.run(stop))
        here = House(plane, client)
        await here.ready()
        first = await here.live()
        await here.archived_up_to(first, audit_after=0)
        await asyncio.to_thread(store.stop)
        audit = here.archived[AUDIT.name]
        second = await here.live()
        await here.until(lambda: here.figures()["trouble"] == 1)
        behind = here.figures()
        assert first <= behind["position"] < second
        assert behind["age_seconds"] > 2 * behind["every_seconds"]  # of the alarm
        await asyncio.to_thread(store.start)
        await here.archived_up_to(second, audit_after=audit)
        await here.until(lambda: here.figures()["trouble"] == 0)
        assert here.figures()["position"] >= second
        stop.set()
        await running
    return second


def test_what_a_store_missed_is_archived_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.ENTER.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "s3").mkdir()
    store, state = s3.Server(tmp_path / "s3"), tmp_path / "state"

    async def tale() -> int:
        async with fresh_broker() as broker, wires_to(broker) as wires:
            client = Client(wires.bus, wires.log, actor="alice", mint=Mint())
            return await lived_through(store, broker.url, state, client)

    store.start()
    try:
        # This server makes a bucket with the first object that is put there.
        s3.bucket(Where(url="s3://audit", endpoint=store.endpoint)).put("made", b"")
        events = asyncio.run(tale())
        # The broker is gone, too: what is left is the bucket.
        there = (PLACE, "--endpoint", store.endpoint)
        key = (state / "notary.pub").read_text().strip()
        verify = ("audit", "verify", "--from-archive", *there, "--key", key, "-o", "json")
        code, out = said(*verify, home=tmp_path, env=s3.ENTER)
        verdicts = json.loads(out)["items"]
        assert [(one["first_bad"], one["unreadable"]) for one in verdicts] == [(None, 0)] * 2
        archived = verdicts[0]["messages"]
        assert (code, archived >= events) == (0, True)
        doctor = ("doctor", "--log", "--from-archive", *there, "-o", "json")
        code, out = said(*doctor, home=tmp_path, env=s3.ENTER)
        [verdict] = json.loads(out)["items"]
        assert (code, verdict["commits"], verdict["findings"]) == (0, archived, [])
        code, out = said("replay", *there, home=tmp_path, env=s3.ENTER)
        assert (code, f"hash {archived} " in out) == (0, True)
    finally:
        store.stop()
