"""Why something happened, up to who wanted it, and what came of it, down to every tool that ran.

Each row of the audit names its direct cause. ``event:<seq>`` is a commit, ``command:<id>`` a
command, ``operation:<id>`` and ``loan:<id>`` the commit that began the operation. Everything else
(``scan:7``, ``watch``, ``hold-over``, nothing) has no cause in the record: it belongs to its
operation, if to any, and else begins with whoever did it.
"""

from typing import Any

import msgspec

from hwbus.cli.cells import COMMAND_LINE_SHOWN, Brush, Row, result_cell, what_cell
from hwbus.cli.output import heading
from hwbus.cli.paint import DIM, Pen, clean, local
from hwbus.cli.world import world
from hwbus.client import Client

EFFECTS_MAX = 1000
_STEPS_MAX = 1000
_POLICY = "policy:"
_COMMITS = frozenset({"accepted", "unknown"})
Key = tuple[str, int]


class Root(msgspec.Struct, frozen=True, kw_only=True):
    """Where a chain of causes ends: who began it, and why, as far as the record tells.

    ``lost``: a cause is named that is not in the record; what is above it is not known.
    """

    actor: str
    why: str
    lost: bool = False


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """From something that happened up to its root: its own row first."""

    rows: tuple[Row, ...]
    root: Root

    @property
    def policy(self) -> str:
        """The policy in whose name it was done, or an empty string."""
        actors = (str(row.get("actor", "")) for row in self.rows)
        return next((a.removeprefix(_POLICY) for a in actors if a.startswith(_POLICY)), "")

    @property
    def wanted_by(self) -> str:
        """Who wanted it: the policy, if one acted, else the one at the root."""
        return f"{_POLICY}{self.policy}" if self.policy else self.root.actor


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """Something that came of something; ``depth`` 1 is the first generation."""

    depth: int
    row: Row


def key_of(row: Row) -> Key:
    """Return which row this is: commits are numbered apart from the rest."""
    return ("commit" if row.get("kind") in _COMMITS else "record", int(row["seq"]))


class Causes:
    """Walks the audit, row by row, and remembers what it has seen."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._rows: dict[tuple[str, Any], list[Row]] = {}

    async def commit(self, seq: int) -> Row | None:
        """Return the commit at *seq*."""
        rows = await self._find("seq", seq)
        return next((row for row in rows if row.get("kind") in _COMMITS), None)

    async def chain(self, row: Row) -> Chain:
        """Return all causes of *row*, up to the root."""
        rows, seen = [row], {key_of(row)}
        for _ in range(_STEPS_MAX):
            above = await self._above(rows[-1])
            if isinstance(above, Root):
                return Chain(rows=tuple(rows), root=above)
            if key_of(above) in seen:
                break
            seen.add(key_of(above))
            rows.append(above)
        lost = Root(actor="", why=str(rows[-1].get("cause", "")), lost=True)
        return Chain(rows=tuple(rows), root=lost)

    async def effects(self, row: Row) -> list[Effect]:
        """Return what came of *row*, each before what came of itself, at most 1000 of them."""
        found: list[Effect] = []
        seen = {key_of(row)}
        waiting = [(1, one) for one in reversed(await self._below(row))]
        while waiting and len(found) < EFFECTS_MAX:
            depth, one = waiting.pop()
            if key_of(one) in seen:
                continue
            seen.add(key_of(one))
            found.append(Effect(depth=depth, row=one))
            waiting += [(depth + 1, below) for below in reversed(await self._below(one))]
        return found

    async def _above(self, row: Row) -> Row | Root:
        cause = str(row.get("cause", ""))
        origin, _, which = cause.partition(":")
        above: Row | None
        match origin:
            case "event" if which.isdecimal():
                above = await self.commit(int(which))
            case "command":
                above = await self._command(which)
            case "operation" | "loan":
                above = await self._beginning(which)
            case _:
                above = await self._beginning(str(row.get("correlation", "")))
                if above is None or key_of(above) == key_of(row):
                    return Root(actor=str(row.get("actor", "")), why=cause)
        return above or Root(actor="", why=cause, lost=True)

    async def _below(self, row: Row) -> list[Row]:
        """Return the rows of which *row* is the direct cause, in the order of their time."""
        named: list[Row] = []
        if row.get("kind") in _COMMITS:
            named += await self._find("cause", f"event:{row['seq']}")
        if row.get("command") and row.get("kind") in _COMMITS | {"refused"}:
            named += await self._find("cause", f"command:{row['command']}")
        operation = str(row.get("correlation", ""))
        beginning = await self._beginning(operation)
        if beginning is not None and key_of(beginning) == key_of(row):
            named += await self._find("cause", f"loan:{operation}")
            named += await self._find("correlation", operation)
        found = {key_of(one): one for one in named}
        below = []
        for one in found.values():
            above = await self._above(one)
            if not isinstance(above, Root) and key_of(above) == key_of(row):
                below.append(one)
        return sorted(below, key=lambda one: (str(one.get("at", "")), key_of(one)))

    async def _command(self, id_: str) -> Row | None:
        rows = await self._find("command", id_)
        decided = [row for row in rows if row.get("kind") in _COMMITS]
        return next(iter([*decided, *(row for row in rows if row.get("kind") == "refused")]), None)

    async def _beginning(self, operation: str) -> Row | None:
        """Return the first commit of an operation, or of what belongs to one command."""
        if not operation:
            return None
        rows = await self._find("correlation", operation)
        commits = (row for row in rows if row.get("kind") in _COMMITS)
        return min(commits, key=lambda row: int(row["seq"]), default=None)

    async def _find(self, column: str, value: Any) -> list[Row]:
        where = (column, value)
        if where not in self._rows:
            page = await self._client.query_all("audit", {column: value})
            self._rows[where] = list(page.items)
        return self._rows[where]


def print_causes(chain: Chain) -> None:
    """Print a chain, the root last."""
    heading("Because of")
    for depth, row in enumerate(chain.rows[1:]):
        _print(depth, row, whole=True)
    here = world()
    pen = Pen(here, here.out)
    root = chain.root
    if root.lost:
        pen.line(f"{'':>8}  not in the record: {clean(root.why)}")
    else:
        why = f" ({clean(root.why)})" if root.why else ""
        pen.line(f"{'':>8}  {clean(root.actor)}{why}")


def print_effects(effects: list[Effect], *, whole: bool) -> None:
    """Print what came of it, indented by generation; command lines in full if *whole*."""
    heading("What came of it")
    for effect in effects:
        _print(effect.depth - 1, effect.row, whole=whole)
    here = world()
    if not effects:
        Pen(here, here.out).line("nothing")
    if len(effects) >= EFFECTS_MAX:
        Pen(here, here.out).line(f"... and more: only {EFFECTS_MAX} are shown")


def _print(depth: int, row: Row, *, whole: bool) -> None:
    here = world()
    pen = Pen(here, here.out)
    brush = Brush(pen, here.clock.now())
    commit = row.get("kind") in _COMMITS
    seq = str(row["seq"]) if commit else str(row.get("kind", ""))
    what = what_cell(row, brush)
    if len(what) > COMMAND_LINE_SHOWN and not whole:
        what = what[: COMMAND_LINE_SHOWN - 1] + "…"
    if not commit:
        what = f"{what}: {result_cell(row, brush)}"
    who = clean(str(row.get("actor", "")))
    about = clean(str(row.get("object") or ""))
    said = "  ".join(filter(None, (about, what, pen.colour(who, DIM))))
    pen.line(f"{seq:>8}  {pen.colour(local(row.get('at')), DIM)}  {'  ' * depth}{said}")
