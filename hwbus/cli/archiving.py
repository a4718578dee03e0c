"""Archives: the log in one file, or in segments that go on, in a folder or a bucket."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from hwbus import archive as files
from hwbus.archives import in_segments, read_file
from hwbus.archiving import Archived, ArchiveError, Archiver
from hwbus.chains import verify_segments
from hwbus.cli.audit import moment_of
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.options import OPTIONS, Options
from hwbus.cli.output import print_data, say
from hwbus.cli.paint import moment
from hwbus.cli.proving import until_of
from hwbus.cli.session import linked, run
from hwbus.cli.sources import Endpoint, source
from hwbus.cli.verdicts import judge, readable
from hwbus.cli.world import Link, world
from hwbus.heads import HEADS, heads_in, up_to
from hwbus.places import Place, PlaceError, place_of
from hwbus.streams import AUDIT, EVENTS
from hwbus.verifying import Verdict
from schemas.audit import HeadRecord

_READS = (
    f"nats sub --stream {AUDIT.name} '{','.join(HEADS)}'\n",
    f"nats sub --stream {EVENTS.name} 'hwbus.evt.>'\n",
)
_READS_RECORDS = f"nats sub --stream {AUDIT.name} 'hwbus.audit.>'\n"


def archive(
    *,
    to: Annotated[
        str,
        Parameter(help="FOLDER/ or s3://BUCKET/PREFIX, to go on there; or a file, with --before."),
    ],
    before: Annotated[
        str | None,
        Parameter(help="Into one file: all before this sequence, or before then: 90d, 2026-11-23."),
    ] = None,
    endpoint: Endpoint = "",
    options: Options = OPTIONS,
) -> int:
    """Write what was signed since the last time to a folder or a bucket, as one more segment.

    Both streams are archived, the events and the audit. A bucket is entered with
    AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. With --before, the events from their beginning are
    written to one file and verified. Nothing is taken out of the log.
    """
    goes_on = in_segments(to)
    if (before is None) != goes_on:
        raise FailureError(
            Exit.USAGE,
            f"{to} is a file, and --before is not given"
            if before is None
            else f"--before is for one file, and {to} is a place for segments",
            fix="Say --to FOLDER/ or --to s3://BUCKET/PREFIX, or --before WHEN --to FILE.",
        )
    if options.show_call:
        world().out.writelines((*_READS, *((_READS_RECORDS,) if goes_on else ())))
        return Exit.OK
    if before is None:
        return _go_on(to, endpoint, options)
    ends = None if before.isdecimal() else moment(moment_of(before))
    with readable():
        path = Path(to)
        written = run(_archive(int(before) - 1 if ends is None else ends, path, options))
        verdict, _ = read_file(files.Reader(path))
    say(f"{written} messages written to {to}")
    return judge([verdict], options)


def _go_on(to: str, endpoint: str, options: Options) -> int:
    try:
        done = run(_segments(place_of(to, endpoint, world().env), options))
    except PlaceError as error:
        raise FailureError(Exit.FAILED, str(error), fix="What is there is valid.") from error
    except ArchiveError as error:
        raise FailureError(
            Exit.FAILED, str(error), fix=f"Look: hwbus audit verify, and --from-archive {to}"
        ) from error
    if options.output in {"json", "yaml"}:
        print_data("Archived", [msgspec.to_builtins(one) for one in done], options.output)
    else:
        world().out.writelines(f"{_told(one)}\n" for one in done)
    return Exit.OK


async def _segments(place: Place, options: Options) -> list[Archived]:
    async with linked(options) as link:
        streams = ((link.log, EVENTS), (link.audit, AUDIT))
        return [await Archiver(log, link.audit, place, of).archive() for log, of in streams]


def _told(one: Archived) -> str:
    if not one.until:
        return f"{one.stream}: no head is signed yet, so there is nothing to archive"
    many = "1 segment" if len(one.segments) == 1 else f"{len(one.segments)} segments"
    news = f"{many} of {one.messages} messages written" if one.segments else "nothing new"
    return f"{one.stream}: {news}, archived up to {one.until}"


async def _archive(ends: Any, to: Path, options: Options) -> int:
    async with linked(options) as link:
        found = [head for head in await heads_in(link.audit) if head.stream == EVENTS.name]
        until = await until_of(link.log, ends)
        if until < 1:
            raise FailureError(Exit.NOT_FOUND, "there is nothing before that")
        own = [head for head in found if head.seq <= until]
        if not own or own[-1].seq < until:
            own += [head for head in found if head.seq > until][:1]
        with to.open("xb") as file:
            async with aclosing(_each(link, until)) as messages:
                return await files.write(file, EVENTS.name, until, own, messages)


async def _each(link: Link, until: int) -> AsyncGenerator[Any, None]:
    async with aclosing(up_to(link.log, until)) as batches:
        async for batch in batches:
            for stored in batch:
                yield stored


def verify_archive(
    where: str, kept: Sequence[HeadRecord], keys: Sequence[str], endpoint: str
) -> list[Verdict]:
    """Check what ``archive`` wrote, that of the events first.

    Raises:
        NoArchiveError, OSError, PlaceError: it is none, or cannot be read.
    """
    place = source(where, endpoint)
    if isinstance(place, Path):
        verdict, _ = read_file(files.Reader(place), keys, kept)
        return [verdict]
    verdicts = []
    for stream in (EVENTS, AUDIT):
        found = verify_segments(place, stream.name, kept, keys)
        if stream is EVENTS and not found.segments:
            raise files.NoArchiveError(f"there is no segment of {stream.name} in {place}")
        if found.others:
            say(f"{found.others} names in {place} {stream.name} are none of segments: left alone")
        verdicts.append(found.verdict)
    return verdicts
