"""What of protections and approvals is worth a column."""

from hwbus.cli.cells import (
    Column,
    Table,
    age_of,
    met_cell,
    moment,
    number,
    of_cluster,
    state,
    text,
)
from hwbus.cli.paint import clean

OF_APPROVALS: dict[str, Table] = {
    "protections": Table(
        columns=(
            text("name"),
            text("kinds"),
            text("names"),
            text("acts"),
            number("hold_s", "UNLESS-HELD-S"),
            number("waits_s", "WAITS-S"),
            number("good_for_s", "GOOD-FOR-S"),
            age_of(),
            text("uid", wide=True),
        ),
        name=of_cluster("protection"),
        none="nothing takes two people yet: hwbus protection set NAME --kind volume --name 'pg-*'",
    ),
    "approvals": Table(
        columns=(
            text("id"),
            state(),
            text("actor"),
            Column("WHAT", lambda row, _brush: clean(str(row.get("word")).rpartition(".v")[0])),
            Column("OBJECTS", met_cell),
            text("by"),
            age_of("changed_at", "SINCE"),
            moment("good_until", "UNTIL"),
            number("round", "ROUND", wide=True),
            text("protections", wide=True),
            text("because", wide=True),
            text("command", wide=True),
            text("request", wide=True),
        ),
        name=of_cluster("approval", "id"),
        none="nothing waits for approval: --all shows what did",
    ),
}
