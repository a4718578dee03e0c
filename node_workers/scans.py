"""Looking around: rescans are the truth, hints only say when to look sooner."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet

import msgspec
import structlog

from node_workers.drift import drift, merge
from node_workers.figures import Figures
from node_workers.fills import fills, forgotten
from node_workers.observation import Observation
from node_workers.ports import StorageError
from node_workers.reports import NODE_LANE, Letter, command_id, letter, sighting
from node_workers.state import State
from schemas.disk import ReportDiskGone, ReportDiskSeen
from schemas.grammar import Report, kind_and_verb
from schemas.node import Finding, ReportDrift

_LOG = structlog.get_logger("node_workers.scans")
_FINDINGS: msgspec.json.Decoder[tuple[Finding, ...]] = msgspec.json.Decoder(tuple[Finding, ...])
_DISK, _DRIFT = "disk/", "drift"
_NOTHING = b"[]"


class Rhythm(msgspec.Struct, frozen=True, kw_only=True):
    """When to look: at least every ``every_s``, and sooner after a hint.

    Then ``settle_s`` later, so that a burst of hints is one look, and never sooner than
    ``apart_s`` after the last one. What nobody hinted at is known within a minute: the look itself
    and the way of its report need their share of that. Each disk is asked for its health every
    ``health_every_s``; 0: never.
    """

    every_s: float = 50.0
    settle_s: float = 0.5
    apart_s: float = 3.0
    health_every_s: float = 600.0


class Scans:
    """Looks at the machine, says what changed on it, and hands the picture to *on_seen*.

    Drift is told only while the node *knows_all* that is wanted of it.
    """

    def __init__(
        self,
        state: State,
        observe: Callable[[str], Awaitable[Observation]],
        on_seen: Callable[[Observation, str, AbstractSet[str]], Awaitable[None]],
        busy: Callable[[], frozenset[str]],
        knows_all: Callable[[], bool],
        on_repeat: Callable[[], None],
        *,
        node: str,
        figures: Figures,
        rhythm: Rhythm,
    ) -> None:
        self._state = state
        self._observe = observe
        self._on_seen = on_seen
        self._busy = busy
        self._knows_all = knows_all
        self._on_repeat = on_repeat
        self._node = node
        self._figures = figures
        self._rhythm = rhythm
        self._hinted = asyncio.Event()
        self._repeat = True
        self._paths: dict[str, str] = {}
        self._findings: Callable[[], tuple[Finding, ...]] = tuple

    def hint(self) -> None:
        """Look soon: something may have changed."""
        self._hinted.set()

    def repeat(self) -> None:
        """Say everything again at the next look, changed or not: somebody may have forgotten."""
        self._repeat = True
        self._on_repeat()
        self.hint()

    def also_tell(self, findings: Callable[[], tuple[Finding, ...]]) -> None:
        """Tell these findings with those of each look: what a look alone does not show."""
        self._findings = findings

    def paths(self) -> Mapping[str, str]:
        """Return where each disk was seen last."""
        return self._paths

    async def run(self) -> None:
        """Look around until cancelled."""
        while True:
            started_s = time.monotonic()
            await self.once()
            try:
                async with asyncio.timeout(self._rhythm.every_s):
                    await self._hinted.wait()
            except TimeoutError:
                continue
            gone_s = time.monotonic() - started_s
            await asyncio.sleep(max(self._rhythm.settle_s, self._rhythm.apart_s - gone_s))

    async def once(self) -> Observation | None:
        """Look now; None if the machine could not be looked at."""
        self._hinted.clear()
        cause = f"scan:{await self._state.next_number('scan')}"
        before, busy = dict(self._state.wanted), self._busy()
        try:
            seen = await self._observe(cause)
        except StorageError as error:
            self._figures.count("scans_failed_total")
            _LOG.warning("could not look at the machine", because=error.sentence)
            return None
        self._figures.count("scans_total")
        self._paths = {disk.identity: disk.path for disk in seen.disks}
        now = self._state.wanted
        moved = {key for key in {*before, *now} if before.get(key) is not now.get(key)}
        unsure = moved | busy | self._busy()
        if not self._state.removed:
            await self._say(seen, cause, unsure)
        await self._on_seen(seen, cause, unsure)
        return seen

    async def _say(self, seen: Observation, cause: str, unsure: AbstractSet[str]) -> None:
        letters: list[Letter] = []
        said: dict[str, bytes | None] = {}
        drifted = [self._drift(seen, unsure)] if self._knows_all() else []
        for key, value, report in (
            *self._disks(seen),
            *fills(self._node, self._state.wanted, seen, self._state.said, unsure),
            *drifted,
        ):
            known = self._state.said.get(key, _NOTHING if key == _DRIFT else b"")
            if (value or b"") == known and not (self._repeat and value):
                continue
            said[key] = value
            letters.append(self._letter(report, key, cause))
        gone = forgotten(self._state.wanted, self._state.said)
        await self._state.say(letters, {**said, **gone})
        self._repeat = self._repeat and not drifted

    def _disks(self, seen: Observation) -> list[tuple[str, bytes | None, Report]]:
        now = {disk.identity: sighting(disk) for disk in seen.disks}
        told = {key.removeprefix(_DISK) for key in self._state.said if key.startswith(_DISK)}
        return [
            *(
                (
                    _DISK + disk,
                    msgspec.json.encode(what),
                    ReportDiskSeen(disk=disk, node=self._node, sighting=what),
                )
                for disk, what in sorted(now.items())
            ),
            *(
                (_DISK + disk, None, ReportDiskGone(disk=disk, node=self._node))
                for disk in sorted(told - now.keys())
            ),
        ]

    def _drift(
        self, seen: Observation, unsure: AbstractSet[str]
    ) -> tuple[str, bytes | None, Report]:
        before = _FINDINGS.decode(self._state.said.get(_DRIFT, _NOTHING))
        now = (*drift(self._node, self._state.wanted, seen), *self._findings())
        findings = merge(before, now, unsure, self._node)
        self._figures.show("drift_findings", sum(not f.quiet for f in findings))
        report = ReportDrift(node=self._node, findings=findings)
        return _DRIFT, msgspec.json.encode(findings), report

    def _letter(self, report: Report, key: str, cause: str) -> Letter:
        lane = NODE_LANE if key == _DRIFT else key
        verb = kind_and_verb(report)[1]
        return letter(
            report,
            node=self._node,
            command_id=command_id(self._node, cause.replace(":", "-"), verb, key),
            lane=lane,
            cause=cause,
            newest_only=True,
        )
