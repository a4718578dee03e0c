"""What is said over a lab's control socket: one request a connection, then answers, JSON lines."""

from typing import Literal

import msgspec

from hwbus.lab.uml.node import Health

SOCKET = "control.sock"
ENDPOINTS = "daemon.json"
DAEMON_LOG = "daemon.log"
LINE_BYTES_MAX = 64 << 20


class Request(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag=str.lower):
    """Something asked of a lab."""


class Status(Request, frozen=True, kw_only=True):
    """Say what there is. Answered with a `LabStatus`."""


class Exec(Request, frozen=True, kw_only=True):
    """Run a command in a node; killed if the asker hangs up. Answered with `Output`, `Exited`."""

    node: str
    argv: tuple[str, ...]
    stdin: bytes = b""
    env: dict[str, str] = {}


class Power(Request, frozen=True, kw_only=True):
    """Do something to a whole node."""

    node: str
    action: Literal["boot", "kill", "shutdown", "freeze", "thaw"]


class Link(Request, frozen=True, kw_only=True):
    """Plug a node's cable in or out, or keep the nodes so marked apart from one another."""

    node: str
    network: str
    action: Literal["connect", "disconnect", "isolate", "join"]


class AddDisk(Request, frozen=True, kw_only=True):
    """Plug in a new, blank disk. Answered with a `DiskStatus`."""

    node: str
    size: str
    serial: str | None = None
    letter: str | None = None


class RemoveDisk(Request, frozen=True, kw_only=True):
    """Pull a disk out and throw it away."""

    node: str
    letter: str


class MoveDisk(Request, frozen=True, kw_only=True):
    """Pull a disk out and plug it into another node. Answered with a `DiskStatus`."""

    node: str
    letter: str
    target: str
    target_letter: str | None = None


class DiskFault(Request, frozen=True, kw_only=True):
    """Wrap a disk so that it can be broken, break it, mend it. Wrapping answers with the path."""

    node: str
    letter: str
    action: Literal["wrap", "fail", "mend"]


class Service(Request, frozen=True, kw_only=True):
    """Start, stop (SIGTERM, in order) or kill (SIGKILL) a service; in all its nodes if none."""

    name: str
    action: Literal["start", "stop", "kill"]
    node: str = ""


class Console(Request, frozen=True, kw_only=True):
    """Ask a node's kernel itself. Answered with its words."""

    node: str
    command: str


class Down(Request, frozen=True, kw_only=True):
    """Stop everything."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, tag_field="is", tag=str.lower):
    """Something a lab says."""


class Output(Answer, frozen=True, kw_only=True):
    """What a command wrote to its stdout or stderr."""

    stream: Literal["stdout", "stderr"]
    data: bytes


class Exited(Answer, frozen=True, kw_only=True):
    """A command has ended; a negative status is a signal."""

    status: int


class Done(Answer, frozen=True, kw_only=True):
    """It is done; `value` is what the request is answered with."""

    value: msgspec.Raw = msgspec.Raw(b"null")


class Refused(Answer, frozen=True, kw_only=True):
    """It could not be done; `error` names the kind, `message` is a sentence for a person."""

    error: Literal["NodeDownError", "ConsoleError", "LabError"]
    message: str


class Step(Answer, frozen=True, kw_only=True):
    """Something has been reached on the way up."""

    words: str


AnyRequest = (
    Status
    | Exec
    | Power
    | Link
    | AddDisk
    | RemoveDisk
    | MoveDisk
    | DiskFault
    | Service
    | Console
    | Down
)
AnyAnswer = Output | Exited | Done | Refused | Step


class DiskStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A disk in a node; `image` is its file on the host, `device` its path in the node."""

    letter: str
    device: str
    serial: str
    size_bytes: int
    image: str
    health: Health


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A node; `share` is a directory of the host that is /share in the node."""

    name: str
    running: bool
    frozen: bool
    pid: int | None
    addresses: dict[str, str]
    disks: tuple[DiskStatus, ...]
    share: str


class ServiceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A service on the host (`node` empty) or in a node.

    `state` is "lost" if its node went down under it. `pid` is the last one, in the node for node
    services; `status` is how it last ended, negative for a signal; times are ISO 8601.
    """

    name: str
    node: str
    state: Literal["running", "exited", "lost", "new"]
    starts: int
    log: str
    pid: int | None = None
    status: int | None = None
    started_at: str | None = None
    ended_at: str | None = None


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """Where a lab is: its daemon, and what of it is reached from outside (name -> host:port)."""

    pid: int
    nats_url: str
    ports: dict[str, str]


class LabStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Everything there is in a lab; `nats_url` is for outside, `nats_url_inside` for inside."""

    state: str
    pid: int
    nats_url: str
    nats_url_inside: str
    ports: dict[str, str]
    nodes: tuple[NodeStatus, ...]
    services: tuple[ServiceStatus, ...]
