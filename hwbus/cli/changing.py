"""Changing something: say the word, tell what was decided, and follow the work if asked to."""

import asyncio
import contextlib
import re

import msgspec

from hwbus.cli import recall
from hwbus.cli.collecting import collected, collecting, said
from hwbus.cli.exits import Exit, FailureError, for_refusal
from hwbus.cli.following import Ending, follow_to_end
from hwbus.cli.options import Change, Options
from hwbus.cli.output import print_data, say
from hwbus.cli.paint import GREEN, RED, Pen, clean
from hwbus.cli.session import actor_of, conversation, print_call, run, server_of
from hwbus.cli.world import world
from hwbus.client import Call, Client, Happening, command_call, read, subjects_of
from hwbus.ports import OutcomeUnknownError
from schemas.answers import Accepted, Answer, Refused, Undecided
from schemas.grammar import Message
from schemas.place import place_of
from schemas.refusals import Refusal

_ANSWER_S = 10.0
_DEADLINE_S = 600
_REQUESTED = "approval.requested.v1"
_REQUEST = re.compile(r"request ([0-9a-z]{26})")
# An operation ends by its deadline; whoever waits for it needs to hear so, too.
SLACK_S = 60.0
# The broker takes 1 MiB at most; more is not worth sending, the desk refuses 64 KiB already.
_MESSAGE_BYTES_MAX = 900_000


def change(word: Message, options: Options, how: Change) -> int:
    """Say *word* to the control plane and print what comes of it; returns the exit code.

    With ``--plan`` it is not said: what would come of it is asked for, and printed.
    """
    if collected(word, how):
        return Exit.OK
    if how.plan or how.at is not None:
        from hwbus.cli.planning import planned

        return planned((said(word),), options, how)
    call = _call(word, options, how)
    if options.show_call:
        return print_call(call, options)
    return run(_changed(call, _address(word), options, how, _patience_s(word, how)))


def _patience_s(word: Message, how: Change) -> float:
    """Return how long to wait: as was said, or a little longer than the operation may take."""
    if how.timeout is not None:
        return how.timeout
    return float(getattr(word, "deadline_s", _DEADLINE_S)) + SLACK_S


def _address(word: Message) -> str:
    kind, place, id_ = place_of(word)
    return f"{kind}/{id_}" if place == "-" else f"{kind}/{place}/{id_}"


def _call(word: Message, options: Options, how: Change) -> Call:
    try:
        call = command_call(
            word,
            actor=actor_of(options),
            command_id=how.id or world().mint(),
            expect_version=how.expect_version,
        )
    except UnicodeEncodeError as error:
        raise FailureError(
            Exit.USAGE, f"that cannot be sent: {error}", fix="Write it in valid UTF-8."
        ) from error
    for name, value in call.headers.items():
        if not value.isprintable() or not value.isascii():
            raise FailureError(
                Exit.USAGE,
                f"{value[:80]!r} cannot stand in the header {name}",
                fix="Use printable ASCII characters.",
            )
    if len(call.data) > _MESSAGE_BYTES_MAX:
        raise FailureError(
            Exit.USAGE,
            f"the command is {len(call.data)} bytes long, more than the bus carries",
            fix="Name fewer objects in one command.",
        )
    return call


async def _changed(
    call: Call, target: str, options: Options, how: Change, patience_s: float
) -> int:
    async with conversation(options) as client:
        answer = await _answer(client, call)
        if how.wait and isinstance(answer, Refused) and answer.code is Refusal.NEEDS_APPROVAL:
            answer = await _once_approved(client, call, answer, patience_s)
        match answer:
            case Refused():
                return refused(answer, options)
            case Undecided():
                raise _again(call, answer.because)
            case Accepted():
                pass
        if answer.seq:
            recall.wrote(world(), server_of(options), answer.seq)
        if not (how.wait and answer.operation):
            return _accepted(answer, target, options)
        if options.output in {"table", "wide"}:
            say(f"{clean(target)} accepted  seq {answer.seq}  op {answer.operation}")
        ending = await follow_to_end(
            client,
            answer.operation,
            title=clean(target),
            object_=target,
            after=max(0, answer.seq - 1),
            timeout_s=patience_s,
        )
    return ended(ending, options)


async def _once_approved(client: Client, call: Call, no: Refused, patience_s: float) -> Answer:
    """Wait until somebody else has spoken, then say it again; return what comes of that."""
    found = _REQUEST.search(no.because)
    if found is None:
        return no
    say(f"{no.code} {clean(no.because)}")
    say(f"Waiting for somebody else: hwbus approval approve {found[1]}")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            await _until_spoken(client, f"approval/{found[1]}")
            return await _answer(client, call)
    return no


async def _until_spoken(client: Client, request: str) -> None:
    """Return when somebody has approved or rejected *request*, or its time is over."""
    written = await client.log.history(subjects_of(request)[0])
    latest = read(written[-1]) if written else None
    if latest is not None and not _asks(latest):
        return
    after = 0 if latest is None else latest.seq
    async with client.happenings(after=after, objects=[request]) as story:
        async for happening in story:
            if not _asks(happening):
                return


def _asks(happening: Happening) -> bool:
    return bool(happening.events) and happening.events[-1].get("type") == _REQUESTED


async def _answer(client: Client, call: Call) -> Answer:
    try:
        return await client.send(call, timeout_s=_ANSWER_S)
    except OutcomeUnknownError as error:
        raise _again(call, str(error)) from error


def _again(call: Call, because: str) -> FailureError:
    id_ = call.headers["Hwbus-Command-Id"]
    return FailureError(
        Exit.TIMED_OUT,
        f"it is not known whether this was done: {because}",
        fix=f"Repeat the command with --id {id_}: that is one decision, however often it is said.",
    )


def _accepted(answer: Accepted, target: str, options: Options) -> int:
    if options.output in {"json", "yaml"}:
        print_data(
            "Accepted", [{"object": target, **_fields(answer)}], options.output, seq=answer.seq
        )
        return Exit.OK
    here = world()
    pen = Pen(here, here.out)
    if options.output == "name":
        pen.line(clean(target))
        return Exit.OK
    parts = [f"{pen.colour(clean(target), GREEN)} accepted"]
    parts += [f"seq {answer.seq}"] if answer.seq else ["nothing to change"]
    parts += [f"op {answer.operation}"] if answer.operation else []
    pen.line("  ".join(parts))
    if answer.operation:
        say(f"Follow it: hwbus op watch {answer.operation}")
    return Exit.OK


def _fields(value: msgspec.Struct) -> dict[str, object]:
    return {name: getattr(value, name) for name in value.__struct_fields__}


def refused(answer: Refused, options: Options) -> int:
    """Print a refusal: why, what to do, and where to read more; returns the exit code."""
    if options.output in {"json", "yaml"}:
        print_data("Refused", [_fields(answer)], options.output)
    here = world()
    pen = Pen(here, here.err)
    pen.line(f"{pen.mark('refused')}{pen.colour(answer.code, RED)} {clean(answer.because)}")
    if answer.fix:
        pen.line(f"  {clean(answer.fix)}")
    pen.line(f"  More: hwbus explain {answer.code}")
    return for_refusal(answer.code)


def ended(ending: Ending, options: Options) -> int:
    """Print how an operation ended, and return the exit code."""
    recall.wrote(world(), server_of(options), ending.seq)
    if options.output in {"json", "yaml"}:
        print_data("Operation", [_fields(ending)], options.output, seq=ending.seq)
    good = ending.exit is Exit.OK
    here = world()
    pen = Pen(here, here.out if good else here.err)
    if options.output == "name" and good:
        pen.line(clean(ending.object))
    elif not good or options.output in {"table", "wide"}:
        state = pen.colour(ending.outcome, GREEN if good else RED)
        pen.line(
            f"{pen.mark(ending.outcome)}{clean(ending.object)} {ending.kind} {state}"
            f"  seq {ending.seq}  op {ending.operation}"
        )
    if not good:
        _tell_failure(ending, pen)
    return ending.exit


def _tell_failure(ending: Ending, pen: Pen) -> None:
    if ending.because or ending.code:
        pen.line(f"  {ending.code or ''} {clean(ending.because)}".rstrip())
    for leftover in ending.leftovers:
        pen.line(f"  left over: {clean(leftover)}")
    if ending.code is not None:
        pen.line(f"  {ending.code.advice.replace('ID', ending.operation)}")
        pen.line(f"  More: hwbus explain {ending.code}")


def confirmed(name: str, what: str, *, yes: bool) -> None:
    """Ask the person to type *name* before *what* is lost.

    Raises:
        FailureError: they typed something else, or nobody is there to be asked.
    """
    if yes:
        return
    here = world()
    if collecting():
        return
    if not here.stdin.isatty():
        raise FailureError(
            Exit.USAGE, f"{what}; nobody is there to confirm it", fix="Say so with --yes."
        )
    say(f"{what}.")
    here.err.write("Type the name to go on: ")
    here.err.flush()
    if here.stdin.readline().rstrip("\n") != name:
        raise FailureError(Exit.USAGE, "that is not the name; nothing was done")
