"""Going through the whole log for what is in limbo: ``hwbus doctor --log``."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from aggregates.limbo import GRACE_S, Books, LimboChecker
from aggregates.limbo_ledgers import OnNode, books_of
from aggregates.world import World
from hwbus.archives import Archive, Source, opened
from hwbus.blocks import DamagedError, blocks_of, read_block
from hwbus.cli.audit import moment_of
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.options import Options
from hwbus.cli.output import heading, print_cells, print_data
from hwbus.cli.paint import clean, local
from hwbus.cli.session import actor_of, linked, run
from hwbus.cli.sources import source
from hwbus.cli.verdicts import readable
from hwbus.cli.world import Link, world
from hwbus.client import Client, Page
from hwbus.heads import up_to
from hwbus.ports import Stored
from hwbus.streams import AUDIT, EVENTS
from projectors.reading import UnreadableError, read_commit, read_record
from schemas.audit import ExecutedRecord, RefusedRecord
from schemas.limbo import LimboVerdict
from schemas.operation import OPERATIONS
from schemas.words import COMMANDS

_REFUSALS, _TOOLS = ("hwbus.audit.refused.>",), ("hwbus.audit.executed.>",)
_VIEWS_S = 5.0
_LOOK_S = 0.2


class _Reader:
    """Gives messages to the checker, and folds the world beside it."""

    def __init__(self, checker: LimboChecker) -> None:
        self.checker = checker
        self.world = World()
        self.at: datetime | None = None

    def event(self, stored: Stored) -> None:
        """Take one message of the events."""
        try:
            seen = read_commit(stored)
        except UnreadableError as error:
            self.checker.skip(stored.seq, stored.subject, str(error)[:500])
            return
        self.at = seen.at
        address = (seen.address.kind, seen.address.place, seen.address.id)
        self.checker.take(seen.seq, address, seen.commit, seen.events)
        # Operations would be kept for ever, and nobody asks for them here.
        if seen.address.kind != OPERATIONS and seen.address.kind in COMMANDS:
            self.world.evolve(*address, seen.events)

    def refusal(self, stored: Stored) -> None:
        """Take one message of the audit for the command that it refuses."""
        record = _record(stored)
        if isinstance(record, RefusedRecord):
            self.checker.know_refused(record.command)

    def tool(self, stored: Stored) -> None:
        """Take one message of the audit for the tool that it tells of."""
        record = _record(stored)
        if isinstance(record, ExecutedRecord):
            self.checker.take_tool(stored.seq, stored.subject, record)

    def verdict(self, now: datetime) -> LimboVerdict:
        """Compare the ledgers of the world, and say what came of it."""
        self.checker.compare(
            {key: books_of(pool) for key, pool in self.world.pools.items()}, "the aggregate"
        )
        return self.checker.verdict(now, self.world)


def _record(stored: Stored) -> object:
    try:
        return read_record(stored)
    except UnreadableError:
        return None  # whoever verifies the audit stream tells of it


def go_through(
    options: Options,
    *,
    from_store: Path | None,
    from_archive: str | None,
    endpoint: str,
    as_of: str | None,
    grace_s: float | None,
) -> int:
    """Print what is in limbo; return how to end."""
    if from_store is not None and from_archive is not None:
        raise FailureError(Exit.USAGE, "one copy at a time: --from-store or --from-archive")
    then = moment_of(as_of)
    now = None if then is None else datetime.fromisoformat(then)
    grace_s = GRACE_S if grace_s is None else grace_s
    reader = _Reader(LimboChecker(grace_s=grace_s, whole=from_archive is None))
    with readable():
        if from_store is not None:
            _through_store(from_store, reader)
        elif from_archive is not None:
            _through_archive(source(from_archive, endpoint), reader)
        else:
            now = now or world().clock.now()
            run(_through_log(reader, options))
    return _judge(reader.verdict(now or reader.at or world().clock.now()), options)


def _through_store(store: Path, reader: _Reader) -> None:
    for stored in _of_store(store, AUDIT.name, None):
        reader.refusal(stored)
    for stored in _of_store(store, EVENTS.name, reader.checker):
        reader.event(stored)
    for stored in _of_store(store, AUDIT.name, None):
        reader.tool(stored)


def _of_store(store: Path, stream: str, checker: LimboChecker | None) -> Iterator[Stored]:
    for path in blocks_of(store, stream):
        try:
            yield from read_block(path)
        except DamagedError as error:
            if checker is not None:
                checker.skip(checker.seq + 1, path.name, str(error))


def _through_archive(from_where: Source, reader: _Reader) -> None:
    if isinstance(from_where, Path):
        with opened(from_where) as events:
            _through_events(events, reader)
        return
    with opened(from_where) as events, opened(from_where, stream=AUDIT.name) as audit:
        for stored in audit.messages():
            reader.refusal(stored)
        _through_events(events, reader)
        last = events.last()
        for stored in audit.messages():
            # What ran since may have been for commits that are not archived yet.
            if last is not None and stored.at <= last.at:
                reader.tool(stored)


def _through_events(events: Archive, reader: _Reader) -> None:
    for stored in events.messages():
        reader.event(stored)
    if events.damaged:
        because = "the archive is damaged, or its end is missing: hwbus audit verify --from-archive"
        reader.checker.skip(reader.checker.seq + 1, events.stream, because)


async def _through_log(reader: _Reader, options: Options) -> None:
    async with linked(options) as link:
        client = Client(link.bus, link.log, actor=actor_of(options), mint=world().mint)
        pools = await client.query_all("pools")
        # Tools name what was there before them, and commits what was refused before them.
        tools_to = await link.audit.head()
        head = await link.log.head()
        refusals_to = await link.audit.head()
        if await link.audit.first() > 1:
            reader.checker.miss_refusals()
        async for stored in _each(link, AUDIT.name, refusals_to, _REFUSALS):
            reader.refusal(stored)
        compared = False
        async for stored in _each(link, EVENTS.name, head, EVENTS.subjects):
            if stored.seq > pools.seq and not compared:
                reader.checker.compare(_told(pools), "the view")
                compared = True
            reader.event(stored)
        if not compared and reader.checker.seq == pools.seq:
            reader.checker.compare(_told(pools), "the view")
        async for stored in _each(link, AUDIT.name, tools_to, _TOOLS):
            reader.tool(stored)
        await _look_at_views(reader.checker, client, {"events": head, "audit": tools_to})


async def _each(
    link: Link, stream: str, until: int, subjects: Sequence[str]
) -> AsyncIterator[Stored]:
    log = link.log if stream == EVENTS.name else link.audit
    async with aclosing(up_to(log, until, subjects)) as batches:
        async for batch in batches:
            for stored in batch:
                yield stored


def _told(pools: Page) -> dict[OnNode, Books | None]:
    """Return what the view says of pools; None of one whose page was made later than the first."""
    told: dict[OnNode, Books | None] = {}
    for row in pools.items:
        thin = int(row.get("thin_bytes", 0)) + int(row.get("thin_overhead_bytes", 0))
        books = Books(
            int(row.get("reserved_bytes", 0)),
            int(row.get("allocated_bytes", 0)) - thin,
            int(row.get("thin_committed_bytes", 0)),
            int(row.get("volumes", 0)),
        )
        later = int(row.get("seq", 0)) > pools.seq
        told[str(row["node"]), str(row["name"])] = None if later else books
    return told


async def _look_at_views(checker: LimboChecker, client: Client, heads: dict[str, int]) -> None:
    """Wait a moment until the views are where the log was, and note those that are not."""
    for _ in range(round(_VIEWS_S / _LOOK_S)):
        rows = (await client.query("status")).items
        late = [row for row in rows if row.get("position", 0) < _head_of(row, heads)]
        if not late:
            break
        await asyncio.sleep(_LOOK_S)
    else:
        rows = (await client.query("status")).items
    for row in rows:
        position, parked = int(row.get("position", 0)), int(row.get("parked", 0))
        checker.note_views(str(row["stream"]), position, _head_of(row, heads), parked)


def _head_of(row: dict[str, object], heads: dict[str, int]) -> int:
    return heads.get(str(row.get("stream")), 0)


def _judge(verdict: LimboVerdict, options: Options) -> int:
    if options.output in {"json", "yaml"}:
        data = [msgspec.to_builtins(verdict)]
        print_data("LimboVerdict", data, options.output, seq=verdict.seq)
    elif options.output == "name":
        world().out.writelines(f"{one.code}/{one.seq}\n" for one in verdict.findings)
    else:
        _print(verdict)
    return Exit.FAILED if verdict.findings or verdict.untold else Exit.OK


def _print(verdict: LimboVerdict) -> None:
    out = world().out
    found = len(verdict.findings) + verdict.untold
    said = f"{found} findings" if found else "nothing is in limbo"
    at = local(verdict.at.astimezone(UTC))
    out.write(f"{EVENTS.name} up to {verdict.seq}, as of {at}: {said}\n")
    out.write(
        f"{verdict.commits} commits, {verdict.tools} tools, {verdict.pools} pools; "
        f"{verdict.open} operations open, {verdict.late} ended late\n"
    )
    if verdict.unjudged:
        out.write(f"{verdict.unjudged} causes could not be looked up\n")
    if verdict.findings:
        heading("What is in limbo")
        rows = [
            (one.code.value, str(one.seq), clean(one.subject), clean(one.because))
            for one in verdict.findings
        ]
        print_cells(("CODE", "SEQ", "ABOUT", "WHY"), rows, right=(1,))
        out.write("\n")
        fixes = dict.fromkeys((one.code, one.fix) for one in verdict.findings)
        out.writelines(f"{code}: {fix}\n" for code, fix in fixes)
