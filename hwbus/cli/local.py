"""One machine for an ordinary user: ``up``, ``down`` and ``status``."""

import os
from typing import Annotated

from cyclopts import Parameter

from hwbus.cli import contexts, recall
from hwbus.cli.cells import Row
from hwbus.cli.changing import confirmed
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.nouns import Yes
from hwbus.cli.options import OPTIONS, Options, Size
from hwbus.cli.output import heading, print_cells, print_data, print_table, say
from hwbus.cli.paint import GREEN, Pen, age
from hwbus.cli.session import run
from hwbus.cli.sizes import format_size
from hwbus.cli.tables import TABLES
from hwbus.cli.world import World, world
from hwbus.client import Client
from hwbus.embedded.health import get
from hwbus.embedded.layout import Layout, Report, Settings
from hwbus.ports import NobodyThereError, OutcomeUnknownError

CONTEXT = "local"
_STATUS_S = 2.0


def up(
    *,
    nodes: Annotated[int | None, Parameter(help="So many simulated nodes. [default: 1]")] = None,
    disks: Annotated[
        int | None, Parameter(help="So many simulated disks a node. [default: 3]")
    ] = None,
    disk_size: Annotated[Size | None, Parameter(help="How large each is. [default: 10GiB]")] = None,
    options: Options = OPTIONS,
) -> int:
    """Start everything on this machine, for you alone: no root is needed, storage is simulated.

    What was there before is there again: state is kept until hwbus down --purge.
    """
    from hwbus.cli.starting import StartError, start, until_nodes_ready

    here = world()
    layout = Layout(here.state)
    report = _running(layout)
    if report is not None:
        _use(here, report)
        return _already(report, options, nodes)
    settings = _settings(layout, nodes, disks, disk_size)
    try:
        report = run(start(layout, settings, lambda words: say(f"  {words}")))
    except StartError as error:
        raise FailureError(
            Exit.FAILED, f"it did not come up: {error}", fix=f"The logs are in {layout.logs}"
        ) from error
    _use(here, report)
    server = Options(server=report.nats_url)
    wanted = dict.fromkeys(settings.node_names, settings.disks)
    counts = run(until_nodes_ready(server, wanted))
    _print_up(report, settings, counts, options)
    return Exit.OK


def _settings(
    layout: Layout, nodes: int | None, disks: int | None, disk_size: int | None
) -> Settings:
    given = (("--nodes", nodes, 1, 64), ("--disks", disks, 0, 64))
    for name, value, least, most in given:
        if value is not None and not least <= value <= most:
            raise FailureError(
                Exit.USAGE, f"{name} is {value}: from {least} to {most} are possible"
            )
    before = layout.settings()
    known = before or Settings()
    if before is not None and nodes is not None and nodes < before.nodes:
        say(
            f"note: {before.nodes} nodes are there already and stay; "
            "hwbus down --purge starts from nothing"
        )
    return Settings(
        nodes=max(nodes or 1, known.nodes),
        disks=known.disks if disks is None else disks,
        disk_size_bytes=disk_size or known.disk_size_bytes,
        port=known.port,
    )


def _running(layout: Layout) -> Report | None:
    return layout.report() if layout.running() else None


def _use(here: World, report: Report) -> None:
    contexts.save(
        here,
        contexts.Context(
            name=CONTEXT,
            server=report.nats_url,
            http=report.http_url,
            description="this machine, simulated storage",
        ),
    )


def _already(report: Report, options: Options, nodes: int | None) -> int:
    if options.output in {"json", "yaml"}:
        print_data("Local", [report], options.output)
        return Exit.OK
    here = world()
    pen = Pen(here, here.out)
    since = age(report.started_at, here.clock.now())
    pen.line(f"{pen.mark('ok')}already up since {since}: {report.nats_url}, {report.http_url}")
    if nodes is not None and nodes > len(report.nodes):
        raise FailureError(
            Exit.USAGE,
            f"{len(report.nodes)} nodes are running, {nodes} are wanted",
            fix=f"hwbus down && hwbus up --nodes {nodes}; what is there is kept.",
        )
    return Exit.OK


def _print_up(report: Report, settings: Settings, counts: dict[str, int], options: Options) -> None:
    here = world()
    if options.output in {"json", "yaml"}:
        print_data("Local", [report], options.output)
        return
    pen = Pen(here, here.out)
    tick = pen.colour("✓" if pen.utf8 else "+", GREEN)
    pen.line(f"{tick} nats-server on {report.nats_url} (JetStream in {here.state / 'nats'})")
    pen.line(f"{tick} control plane {report.version}, views caught up")
    size = format_size(settings.disk_size_bytes)
    for node, disks in counts.items():
        pen.line(f"{tick} node worker {node!r}: {disks} simulated disks of {size} (no root needed)")
    pen.line(f"{tick} metrics and health  {report.http_url}/metrics  {report.http_url}/readyz")
    pen.line("Try:  hwbus disk ls")
    node = report.nodes[0]
    pen.line(
        f"      hwbus pool create fast --node {node} --wait "
        f"--disk $(hwbus disk ls --node {node} --free -o name)"
    )
    pen.line("      hwbus volume create demo 1GiB --wait")


def down(
    *,
    purge: Annotated[bool, Parameter(negative=(), help="Delete all that was kept, too.")] = False,
    yes: Yes = False,
) -> int:
    """Stop what runs on this machine, in order; its state is kept unless it is purged."""
    from hwbus.cli.starting import StartError, stop

    here = world()
    layout = Layout(here.state)
    if purge:
        confirmed("purge", f"This deletes everything in {here.state}", yes=yes)
    report = _running(layout)
    pen = Pen(here, here.out)
    if report is not None:
        try:
            run(stop(layout, report))
        except StartError as error:
            raise FailureError(Exit.FAILED, str(error)) from error
        pen.line("stopped")
    else:
        pen.line("nothing was running")
    if purge:
        _purge(here, layout, report)
        pen.line(f"deleted what was in {here.state}")
    return Exit.OK


def _purge(here: World, layout: Layout, report: Report | None) -> None:
    known = CONTEXT in contexts.names(here)
    server = report.nats_url if report else contexts.load(here, CONTEXT).server if known else ""
    if server:
        recall.forget(here, server)
    contexts.forget(here, CONTEXT)
    try:
        layout.purge()
    except OSError as error:
        raise FailureError(Exit.FAILED, f"not everything could be deleted: {error}") from error


def status(*, options: Options = OPTIONS) -> int:
    """Show what runs on this machine, and how far behind the views are."""
    here = world()
    report = _running(Layout(here.state))
    if report is None:
        if options.output in {"json", "yaml"}:
            print_data("Local", [], options.output)
        say("nothing runs on this machine: hwbus up starts it")
        return Exit.UNREACHABLE
    ready, rows = run(_look(report))
    if options.output in {"json", "yaml"}:
        print_data("Local", [{"report": report, "ready": ready, "streams": rows}], options.output)
        return Exit.OK if ready == "ready" else Exit.FAILED
    _print_status(here, report, ready, rows)
    return Exit.OK if ready == "ready" else Exit.FAILED


def _print_status(here: World, report: Report, ready: str, rows: list[Row]) -> None:
    pen = Pen(here, here.out)
    since = age(report.started_at, here.clock.now())
    pen.line(f"hwbus {report.version}, up since {since}, {ready} (storage is simulated)")
    pen.line(f"nats  {report.nats_url}")
    pen.line(f"http  {report.http_url}")
    heading("Processes")
    processes = [("supervisor", report.pid, 1, here.state / "logs" / "supervisor.log")]
    processes += [(p.name, p.pid or 0, p.starts, here.state / p.log) for p in report.processes]
    print_cells(
        ("NAME", "STATE", "PID", "STARTS", "MEMORY", "LOG"),
        [
            (
                name,
                pen.state("ready" if pid else "stopped"),
                str(pid or "-"),
                str(starts),
                _memory(pid),
                str(log),
            )
            for name, pid, starts, log in processes
        ],
        right=(2, 3, 4),
    )
    if rows:
        heading("Views")
        print_table(TABLES["status"], rows)


def _memory(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:  # noqa: PTH123
            return format_size(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    except OSError:
        return "-"


async def _look(report: Report) -> tuple[str, list[Row]]:
    try:
        code, said = await get(f"{report.http_url}/readyz", timeout_s=_STATUS_S)
    except ConnectionError as error:
        return f"not ready: {error}", []
    ready = "ready" if code == 200 else f"not ready: {said.strip()[:200]}"  # noqa: PLR2004
    here = world()
    try:
        async with here.connect(report.nats_url) as link:
            client = Client(link.bus, link.log, actor=here.user, mint=here.mint)
            page = await client.query("status", timeout_s=_STATUS_S)
    except (ConnectionError, NobodyThereError, OutcomeUnknownError) as error:
        return f"{ready}, but the views do not answer: {error}", []
    return ready, list(page.items)
