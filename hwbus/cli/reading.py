"""Listing and showing: ask a view, print what it says, remember the names it said."""

from collections.abc import Mapping, Sequence
from typing import Any

from hwbus.cli import recall
from hwbus.cli.cells import Row
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.options import Options
from hwbus.cli.output import only_one, print_data, print_fields, print_page, say
from hwbus.cli.paint import local
from hwbus.cli.session import conversation, own_writes, print_call, run, server_of
from hwbus.cli.tables import TABLES
from hwbus.cli.world import go_back, world
from hwbus.client import Client, Page, query_call

# Views of which names are completed, and the field that holds the name.
NAME_FIELDS = {
    "nodes": "name",
    "disks": "id",
    "pools": "name",
    "volumes": "name",
    "snapshots": "name",
    "policies": "name",
    "groups": "name",
    "schedules": "name",
    "qos": "name",
    "protections": "name",
    "approvals": "id",
    "targets": "name",
    "backups": "name",
    "operations": "id",
}

_ON_DISKS = frozenset({"disks", "pools", "volumes", "replicas", "snapshots", "usage"})


def listing(
    view: str, where: Mapping[str, Any], options: Options, *, limit: int | None = None
) -> int:
    """Print the rows of *view* whose columns equal *where*; without *limit* there are all."""
    asked = {key: value for key, value in where.items() if value is not None}
    if options.show_call:
        return print_call(query_call(view, asked, limit=limit), options)
    page = run(_listed(view, asked, options, limit))
    note_point(page, options)
    print_page(view, page, options.output)
    return Exit.OK


async def _listed(view: str, where: Mapping[str, Any], options: Options, limit: int | None) -> Page:
    async with conversation(options) as client:
        if limit is None:
            page = await client.query_all(view, where, min_seq=own_writes(options))
        else:
            page = await client.query(view, where, limit=limit, min_seq=own_writes(options))
        note_behind(page)
        if options.output in {"table", "wide"}:
            await note_simulated(client, view, page)
    if view in NAME_FIELDS and not where and page.at is None:
        remember(view, page, options)
    return page


def remember(view: str, page: Page, options: Options) -> None:
    """Keep the names on *page* for completion."""
    field = NAME_FIELDS[view]
    names = [str(row.get(field, "")) for row in page.items]
    recall.saw(world(), server_of(options), view, list(dict.fromkeys(names)))


def note_point(page: Page, options: Options) -> None:
    """Say which point of the past is shown, if it is the past, and go back to it."""
    if page.at is None:
        return
    go_back(page.at)
    if options.output not in {"json", "yaml"}:
        say(f"as of seq {page.seq}, {local(page.at)}")


def note_behind(page: Page) -> None:
    """Say so if the view could not show what was written before."""
    if page.behind:
        say(
            f"note: shown as of seq {page.seq}; the views have not reached seq {page.behind} "
            "yet (hwbus doctor shows how far they are behind)"
        )


async def note_simulated(client: Client, view: str, page: Page) -> None:
    """Say which of the nodes on *page* only simulate their storage."""
    if view not in _ON_DISKS or not page.items:
        return
    nodes = await client.query_all("nodes")
    simulated = [n["name"] for n in nodes.items if "simulated" in n.get("capabilities", ())]
    shown = {row.get("node") for row in page.items}
    if view == "usage" or shown & set(simulated):
        named = [name for name in simulated if view == "usage" or name in shown]
        if named:
            say(f"simulated: the storage of {', '.join(named)} is simulated, no real disk is used")


def fetch_one(view: str, where: Mapping[str, Any], what: str, options: Options) -> Row:
    """Return the one row of *view* that *where* names. Raises ``FailureError``: there is none."""

    async def work() -> Page:
        async with conversation(options) as client:
            return await client.query(view, where, min_seq=own_writes(options))

    page = run(work())
    note_behind(page)
    return only_one(view, page, what)


async def one(
    client: Client, view: str, where: Mapping[str, Any], what: str, options: Options
) -> tuple[Page, Row]:
    """Return the page and the one row on it. Raises ``FailureError``: there is none."""
    page = await client.query(view, where, min_seq=own_writes(options))
    note_behind(page)
    note_point(page, options)
    return page, only_one(view, page, what)


def show_row(view: str, page: Page, options: Options, *, hide: Sequence[str] = ()) -> bool:
    """Print the one row of *page*; return whether further parts may follow (only in tables)."""
    if options.output in {"json", "yaml"}:
        print_data(page.kind, page.items, options.output, seq=page.seq)
        return False
    if options.output == "name":
        world().out.write(TABLES[view].name(page.items[0]) + "\n")
        return False
    print_fields(page.items[0], hide=hide, everything=options.output == "wide")
    return True


async def rest(client: Client, view: str, where: Mapping[str, Any], page: Page) -> Page:
    """Return further rows that belong to what *page* shows, no older than it."""
    return await client.query_all(view, where, min_seq=page.seq)


def node_of_pool(pool: str, node: str | None, options: Options) -> tuple[str, str]:
    """Return (node, pool) for a pool given as ``fast``, ``n1/fast`` or with its node.

    Raises:
        FailureError: no node has such a pool, or several have and none was named.
    """
    if node is None and pool.count("/") == 1:
        node, pool = pool.split("/")
    if node is not None:
        return node, pool

    async def work() -> Page:
        async with conversation(options) as client:
            return await client.query_all("pools", {"name": pool}, min_seq=own_writes(options))

    nodes = [str(row["node"]) for row in run(work()).items]
    if len(nodes) == 1:
        return nodes[0], pool
    if nodes:
        raise FailureError(
            Exit.USAGE,
            f"{len(nodes)} nodes have a pool {pool!r}: {', '.join(nodes)}",
            fix="Say which one with --node.",
        )
    raise FailureError(
        Exit.NOT_FOUND, f"no node has a pool {pool[:80]!r}", fix="hwbus pool ls shows the pools."
    )
