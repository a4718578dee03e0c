"""Replicas: where each volume lies, and how those of one volume stand to one another."""

from typing import Annotated

from cyclopts import Parameter

from hwbus.cli import names
from hwbus.cli.nouns import AtNode, AtPool
from hwbus.cli.options import VIEWING, Viewing, noun
from hwbus.cli.reading import listing

app = noun("replica", "The legs of volumes on the nodes.")
OfVolume = Annotated[
    str | None,
    Parameter(completer=names.volumes, help="Name of a volume. [default: those of all]"),
]


@app.command(name="ls", alias="list")
def ls(
    volume: OfVolume = None,
    /,
    *,
    node: AtNode = None,
    pool: AtPool = None,
    options: Viewing = VIEWING,
) -> int:
    """List the replicas: role, data, connections, and what is still to be filled."""
    name = None if volume is None else volume.removeprefix("volume/")
    return listing("replicas", {"volume": name, "node": node, "pool": pool}, options)
