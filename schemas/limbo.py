"""What is found when the log is looked through for what hangs, has no cause, or does not add up."""

from enum import StrEnum

import msgspec

from schemas.units import Moment
from schemas.views import Row


class Limbo(StrEnum):
    """A permanent code of a finding. ``hwbus explain CODE`` prints its meaning and what to do."""

    OVERDUE = "HW-L001"
    HELD_FOR_NOBODY = "HW-L002"
    ENDED_TWICE = "HW-L003"
    NO_CAUSE = "HW-L004"
    CAUSE_LOST = "HW-L005"
    TOOL_WITHOUT_CAUSE = "HW-L006"
    OVERCOMMITTED = "HW-L007"
    UNBALANCED = "HW-L008"
    BOOKS_DIFFER = "HW-L009"
    BEHIND = "HW-L010"
    UNREADABLE = "HW-L011"

    @property
    def meaning(self) -> str:
        """What is wrong."""
        return _EXPLAINED[self][0]

    @property
    def advice(self) -> str:
        """What to do about it."""
        return _EXPLAINED[self][1]

    @property
    def check(self) -> str:
        """Which of the checks it belongs to: the label of the figure."""
        return _CHECKS[self]


_EXPLAINED = {
    Limbo.OVERDUE: (
        "An operation is open past its deadline, and past the grace.",
        (
            "Is the control plane running? It ends operations itself: hwbus op show ID; its log "
            "says what it waits for."
        ),
    ),
    Limbo.HELD_FOR_NOBODY: (
        "Something is kept busy by an operation that has ended.",
        "The control plane lets go of it within a minute; if not, report it with hwbus op show ID.",
    ),
    Limbo.ENDED_TWICE: (
        "An operation has ended that was not open.",
        "Nothing hangs, but it is a fault of hwbus: report it with hwbus op show ID.",
    ),
    Limbo.NO_CAUSE: (
        "A commit does not say who asked, for what, or why a machine did it by itself.",
        "Find out who wrote it: hwbus event show SEQ, and hwbus audit verify.",
    ),
    Limbo.CAUSE_LOST: (
        "A commit names a cause that is not in the record before it.",
        (
            "hwbus event show SEQ --causes shows how far it leads; hwbus audit verify finds what "
            "is missing."
        ),
    ),
    Limbo.TOOL_WITHOUT_CAUSE: (
        "A tool ran on a node for something that is not in the record.",
        "hwbus audit --kind tool shows it; look at the node, and at hwbus audit verify.",
    ),
    Limbo.OVERCOMMITTED: (
        "A pool has promised more than it has.",
        (
            "Put nothing more on it, and compare with vgs on the node: hwbus pool show NAME; hwbus "
            "drift lists what was changed by hand."
        ),
    ),
    Limbo.UNBALANCED: (
        (
            "The ledger of a pool was told of more given back than was set aside, or of one claim "
            "twice."
        ),
        "It is a fault of hwbus: keep the log, and report it with hwbus event show SEQ.",
    ),
    Limbo.BOOKS_DIFFER: (
        "The room of a pool, added up anew from the log, is not what is said of it.",
        (
            "If the views say it: hwbus projector fsck, then rebuild. If the control plane does: "
            "start it again, and report it."
        ),
    ),
    Limbo.BEHIND: (
        "Views have not taken in what stands in the log.",
        "Wait a little; hwbus status tells the lag, and the control plane's log why it grows.",
    ),
    Limbo.UNREADABLE: (
        "A message in the log is no commit, or views had to set one aside.",
        "hwbus audit --kind parked shows it; hwbus audit verify tells whether it was signed so.",
    ),
}
_CHECKS = {
    Limbo.OVERDUE: "operations",
    Limbo.HELD_FOR_NOBODY: "operations",
    Limbo.ENDED_TWICE: "operations",
    Limbo.NO_CAUSE: "causes",
    Limbo.CAUSE_LOST: "causes",
    Limbo.TOOL_WITHOUT_CAUSE: "causes",
    Limbo.OVERCOMMITTED: "ledgers",
    Limbo.UNBALANCED: "ledgers",
    Limbo.BOOKS_DIFFER: "ledgers",
    Limbo.BEHIND: "projectors",
    Limbo.UNREADABLE: "projectors",
}
CHECKS = tuple(dict.fromkeys(_CHECKS.values()))


class LimboRow(Row, frozen=True, kw_only=True):
    """One finding: about what, at which sequence of which stream, and what is to be done."""

    code: Limbo
    stream: str
    seq: int
    subject: str
    because: str
    fix: str


class LimboVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What came of looking through the log up to ``seq``, as it was at ``at``.

    ``open`` operations have ``grace_s`` after their deadline; ``late`` have ended, but later.
    ``tools`` were looked at beside ``commits``; the causes of ``unjudged`` lie further back than
    is remembered, or in a stream that was not there. ``untold`` findings were too many to keep.
    """

    seq: int
    at: Moment
    grace_s: float
    commits: int
    tools: int
    open: int
    late: int
    pools: int
    unjudged: int
    findings: tuple[LimboRow, ...]
    untold: int

    @property
    def counts(self) -> dict[str, int]:
        """How many findings there are of each check."""
        found = dict.fromkeys(CHECKS, 0)
        for one in self.findings:
            found[one.code.check] += 1
        return found
