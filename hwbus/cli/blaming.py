"""Who made a volume what it is: for each field the event that set it last, and who wanted that."""

from contextlib import aclosing
from datetime import datetime
from typing import Any

import msgspec

from hwbus.cli.causes import Causes, Chain
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.nouns import VolumeName
from hwbus.cli.options import OPTIONS, VIEWING, Options, Point, Viewing
from hwbus.cli.output import heading, print_cells, print_data, print_fields
from hwbus.cli.paint import clean, local, plain
from hwbus.cli.placing import print_candidates
from hwbus.cli.proving import until_of
from hwbus.cli.session import conversation, run
from hwbus.cli.world import world
from hwbus.client import Client, Happening, read, subjects_of
from hwbus.heads import up_to
from hwbus.ports import Stored
from projectors.fold import Folded, fold_event
from projectors.rows import Rows
from projectors.tables import VOLUMES
from schemas.views import VolumeRow

_NODES = "hwbus.evt.node.-.*"
_BOOKKEEPING = frozenset({"created_at", "changed_at", "seq", "version", "candidates", "name"})
_FIELDS = tuple(field for field in VolumeRow.__struct_fields__ if field not in _BOOKKEEPING)


class Set(msgspec.Struct, frozen=True):
    """A field, what it is now, and the message that made it so."""

    field: str
    value: Any
    by: Happening


def blame(name: VolumeName, /, *, options: Viewing = VIEWING) -> int:
    """Show for each field of a volume which event set it, by which command, and who wanted it.

    It is worked out from the log itself. A field that nobody set has its value since the volume was
    made; only ``-o wide``, ``json`` and ``yaml`` show those that are empty.
    """
    if options.show_call:
        filters = ",".join((*subjects_of(f"volume/{name}"), _NODES))
        world().out.write(f"nats sub --stream HWBUS_EVENTS '{filters}'\n")
        return Exit.OK
    return run(_blame(name, options))


async def _blame(name: str, options: Viewing) -> int:
    async with conversation(options) as client:
        until = await client.log.head() if options.at is None else await _seq(client, options.at)
        found = await _fields(client, name, until)
        if not found:
            fix = "hwbus volume ls" + (f" --at {until}" if options.at is not None else "")
            raise FailureError(Exit.NOT_FOUND, f"there is no volume {name[:80]!r}", fix=fix)
        causes = Causes(client)
        chains: dict[int, Chain | None] = {}
        for one in found:
            if one.by.seq not in chains:
                row = await causes.commit(one.by.seq)
                chains[one.by.seq] = None if row is None else await causes.chain(row)
    items = [_item(one, chains[one.by.seq]) for one in found]
    if options.output in {"json", "yaml"}:
        print_data("Blame", items, options.output, seq=max(one.by.seq for one in found))
    elif options.output == "name":
        world().out.writelines(f"{one.field}\n" for one in found)
    else:
        _print(items, everything=options.output == "wide")
    return Exit.OK


async def _seq(client: Client, at: Point) -> int:
    """Return the last sequence of then. Raises ``FailureError`` if that is still to come."""
    head = await client.log.head()
    if isinstance(at, int) and at > head:
        raise FailureError(Exit.USAGE, f"the log has the commits 1 to {head}")
    return await until_of(client.log, at if isinstance(at, int) else datetime.fromisoformat(at))


async def _fields(client: Client, name: str, until: int) -> list[Set]:
    """Return the fields of the volume as it was then, each with what set it; none: it was not."""
    rows, folded = Rows(lambda _table, _key: None, complete=True), Folded()
    found: dict[str, Set] = {}
    subjects = (*subjects_of(f"volume/{name}"), _NODES)
    async with aclosing(up_to(client.log, until, subjects)) as batches:
        async for batch in batches:
            for stored in batch:
                before = rows.get(VOLUMES, name)
                fold_event(rows, stored, "events", folded)
                rows.dirty.clear()
                found = _since(found, before, rows.get(VOLUMES, name), stored)
    return list(found.values())


def _since(
    found: dict[str, Set], before: VolumeRow | None, after: VolumeRow | None, stored: Stored
) -> dict[str, Set]:
    if after is None or after is before:
        return {} if after is None else found
    if before is not None and before.uid != after.uid:
        before = None
    by = read(stored)
    changed = {
        field: Set(field, msgspec.to_builtins(getattr(after, field)), by)
        for field in _FIELDS
        if before is None or getattr(before, field) != getattr(after, field)
    }
    return {**found, **changed}


def _item(one: Set, chain: Chain | None) -> dict[str, Any]:
    by = one.by
    return {
        "field": one.field,
        "value": one.value,
        "seq": by.seq,
        "at": by.at,
        "events": [event.get("type", "") for event in by.events],
        "actor": by.actor,
        "word": by.word,
        "command": by.command,
        "operation": by.correlation,
        "wanted_by": "" if chain is None else chain.wanted_by,
        "because": "" if chain is None else chain.root.why,
        "policy": "" if chain is None else chain.policy,
    }


def _print(items: list[dict[str, Any]], *, everything: bool) -> None:
    told = [item for item in items if everything or plain(item["field"], item["value"]) != "-"]
    told = [item for item in told if everything or item["value"] not in (0, False)]
    rows = [
        (
            item["field"].removesuffix("_bytes").removesuffix("_at").replace("_", " "),
            plain(item["field"], item["value"]),
            str(item["seq"]),
            local(item["at"]),
            ", ".join(_short(event) for event in item["events"]),
            _short(item["word"]) or "-",
            clean(item["wanted_by"]) or "-",
            clean(item["policy"]) or "-",
        )
        for item in told
    ]
    titles = ("FIELD", "VALUE", "SEQ", "AT", "EVENT", "COMMAND", "WANTED-BY", "POLICY")
    print_cells(titles, rows, right=(2,))


def _short(word: str) -> str:
    return clean(word.rpartition(".v")[0] or word)


def why(name: VolumeName, /, *, options: Options = OPTIONS) -> int:
    """Show why a volume was put where it is: what else there was, with scores and refusals.

    It is read from the event that recorded the choice; so it is there for volumes that are gone.
    """
    subject = subjects_of(f"volume/{name}")[0]
    if options.show_call:
        world().out.write(f"nats sub --stream HWBUS_EVENTS '{subject}'\n")
        return Exit.OK
    placed = run(_placed(subject, options))
    if placed is None:
        raise FailureError(
            Exit.NOT_FOUND, f"the log knows of no placing of {name[:80]!r}", fix="hwbus volume ls"
        )
    happening, event = placed
    if options.output in {"json", "yaml"}:
        item = {
            "seq": happening.seq,
            "at": happening.at,
            "actor": happening.actor,
            "command": happening.command,
            "event": event,
        }
        print_data("Placement", [item], options.output, seq=happening.seq)
        return Exit.OK
    told = {field: getattr(happening, field) for field in ("seq", "at", "actor", "command")}
    print_fields({**told, **event}, hide=("candidates",))
    heading("Where it could have been put, best first")
    print_candidates(event["candidates"])
    return Exit.OK


async def _placed(subject: str, options: Options) -> tuple[Happening, dict[str, Any]] | None:
    """Return the last event that recorded candidates, and its commit."""
    async with conversation(options) as client:
        past = [read(stored) for stored in await client.log.history(subject)]
    for happening in reversed(past):
        for event in reversed(happening.events):
            if event.get("candidates"):
                return happening, event
    return None
