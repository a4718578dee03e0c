"""The audit: who did, asked or ran what, what became of it, and proof that it still says so."""

from dataclasses import dataclass
from datetime import UTC
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.nouns import AtNode
from hwbus.cli.options import VIEWING, Viewing, noun, parse_moment
from hwbus.cli.reading import listing
from hwbus.cli.world import world

Kind = Literal["accepted", "decided", "refused", "tool", "parked", "unknown", "login"]

app = noun("audit", "Who did, asked or ran what; and proof that nobody changed it.")
# Imported when they are named: whoever only looks something up does not wait for ciphers.
_NEXT_DOOR = (
    "feeding:follow",
    "exporting:export",
    "signing:heads",
    "signing:key",
    "signing:verify",
    "signing:prove",
    "archiving:archive",
    "pruning:prune",
)
for _where in _NEXT_DOOR:
    app.command(f"hwbus.cli.{_where}", name=_where.partition(":")[2])


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Filters:
    """What is looked for, whenever it was."""

    actor: Annotated[str | None, Parameter(name="--by", help="Only what this actor did.")] = None
    object_: Annotated[
        str | None, Parameter(name="--object", help="Only of this: volume/pg, pool/n1/fast.")
    ] = None
    code: Annotated[str | None, Parameter(help="Only refusals with this code: HW-P003.")] = None
    kind: Annotated[Kind | None, Parameter(help="Only records of this kind.")] = None
    correlation: Annotated[
        str | None, Parameter(help="Only what belongs to this operation or command.")
    ] = None
    node: AtNode = None
    text: Annotated[str | None, Parameter(help="Only where this text occurs.")] = None

    def where(self) -> dict[str, Any]:
        """Return it as columns of the view."""
        asked = {
            "actor": self.actor,
            "object": self.object_,
            "code": self.code,
            "kind": self.kind,
            "correlation": self.correlation,
            "node": self.node,
            "text": self.text,
        }
        return {column: value for column, value in asked.items() if value is not None}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Search(Filters):
    """What is looked for, in which time."""

    since: Annotated[
        str | None, Parameter(help="From then on: 2h, 3d, 2026-11-23, 2026-11-23T02:13Z.")
    ] = None
    until: Annotated[str | None, Parameter(help="Before then.")] = None

    def where(self) -> dict[str, Any]:
        """Return it as columns of the view. Raises ``FailureError``: a moment is none."""
        span = {"since": moment_of(self.since), "until": moment_of(self.until)}
        given = {column: value for column, value in span.items() if value is not None}
        return super().where() | given


FILTERS = Filters()
SEARCH = Search()


@app.default
def audit(
    *,
    search: Search = SEARCH,
    limit: Annotated[int, Parameter(name=["--limit", "-n"], help="At most so many.")] = 200,
    options: Viewing = VIEWING,
) -> int:
    """List what was asked, decided, refused and run, and by whom; and who logged in.

    ``--actor`` says in whose name you ask; ``--by`` whose deeds you ask for.
    """
    return listing("audit", search.where(), options, limit=limit)


app.command(audit, name="search")


def moment_of(given: str | None) -> str | None:
    """Return *given* (``2h``, a date) as a moment in UTC. Raises ``FailureError``."""
    if given is None:
        return None
    try:
        then = parse_moment(given, world().clock.now()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise FailureError(Exit.USAGE, str(error)) from error
    return then.isoformat().replace("+00:00", "Z")
