"""Backup targets: make a place for backups known, try it, look what lies there."""

from typing import Annotated

from cyclopts import Parameter

from hwbus.cli import names, recall
from hwbus.cli.changing import change
from hwbus.cli.exits import Exit, FailureError, for_refusal
from hwbus.cli.following import follow_to_end
from hwbus.cli.nouns import AtNode
from hwbus.cli.options import CHANGE, OPTIONS, VIEWING, Change, Deadline, Options, Viewing, noun
from hwbus.cli.reading import listing, one, show_row
from hwbus.cli.session import actor_of, conversation, print_call, run, server_of
from hwbus.cli.world import world
from hwbus.client import Client, command_call, query_call
from schemas.answers import Refused, Undecided
from schemas.target import AddTarget, ListBackups, ProbeTarget, RemoveTarget

app = noun("target", "Places for backups.")

_ANSWER_S = 10.0
_LOOK_S = 660.0
TargetName = Annotated[str, Parameter(completer=names.targets, help="Name of a backup target.")]
BackupId = Annotated[str, Parameter(completer=names.backups, help="Name of a backup.")]


@app.command
def add(
    name: Annotated[str, Parameter(help="What to call it.")],
    url: Annotated[str, Parameter(help="Where backups shall lie: s3://BUCKET/PREFIX.")],
    /,
    *,
    credentials: Annotated[
        str,
        Parameter(help="Where nodes find what lets them in: file:NAME or env:NAME."),
    ],
    endpoint: Annotated[
        str, Parameter(help="https://HOST:PORT of the store. [default: that of AWS]")
    ] = "",
    region: Annotated[str, Parameter(help="The region of the bucket.")] = "us-east-1",
    cluster: Annotated[str, Parameter(help="What backups shall say they are from.")] = "hwbus",
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Make a place for backups known; try it with hwbus backup target test NAME."""
    word = AddTarget(
        target=name,
        url=url,
        endpoint=endpoint,
        region=region,
        credentials=credentials,
        cluster=cluster,
    )
    return change(word, options, how)


@app.command(name="ls", alias="list")
def ls(*, options: Viewing = VIEWING) -> int:
    """List the backup targets."""
    return listing("targets", {}, options)


@app.command
def show(name: TargetName, /, *, options: Viewing = VIEWING) -> int:
    """Show one backup target: where it is, what lies there, and the last trouble with it."""
    if options.show_call:
        return print_call(query_call("targets", {"name": name}), options)
    return run(_show(name, options))


async def _show(name: str, options: Options) -> int:
    async with conversation(options) as client:
        what = f"backup target {name[:80]!r}"
        page, _ = await one(client, "targets", {"name": name}, what, options)
        show_row("targets", page, options)
    return Exit.OK


@app.command(name="test")
def probe(
    name: TargetName,
    /,
    *,
    node: AtNode = None,
    deadline: Deadline = 120,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Have a node write an object there, read it back and delete it."""
    return change(ProbeTarget(target=name, node=node, deadline_s=deadline), options, how)


@app.command(alias="rm")
def delete(name: TargetName, /, *, options: Options = OPTIONS, how: Change = CHANGE) -> int:
    """Know a place for backups no longer; what lies there stays."""
    return change(RemoveTarget(target=name), options, how)


async def looked(client: Client, word: ListBackups, options: Options) -> None:
    """Have a node look what lies in a target, and wait for it. Raises ``FailureError``."""
    target = word.target
    call = command_call(word, actor=actor_of(options), command_id=world().mint())
    answer = await client.send(call, timeout_s=_ANSWER_S)
    if isinstance(answer, Refused):
        raise FailureError(
            for_refusal(answer.code), f"{answer.code} {answer.because}", fix=answer.fix
        )
    if isinstance(answer, Undecided):
        raise FailureError(Exit.TIMED_OUT, f"nobody knows whether a node looks: {answer.because}")
    ending = await follow_to_end(
        client,
        answer.operation,
        title=f"target/{target}",
        object_=f"target/{target}",
        after=max(0, answer.seq - 1),
        timeout_s=_LOOK_S,
    )
    recall.wrote(world(), server_of(options), ending.seq)
    if ending.exit is not Exit.OK:
        advice = "" if ending.code is None else ending.code.advice
        raise FailureError(ending.exit, f"{ending.code or ''} {ending.because}".strip(), fix=advice)
