"""Proof that the record is as it was: heads, checks of the whole log, proofs of one commit."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from hwbus.cli.archiving import verify_archive
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.options import OPTIONS, Options
from hwbus.cli.output import print_data, say
from hwbus.cli.proving import proof_of
from hwbus.cli.session import linked, run
from hwbus.cli.sources import Endpoint, source
from hwbus.cli.verdicts import judge, readable
from hwbus.cli.verifying import kept_heads, verify_live, verify_store
from hwbus.cli.world import world
from hwbus.heads import HEADS, heads_in
from hwbus.streams import AUDIT, EVENTS, Stream
from schemas.audit import HeadRecord

Keys = Annotated[
    list[str],
    Parameter(
        name="--key",
        negative=(),
        help="Only heads signed by this public key (hex) count; may be repeated.",
    ),
]
_READS_HEADS = f"nats sub --stream {AUDIT.name} '{','.join(HEADS)}'\n"
_READS_EVENTS = f"nats sub --stream {EVENTS.name} 'hwbus.evt.>'\n"


def heads(
    *,
    last: Annotated[bool, Parameter(negative=(), help="The newest of each stream.")] = False,
    options: Options = OPTIONS,
) -> int:
    """Print the signed heads, a JSON object a line, oldest first.

    Keep them where those who run this cluster cannot change them, and give them to
    ``hwbus audit verify --heads FILE`` or ``python -m hwbus.proof --head FILE``.
    """
    if options.show_call:
        return _show(_READS_HEADS)
    found = run(_heads(options))
    newest = {head.stream: head for head in found}
    for head in newest.values() if last else found:
        bare = msgspec.structs.replace(head, leaves=b"", frontier=())
        world().out.write(msgspec.json.encode(bare).decode() + "\n")
    if not found:
        say("no head is signed yet: the control plane signs one a minute while the log grows")
    return Exit.OK


def _show(*calls: str) -> int:
    world().out.writelines(calls)
    return Exit.OK


async def _heads(options: Options) -> list[HeadRecord]:
    async with linked(options) as link:
        return await heads_in(link.audit)


def key(*, options: Options = OPTIONS) -> int:
    """Print the public keys that heads are signed with, and from when to when.

    Compare them with ``notary.pub`` in the state folder of the control plane: what the log says of
    itself proves nothing.
    """
    if options.show_call:
        return _show(_READS_HEADS)
    spans: dict[str, list[HeadRecord]] = {}
    for head in run(_heads(options)):
        spans.setdefault(head.key, []).append(head)
    items = [
        {"key": name, "heads": len(own), "since": own[0].at, "until": own[-1].at}
        for name, own in spans.items()
    ]
    if options.output in {"json", "yaml"}:
        print_data("NotaryKeys", items, options.output)
    else:
        world().out.writelines(f"{name}\n" for name in spans)
    if not items:
        say("no head is signed yet")
    return Exit.OK


def verify(
    *,
    from_store: Annotated[
        Path | None, Parameter(help="A copy of the broker's store, instead of the log itself.")
    ] = None,
    from_archive: Annotated[
        str | None,
        Parameter(
            name=["--from-archive", "--export"],
            help="What hwbus audit archive wrote: a file, a folder, or s3://BUCKET/PREFIX.",
        ),
    ] = None,
    with_archive: Annotated[
        str | None,
        Parameter(help="Read from here what was taken out of the audit, before what is left."),
    ] = None,
    endpoint: Endpoint = "",
    heads: Annotated[
        Path | None, Parameter(help="Heads that were kept elsewhere: JSON lines, as heads prints.")
    ] = None,
    key: Keys = [],  # noqa: B006 -- cyclopts reads the default, nobody writes to it
    options: Options = OPTIONS,
) -> int:
    """Check sequences, chains and signed heads, and name the first that is not as it was.

    Both streams are looked at: the events, and the audit with refusals and tools.

    A copy is read as it is, without a broker and without asking anybody. What hwbus audit prune
    took out is told; --with-archive verifies it together with what is left.
    """
    if sum(one is not None for one in (from_store, from_archive, with_archive)) > 1:
        options_ = "--from-store, --from-archive or --with-archive"
        raise FailureError(Exit.USAGE, f"one copy at a time: {options_}")
    if options.show_call:
        return _show(_READS_HEADS, _READS_EVENTS)
    with readable():
        kept = [] if heads is None else kept_heads(heads)
        if from_store is not None:
            verdicts = verify_store(from_store, kept, key)
        elif from_archive is not None:
            verdicts = verify_archive(from_archive, kept, key, endpoint)
        else:
            beside = None if with_archive is None else source(with_archive, endpoint)
            verdicts = run(verify_live(kept, key, beside, options))
    if not key and any(verdict.keys for verdict in verdicts):
        say("note: any key was believed; --key says whose heads count")
    return judge(verdicts, options, wanted=bool(key or kept))


def prove(
    seq: Annotated[int, Parameter(help="Sequence number of the commit, or record.")],
    /,
    *,
    record: Annotated[
        bool, Parameter(negative=(), help="Of the audit: a refusal, a tool that ran.")
    ] = False,
    to: Annotated[Path | None, Parameter(help="This file, which must not be there yet.")] = None,
    with_head: Annotated[
        list[int],
        Parameter(negative=(), help="Prove also that the log continues its head of so many."),
    ] = [],  # noqa: B006 -- cyclopts reads the default, nobody writes to it
    options: Options = OPTIONS,
) -> int:
    """Write a proof that this commit stands in the signed log, to be checked without it.

    ``python -m hwbus.proof FILE --key HEX`` checks it, and asks nobody.
    """
    if options.show_call:
        return _show(_READS_HEADS, _READS_EVENTS)
    proof = run(_prove(seq, with_head, AUDIT if record else EVENTS, options))
    text = msgspec.json.format(msgspec.json.encode(proof), indent=2) + b"\n"
    if to is None:
        world().out.write(text.decode())
        return Exit.OK
    try:
        with to.open("xb") as file:
            file.write(text)
    except OSError as error:
        raise FailureError(Exit.USAGE, f"{to} cannot be written: {error}") from error
    say(f"written to {to}; python -m hwbus.proof {to} --key {proof['head']['key']} checks it")
    return Exit.OK


async def _prove(
    seq: int, with_heads: list[int], stream: Stream, options: Options
) -> dict[str, Any]:
    async with linked(options) as link:
        return await proof_of(seq, with_heads, link, stream)
