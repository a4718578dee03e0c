"""A figure stands beside the floor that was measured in the same minute, or it says nothing."""

from collections.abc import Sequence
from statistics import median, quantiles
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table


class Sample(msgspec.Struct, frozen=True):
    """One run of one thing: how much a second, and how long each took."""

    per_s: float
    p50_ms: float
    p99_ms: float


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table: medians of some runs; ``spread`` is their smallest and largest.

    ``ratio`` is ``value`` in parts of ``floor``, the bare thing in the same run. ``reached`` is
    None where there is no target.
    """

    name: str
    value: float
    unit: str
    spread: tuple[float, float]
    floor: float | None = None
    floor_is: str = ""
    ratio: float | None = None
    target: str = ""
    reached: bool | None = None
    note: str = ""


def figure(name: str, values: Sequence[float], unit: str, **more: Any) -> Figure:
    """Return the row for *values*, one a run; *more* are fields of ``Figure``.

    A ``floor`` given as a sequence of runs is taken at its median, and the ratio is that of the
    medians. ``at_least``, ``at_most`` set the target for the value, ``ratio_at_least`` and
    ``above_floor_at_most`` for what it is beside its floor.
    """
    value = median(values)
    bounds = {
        name: more.pop(name, None)
        for name in ("at_least", "at_most", "ratio_at_least", "above_floor_at_most")
    }
    floors = more.pop("floor", None)
    floor = None if floors is None else median(floors)
    ratio = None if not floor else value / floor
    target, reached = _target(value, floor, ratio, unit, bounds)
    return Figure(
        name=name,
        value=value,
        unit=unit,
        spread=(min(values), max(values)),
        floor=floor,
        ratio=ratio,
        target=target,
        reached=reached,
        **more,
    )


def _target(
    value: float,
    floor: float | None,
    ratio: float | None,
    unit: str,
    bounds: dict[str, float | None],
) -> tuple[str, bool | None]:
    match bounds:
        case {"at_least": float() | int() as least}:
            return f"at least {short(least)} {unit}", value >= least
        case {"at_most": float() | int() as most}:
            return f"at most {short(most)} {unit}", value <= most
        case {"ratio_at_least": float() | int() as least} if ratio is not None:
            return f"at least {least:.0%} of the floor", ratio >= least
        case {"above_floor_at_most": float() | int() as most} if floor is not None:
            return f"at most floor + {short(most)} {unit}", value - floor <= most
        case _:
            return "", None


def sample(times_ms: Sequence[float], took_s: float) -> Sample:
    """Return what one run showed."""
    return Sample(len(times_ms) / took_s, median(times_ms), quantiles(times_ms, n=100)[98])


def short(value: float) -> str:
    """Return a number as people read it."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:,.2f}"


def show(figures: Sequence[Figure], console: Console) -> None:
    """Print the table."""
    table = Table(box=None, padding=(0, 1), header_style="bold")
    for heading, justify in (
        ("figure", "left"),
        ("ours", "right"),
        ("", "left"),
        ("from..to", "right"),
        ("floor", "right"),
        ("ratio", "right"),
        ("target", "left"),
        ("", "left"),
    ):
        table.add_column(heading, justify=justify, no_wrap=heading != "figure")  # type: ignore[arg-type]
    for row in figures:
        verdict = {None: "", True: "reached", False: "NOT reached"}[row.reached]
        table.add_row(
            row.name,
            short(row.value),
            row.unit,
            "..".join(short(value) for value in row.spread),
            "" if row.floor is None else short(row.floor),
            "" if row.ratio is None else f"{row.ratio:.2f}",
            row.target,
            verdict,
        )
    console.print(table)
    said: dict[str, str] = {}
    for row in figures:
        told = " ".join(filter(None, (row.floor_is and f"Floor: {row.floor_is}.", row.note)))
        if told:
            said.setdefault(told, row.name)
    for told, name in said.items():
        console.print(f"From {name!r} on: {told}", style="dim", highlight=False)
