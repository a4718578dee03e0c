"""Checkups: every disk is asked for its health in turn; what it says is told when it changes."""

import asyncio
import time
from collections.abc import Mapping

import msgspec
import structlog

from node_workers.figures import Figures
from node_workers.ports import Execution, Runner, StorageError
from node_workers.reports import command_id, letter
from node_workers.runner import NO_SUCH_TOOL
from node_workers.smart import SMARTCTL, UNKNOWN, Verdict, judge
from node_workers.state import State
from schemas.disk import Health, ReportDiskHealth

_LOG = structlog.get_logger("node_workers.health")
_TIMEOUT_S = 60.0
_SAID = "health/"


class Checkups:
    """Asks each disk every *every_s* seconds (0: never), and one that is new here at once.

    What is told is a change against what was told last, which is in the worker's own file.
    """

    def __init__(
        self, runner: Runner, state: State, *, node: str, figures: Figures, every_s: float
    ) -> None:
        self._runner = runner
        self._state = state
        self._node = node
        self._figures = figures
        self._every_s = every_s
        self._paths: dict[str, str] = {}
        self._asked_s: dict[str, float] = {}
        self._verdicts: dict[str, Verdict] = {}
        self._newcomers = asyncio.Event()
        self._repeat = False

    def repeat(self) -> None:
        """Ask and tell everything again after the next look: somebody may have forgotten."""
        self._repeat = True

    async def note(self, paths: Mapping[str, str]) -> None:
        """Know where the disks are now; one that comes back is asked and told of anew."""
        self._paths = {} if self._state.removed else dict(paths)
        stay = set() if self._repeat else self._paths.keys()
        self._repeat = False
        told = (key for key in self._state.said if key.startswith(_SAID))
        gone = [key for key in told if key.removeprefix(_SAID) not in stay]
        await self._state.say((), dict.fromkeys(gone))
        for known in (self._asked_s, self._verdicts):
            for disk in known.keys() - stay:
                del known[disk]
        self._show()
        if self._paths.keys() - self._asked_s.keys():
            self._newcomers.set()

    async def run(self) -> None:
        """Ask until cancelled."""
        if not self._every_s:
            await asyncio.Event().wait()
        while True:
            self._newcomers.clear()
            await self._round()
            longest_ago_s = min(self._asked_s.values(), default=time.monotonic())
            try:
                async with asyncio.timeout(longest_ago_s + self._every_s - time.monotonic()):
                    await self._newcomers.wait()
            except TimeoutError:
                continue

    async def _round(self) -> None:
        due_s = time.monotonic() - self._every_s
        due = [disk for disk in sorted(self._paths) if self._asked_s.get(disk, due_s) <= due_s]
        if not due:
            return
        number = await self._state.next_number("health")
        self._asked_s |= dict.fromkeys(due, time.monotonic())
        for disk in due:
            execution = await self._ask(disk, f"health:{number}")
            if execution is None or disk not in self._paths:
                continue
            if execution.exit_status == NO_SUCH_TOOL:
                _LOG.warning("no disk is asked for its health: there is no smartctl here")
                return
            await self._tell(disk, judge(execution), number)

    async def _ask(self, disk: str, cause: str) -> Execution | None:
        """Return what smartctl left; None if it did not end, or the disk has just gone."""
        path = self._paths.get(disk)
        if path is None:
            return None
        try:
            return await self._runner.run((*SMARTCTL, path), cause=cause, timeout_s=_TIMEOUT_S)
        except StorageError as error:
            _LOG.warning("a disk does not say how it is", disk=disk, because=error.sentence)
            return None

    async def _tell(self, disk: str, verdict: Verdict, number: int) -> None:
        self._verdicts[disk] = verdict
        self._show()
        key = _SAID + disk
        value = None if verdict == UNKNOWN else msgspec.json.encode(verdict)
        if value == self._state.said.get(key):
            return
        report = ReportDiskHealth(
            disk=disk, node=self._node, health=verdict.health, reasons=verdict.reasons
        )
        about = letter(
            report,
            node=self._node,
            command_id=command_id(self._node, f"health-{number}", disk),
            lane=key,
            cause=f"health:{number}",
            newest_only=True,
        )
        await self._state.say((about,), {key: value})

    def _show(self) -> None:
        failing = sum(one.health is Health.FAILING for one in self._verdicts.values())
        self._figures.show("disks_failing", failing)
