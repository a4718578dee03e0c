"""What somebody else needs to see what happened here, and nothing of who and where."""

import os
import secrets
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import msgspec
from cyclopts import Parameter

from hwbus.archive import write
from hwbus.archives import Source, in_segments, opened
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.options import OPTIONS, Options
from hwbus.cli.output import print_data, say
from hwbus.cli.session import linked, run
from hwbus.cli.sources import Endpoint, source
from hwbus.cli.verdicts import readable
from hwbus.cli.world import Link, world
from hwbus.desk import taking_in_the_past
from hwbus.heads import up_to
from hwbus.ports import EventLog, Stored
from hwbus.replaying.canon import hash_of
from hwbus.replaying.cutting import Cut, LossError, cut, redacted, save
from hwbus.replaying.opening import redactions
from hwbus.replaying.slicing import Slice, slice_around
from hwbus.replaying.tape import Record, Tape, archived
from hwbus.streams import AUDIT, EVENTS
from projectors.reading import UnreadableError, read_record

_OF_RECORDS = tuple(f"hwbus.audit.{kind}." for kind in ("refused", "executed", "decided"))
_RECORDS = tuple(f"{begins}>" for begins in _OF_RECORDS)
_SALT_BYTES = 32


def support_bundle(
    *,
    around: Annotated[str, Parameter(help="The operation that it is about: its id.")],
    to: Annotated[Path, Parameter(help="This file, which must not be there yet.")],
    from_archive: Annotated[
        str | None,
        Parameter(help="Without a cluster: from a FILE, FOLDER/ or s3://… of hwbus audit archive."),
    ] = None,
    endpoint: Endpoint = "",
    plain: Annotated[bool, Parameter(negative=(), help="Leave all names as they are.")] = False,
    hide_names: Annotated[
        bool, Parameter(negative=(), help="Replace names of volumes, pools and so on, too.")
    ] = False,
    names_to: Annotated[
        Path | None, Parameter(help="Keep here which name stands for which; never give it away.")
    ] = None,
    options: Options = OPTIONS,
) -> int:
    """Write what is needed to play an operation again elsewhere: hwbus replay FILE.

    In it are all states and views before it, every commit from its cause to its last effect, and
    the refusals and tools that belong to it. People, nodes, addresses and serials have other names,
    the same everywhere. The file is played before you get it: it gives what the log gives.
    """
    if options.show_call:
        raise FailureError(Exit.USAGE, "a support bundle is no request: it reads the log")
    if plain and (hide_names or names_to is not None):
        raise FailureError(Exit.USAGE, "--plain leaves names as they are: there is none to hide")
    operation = around.removeprefix("operation/")
    try:
        found = _source(operation, from_archive, endpoint, options)
        with taking_in_the_past(), readable(), found as (tape, of, records):
            what = cut(tape, of, operation, records, version("hwbus"))
            if not plain:
                salt = secrets.token_bytes(_SALT_BYTES)
                what, table = redacted(what, tape, salt, objects=hide_names)
                if names_to is not None:
                    _keep(names_to, table)
            save(to, what)
    except LossError as error:
        fix = "--plain leaves names as they are; hwbus audit archive takes the whole log."
        raise FailureError(Exit.FAILED, f"nothing is written: {error}", fix=fix) from error
    return _tell(to, what, options, from_archive)


@contextmanager
def _source(
    operation: str, from_archive: str | None, endpoint: str, options: Options
) -> Iterator[tuple[Tape, Slice, list[Record]]]:
    """Give the log as a tape, the part of it that is needed, and the records that belong to it."""
    if from_archive is not None:
        where = source(from_archive, endpoint)
        with archived(where) as (tape, verdict):
            if verdict.first_bad is not None:
                bad = f"{from_archive} is not as it was from {verdict.first_bad} on"
                raise FailureError(Exit.FAILED, bad, fix="hwbus audit verify --from-archive tells.")
            of = _slice(tape, operation)
            yield tape, of, _archived_records(of, where)
        return
    with TemporaryDirectory(prefix="hwbus-") as folder:
        path = Path(folder) / "log"
        run(_spool(path, options))
        with archived(path) as (tape, verdict):
            if verdict.first_bad is not None:
                bad = f"the log is not as it was from {verdict.first_bad} on"
                raise FailureError(Exit.FAILED, bad, fix="hwbus audit verify tells more.")
            of = _slice(tape, operation)
            yield tape, of, run(_records(of, options))


def _slice(tape: Tape, operation: str) -> Slice:
    found = slice_around(tape, operation)
    if found is None:
        raise FailureError(
            Exit.NOT_FOUND,
            f"no commit up to {tape.last} belongs to the operation {operation[:80]!r}",
            fix="hwbus op ls --all lists those there are.",
        )
    return found


async def _spool(path: Path, options: Options) -> None:
    """Write the log to a file: what is cut is read several times, and not in order."""
    async with linked(options) as link:
        head = await link.log.head()
        if not head:
            raise FailureError(Exit.NOT_FOUND, "the log is empty")
        with path.open("xb") as file:
            async with aclosing(_each(link.log, head, EVENTS.subjects)) as messages:
                await write(file, EVENTS.name, head, [], messages)


async def _records(of: Slice, options: Options) -> list[Record]:
    async with linked(options) as link:
        return await _belonging(of, link)


async def _belonging(of: Slice, link: Link) -> list[Record]:
    async with aclosing(_each(link.audit, await link.audit.head(), _RECORDS)) as messages:
        return [one async for stored in messages for one in _taken(of, stored)]


def _archived_records(of: Slice, where: Source) -> list[Record]:
    """Return what belongs to it of the audit, if that is archived beside the events."""
    if isinstance(where, Path):
        return []
    with opened(where, stream=AUDIT.name) as audit:
        kept = (stored for stored in audit.messages() if stored.subject.startswith(_OF_RECORDS))
        return [one for stored in kept for one in _taken(of, stored)]


def _taken(of: Slice, stored: Stored) -> Iterator[Record]:
    try:
        record = read_record(stored)
    except UnreadableError:
        return  # whoever verifies the audit stream tells of it
    if of.takes(record):
        yield stored.seq, record


async def _each(
    log: EventLog, until: int, subjects: tuple[str, ...]
) -> AsyncGenerator[Stored, None]:
    async with aclosing(up_to(log, until, subjects)) as batches:
        async for batch in batches:
            for stored in batch:
                yield stored


def _keep(path: Path, table: dict[str, str]) -> None:
    """Keep which name stands for which, for the eyes of this user alone."""
    names = {new: name for name, new in table.items()}
    text = msgspec.json.format(msgspec.json.encode(names), indent=2) + b"\n"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(text)


def _tell(to: Path, what: Cut, options: Options, from_archive: str | None) -> int:
    about = what.about
    ends = hash_of(what.digests.items())
    if options.output in {"json", "yaml"}:
        told = {**msgspec.to_builtins(about), "records": len(what.records), "hash": ends}
        print_data("SupportBundle", [told], options.output, seq=about.until)
        return Exit.OK
    count = f"{len(what.messages)} commits, {len(what.records)} records of the audit"
    say(f"written to {to}: {about.after + 1} to {about.until}, {count}")
    if from_archive is not None and not in_segments(from_archive):
        say("note: an archive of one file has no refusals and no tools: so there are none in it")
    if about.redacted is None:
        say("note: all names are as they were")
    else:
        say(f"redacted: {redactions(about.redacted)}")
        say("what people wrote themselves is in it, but for these names: look it through")
    for cause in about.cut:
        say(f"note: further back, and not in it: {cause}")
    world().out.write(f"hash {about.until} {ends}\n")
    return Exit.OK
