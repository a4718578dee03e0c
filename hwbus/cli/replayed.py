"""What is seen of a log that is played again: its commits, what they changed, and objects."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from hwbus.cli.paint import clean, local, plain
from hwbus.replaying.canon import text
from hwbus.replaying.player import Changed, Player, Unread
from hwbus.subjects import CLUSTER, Address
from projectors.audit import changes
from projectors.fold import own_key, own_table
from schemas.audit import ExecutedRecord, RefusedRecord
from schemas.grammar import type_name
from schemas.views import Row
from schemas.words import COMMANDS

_ON_A_NODE = frozenset({"pool", "replica", "attachment", "errand"})
_TOLD = {own.name: kind for kind in COMMANDS if (own := own_table(kind)) is not None}
_TOLD |= {"drift": "drift", "backups": "backup"}
_INDENT = " " * 8


class NoSuchError(ValueError):
    """What is asked for is not there, or cannot be; the message says which."""


def address_of(name: str) -> Address:
    """Return the address that *name* (``volume/pg``, ``pool/n1/fast``) means.

    Raises:
        NoSuchError: it is no address.
    """
    kind, _, rest = name.partition("/")
    node, _, own = rest.partition("/") if kind in _ON_A_NODE else (CLUSTER, "", rest)
    if kind not in COMMANDS or not own:
        kinds = ", ".join(sorted(COMMANDS))
        raise NoSuchError(
            f"{name[:80]!r} is no object: write KIND/NAME, or KIND/NODE/NAME of what lives on a "
            f"node; the kinds are {kinds}"
        )
    return Address(kind, node, own)


def found(player: Player, name: str) -> dict[str, Any]:
    """Return what there is of an object: ``row``, as the views have it, and ``state``.

    Raises:
        NoSuchError: there is no such object where *player* is.
    """
    address = address_of(name)
    state = player.world.held(address.kind, address.place, address.id).state
    table = own_table(address.kind)
    row = None if table is None else player.rows.get(table, own_key(address))
    if row is None and state is None:
        raise NoSuchError(f"there is no {name[:80]} at {player.seq}")
    return {
        "object": str(address),
        "row": None if row is None else msgspec.to_builtins(row),
        "state": None if state is None else msgspec.json.decode(text(state)),
    }


def object_lines(item: dict[str, Any]) -> Iterator[str]:
    """Give an object as lines of fields: its row, or its state where no view has one."""
    yield clean(item["object"])
    row = item["row"] or item["state"] or {}
    shown = {name: plain(name, value) for name, value in row.items()}
    shown = {name: said for name, said in shown.items() if said not in {"-", "no"}}
    widest = max(map(len, shown), default=0)
    for name, said in shown.items():
        yield f"  {name.ljust(widest)}  {said}"


def step(player: Player, changed: Sequence[Changed]) -> dict[str, Any]:
    """Return the latest commit of *player*, with what it changed, for programs."""
    seen = player.latest
    if seen is None or isinstance(seen, Unread):
        because = "" if seen is None else seen.because
        return {"seq": player.seq, "unreadable": because, "changes": []}
    words = [*(type_name(event) for event in seen.events), *(one.word for one in seen.unknown)]
    return {
        "seq": seen.seq,
        "at": seen.at,
        "object": str(seen.address),
        "events": words,
        "actor": seen.commit.actor,
        "word": seen.commit.word,
        "correlation": seen.commit.correlation,
        "cause": seen.commit.cause,
        "changes": [one for each in changed for one in _changes(each)],
        "records": [msgspec.to_builtins(one) for one in _caused(player)],
    }


def _changes(changed: Changed) -> Iterator[dict[str, Any]]:
    section, *where = changed.where
    if section == "row" and where[0] in _TOLD:
        before, after = changed.before, changed.after
        about = {"object": f"{_TOLD[where[0]]}/{where[1]}", "change": _change(before, after)}
        fields = changes(before, after)
        for field in fields:
            was, now = (msgspec.json.decode(raw) for raw in (field.before, field.after))
            yield {**about, "field": field.field, "before": was, "after": now}
        if not fields and about["change"] != "changed":
            yield {**about, "field": "", "before": None, "after": None}


def _change(before: Row | None, after: Row | None) -> str:
    return "added" if before is None else "removed" if after is None else "changed"


def _caused(player: Player) -> Iterator[RefusedRecord | ExecutedRecord]:
    """Give what the file holds beside the events that names this commit as its cause."""
    because = f"event:{player.seq}"
    for _, record in player.tape.records:
        match record:
            case RefusedRecord(cause=cause) | ExecutedRecord(cause=cause) if cause == because:
                yield record
            case _:
                pass


def step_lines(item: dict[str, Any]) -> Iterator[str]:
    """Give a step as lines: the commit, then what it changed, then what ran for it."""
    if "unreadable" in item:
        because = item["unreadable"]
        yield f"{item['seq']:>7}  " + (f"unreadable: {clean(because)}" if because else "beginning")
        return
    words = ", ".join(clean(word.rpartition(".v")[0] or word) for word in item["events"])
    about = (local(item["at"]), clean(item["object"]), words, clean(item["actor"]))
    yield f"{item['seq']:>7}  " + "  ".join(about)
    yield from change_lines(item["changes"])
    for record in item["records"]:
        if record["type"] == "executed":
            ran = clean(" ".join(record["argv"]))
            yield f"{_INDENT} ran on {clean(record['node'])}: {ran}: exit {record['exit_status']}"
        else:
            said = clean(f"{record['code']} {record['because']}")
            yield f"{_INDENT} refused: {clean(record['word'])} {clean(record['object'])}: {said}"


def change_lines(items: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Give one line for each field that is another one; of what is new or gone, its state."""
    for item in items:
        gone = item["change"] != "changed"
        if gone and item["field"] not in {"state", ""}:
            continue
        said = f"{_INDENT} {item['change']} {clean(item['object'])}"
        if item["field"]:
            before, after = (plain(item["field"], item[side]) for side in ("before", "after"))
            said += f"  {item['field']}: {before} -> {after}"
        yield said


def differences(changed: Iterable[Changed]) -> list[dict[str, Any]]:
    """Return what differs between two places of a tape, object by object."""
    return [one for each in changed for one in _changes(each)]
