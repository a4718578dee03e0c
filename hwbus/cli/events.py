"""Events: the record itself, as it stands and as it grows."""

from typing import Annotated

import msgspec
from cyclopts import Parameter

from hwbus import subjects
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.following import describe
from hwbus.cli.options import OPTIONS, Options, noun
from hwbus.cli.output import print_data, print_fields
from hwbus.cli.paint import DIM, YELLOW, Pen, clean, local
from hwbus.cli.session import conversation, run
from hwbus.cli.world import world
from hwbus.client import Client, Happening, read, subjects_of

app = noun("events", "What happened, in the order in which it happened.")
_READ_MAX = 100_000


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
    object_: Annotated[
        str | None, Parameter(name="--object", help="Only of this: volume/pg, pool/n1/fast.")
    ] = None,
    by: Annotated[str | None, Parameter(help="Only what this actor asked for.")] = None,
    correlation: Annotated[str | None, Parameter(help="Only of this operation.")] = None,
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
        world().out.write(f"nats sub --stream HWBUS_EVENTS '{filters}'\n")
        return Exit.OK
    return run(_tail(wanted, max(0, lines), options, follow=follow))


async def _tail(wanted: Wanted, lines: int, options: Options, *, follow: bool) -> int:
    async with conversation(options) as client:
        head = await client.log.head()
        after = head
        if lines:
            past, after = await _past(client, wanted, lines, head)
            for happening in past:
                _print(happening, options)
        if follow:
            objects = (wanted.object,) if wanted.object else ()
            async with client.happenings(after=after, objects=objects) as growing:
                async for happening in growing:
                    if wanted.takes(happening):
                        _print(happening, options)
    return Exit.OK


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


def _print(happening: Happening, options: Options) -> None:
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
    options: Options = OPTIONS,
) -> int:
    """Show one commit in full."""
    if options.show_call:
        world().out.write(f"nats stream get HWBUS_EVENTS {seq}\n")
        return Exit.OK
    return run(_show(seq, options))


async def _show(seq: int, options: Options) -> int:
    async with conversation(options) as client:
        stored = await client.log.get(seq) if seq > 0 else None
    if stored is None:
        raise FailureError(
            Exit.NOT_FOUND, f"there is no commit {seq}", fix="hwbus events tail shows the latest."
        )
    happening = read(stored)
    if options.output in {"json", "yaml"}:
        raw = msgspec.json.decode(stored.data) if happening.readable else None
        item = {"seq": seq, "subject": stored.subject, "commit": raw}
        print_data("Commit", [item], options.output, seq=seq)
    elif options.output == "name":
        world().out.write(f"{seq}\n")
    else:
        fields = {name: getattr(happening, name) for name in happening.__struct_fields__}
        print_fields(fields, hide=("events", "readable"))
        for event in happening.events:
            world().out.write("\n")
            print_fields({"event": event.get("type", ""), **event}, hide=("type",))
    return Exit.OK
