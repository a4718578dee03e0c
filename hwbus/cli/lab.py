"""A cluster of real kernels on this machine, with the control plane in front of it."""

from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from cyclopts import Parameter

from hwbus.cli import contexts, recall
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.options import OPTIONS, Options, Size, noun
from hwbus.cli.output import heading, print_cells, print_data, say
from hwbus.cli.paint import Pen
from hwbus.cli.session import run
from hwbus.cli.sizes import format_size
from hwbus.cli.starting import until_nodes_ready
from hwbus.cli.world import World, world
from hwbus.lab.client import LabClient
from hwbus.lab.client import up as lab_up
from hwbus.lab.line import LabNotRunningError
from hwbus.lab.protocol import LabStatus
from hwbus.lab.spec import LabSpec, PortSpec, ServiceSpec, uniform
from hwbus.lab.uml.errors import LabError, NodeDownError

app = noun("lab", "A cluster of real kernels on this machine.")
T = TypeVar("T")
CONTEXT = "lab"
_HTTP_PORT = 8080
_EXEC_S = 3600.0
_SIZE_STEP_BYTES = 1 << 20

CONTROLLER = ServiceSpec(
    name="controller",
    argv=(
        *("{python}", "-m", "hwbus.controller", "--nats-url", "{nats_url}", "--state", "{state}"),
        *("--http", f"{{control_address}}:{_HTTP_PORT}"),
    ),
    ready_when='"serving"',
)
WORKER = ServiceSpec(
    name="worker",
    argv=(
        *("{python}", "-m", "node_workers", "--node", "{node}", "--nats-url", "{nats_url}"),
        *("--state", "{state}", "--address", "{storage_address}"),
    ),
    in_nodes=True,
)
NodeName = Annotated[str, Parameter(help="Name of a node: n1, n2 ...")]


def spec(nodes: int, disks: int, disk_size: str) -> LabSpec:
    """Return a lab of *nodes* with *disks* each, the control plane and a worker in every node.

    Raises ``LabError`` for figures a lab cannot have.
    """
    return uniform(
        nodes,
        disks,
        disk_size,
        services=(CONTROLLER, WORKER),
        ports=(PortSpec(name="http", port=_HTTP_PORT),),
    )


def directory(here: World) -> Path:
    """Return where the lab of this user is kept."""
    return here.state.with_name("hwbus-lab")


def _do(work: Coroutine[Any, Any, T]) -> T:
    try:
        return run(work)
    except LabNotRunningError as error:
        raise FailureError(
            Exit.UNREACHABLE, str(error), fix="Start one: hwbus lab up --nodes 3 --disks 3"
        ) from error
    except NodeDownError as error:
        raise FailureError(
            Exit.NODE_UNREACHABLE, str(error), fix="hwbus lab status; hwbus lab boot NODE"
        ) from error
    except LabError as error:
        raise FailureError(Exit.FAILED, str(error)) from error
    except TimeoutError as error:
        raise FailureError(Exit.TIMED_OUT, "the lab did not answer in time") from error


@app.command
def up(
    *,
    nodes: Annotated[int, Parameter(help="So many nodes, n1, n2 ...")] = 3,
    disks: Annotated[int, Parameter(help="So many disks a node.")] = 3,
    disk_size: Annotated[
        Size, Parameter(help="How large each is. [default: 20GiB]", show_default=False)
    ] = 20 << 30,
    options: Options = OPTIONS,
) -> int:
    """Boot real kernels as nodes, with real LVM; needs root on Debian or Ubuntu.

    Commands that follow reach the lab without flags, until it is brought down.
    """
    here = world()
    if disk_size % _SIZE_STEP_BYTES:
        raise FailureError(Exit.USAGE, f"{format_size(disk_size)} is no whole number of MiB")

    async def work() -> LabClient:
        plan = spec(nodes, disks, f"{disk_size // _SIZE_STEP_BYTES}M")
        return await lab_up(plan, directory(here), progress=lambda words: say(f"  {words}"))

    machines = _do(work())
    http = _use(here, machines)
    say("  waiting until every worker has told what it found")
    wanted = {f"n{number}": disks for number in range(1, nodes + 1)}
    counts = run(until_nodes_ready(Options(server=machines.nats_url), wanted))
    if counts != wanted:
        raise FailureError(
            Exit.TIMED_OUT,
            f"the nodes are up, but so many disks were found: {counts}",
            fix=f"Look at {directory(here)}/logs, hwbus lab status and hwbus doctor.",
        )
    if options.output in {"json", "yaml"}:
        print_data("Lab", [machines.endpoints()], options.output)
        return Exit.OK
    Pen(here, here.out).line(
        f"{nodes} nodes with {disks} disks of {format_size(disk_size)} each: "
        f"{machines.nats_url}, {http}/metrics"
    )
    say("Try:  hwbus node ls;  hwbus disk ls;  hwbus lab exec n1 -- lsblk")
    return Exit.OK


def _use(here: World, machines: LabClient) -> str:
    """Let the commands that follow reach the lab; returns where its HTTP door is."""
    recall.forget(here, machines.nats_url)
    http = f"http://{machines.ports['http']}"
    contexts.save(
        here,
        contexts.Context(
            name=CONTEXT, server=machines.nats_url, http=http, description="a lab of real kernels"
        ),
    )
    return http


@app.command
def down() -> int:
    """Stop everything in the lab; nothing of it is kept but logs."""
    here = world()
    _do(LabClient(directory(here)).down())
    if CONTEXT in contexts.names(here):
        recall.forget(here, contexts.load(here, CONTEXT).server)
    contexts.forget(here, CONTEXT)
    here.out.write("the lab is down\n")
    return Exit.OK


@app.command(name="exec")
def exec_(
    node: NodeName,
    /,
    *argv: Annotated[str, Parameter(allow_leading_hyphen=True, help="The command line.")],
    stdin: Annotated[
        bool, Parameter(name=["--stdin", "-i"], negative=(), help="Hand our input on to it.")
    ] = False,
) -> int:
    """Run a command in a node (hwbus lab exec n1 -- lvs -a); ends with its exit status."""
    here = world()
    if not argv:
        raise FailureError(Exit.USAGE, "no command", fix="hwbus lab exec n1 -- lsblk")
    given = here.stdin.read().encode() if stdin else b""

    def write(stream: str, data: bytes) -> None:
        target = here.err if stream == "stderr" else here.out
        target.write(data.decode(errors="replace"))
        target.flush()

    result = _do(
        LabClient(directory(here)).exec(
            node, *argv, stdin=given, timeout_s=_EXEC_S, check=False, on_output=write
        )
    )
    return result.status if result.status >= 0 else 128 - result.status


@app.command
def status(*, options: Options = OPTIONS) -> int:
    """Show the lab: nodes, disks, services."""
    state = _do(LabClient(directory(world())).status())
    if options.output in {"json", "yaml"}:
        print_data("Lab", [msgspec.to_builtins(state)], options.output)
        return Exit.OK
    _print_status(state)
    return Exit.OK


def _print_status(state: LabStatus) -> None:
    here = world()
    pen = Pen(here, here.out)
    pen.line(f"{state.state}  nats {state.nats_url}  http {state.ports.get('http', '-')}")
    heading("Nodes")
    print_cells(
        ("NAME", "STATE", "PID", "DISKS", "ADDRESS"),
        [
            (
                n.name,
                pen.state("frozen" if n.frozen else "running" if n.running else "stopped"),
                str(n.pid or "-"),
                " ".join(f"{d.device}({format_size(d.size_bytes)})" for d in n.disks) or "-",
                n.addresses.get("control", "-"),
            )
            for n in state.nodes
        ],
    )
    heading("Services")
    print_cells(
        ("NAME", "WHERE", "STATE", "STARTS", "LOG"),
        [
            (s.name, s.node or "host", pen.state(s.state), str(s.starts), s.log)
            for s in state.services
        ],
    )


@app.command
def kill(node: NodeName, /) -> int:
    """Cut a node's power."""
    _do(LabClient(directory(world())).kill(node))
    return Exit.OK


@app.command
def boot(node: NodeName, /) -> int:
    """Switch a node on, and wait until its worker is heard again."""
    machines = LabClient(directory(world()))
    _do(machines.boot(node))
    run(until_nodes_ready(Options(server=machines.nats_url), {node: 0}))
    return Exit.OK
