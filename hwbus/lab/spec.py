"""What a lab shall consist of, as data: nodes with disks, services, ports that lead outside."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from hwbus.lab.uml.disks import LETTERS, DiskSpec, parse_size
from hwbus.lab.uml.errors import LabError

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


class NodeSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A node and the disks it has at the start, from /dev/ubdb on."""

    name: str
    disks: tuple[DiskSpec, ...] = ()


class ServiceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A program the lab runs: one on the host, inside the lab's network, or one in every node.

    `argv` and the values of `env` may hold placeholders:

    - `{python}`: the Python that runs the lab; `{nats_url}`: the lab's NATS server
    - `{state}`: a directory of the service's own; in a node it lies on the node's root disk
    - `{node}`: the node's name (only in nodes)
    - `{control_address}`, `{storage_address}`: of the machine it runs on, in these networks

    `ready_when`, if given, is a piece of its output; the service counts as started when it has
    written it.
    """

    name: str
    argv: tuple[str, ...]
    in_nodes: bool = False
    env: dict[str, str] = msgspec.field(default_factory=dict)
    ready_when: str = ""
    ready_timeout_s: float = 60


class PortSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A TCP port inside the lab that shall be reached from outside, on 127.0.0.1.

    `node` says whose port it is, the host's own if empty; `outside` 0 takes any free port.
    """

    name: str
    port: int
    node: str = ""
    outside: int = 0


class LabSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A whole lab. `nats_port` is where NATS is found from outside; 0 takes any free port."""

    nodes: tuple[NodeSpec, ...]
    services: tuple[ServiceSpec, ...] = ()
    ports: tuple[PortSpec, ...] = ()
    nats_port: int = 0
    memory: str = "256M"


def uniform(
    nodes: int = 3,
    disks: int = 3,
    disk_size: str = "20G",
    *,
    services: Sequence[ServiceSpec] = (),
    ports: Sequence[PortSpec] = (),
    nats_port: int = 0,
    memory: str = "256M",
) -> LabSpec:
    """Return a lab of nodes n1, n2 ... that are all alike. Raises `LabError` for a bad figure."""
    parse_size(disk_size)
    if not 0 <= disks <= len(LETTERS):
        raise LabError(f"a node has 0 to {len(LETTERS)} disks, not {disks}")
    row = (DiskSpec(size=disk_size),) * disks
    return LabSpec(
        nodes=tuple(NodeSpec(name=f"n{number}", disks=row) for number in range(1, nodes + 1)),
        services=tuple(services),
        ports=tuple(ports),
        nats_port=nats_port,
        memory=memory,
    )


def read_services(path: Path) -> tuple[ServiceSpec, ...]:
    """Read a JSON list of services. Raises `LabError` if the file is not one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[ServiceSpec, ...])
    except (OSError, msgspec.DecodeError) as error:
        raise LabError(f"{path} is no list of services: {error}") from error


def fill(words: Sequence[str], values: Mapping[str, str]) -> tuple[str, ...]:
    """Put the values into the placeholders. Raises `LabError` for one that has no value.

    Braces that are no `{placeholder}`, as in a JSON object, stay as they are.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            known = ", ".join(f"{{{name}}}" for name in sorted(values))
            raise LabError(f"{match[0]} is no placeholder here; there are {known}")
        return values[match[1]]

    return tuple(_PLACEHOLDER.sub(value, word) for word in words)
