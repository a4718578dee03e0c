"""One trace from a command to each tool that ran for it, across processes."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from hwbus.client import Client
from hwbus.identity import Mint
from hwbus.ports import NobodyThereError
from schemas.answers import Accepted
from schemas.pool import FormPool
from tests.support.nats import fresh_broker, wires_to

GIB = 1 << 30


@contextmanager
def program(*argv: str, trace: Path, log: Path) -> Any:
    """A program of ours, ended with the context."""
    environment = {**os.environ, "HWBUS_TRACE_FILE": str(trace)}
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *argv], env=environment, stderr=file, stdout=file
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


@asynccontextmanager
async def cluster(tmp_path: Path) -> AsyncIterator[Client]:
    """A control plane and one simulated node, each in a process that writes its spans."""
    async with fresh_broker() as broker, wires_to(broker) as wires:
        with (
            program(
                "hwbus.controller", "--nats-url", broker.url, "--state", str(tmp_path / "c"),
                trace=tmp_path / "controller.jsonl", log=tmp_path / "log",
            ),
            program(
                "node_workers", "--node", "n1", "--nats-url", broker.url,
                "--state", str(tmp_path / "w"), "--simulated", str(tmp_path / "m"),
                "--disks", "2", "--disk-size", str(10 * GIB),
                trace=tmp_path / "worker.jsonl", log=tmp_path / "log",
            ),
        ):  # fmt: skip
            yield Client(wires.bus, wires.log, actor="alice", mint=Mint())


async def blank_disk(client: Client) -> str:
    """Return a disk of a node, when both are shown."""
    async with asyncio.timeout(60):
        while True:
            with suppress(NobodyThereError):
                nodes = await client.query("nodes", timeout_s=2)
                disks = await client.query("disks", {"state": "free"}, timeout_s=2)
                if nodes.items and disks.items:
                    return str(disks.items[0]["id"])
            await asyncio.sleep(0.1)


def spans(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_command_and_every_tool_that_ran_for_it_are_one_trace(tmp_path: Path) -> None:
    async def tale() -> None:
        async with cluster(tmp_path) as client:
            disk = await blank_disk(client)
            answer = await client.command(FormPool(pool="fast", node="n1", disks=(disk,)))
            assert isinstance(answer, Accepted)
            await client.wait(answer.operation, object_="pool/n1/fast", timeout_s=60)

    asyncio.run(tale())
    decided = spans(tmp_path / "controller.jsonl")
    (first,) = [span for span in decided if span["name"] == "decide pool.form.v1"]
    trace = first["context"]["trace_id"]
    steps = {span["name"] for span in decided if span["context"]["trace_id"] == trace}
    assert {"decide disk.claim.v1", "decide pool.build.v1", "decide pool.report-built.v1"} <= steps
    worked = [
        span for span in spans(tmp_path / "worker.jsonl") if span["context"]["trace_id"] == trace
    ]
    assert any("vgcreate" in json.dumps(span) for span in worked)
