"""Real LVM on real kernels: what we add to a bare ``lvcreate``, and what we do when idle."""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from hwbus.asking import ACTOR, COMMAND_ID
from hwbus.cli.lab import spec
from hwbus.client import ENDED
from hwbus.jetstream import Wires, connect
from hwbus.lab.client import LabClient, up
from hwbus.lab.requirements import why_not
from hwbus.lab.spec import PortSpec
from hwbus.lab.workspace import Workspace
from hwbus.streams import AUDIT
from schemas.answers import Accepted, Answer
from schemas.audit import AuditRecord, ExecutedRecord
from schemas.grammar import Message, kind_and_verb, type_name
from schemas.operation import OperationEnded, Outcome
from schemas.pool import FormPool
from schemas.volume import ProvisionVolume
from schemas.words import AnyCommit
from tests.benchmarks.backing_up import BackingUp
from tests.benchmarks.copying import Copying
from tests.benchmarks.figures import Figure, figure
from tests.benchmarks.replicated import smoke
from tests.support import s3

NODE, THERE, POOL = "n1", "n2", "fast"
MIB = 1 << 20
VOLUME_BYTES = 64 * MIB
_LVM = frozenset({"lvm", "lvs", "vgs", "pvs", "lvcreate", "vgcreate", "lvchange"})
_BLANK = ("blank", "/dev/ubdb")
_WITHIN_S = 90.0
_IDLE_S = 65.0
_SETTLE_S = 4.0
_COMMIT = msgspec.json.Decoder(AnyCommit)
_RECORD = msgspec.json.Decoder(AuditRecord)
_ANSWER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Answer)
# The worker's own lvcreate, run by one Python process: its clock is the node's own.
_BARE = """
import subprocess, sys, time
quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
lvcreate = "lvcreate --yes --wipesignatures y --zero y --extents 16 --name"
for number in range(int(sys.argv[2])):
    began = time.monotonic()
    subprocess.run([*lvcreate.split(), f"bare{number}", sys.argv[1]], **quiet)
    print((time.monotonic() - began) * 1e3)
    subprocess.run(["lvremove", "--yes", f"{sys.argv[1]}/bare{number}"], **quiet)
"""


class Story:
    """The times of one operation in ms: until it was ready, and what its parts took."""

    def __init__(self, total: float, desk: float, node: float, tools: list[ExecutedRecord]) -> None:
        self.total = total
        self.desk = desk
        self.tools = sum(one.duration_ms for one in tools)
        self.worker = max(0.0, node - self.tools)
        self.argv = [" ".join(one.argv[:2]) for one in tools]


async def say(wires: Wires, word: Message, number: str) -> Accepted:
    """Send a command; it must be accepted."""
    kind, verb = kind_and_verb(word)
    said = await wires.bus.request(
        f"hwbus.cmd.{kind}.{verb}",
        msgspec.json.encode(word),
        headers={COMMAND_ID: number, ACTOR: "bench"},
        timeout_s=10,
    )
    answer = _ANSWER.decode(said)
    if not isinstance(answer, Accepted):
        raise AssertionError(f"{word} is {answer}")  # noqa: TRY004
    return answer


async def ended(wires: Wires, operation: str, after: int) -> list[tuple[str, float]]:
    """Wait for the end of an operation; returns its events, each with when it was recorded."""
    found: list[tuple[str, float]] = []
    async with asyncio.timeout(_WITHIN_S), wires.log.follow(after=after) as batches:
        async for batch in batches:
            for stored in batch:
                commit = _COMMIT.decode(stored.data)
                if commit.correlation != operation:
                    continue
                at_ms = stored.at.timestamp() * 1e3
                found += [(type_name(event), at_ms) for event in commit.events]
                last = commit.events[-1]
                if isinstance(last, OperationEnded):
                    if last.outcome is not Outcome.COMPLETED:
                        raise RuntimeError(f"{last}")
                    return found
    raise RuntimeError(f"{operation} has no {ENDED}")


async def executions(wires: Wires, after: int, upto: int) -> list[ExecutedRecord]:
    """Return the tools that were run, by the sequences of the audit stream."""
    audit, found = wires.log_of(AUDIT.name), []
    for seq in range(after + 1, upto + 1):
        stored = await audit.get(seq)
        if stored is not None and stored.subject.startswith("hwbus.audit.executed."):
            record = _RECORD.decode(stored.data)
            assert isinstance(record, ExecutedRecord)
            found.append(record)
    return found


async def provision(wires: Wires, number: int) -> Story:
    """Provision one thick volume and say where the time went."""
    audit = wires.log_of(AUDIT.name)
    before, head = await audit.head(), await wires.log.head()
    began = time.perf_counter()
    wish = ProvisionVolume(volume=f"v{number}", size_bytes=VOLUME_BYTES, pool=POOL, node=NODE)
    accepted = await say(wires, wish, f"bench-provision-{number}")
    events = await ended(wires, accepted.operation, head)
    total = (time.perf_counter() - began) * 1e3
    at = dict(events)
    node_ms = at["replica.created.v1"] - at["replica.wanted.v1"]
    await asyncio.sleep(1.0)
    tools = await executions(wires, before, await audit.head())
    mine = [one for one in tools if one.correlation == accepted.operation]
    return Story(total, total - node_ms, node_ms, mine)


async def bare(lab: LabClient, runs: int) -> list[float]:
    """Return how many ms ``lvcreate`` takes in the same pool while the worker holds still.

    It would look at what happens there, on the only CPU that the node has.
    """
    pid = str((await lab.service("worker", NODE)).pid)
    await lab.exec(NODE, "kill", "-STOP", pid)
    try:
        ran = await lab.exec(NODE, "python3", "-c", _BARE, POOL, str(runs))
    finally:
        await lab.exec(NODE, "kill", "-CONT", pid)
    await asyncio.sleep(_SETTLE_S)
    return [float(line) for line in ran.stdout.split()]


async def worker_memory_mib(lab: LabClient) -> tuple[float, float]:
    """Return (RSS, PSS) of the node's worker, as its own kernel counts them."""
    pid = (await lab.service("worker", NODE)).pid
    rows = await lab.shell(NODE, f"cat /proc/{pid}/smaps_rollup || cat /proc/{pid}/status")
    found = dict(line.split(":", 1) for line in rows.splitlines() if ":" in line)
    rss = found.get("Rss") or found["VmRSS"]
    return int(rss.split()[0]) / 1024, int(found.get("Pss", "0").split()[0]) / 1024


async def a_pool(wires: Wires, node: str) -> None:
    """Wait for a node's first disk and form a pool of it."""
    async with asyncio.timeout(_WITHIN_S):
        while True:
            query = msgspec.json.encode({"where": {"node": node}})
            answer = await wires.bus.request("hwbus.q.disks", query, headers={}, timeout_s=10)
            rows = msgspec.json.decode(answer).get("items", [])
            blank = [row["id"] for row in rows if (row["content"], row["path"]) == _BLANK]
            if blank:
                break
            await asyncio.sleep(0.2)
    head = await wires.log.head()
    wish = FormPool(pool=POOL, node=node, disks=(blank[0],))
    accepted = await say(wires, wish, f"bench-form-{node}")
    await ended(wires, accepted.operation, head)


@asynccontextmanager
async def a_lab() -> AsyncIterator[LabClient]:
    """Two nodes with two disks each, the control plane and workers, as ``hwbus lab up`` does it.

    An S3 server beside them keeps what is put in a folder that goes afterwards.
    """
    workspace = Workspace()
    try:
        with tempfile.TemporaryDirectory(prefix="hwbus-bench-s3-") as folder:
            plain = spec(2, 2, "4G")
            ports = (*plain.ports, PortSpec(name="s3", port=s3.LAB_PORT))
            services = (*plain.services, s3.in_lab(Path(folder)))
            whole = msgspec.structs.replace(plain, services=services, ports=ports)
            async with await up(whole, workspace.path, owner_pid=os.getpid()) as machines:
                yield machines
    finally:
        workspace.close()


async def lab(*, rounds: int, quick: bool) -> list[Figure]:
    """Measure in the lab; where there is none, one row says why.

    A quick run tries replicated volumes in the same lab: another one takes longer than they do.
    """
    reason = why_not()
    if reason:
        return [figure("lab", [0.0], "", note=f"Not measured: {reason}")]
    stories: list[Story] = []
    floors: list[float] = []
    each, mib = (1, 16) if quick else (3, VOLUME_BYTES // MIB)
    async with a_lab() as machines, connect(machines.nats_url, name="bench") as wires:
        for node in (NODE, THERE):
            await a_pool(wires, node)
        await provision(wires, 999)
        for turn in range(rounds):
            floors += await bare(machines, each)
            stories += [await provision(wires, turn * each + n) for n in range(each)]
        memory = await worker_memory_mib(machines)
        copying = Copying(machines, wires, (NODE, THERE), POOL, say, ended)
        copies = await copying.measure(mib=mib, runs=1 if quick else 3)
        backing_up = BackingUp(machines, wires, NODE, POOL, say, ended)
        copies += await backing_up.measure(mib=mib, runs=1 if quick else 3)
        copies += await smoke(machines, wires) if quick else []
        idle = [] if quick else [await idle_lvm_per_min(wires)]
    return [*rows(stories, floors, memory, idle), *copies]


async def idle_lvm_per_min(wires: Wires) -> float:
    """Return how many LVM processes a minute a worker runs that has nothing to do."""
    audit = wires.log_of(AUDIT.name)
    before, began = await audit.head(), time.monotonic()
    await asyncio.sleep(_IDLE_S)
    ran = await executions(wires, before, await audit.head())
    minutes = (time.monotonic() - began) / 60
    mine = [one for one in ran if one.node == NODE]
    return sum(one.argv[0].rpartition("/")[2] in _LVM for one in mine) / minutes


def rows(
    stories: list[Story], floors: list[float], memory: tuple[float, float], idle: list[float]
) -> list[Figure]:
    """Return the rows of the lab."""
    floor_is = "lvm lvcreate alone, in the same node and volume group"
    slow = "In a UML node, where starting a process takes 3 to 8 times as long as on a host."
    tools = ", ".join(stories[-1].argv)
    found = [
        figure(
            "lab: thick volume, asked to ready",
            [one.total for one in stories],
            "ms",
            floor=floors,
            floor_is=floor_is,
            above_floor_at_most=100.0,
            note=f"{slow} Tools run for one: {tools}.",
        ),
        figure("lab: of it desk and driver", [one.desk for one in stories], "ms"),
        figure("lab: of it the worker itself", [one.worker for one in stories], "ms"),
        figure("lab: of it its tools", [one.tools for one in stories], "ms", floor=floors),
        figure("lab: node worker, RSS", [memory[0]], "MiB", at_most=60.0),
        figure("lab: node worker, PSS", [memory[1]], "MiB"),
    ]
    if idle:
        name = "lab: LVM processes a minute of an idle worker"
        found.append(figure(name, idle, "/min", at_most=2.0, note=f"Counted over {_IDLE_S:.0f} s."))
    return found
