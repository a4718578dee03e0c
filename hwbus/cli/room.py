"""Usage: how much room there is, and who has it."""

from typing import Annotated, Literal

from cyclopts import Parameter

from hwbus.cli.nouns import AtNode, AtPool
from hwbus.cli.options import OPTIONS, Options
from hwbus.cli.reading import listing

Level = Literal["cluster", "node", "pool", "volume", "snapshot", "all"]


def usage(
    *,
    level: Annotated[Level, Parameter(help="Summed up over what.")] = "pool",
    node: AtNode = None,
    pool: AtPool = None,
    options: Options = OPTIONS,
) -> int:
    """Show capacity, what is committed and allocated of it, and what is free."""
    where = {"level": None if level == "all" else level, "node": node, "pool": pool}
    return listing("usage", where, options)
