"""Taking out of the audit stream what is archived elsewhere: ``hwbus audit prune``."""

from contextlib import ExitStack, aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter

from hwbus.archives import Archive, BrokenChainError, opened
from hwbus.cli.audit import moment_of
from hwbus.cli.changing import change, confirmed, refused
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.nouns import Yes
from hwbus.cli.options import CHANGE_NOW, OPTIONS, ChangeNow, Options
from hwbus.cli.output import print_data, say
from hwbus.cli.paint import local
from hwbus.cli.released import tree_of
from hwbus.cli.session import linked, run
from hwbus.cli.signing import Keys
from hwbus.cli.sources import Endpoint, source
from hwbus.cli.verdicts import readable
from hwbus.cli.world import Link, world
from hwbus.heads import HEAD, HEADS_OF, up_to
from hwbus.places import S3
from hwbus.pruning import OtherArchiveError, Prunable, PurgeError, furthest, purge, sealed
from hwbus.streams import AUDIT, EVENTS
from schemas.answers import Refused, refuse
from schemas.audit import HeadRecord
from schemas.refusals import Refusal
from schemas.trail import AUDIT_TRAIL, PruneTrail

_READS = f"nats sub --stream {AUDIT.name} '{','.join(HEADS_OF.values())}'\n"


class Found(msgspec.Struct, frozen=True):
    """What may go: how far (None: nothing), and where the stream begins and ends."""

    prunable: Prunable | None
    first: int
    last: int


def prune(
    *,
    archived_in: Annotated[
        str, Parameter(help="Where it is archived: FOLDER/ or s3://BUCKET/PREFIX.")
    ],
    older_than: Annotated[str, Parameter(help="Only what is older: 90d, 2026-08-01.")],
    up_to: Annotated[
        int | None, Parameter(help="Not further than to this sequence, as an approval says.")
    ] = None,
    stream: Annotated[
        Literal["audit", "events"], Parameter(help="Of the events nothing may go.")
    ] = "audit",
    endpoint: Endpoint = "",
    key: Keys = [],  # noqa: B006 -- cyclopts reads the default, nobody writes to it
    yes: Yes = False,
    how: ChangeNow = CHANGE_NOW,
    options: Options = OPTIONS,
) -> int:
    """Take out of the audit what is archived: refusals and tools, but none of the events.

    The archive is read and verified from its beginning up to a signed head, as old as is asked.
    That up to there all may go is recorded, and needs approval where it is protected. Then the
    broker takes it out, which only its administrator may have it do. --plan only tells.
    """
    if stream != "audit":
        because = "nothing is taken out of the events: they are what all else is computed from"
        return refused(refuse(Refusal.TRAIL_STAYS, because), options)
    then = datetime.fromisoformat(moment_of(older_than) or "")
    if options.show_call:
        world().out.write(_READS)
        return Exit.OK
    found = _look(archived_in, endpoint, key, then, up_to, options)
    if isinstance(found, Refused):
        return refused(found, options)
    return _prune(found, archived_in, then, options, how, yes=yes)


def _prune(
    found: Found, where: str, then: datetime, options: Options, how: ChangeNow, *, yes: bool
) -> int:
    target = found.prunable
    if target is None or target.until < found.first:
        say(f"nothing to take out: {AUDIT.name} has {found.first} to {found.last}, and of that no")
        say(f"signed part is archived in {where} and older than {local(then)}")
        return Exit.OK
    _tell(found, target, where, options, planned=how.plan)
    if how.plan:
        return Exit.OK
    confirmed(AUDIT_TRAIL, f"This takes messages up to {target.until} out of {AUDIT.name}", yes=yes)
    word = PruneTrail(
        trail=AUDIT_TRAIL,
        until=target.until,
        root=target.root,
        frontier=target.frontier,
        place=_place(where),
        newest=target.newest,
    )
    code = change(word, options, how)
    if code != Exit.OK:
        say(f"nothing was taken out; repeat this with --up-to {target.until}")
        return code
    return run(_take_out(target.until, options))


def _place(where: str) -> str:
    return where if where.startswith(S3) else f"{Path(where).resolve()}/"


def _tell(found: Found, target: Prunable, where: str, options: Options, *, planned: bool) -> None:
    if planned and options.output in {"json", "yaml"}:
        told = {**msgspec.to_builtins(target), "first": found.first, "last": found.last}
        print_data("Prunable", [told], options.output)
        return
    say(
        f"{AUDIT.name}: {found.first} to {target.until} of {found.last} are archived in {where}, "
        f"and as they were signed; the last of them is of {local(target.newest)}"
    )


def _look(
    where: str,
    endpoint: str,
    keys: list[str],
    older_than: datetime,
    up_to_seq: int | None,
    options: Options,
) -> Found | Refused:
    """Read the archive to its end, and find out how far it goes beside what is in the stream."""
    try:
        with readable(), ExitStack() as stack:
            place = source(where, endpoint)
            if isinstance(place, Path):
                raise FailureError(Exit.USAGE, f"{where} is one file: the audit is in segments")
            try:
                archive = stack.enter_context(opened(place, keys, stream=AUDIT.name))
            except BrokenChainError as error:
                return refuse(Refusal.NOT_ARCHIVED, str(error))
            return run(_compared(archive, keys, older_than, up_to_seq, options))
    except OtherArchiveError as error:
        return refuse(Refusal.NOT_ARCHIVED, f"{where} is another audit: {error}")


async def _compared(
    archive: Archive,
    keys: list[str],
    older_than: datetime,
    up_to_seq: int | None,
    options: Options,
) -> Found | Refused:
    async with linked(options) as link:
        if await sealed(link.bus, AUDIT.name):
            because = f"{AUDIT.name} was made with deny_purge, as older versions made it"
            return refuse(Refusal.NOTHING_MAY_GO, because)
        first, last = await link.audit.first(), await link.audit.head()
        below = await _last_heads(link)
        if up_to_seq is not None:
            below = min(below, up_to_seq + 1)
        heads = await _heads(link, last, keys)
        now = world().clock.now().astimezone(UTC)
        then = min(older_than, now)
        prunable = furthest(archive.messages(), heads, below=below, older_than=then)
        return Found(prunable, first, last)


async def _last_heads(link: Link) -> int:
    """Return where the first of the newest heads of both streams lies: these have to stay."""
    newest = [await link.audit.last(HEADS_OF[stream.name]) for stream in (EVENTS, AUDIT)]
    return min((one.seq for one in newest if one is not None), default=0)


async def _heads(link: Link, until: int, keys: list[str]) -> dict[int, HeadRecord]:
    """Return the heads of the audit that are signed, and of which the tree is known."""
    found: dict[int, HeadRecord] = {}
    async with aclosing(up_to(link.audit, until, (HEADS_OF[AUDIT.name],))) as batches:
        async for batch in batches:
            for stored in batch:
                try:
                    head = HEAD.decode(stored.data)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue  # whoever verifies the audit tells of it
                if (not keys or head.key in keys) and tree_of(head) is not None:
                    found[head.seq] = msgspec.structs.replace(head, leaves=b"")
    return found


async def _take_out(until: int, options: Options) -> int:
    async with linked(options) as link:
        try:
            gone = await purge(link.bus, AUDIT.name, until)
        except PurgeError as error:
            fix = "It is recorded that it may go; repeat the command when the broker lets you."
            raise FailureError(Exit.FAILED, f"not taken out: {error}", fix=fix) from error
        first = await link.audit.first()
    say(f"{gone} messages were taken out of {AUDIT.name}; it begins at {first}")
    return Exit.OK
