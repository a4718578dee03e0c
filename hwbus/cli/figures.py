"""How accounts are printed: to the last byte for programs, in GiB-hours and bars for people."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hwbus.cli.accounting import Line, Period, gib_hours
from hwbus.cli.cells import Brush, Column, Row, Table
from hwbus.cli.charts import bar, sparkline
from hwbus.cli.forecasting import Forecast
from hwbus.cli.options import Counting
from hwbus.cli.output import print_document, print_table, say
from hwbus.cli.paint import DIM, RED, YELLOW, clean, local
from hwbus.cli.sizes import format_size
from hwbus.cli.world import world
from schemas.account_view import COUNTED

_SOON_DAYS, _SOONER_DAYS = 30, 7


def print_period(period: Period, options: Counting) -> None:
    """Print a period: one line an account."""
    rows = [_record(line) for line in period.lines]
    ends = {"from": period.since, "to": period.until}
    match options.output:
        case "csv":
            _print_csv(({**ends, **row} for row in rows), (*ends, *_PERIOD_FIELDS))
        case "json" | "yaml":
            print_document("UsagePeriod", rows, options.output, seq=period.seq, **ends)
        case "name":
            _print_names(rows)
        case _:
            say(f"GiB-hours from {local(period.since)} to {local(period.until)}")
            if rows:
                print_table(_period_table(rows), rows, wide=options.output == "wide")
            else:
                say("nothing was taken in that period")


def print_top(period: Period, by: str, limit: int, options: Counting) -> None:
    """Print who has most of something, or has grown most in the period."""
    measured = sorted(
        ((_MEASURES[by](line), line) for line in period.lines if not line.closed),
        key=lambda pair: (-pair[0], pair[1].name),
    )
    rows = [
        {
            "level": line.level,
            "name": line.name,
            "uid": line.uid,
            "room_bytes": line.room(line.bytes),
            "grown_bytes": line.room(line.grown),
            "snapshot_bytes": line.bytes["snapshot"],
            "measure": value,
        }
        for value, line in measured
        if value > 0
    ][: max(0, limit)]
    ends = {"from": period.since, "to": period.until}
    told = [{key: value for key, value in row.items() if key != "measure"} for row in rows]
    match options.output:
        case "csv":
            _print_csv(({**ends, **row} for row in told), (*ends, *_TOP_FIELDS))
        case "json" | "yaml":
            print_document("UsageTop", told, options.output, seq=period.seq, by=by, **ends)
        case "name":
            _print_names(told)
        case _:
            say(f"since {local(period.since)}")
            if rows:
                print_table(_top_table(rows), rows, wide=options.output == "wide")
            else:
                say(_NOBODY[by])


def print_forecasts(found: Sequence[Forecast], seq: int, options: Counting) -> None:
    """Print when what will be full, and from what that is told."""
    match options.output:
        case "csv":
            rows = ({field: getattr(one, field) for field in _FORECAST_FIELDS} for one in found)
            _print_csv(rows, _FORECAST_FIELDS)
        case "json" | "yaml":
            print_document("UsageForecast", found, options.output, seq=seq)
        case "name":
            _print_names([{"level": one.level, "name": one.name} for one in found])
        case _:
            if found:
                rows_ = [{"forecast": one} for one in found]
                print_table(_FORECASTS, rows_, wide=options.output == "wide")
            else:
                say("nothing to foretell: there are no pools yet")


def _record(line: Line) -> dict[str, Any]:
    """Return a line as it is told to programs: flat, in the order that does not change."""
    record: dict[str, Any] = {"level": line.level, "name": line.name, "uid": line.uid}
    record["closed"] = line.closed
    for what in COUNTED:
        record[f"{what}_byte_us"] = line.byte_us[what]
        record[f"{what}_gib_hours"] = round(gib_hours(line.byte_us[what]), 6)
        record[f"{what}_bytes"] = line.bytes[what]
    record |= {what: getattr(line, what) for what in _MOVED}
    return record | {"operations": line.operations}


_MOVED = ("uploaded_bytes", "freed_bytes", "written_bytes", "read_bytes")
_OF_A_LINE = ("byte_us", "gib_hours", "bytes")
_PERIOD_FIELDS = (
    *("level", "name", "uid", "closed"),
    *(f"{what}_{of}" for what in COUNTED for of in _OF_A_LINE),
    *_MOVED,
    "operations",
)
_TOP_FIELDS = ("level", "name", "uid", "room_bytes", "grown_bytes", "snapshot_bytes")
_FORECAST_FIELDS = (
    *("level", "name", "what", "capacity_bytes", "used_bytes", "days", "bytes_per_day"),
    *("full_at", "earliest", "latest", "because"),
)
_MEASURES: dict[str, Callable[[Line], int]] = {
    "growth": lambda line: line.room(line.grown),
    "size": lambda line: line.room(line.bytes),
    "snapshots": lambda line: line.bytes["snapshot"],
}
_NOBODY = {
    "growth": "nothing has grown since then",
    "size": "nothing is taken",
    "snapshots": "there are no snapshots",
}


def _print_csv(rows: Iterable[Mapping[str, Any]], fields: Sequence[str]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(fields)
    writer.writerows([_plain(row[field]) for field in fields] for row in rows)
    world().out.write(text.getvalue())


def _plain(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case dict():
            return ";".join(f"{key}={each}" for key, each in value.items())
        case float():
            return f"{value:.6f}"
        case str() | int():
            return str(value)
        case _:
            return str(value.isoformat()).replace("+00:00", "Z")


def _print_names(rows: Iterable[Mapping[str, Any]]) -> None:
    world().out.writelines(f"{clean(_name(row))}\n" for row in rows)


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['level']}/{row['name']}"


def _called(row: Row, _brush: Brush) -> str:
    return clean(str(row["name"])) or "-"


def _hours(what: str, *, wide: bool = False) -> Column:
    def cell(row: Row, _brush: Brush) -> str:
        hours = gib_hours(row[f"{what}_byte_us"])
        return f"{hours:,.2f}" if row[f"{what}_byte_us"] else "-"

    return Column(what.upper(), cell, wide, right=True)


def _operations(row: Row, _brush: Brush) -> str:
    total = sum(row["operations"].values())
    failed = sum(n for what, n in row["operations"].items() if not what.endswith("/completed"))
    return f"{total} ({failed} not completed)" if failed else str(total)


def _sized(field: str, title: str, *, wide: bool = False) -> Column:
    return Column(title, lambda row, _brush: format_size(row[field]), wide, right=True)


def _bar_of(measure: Callable[[Row], int], rows: Sequence[Row]) -> Column:
    most = max((measure(row) for row in rows), default=0)
    return Column("", lambda row, brush: bar(measure(row), most, brush.pen))


def _taken(row: Row) -> int:
    """Return what a bar is as long as: the room of the account's kind, over time."""
    promised = row["promised_byte_us"] if row["level"] in {"volume", "namespace", "label"} else 0
    taken = int(row["allocated_byte_us"] + promised)
    return taken if row["level"] != "target" else int(row["backup_byte_us"])


def _period_table(rows: Sequence[Row]) -> Table:
    return Table(
        columns=(
            Column("NAME", _called),
            Column("UID", lambda row, _brush: row["uid"] or "-", wide=True),
            *(_hours(what) for what in COUNTED),
            _sized("written_bytes", "WRITTEN"),
            _sized("read_bytes", "READ", wide=True),
            Column("OPERATIONS", _operations, right=True),
            _sized("uploaded_bytes", "UPLOADED", wide=True),
            _sized("freed_bytes", "FREED", wide=True),
            _bar_of(_taken, rows),
        ),
        name=_name,
        none="",
    )


def _top_table(rows: Sequence[Row]) -> Table:
    return Table(
        columns=(
            Column("NAME", _called),
            _sized("room_bytes", "ROOM"),
            _sized("grown_bytes", "GROWN"),
            _sized("snapshot_bytes", "SNAPSHOTS"),
            _bar_of(lambda row: int(row["measure"]), rows),
        ),
        name=_name,
        none="",
    )


def _full_cell(row: Row, brush: Brush) -> str:
    one: Forecast = row["forecast"]
    if one.full_at is None:
        return brush.pen.colour(f"not known: {one.because}", DIM)
    days = (one.full_at - brush.now).total_seconds() / 86_400
    colour = RED if days < _SOONER_DAYS else YELLOW if days < _SOON_DAYS else ""
    text = "now" if days <= 0 else f"in {days:.0f} days, {one.full_at:%Y-%m-%d}"
    return brush.pen.colour(text, colour) if colour else text


def _between_cell(row: Row, _brush: Brush) -> str:
    one: Forecast = row["forecast"]
    if one.full_at is None or one.earliest is None:
        return "-"
    latest = "never" if one.latest is None else f"{one.latest:%Y-%m-%d}"
    return f"{one.earliest:%Y-%m-%d} to {latest}"


def _trend_cell(row: Row, _brush: Brush) -> str:
    per_day = row["forecast"].bytes_per_day
    return "-" if per_day is None else f"{format_size(per_day)}/d"


_FORECASTS = Table(
    columns=(
        Column("NAME", lambda row, _brush: clean(row["forecast"].name)),
        Column("OF", lambda row, _brush: row["forecast"].what),
        Column("USED", lambda row, _brush: format_size(row["forecast"].used_bytes), right=True),
        Column(
            "CAPACITY", lambda row, _brush: format_size(row["forecast"].capacity_bytes), right=True
        ),
        Column("TREND", _trend_cell, right=True),
        Column("FROM", lambda row, _brush: f"{row['forecast'].days:.0f} days", right=True),
        Column("FULL", _full_cell),
        Column("BETWEEN", _between_cell, wide=True),
        Column("", lambda row, brush: sparkline(row["forecast"].samples, brush.pen)),
    ),
    name=lambda row: f"{row['forecast'].level}/{row['forecast'].name}",
    none="",
)
