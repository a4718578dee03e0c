"""Being there: saying so every other second, and saying once what this node can do."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import PackageNotFoundError, version

import msgspec
import structlog

from hwbus import subjects
from hwbus.ports import Clock
from node_workers.outbox import Link
from node_workers.ports import Runner, StorageError
from node_workers.reports import NODE_LANE, command_id, letter
from node_workers.state import State
from schemas.node import Capability, ReportNodeJoined

_LOG = structlog.get_logger("node_workers.presence")
HEARTBEAT_S = 2.0
_PROBE_TIMEOUT_S = 10.0


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """What is heard of a living worker."""

    node: str
    at: str
    worker_version: str


class Presence(msgspec.Struct, frozen=True, kw_only=True):
    """Tells who is here."""

    node: str
    address: str
    zone: str
    capabilities: tuple[Capability, ...]
    state: State
    clock: Clock
    public_key: str = ""

    async def join(self) -> None:
        """Report, now or when somebody listens, that the node is here and what it can do."""
        number = await self.state.next_number("join")
        report = ReportNodeJoined(
            node=self.node,
            address=self.address,
            zone=self.zone,
            capabilities=self.capabilities,
            worker_version=worker_version(),
            public_key=self.public_key,
        )
        about = letter(
            report,
            node=self.node,
            command_id=command_id(self.node, f"join-{number}", "report-joined"),
            lane=NODE_LANE,
            cause=f"start:{number}",
        )
        await self.state.say((about,), {})

    async def beat(self, link: Link, on_return: Callable[[], Awaitable[None]]) -> None:
        """Be heard until cancelled; call *on_return* each time the broker was away and is back."""
        subject = subjects.live("heartbeat", self.node)
        was_connected = True
        while True:
            connected = link.connected
            if connected and not was_connected:
                await on_return()
            was_connected = connected
            beat = Heartbeat(
                node=self.node,
                at=self.clock.now().isoformat(),
                worker_version=worker_version(),
            )
            if connected:
                await link.bus.publish(subject, msgspec.json.encode(beat))
            await asyncio.sleep(HEARTBEAT_S)


@functools.cache
def worker_version() -> str:
    """Return the version of this program, or ``dev`` when it was never installed."""
    try:
        return version("hwbus")
    except PackageNotFoundError:
        return "dev"


async def probe(runner: Runner) -> tuple[Capability, ...]:
    """Return what the tools of this machine can do.

    What does not answer in time is not there yet, until the worker starts anew: a node that can do
    less is of more use than none.
    """
    found = [Capability.LENDING]
    segments = await _ask(runner, ("lvm", "segtypes"))
    if segments is not None:
        found.append(Capability.LVM)
        if "thin-pool" in segments.split():
            found.append(Capability.THIN)
    if await _ask(runner, ("mkfs.ext4", "-V")) is not None:
        found.append(Capability.EXT4)
    if await _ask(runner, ("mkfs.xfs", "-V")) is not None:
        found.append(Capability.XFS)
    if await _can_encrypt(runner):
        found.append(Capability.ENCRYPTION)
    found += await _replication(runner)
    return tuple(found)


async def _can_encrypt(runner: Runner) -> bool:
    """Return whether tool and kernel can; the module is loaded if it is one."""
    if await _ask(runner, ("cryptsetup", "--version")) is None:
        return False
    await _ask(runner, ("modprobe", "--quiet", "dm-crypt"))  # built in, or not there to be loaded
    targets = await _ask(runner, ("dmsetup", "targets"))
    return targets is not None and "crypt" in targets.split()


async def _replication(runner: Runner) -> tuple[Capability, ...]:
    """Return what DRBD of this machine can do; the module is loaded if it is one."""
    if await _ask(runner, ("drbdadm", "--version")) is None:
        return ()
    await _ask(runner, ("modprobe", "--quiet", "drbd"))
    version_ = await _ask(runner, ("cat", "/sys/module/drbd/version"))
    if version_ is None:
        return ()
    # Two legs, whatever is loaded: of three, one could take it from its own metadata that it may
    # go on, and nobody has asked the log.
    return (Capability.REPLICATION,)


async def _ask(runner: Runner, argv: Sequence[str]) -> str | None:
    try:
        execution = await runner.run(argv, cause="start:probe", timeout_s=_PROBE_TIMEOUT_S)
    except StorageError as error:
        _LOG.warning(
            "a tool does not answer: what it is for counts as not there until the next start",
            tool=" ".join(argv),
            because=error.sentence,
        )
        return None
    return execution.stdout if execution.exit_status == 0 else None
