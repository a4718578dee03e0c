"""Usage and drift: how much room there is, and where what is differs from what was decided."""

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


def drift(*, node: AtNode = None, options: Options = OPTIONS) -> int:
    """Show where nodes differ from what was decided, and what would settle it."""
    return listing("drift", {"node": node}, options)
