"""Contexts: which control plane is meant when none is named."""

from typing import Annotated

from cyclopts import Parameter

from hwbus.cli import contexts
from hwbus.cli.exits import Exit
from hwbus.cli.options import OPTIONS, Options, noun
from hwbus.cli.output import print_cells, print_data, say
from hwbus.cli.paint import clean
from hwbus.cli.world import world

app = noun("context", "Which control plane is meant.")
Name = Annotated[str, Parameter(help="Name of a context.")]


@app.command(name="ls", alias="list")
def ls(*, options: Options = OPTIONS) -> int:
    """List the control planes that are known."""
    here = world()
    current = contexts.current_name(here)
    known = [contexts.load(here, name) for name in contexts.names(here)]
    if options.output in {"json", "yaml"}:
        items = [
            {"name": c.name, "server": c.server, "http": c.http, "current": c.name == current}
            for c in known
        ]
        print_data("Contexts", items, options.output)
    elif options.output == "name":
        here.out.writelines(f"{c.name}\n" for c in known)
    elif known:
        print_cells(
            ("CURRENT", "NAME", "SERVER", "WHAT"),
            [
                ("*" if c.name == current else "", c.name, clean(c.server), clean(c.description))
                for c in known
            ],
        )
    else:
        say(f"no contexts: {contexts.DEFAULT_SERVER} is meant")
    return Exit.OK


@app.command
def use(name: Name, /) -> int:
    """Mean this control plane from now on."""
    contexts.use(world(), name)
    return Exit.OK


@app.command
def add(
    name: Name,
    server: Annotated[str, Parameter(help="Address of its NATS server: nats://HOST:PORT.")],
    /,
) -> int:
    """Remember a control plane, and mean it from now on."""
    contexts.save(world(), contexts.Context(name=name, server=server))
    return Exit.OK


@app.command(alias="remove")
def rm(name: Name, /) -> int:
    """Forget a control plane; it is not stopped."""
    here = world()
    contexts.load(here, name)
    contexts.forget(here, name)
    return Exit.OK
