"""What of each view is worth a column, and how a row is called."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from hwbus.cli.paint import DIM, Pen, age, clean, local, plain
from hwbus.cli.rhythms import format_rhythm
from hwbus.cli.sizes import copied, format_size

Row = dict[str, Any]


class Brush(msgspec.Struct, frozen=True):
    """What a cell is painted with: a pen, and the hour that ages are counted to."""

    pen: Pen
    now: datetime


Cell = Callable[[Row, Brush], str]
_COMMAND_LINE_SHOWN = 64


class Column(msgspec.Struct, frozen=True):
    """One column; ``wide`` ones are shown on demand only, ``right`` ones are figures.

    A cell of more than ``cut`` characters (0: any number) is cut off, unless all is wanted.
    """

    title: str
    cell: Cell
    wide: bool = False
    right: bool = False
    cut: int = 0


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """How one view is shown; ``name`` is the address of a row, ``none`` what to say of no rows."""

    columns: tuple[Column, ...]
    name: Callable[[Row], str]
    none: str


def _text(field: str, title: str = "", *, wide: bool = False) -> Column:
    def cell(row: Row, _brush: Brush) -> str:
        return plain(field, row.get(field))

    return Column(title or field.replace("_", "-").upper(), cell, wide)


def _size(field: str, title: str, *, wide: bool = False) -> Column:
    return Column(title, lambda row, _brush: format_size(row.get(field) or 0), wide, right=True)


def _number(field: str, title: str, *, wide: bool = False) -> Column:
    return Column(title, lambda row, _brush: str(row.get(field) or 0), wide, right=True)


def _age(field: str = "created_at", title: str = "AGE", *, wide: bool = False) -> Column:
    return Column(title, lambda row, brush: age(row.get(field), brush.now) or "-", wide, right=True)


def _state(field: str = "state", title: str = "STATE") -> Column:
    return Column(title, lambda row, brush: brush.pen.state(clean(str(row.get(field, "")))))


def _at(field: str, title: str = "AT") -> Column:
    return Column(title, lambda row, brush: brush.pen.colour(local(row.get(field)), DIM))


def _content(row: Row, _brush: Brush) -> str:
    return " ".join(filter(None, (plain("", row.get("content")), clean(row.get("detail") or ""))))


def _storage(row: Row, _brush: Brush) -> str:
    return "simulated" if "simulated" in (row.get("capabilities") or ()) else "lvm"


def _growing(row: Row, _brush: Brush) -> str:
    size, wanted = row.get("size_bytes") or 0, row.get("wanted_bytes") or 0
    if wanted and wanted != size:
        return f"{format_size(size)}>{format_size(wanted)}" if size else format_size(wanted)
    return format_size(size)


def _target(row: Row, _brush: Brush) -> str:
    kind = "group" if row.get("group") else "volume"
    return clean(f"{kind}/{row.get(kind)}")


def _rhythm(row: Row, _brush: Brush) -> str:
    return format_rhythm(row.get("every_s") or 1, row.get("offset_s") or 0)


def _keep(row: Row, _brush: Brush) -> str:
    keep = row.get("keep") or {}
    counts = ((keep.get(what), what[0]) for what in ("hourly", "daily", "weekly"))
    return " ".join(f"{count}{letter}" for count, letter in counts if count)


def _layout(row: Row, _brush: Brush) -> str:
    stripes = row.get("stripes") or 1
    return f"{row.get('layout', 'linear')}" + (f" x{stripes}" if stripes > 1 else "")


def _took(row: Row, brush: Brush) -> str:
    end = row.get("ended_at")
    return age(row.get("created_at"), _moment_or(end, brush.now))


def _moment_or(value: Any, now: datetime) -> datetime:
    return msgspec.convert(value, datetime) if value else now


def _object(row: Row, _brush: Brush) -> str:
    on_node = f"node/{row['node']}" if row.get("node") else "-"
    return clean(row.get("object") or on_node)


def _what(row: Row, _brush: Brush) -> str:
    if row.get("argv"):
        return clean(" ".join(row["argv"]))
    events = ", ".join(_short(event) for event in row.get("events") or ())
    return clean(events or _short(row.get("word") or "") or row.get("request") or "-")


def _short(word: str) -> str:
    return word.rpartition(".v")[0] or word


def _result(row: Row, _brush: Brush) -> str:
    if row.get("argv"):
        return f"exit {row.get('exit_status', 0)} in {row.get('duration_ms', 0):.0f} ms"
    said = " ".join(filter(None, (row.get("code"), row.get("because"))))
    changed = ", ".join(
        _change(change)
        for change in row.get("changes") or ()
        if change.get("field") not in _BOOKKEEPING | _KNOWN_FROM_ELSEWHERE
    )
    return clean(said or changed) or "-"


def _change(change: Row) -> str:
    field = change.get("field", "")
    before, after = (plain(field, change.get(side)) for side in ("before", "after"))
    name = field.removesuffix("_bytes")
    return f"{name}: {after}" if before == "-" else f"{name}: {before} > {after}"


_BOOKKEEPING = frozenset({"changed_at", "created_at", "seq", "version", "candidates", "deadline"})
_KNOWN_FROM_ELSEWHERE = frozenset({"name", "uid", "operation"})


def _selects(row: Row, _brush: Brush) -> str:
    where = "/".join(filter(None, (row.get("node"), row.get("pool"))))
    chosen = " ".join(filter(None, (row.get("media"), where, row.get("volume"))))
    return clean(chosen) or "all"


def _share(percent: int | None) -> str:
    return f"{percent}%" if percent else "-"


def _step(row: Row, _brush: Brush) -> str:
    step_bytes = row.get("step_bytes")
    return format_size(step_bytes) if step_bytes else _share(row.get("step_percent"))


def _used(row: Row, _brush: Brush) -> str:
    capacity = row.get("capacity_bytes") or 0
    return f"{100 * (row.get('committed_bytes') or 0) / capacity:.0f}%" if capacity else "-"


def _on_node(kind: str, field: str = "name") -> Callable[[Row], str]:
    return lambda row: f"{kind}/{row.get('node')}/{row.get(field)}"


def _of_cluster(kind: str, field: str = "name") -> Callable[[Row], str]:
    return lambda row: f"{kind}/{row.get(field)}"


def _copied(row: Row, _brush: Brush) -> str:
    if not row.get("of_bytes"):
        return ""
    rate = row.get("bytes_per_s")
    return copied(row["copied_bytes"] or 0, row["of_bytes"]) + (
        f", {format_size(rate)}/s" if rate else ""
    )


TABLES: dict[str, Table] = {
    "nodes": Table(
        columns=(
            _text("name"),
            _state(),
            Column("STORAGE", _storage),
            _text("pools"),
            _number("disks", "DISKS"),
            _number("drifts", "DRIFT"),
            _age(),
            _text("zone", wide=True),
            _text("address", wide=True),
            _text("worker_version", "WORKER", wide=True),
            _text("capabilities", wide=True),
            _text("why", wide=True),
        ),
        name=_of_cluster("node"),
        none="no nodes yet: start a worker on one (python -m node_workers), or hwbus up here",
    ),
    "disks": Table(
        columns=(
            _text("id"),
            _text("node"),
            _text("path"),
            _size("size_bytes", "SIZE"),
            _text("media", "CLASS"),
            _state(),
            _text("health"),
            Column("CONTENT", _content),
            _text("pool"),
            _text("model", wide=True),
            _text("serial", wide=True),
            _text("wwn", wide=True),
            _age(wide=True),
            _text("why", wide=True),
            _text("health_reasons", wide=True),
        ),
        name=_of_cluster("disk", "id"),
        none="no disks are known",
    ),
    "pools": Table(
        columns=(
            _text("name"),
            _text("node"),
            _state(),
            _size("size_bytes", "SIZE"),
            _size("allocated_bytes", "ALLOCATED"),
            _size("reserved_bytes", "RESERVED"),
            _size("available_bytes", "AVAILABLE"),
            _number("volumes", "VOLUMES"),
            _age(),
            _size("thin_bytes", "THIN", wide=True),
            _size("thin_committed_bytes", "THIN-PROMISED", wide=True),
            _text("disks", wide=True),
            _text("uid", wide=True),
            _text("why", wide=True),
        ),
        name=_on_node("pool"),
        none="no pools yet: hwbus pool create NAME --node NODE --disk ID",
    ),
    "volumes": Table(
        columns=(
            _text("name"),
            _state(),
            Column("SIZE", _growing, right=True),
            Column("LAYOUT", _layout),
            _text("filesystem", "FS"),
            _text("key_ref", "KEY", wide=True),
            _text("node"),
            _text("pool"),
            _age(),
            _text("held_until"),
            _text("device", wide=True),
            _text("consumer", wide=True),
            _text("mount_point", wide=True),
            _text("limits", wide=True),
            _text("operation", wide=True),
            _text("uid", wide=True),
            _text("why", wide=True),
        ),
        name=_of_cluster("volume"),
        none="no volumes yet: hwbus volume create NAME SIZE",
    ),
    "replicas": Table(
        columns=(
            _text("volume"),
            _text("node"),
            _text("pool"),
            _state(),
            _size("size_bytes", "SIZE"),
            _text("device"),
            _text("keys"),
            _text("why"),
        ),
        name=_on_node("replica", "volume"),
        none="no replicas",
    ),
    "snapshots": Table(
        columns=(
            _text("name"),
            _text("volume"),
            _state(),
            _size("size_bytes", "SIZE"),
            _size("reserve_bytes", "RESERVE"),
            Column("FILL", lambda row, _brush: f"{row.get('fill_percent') or 0}%", right=True),
            _text("consistency", "CAUGHT"),
            _text("node"),
            _text("pool"),
            _age(),
            _text("device", wide=True),
            _text("group", wide=True),
            _text("together", wide=True),
            _text("schedule", wide=True),
            _text("operation", wide=True),
            _text("uid", wide=True),
            _text("why", wide=True),
        ),
        name=_of_cluster("snapshot"),
        none="no snapshots yet: hwbus snapshot create VOLUME NAME",
    ),
    "policies": Table(
        columns=(
            _text("name"),
            _text("kind"),
            _state(),
            Column("SELECTS", _selects),
            Column("AT", lambda row, _brush: _share(row.get("threshold_percent")), right=True),
            Column("STEP", _step, right=True),
            _size("ceiling_bytes", "CEILING"),
            _number("acts", "ACTS"),
            _age("last_act_at", "LAST"),
            _number("cool_down_s", "COOL-DOWN-S", wide=True),
            _text("last_object", wide=True),
            _text("last_operation", wide=True),
            _text("why"),
        ),
        name=_of_cluster("policy"),
        none="nothing is done by itself yet: hwbus policy set NAME --kind KIND",
    ),
    "groups": Table(
        columns=(
            _text("name"),
            _state(),
            _text("volumes"),
            _text("last_snapshot", "LAST"),
            _age("last_taken_at", "TAKEN"),
            _age(),
            _text("operation", wide=True),
            _text("code", wide=True),
            _text("why", wide=True),
        ),
        name=_of_cluster("group"),
        none="no volume groups yet: hwbus group create NAME VOLUME...",
    ),
    "schedules": Table(
        columns=(
            _text("name"),
            _state(),
            Column("OF", _target),
            Column("EVERY", _rhythm),
            Column("KEEP", _keep),
            _text("last_snapshot", "LAST"),
            _age("last_due", "DUE"),
            _number("missed", "MISSED"),
            _number("failed", "FAILED"),
            _number("taken", "TAKEN", wide=True),
            _age(wide=True),
            _text("code", wide=True),
            _text("why", wide=True),
        ),
        name=_of_cluster("schedule"),
        none="no schedules yet: hwbus schedule create NAME --volume VOLUME --every daily@02:00",
    ),
    "targets": Table(
        columns=(
            _text("name"),
            _text("url"),
            _text("endpoint"),
            _text("credentials"),
            Column("BACKUPS", lambda row, _brush: str(len(row.get("backups") or ())), right=True),
            _age("probed_at", "TESTED"),
            _age("listed_at", "LISTED"),
            _text("why"),
            _text("region", wide=True),
            _text("cluster", wide=True),
        ),
        name=_of_cluster("target"),
        none="no backup targets yet: hwbus backup target add NAME s3://BUCKET/PREFIX",
    ),
    "backups": Table(
        columns=(
            _text("target"),
            _text("name"),
            _text("volume"),
            _state(),
            _size("size_bytes", "SIZE"),
            _size("uploaded_bytes", "UPLOADED"),
            _text("consistency", "CAUGHT"),
            _age("at", "AGE"),
            _age("verified_at", "VERIFIED"),
            _text("cluster"),
            _text("parent", wide=True),
            _text("manifest", wide=True),
            _text("why", wide=True),
        ),
        name=lambda row: f"backup/{row.get('target')}/{row.get('name')}",
        none="no backups yet: hwbus backup create VOLUME TARGET",
    ),
    "operations": Table(
        columns=(
            _text("id"),
            _text("kind"),
            _text("object"),
            _state(),
            _text("step"),
            _age(),
            Column("TOOK", _took, right=True),
            Column("COPIED", _copied, wide=True),
            _text("actor", wide=True),
            _number("attempts", "TROUBLES", wide=True),
            _text("code", wide=True),
            _text("because", wide=True),
        ),
        name=_of_cluster("operation", "id"),
        none="no operation is running: --all shows ended ones",
    ),
    "audit": Table(
        columns=(
            _at("at"),
            _state("kind", "KIND"),
            _text("actor"),
            Column("OBJECT", _object),
            Column("WHAT", _what, cut=_COMMAND_LINE_SHOWN),
            Column("RESULT", _result),
            _number("seq", "SEQ", wide=True),
            _text("command", wide=True),
            _text("cause", wide=True),
            _text("correlation", wide=True),
        ),
        name=lambda row: f"audit/{row.get('kind')}/{row.get('seq')}",
        none="nothing of that kind was recorded",
    ),
    "usage": Table(
        columns=(
            _text("level"),
            _text("name"),
            _text("node", wide=True),
            _text("pool", wide=True),
            _size("capacity_bytes", "CAPACITY"),
            _size("committed_bytes", "COMMITTED"),
            _size("allocated_bytes", "ALLOCATED"),
            _size("reserved_bytes", "RESERVED"),
            _size("free_bytes", "FREE"),
            _size("available_bytes", "AVAILABLE"),
            Column("USED", _used, right=True),
            _number("volumes", "VOLUMES"),
            _size("thin_bytes", "THIN", wide=True),
            _size("thin_committed_bytes", "THIN-PROMISED", wide=True),
        ),
        name=lambda row: f"{row.get('level')}/{row.get('name')}",
        none="nothing is in use: there are no pools yet",
    ),
    "drift": Table(
        columns=(
            _text("node"),
            _text("drift"),
            _text("object"),
            _text("wanted"),
            _text("observed"),
            _age("since", "SINCE"),
            _text("settle", "SETTLE BY"),
        ),
        name=lambda row: f"{row.get('drift')}/{row.get('object')}",
        none="no drift: every node is as was decided",
    ),
    "status": Table(
        columns=(
            _text("stream"),
            _number("position", "POSITION"),
            _number("head", "HEAD"),
            _number("lag_events", "LAG"),
            _text("lag_s", "LAG-S"),
            _number("parked", "PARKED"),
        ),
        name=_of_cluster("stream", "stream"),
        none="no stream is followed",
    ),
}
ALARMS = Table(
    columns=(_text("object"), _text("code"), _age("since", "SINCE"), _text("because")),
    name=lambda row: f"alarm/{row.get('object')}",
    none="no alarms",
)
