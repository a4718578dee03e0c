"""Events: the record itself, as it stands and as it grows."""

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from hwbus import subjects
from hwbus.cli.causes import Causes, Chain, Effect, print_causes, print_effects
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.following import describe
from hwbus.cli.options import OPTIONS, Options, noun
from hwbus.cli.output import print_data, print_fields
from hwbus.cli.paint import DIM, YELLOW, Pen, clean, local
from hwbus.cli.session import conversation, run
from hwbus.cli.world import world
from hwbus.client import Client, Happening, read, subjects_of

app = noun("events", "What happened, in the order in which it happened.")
app.command("hwbus.cli.feeding:follow_events", name="follow")
_READ_MAX = 100_000
OfObject = Annotated[
    str | None, Parameter(name="--object", help="Only of this: volume/pg, pool/n1/fast.")
]
ByActor = Annotated[str | None, Parameter(help="Only what this actor asked for.")]
OfOperation = Annotated[str | None, Parameter(help="Only of this operation.")]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which of the happenings are wanted."""

    object: str | None
    actor: str | None
    correlation: str | None

    def takes(self, happening: Happening) -> bool:
        """Say whether *happening* is wanted."""
        return (
            self.object in {None, happening.object}
            and self.actor in {None, happening.actor}
            and self.correlation in {None, happening.correlation}
        )


@app.command
def tail(
    *,
    follow: Annotated[
        bool, Parameter(name=["--follow", "-f"], negative=(), help="Go on until Ctrl-C.")
    ] = False,
    lines: Annotated[
        int, Parameter(name=["--lines", "-n"], help="Look back over so many commits.")
    ] = 20,
    after: Annotated[
        int | None, Parameter(help="All behind this sequence, however many; instead of --lines.")
    ] = None,
    object_: OfObject = None,
    by: ByActor = None,
    correlation: OfOperation = None,
    options: Options = OPTIONS,
) -> int:
    """Show the latest commits; one JSON object a line with -o json."""
    wanted = Wanted(object=object_, actor=by, correlation=correlation)
    try:
        objects = subjects_of(object_) if object_ else ()
    except subjects.BadNameError as error:
        raise FailureError(Exit.USAGE, str(error)) from error
    if options.show_call:
        filters = ",".join(objects) or "hwbus.evt.>"
        start = "" if after is None else f" --start-sequence {after + 1}"
        world().out.write(f"nats sub --stream HWBUS_EVENTS{start} '{filters}'\n")
        return Exit.OK
    if after is not None:
        return run(_onwards(wanted, after, options, follow=follow))
    return run(_tail(wanted, max(0, lines), options, follow=follow))


async def _onwards(wanted: Wanted, after: int, options: Options, *, follow: bool) -> int:
    """Print what stands behind *after*, to the end of the log, or for ever."""
    async with conversation(options) as client:
        head = await client.log.head()
        if not 0 <= after <= head:
            raise FailureError(
                Exit.NOT_FOUND,
                f"the log ends at {head}, so nothing can stand behind {after}",
                fix="If it once did, the log was made anew or restored: see docs/feeds.md.",
            )
        if follow or after < head:
            async with client.happenings(after=after) as story:
                async for happening in story:
                    if wanted.takes(happening):
                        print_happening(happening, options)
                    if happening.seq >= head and not follow:
                        break
    return Exit.OK


async def _tail(wanted: Wanted, lines: int, options: Options, *, follow: bool) -> int:
    async with conversation(options) as client:
        head = await client.log.head()
        after = head
        if lines:
            past, after = await _past(client, wanted, lines, head)
            for happening in past:
                print_happening(happening, options)
        if follow:
            await go_on(client, wanted, after, options)
    return Exit.OK


async def go_on(
    client: Client,
    wanted: Wanted,
    after: int,
    options: Options,
    passed: Callable[[int], None] = lambda _: None,
) -> None:
    """Print the wanted ones behind *after* as they come, for ever; tell each that is *passed*."""
    objects = (wanted.object,) if wanted.object else ()
    async with client.happenings(after=after, objects=objects) as growing:
        async for happening in growing:
            if wanted.takes(happening):
                print_happening(happening, options)
            passed(happening.seq)


async def _past(
    client: Client, wanted: Wanted, lines: int, head: int
) -> tuple[list[Happening], int]:
    """Return the last *lines* wanted happenings up to *head*, and up to where was read."""
    if not head:
        return [], 0
    if wanted.object and "*" not in "".join(subjects_of(wanted.object)):
        stored = await client.log.history(subjects_of(wanted.object)[0])
        known = [read(each) for each in stored if each.seq <= head]
        return [happening for happening in known if wanted.takes(happening)][-lines:], head
    narrow = wanted != Wanted(object=None, actor=None, correlation=None)
    found: list[Happening] = []
    # Behind a filter the last lines may lie far back: then the log is read from its start.
    first = max(0, head - _READ_MAX) if narrow else max(0, head - lines)
    async with client.happenings(after=first) as story:
        async for happening in story:
            if wanted.takes(happening):
                found = [*found, happening][-lines:]
            if happening.seq >= head:
                break
    return found, head


def print_happening(happening: Happening, options: Options) -> None:
    """Print a commit as a line, at once."""
    here = world()
    pen = Pen(here, here.out)
    if options.output in {"json", "yaml"}:
        pen.line(msgspec.json.encode(happening).decode())
    elif options.output == "name":
        pen.line(str(happening.seq))
    elif not happening.readable:
        pen.line(f"{happening.seq:>8}  {pen.colour('unreadable', YELLOW)}  {happening.object}")
    else:
        words = "; ".join(describe(event) for event in happening.events)
        who = f"  {pen.colour(clean(happening.actor), DIM)}" if options.output == "wide" else ""
        pen.line(
            f"{happening.seq:>8}  {pen.colour(local(happening.at), DIM)}  "
            f"{clean(happening.object)}  {words}{who}"
        )
    here.out.flush()


@app.command
def show(
    seq: Annotated[int, Parameter(help="Sequence number of the commit.")],
    /,
    *,
    causes: Annotated[bool, Parameter(negative=(), help="And why, up to who wanted it.")] = False,
    effects: Annotated[
        bool, Parameter(negative=(), help="And what came of it, down to the tools.")
    ] = False,
    options: Options = OPTIONS,
) -> int:
    """Show one commit in full; with --causes and --effects what it is a part of."""
    if options.show_call:
        world().out.write(f"nats stream get HWBUS_EVENTS {seq}\n")
        return Exit.OK
    return run(_show(seq, options, causes=causes, effects=effects))


async def _show(seq: int, options: Options, *, causes: bool, effects: bool) -> int:
    async with conversation(options) as client:
        stored = await client.log.get(seq) if seq > 0 else None
        walked = await _walk(client, seq, causes=causes, effects=effects) if stored else None
    if stored is None:
        raise FailureError(
            Exit.NOT_FOUND, f"there is no commit {seq}", fix="hwbus events tail shows the latest."
        )
    happening = read(stored)
    if options.output in {"json", "yaml"}:
        raw = msgspec.json.decode(stored.data) if happening.readable else None
        item = {"seq": seq, "subject": stored.subject, "commit": raw}
        if walked is not None:
            item |= walked.as_json()
        print_data("Commit", [item], options.output, seq=seq)
    elif options.output == "name":
        world().out.write(f"{seq}\n")
    else:
        fields = {name: getattr(happening, name) for name in happening.__struct_fields__}
        print_fields(fields, hide=("events", "readable"))
        for event in happening.events:
            world().out.write("\n")
            print_fields({"event": event.get("type", ""), **event}, hide=("type",))
        if walked is not None:
            walked.print(whole=options.output == "wide")
    return Exit.OK


class _Walked(msgspec.Struct, frozen=True):
    chain: Chain | None
    effects: list[Effect] | None

    def as_json(self) -> dict[str, Any]:
        parts = {"causes": self.chain, "effects": self.effects}
        return {name: msgspec.to_builtins(part) for name, part in parts.items() if part is not None}

    def print(self, *, whole: bool) -> None:
        if self.chain is not None:
            print_causes(self.chain)
        if self.effects is not None:
            print_effects(self.effects, whole=whole)


async def _walk(client: Client, seq: int, *, causes: bool, effects: bool) -> _Walked | None:
    if not causes and not effects:
        return None
    walker = Causes(client)
    row = await walker.commit(seq)
    if row is None:
        raise FailureError(
            Exit.FAILED,
            f"the audit has not reached {seq} yet",
            fix="Ask again; hwbus doctor shows how far the views are behind.",
        )
    return _Walked(
        await walker.chain(row) if causes else None,
        await walker.effects(row) if effects else None,
    )
