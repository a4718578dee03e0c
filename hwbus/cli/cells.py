"""What stands in the columns of lists: how a figure, a moment or a change is shown."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from hwbus.cli.paint import DIM, RED, Pen, age, clean, local, plain
from hwbus.cli.rhythms import format_rhythm
from hwbus.cli.sizes import copied, format_size

Row = dict[str, Any]


class Brush(msgspec.Struct, frozen=True):
    """What a cell is painted with: a pen, and the hour that ages are counted to."""

    pen: Pen
    now: datetime


Cell = Callable[[Row, Brush], str]


COMMAND_LINE_SHOWN = 64


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


def text(field: str, title: str = "", *, wide: bool = False) -> Column:
    """Return a column of plain words."""

    def cell(row: Row, _brush: Brush) -> str:
        return plain(field, row.get(field))

    return Column(title or field.replace("_", "-").upper(), cell, wide)


def size(field: str, title: str, *, wide: bool = False) -> Column:
    """Return a column of sizes."""
    return Column(title, lambda row, _brush: format_size(row.get(field) or 0), wide, right=True)


def number(field: str, title: str, *, wide: bool = False) -> Column:
    """Return a column of figures."""
    return Column(title, lambda row, _brush: str(row.get(field) or 0), wide, right=True)


def age_of(field: str = "created_at", title: str = "AGE", *, wide: bool = False) -> Column:
    """Return a column of how long ago something was."""
    return Column(title, lambda row, brush: age(row.get(field), brush.now) or "-", wide, right=True)


def state(field: str = "state", title: str = "STATE") -> Column:
    """Return a column of states, in their colours."""
    return Column(title, lambda row, brush: brush.pen.state(clean(str(row.get(field, "")))))


def volume_state_cell(row: Row, brush: Brush) -> str:
    """What is done with a volume, how its replicas are if it has several, and what drift found."""
    doing, health = str(row.get("state", "")), str(row.get("health") or "")
    told = [doing] if doing != "ready" or not health else []
    told += [health] if health and (health != "healthy" or not told) else []
    comparing = (row.get("compared") or {}).get("operation") and doing != "repairing"
    told += ["verifying"] if comparing else []
    words = [brush.pen.state(clean(word)) for word in told]
    percent = row.get("sync_percent")
    found = ", ".join(clean(str(one)) for one in row.get("defects") or ())
    if percent is not None:
        speed = row.get("sync_bytes_per_s")
        words += [f"{percent}%", *([f"{format_size(speed)}/s"] if speed else [])]
    return " ".join(filter(None, (*words, brush.pen.colour(found, RED))))


def replica_state_cell(row: Row, brush: Brush) -> str:
    """What the node has of a replica, and what is the matter with it."""
    matters = [word for word in ("split", "frozen", "outdated") if row.get(word)]
    words = [brush.pen.state(clean(str(row.get("state", ""))))]
    return " ".join((*words, *(brush.pen.colour(word, RED) for word in matters)))


def peers_cell(row: Row, _brush: Brush) -> str:
    """To whom a replica is connected, and how good the data there is."""
    told = []
    for peer in row.get("peers") or ():
        words = [peer.get("node"), peer.get("tie", "standalone"), peer.get("disk", "unknown")]
        sync, left = peer.get("sync", "none"), peer.get("out_of_sync_bytes") or 0
        words += [f"sync-{sync}"] if sync != "none" else []
        how = "behind" if sync != "none" else "differs"
        words += [f"{format_size(left)} {how}"] if left else []
        told.append(clean(" ".join(str(word) for word in words)))
    return ", ".join(told) or "-"


def replicas_cell(row: Row, _brush: Brush) -> str:
    """How many replicas of a volume are good, of how many."""
    wanted, legs = row.get("replicas_wanted") or 1, row.get("replicas") or ()
    if wanted == 1 and not legs:
        return "1"
    return f"{sum(1 for leg in legs if leg.get('good'))}/{max(wanted, len(legs))}"


def survives_cell(row: Row, _brush: Brush) -> str:
    """How many replicas more a volume may lose; one that has no other cannot be asked that."""
    return str(row.get("survives") or 0) if row.get("health") else "-"


def verified_cell(row: Row, brush: Brush) -> str:
    """How long ago the replicas were compared, and what was found then."""
    known = row.get("compared") or {}
    found = known.get("differing_bytes") or 0
    words = [
        age(known.get("at"), brush.now) or "-",
        *([f"{format_size(found)} differs"] if found else []),
    ]
    return " ".join(words)


def replication_cell(row: Row, _brush: Brush) -> str:
    """Of how many replicas a node can hold one."""
    can = row.get("capabilities") or ()
    return "many" if "replication-many" in can else "2" if "replication" in can else "-"


def moment(field: str, title: str = "AT") -> Column:
    """Return a column of moments, in local time."""
    return Column(title, lambda row, brush: brush.pen.colour(local(row.get(field)), DIM))


def content_cell(row: Row, _brush: Brush) -> str:
    """What lies on a disk, and what exactly."""
    return " ".join(filter(None, (plain("", row.get("content")), clean(row.get("detail") or ""))))


def owner_cell(row: Row, _brush: Brush) -> str:
    """The pool of a disk, or the volume that it is."""
    volume = clean(row.get("volume") or "")
    return f"volume/{volume}" if volume else plain("pool", row.get("pool"))


def storage_cell(row: Row, _brush: Brush) -> str:
    """Whether the storage of a node is real."""
    return "simulated" if "simulated" in (row.get("capabilities") or ()) else "lvm"


def growing_cell(row: Row, _brush: Brush) -> str:
    """A size, and what it is becoming."""
    size, wanted = row.get("size_bytes") or 0, row.get("wanted_bytes") or 0
    if wanted and wanted != size:
        return f"{format_size(size)}>{format_size(wanted)}" if size else format_size(wanted)
    return format_size(size)


def target_cell(row: Row, _brush: Brush) -> str:
    """What a schedule takes snapshots of."""
    kind = "group" if row.get("group") else "volume"
    return clean(f"{kind}/{row.get(kind)}")


def rhythm_cell(row: Row, _brush: Brush) -> str:
    """How often, and when."""
    return format_rhythm(row.get("every_s") or 1, row.get("offset_s") or 0)


def keep_cell(row: Row, _brush: Brush) -> str:
    """How many are kept of each age."""
    keep = row.get("keep") or {}
    counts = ((keep.get(what), what[0]) for what in ("hourly", "daily", "weekly"))
    return " ".join(f"{count}{letter}" for count, letter in counts if count)


def layout_cell(row: Row, _brush: Brush) -> str:
    """A layout, with its stripes."""
    stripes = row.get("stripes") or 1
    return f"{row.get('layout', 'linear')}" + (f" x{stripes}" if stripes > 1 else "")


def took_cell(row: Row, brush: Brush) -> str:
    """How long an operation took, or takes."""
    end = row.get("ended_at")
    return age(row.get("created_at"), _moment_or(end, brush.now))


def _moment_or(value: Any, now: datetime) -> datetime:
    return msgspec.convert(value, datetime) if value else now


def object_cell(row: Row, _brush: Brush) -> str:
    """What a row of the audit is about."""
    on_node = f"node/{row['node']}" if row.get("node") else "-"
    return clean(row.get("object") or row.get("address") or on_node)


def what_cell(row: Row, _brush: Brush) -> str:
    """What was said or run."""
    if row.get("argv"):
        return clean(" ".join(row["argv"]))
    if row.get("kind") == "login":
        return clean(" ".join(filter(None, (row.get("word"), row.get("client")))))
    events = ", ".join(_short(event) for event in row.get("events") or ())
    return clean(events or _short(row.get("word") or "") or row.get("request") or "-")


def _short(word: str) -> str:
    return word.rpartition(".v")[0] or word


def result_cell(row: Row, _brush: Brush) -> str:
    """What came of it."""
    if row.get("argv"):
        return f"exit {row.get('exit_status', 0)} in {row.get('duration_ms', 0):.0f} ms"
    lasted_ms = row.get("duration_ms")
    lasted = f"after {lasted_ms / 1000:.1f} s:" if lasted_ms else ""
    said = " ".join(filter(None, (row.get("code"), lasted, row.get("because"))))
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


_KNOWN_FROM_ELSEWHERE = frozenset({"name", "uid", "operation", "replicas", "peers"})


def selects_cell(row: Row, _brush: Brush) -> str:
    """What a policy looks after."""
    where = "/".join(filter(None, (row.get("node"), row.get("pool"))))
    group = f"group/{row['group']}" if row.get("group") else ""
    chosen = " ".join(filter(None, (row.get("media"), where, group, row.get("volume"))))
    return clean(chosen) or "all"


def when_cell(row: Row, _brush: Brush) -> str:
    """At which level a policy acts, or how often."""
    return rhythm_cell(row, _brush) if row.get("every_s") else share(row.get("threshold_percent"))


def met_cell(row: Row, _brush: Brush) -> str:
    """Which objects a command meets that waits for approval."""
    return clean(", ".join(one.partition("@")[0] for one in row.get("objects") or ())) or "-"


def share(percent: int | None) -> str:
    """Return a share for people, if there is one."""
    return f"{percent}%" if percent else "-"


def step_cell(row: Row, _brush: Brush) -> str:
    """By how much a policy lets grow."""
    step_bytes = row.get("step_bytes")
    return format_size(step_bytes) if step_bytes else share(row.get("step_percent"))


def used_cell(row: Row, _brush: Brush) -> str:
    """How much of it is promised."""
    capacity = row.get("capacity_bytes") or 0
    return f"{100 * (row.get('committed_bytes') or 0) / capacity:.0f}%" if capacity else "-"


def on_node(kind: str, field: str = "name") -> Callable[[Row], str]:
    """Return how a row of something on a node is called."""
    return lambda row: f"{kind}/{row.get('node')}/{row.get(field)}"


def of_cluster(kind: str, field: str = "name") -> Callable[[Row], str]:
    """Return how a row of something in the cluster is called."""
    return lambda row: f"{kind}/{row.get(field)}"


def copied_cell(row: Row, _brush: Brush) -> str:
    """How far a copy is, and how fast it goes."""
    if not row.get("of_bytes"):
        return ""
    rate = row.get("bytes_per_s")
    return copied(row["copied_bytes"] or 0, row["of_bytes"]) + (
        f", {format_size(rate)}/s" if rate else ""
    )
