"""What waits for an approval, or for the command that it was given for, does so for a time only."""

from hwbus.controller.looking import Looking
from schemas.approval import ReportApprovalExpired


class Approvals(Looking):
    """Looks at the clock, and has each request that is over noted as such.

    No decision waits for that: an approval is no good from its hour on, noted or not.
    """

    async def look(self) -> None:
        """Report what is over now."""
        now = self._clock.now()
        over = [
            ReportApprovalExpired(approval=name, round=one.round)
            for name, one in self._world.approvals.items()
            if one.until is not None and now >= one.until
        ]
        for report in over:
            await self.ask(report, cause="approval-over")
