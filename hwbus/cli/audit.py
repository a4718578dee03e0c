"""The audit: who did, asked or ran what, and what became of it."""

from datetime import UTC
from typing import Annotated, Literal

from cyclopts import Parameter

from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.nouns import AtNode
from hwbus.cli.options import OPTIONS, Options, parse_moment
from hwbus.cli.reading import listing
from hwbus.cli.world import world

Kind = Literal["accepted", "decided", "refused", "tool", "parked", "unknown"]


def audit(
    *,
    actor: Annotated[str | None, Parameter(name="--by", help="Only what this actor did.")] = None,
    object_: Annotated[
        str | None, Parameter(name="--object", help="Only of this: volume/pg, pool/n1/fast.")
    ] = None,
    code: Annotated[str | None, Parameter(help="Only refusals with this code: HW-P003.")] = None,
    kind: Annotated[Kind | None, Parameter(help="Only records of this kind.")] = None,
    correlation: Annotated[
        str | None, Parameter(help="Only what belongs to this operation or command.")
    ] = None,
    node: AtNode = None,
    since: Annotated[
        str | None, Parameter(help="From then on: 2h, 3d, 2026-11-23, 2026-11-23T02:13Z.")
    ] = None,
    until: Annotated[str | None, Parameter(help="Before then.")] = None,
    text: Annotated[str | None, Parameter(help="Only where this text occurs.")] = None,
    limit: Annotated[int, Parameter(name=["--limit", "-n"], help="At most so many.")] = 200,
    options: Options = OPTIONS,
) -> int:
    """List what was asked, decided, refused and run, and by whom.

    ``--actor`` says in whose name you ask; ``--by`` whose deeds you ask for.
    """
    where = {
        "actor": actor,
        "object": object_,
        "code": code,
        "kind": kind,
        "correlation": correlation,
        "node": node,
        "since": _moment(since),
        "until": _moment(until),
        "text": text,
    }
    return listing("audit", where, options, limit=limit)


def _moment(given: str | None) -> str | None:
    if given is None:
        return None
    try:
        then = parse_moment(given, world().clock.now()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise FailureError(Exit.USAGE, str(error)) from error
    return then.isoformat().replace("+00:00", "Z")
