"""Looking after the views while they are used: count, compare with the log, make anew."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import msgspec
import structlog
from msgspec.structs import replace

from hwbus.ports import Call, Endpoint
from hwbus.subjects import views as subject_of
from projectors import tables
from projectors.comparing import count, differences, name_of
from projectors.projector import Projector
from projectors.sqlite import EVENTS
from projectors.tables import WRITTEN_ONCE, Table
from schemas.answers import Refused, refuse
from schemas.queries import COLUMNS, Page
from schemas.refusals import Refusal
from schemas.upkeep import DIFFERENCES_MAX, Job, JobState, ViewRow, WhichJob, Work, WorkKind
from schemas.views import Row

_LOG = structlog.get_logger("projectors.upkeep")
_ENCODE = msgspec.json.Encoder().encode
_WORK = msgspec.json.Decoder(Work)
_WHICH = msgspec.json.Decoder(WhichJob)
_JOBS_MAX = 16


async def listed(projector: Projector) -> list[ViewRow]:
    """Return every view, with how far it is behind the log."""
    known = tables.TABLES
    async with projector.reading() as store:
        counts = await store.count(
            [name for t in known for name in (t.name, f"past_{t.name}") if _is_there(t, name)]
        )
    status = {row.stream: row for row in projector.status()}[EVENTS]
    return [
        ViewRow(
            name=name_of(table),
            inner=name_of(table) not in COLUMNS,
            rows=counts[table.name],
            versions=counts.get(f"past_{table.name}", 0),
            position=status.position,
            lag_events=status.lag_events,
            lag_s=status.lag_s,
        )
        for table in known
    ]


def _is_there(table: Table[Row], name: str) -> bool:
    return name == table.name or table.name not in WRITTEN_ONCE


class Upkeep:
    """The responder for ``hwbus.views.>``: one job at a time, and the last ones remembered.

    *instance* tells this process from others that keep views of the same log.
    """

    def __init__(self, projector: Projector, instance: str, now: Callable[[], datetime]) -> None:
        self._projector = projector
        self._instance = instance
        self._now = now
        self._jobs: dict[str, Job] = {}
        self._running: asyncio.Task[None] | None = None
        self._begun = 0

    def endpoints(self) -> Sequence[Endpoint]:
        """Return where such work is asked for, and where this process tells of it."""
        return [
            *(Endpoint(kind.value, subject_of(kind.value), {}) for kind in WorkKind),
            Endpoint("job", self._ask, {}),
        ]

    @property
    def _ask(self) -> str:
        return subject_of("job", self._instance)

    @asynccontextmanager
    async def working(self) -> AsyncIterator["Upkeep"]:
        """Work until the context is left; a job that then runs is broken off."""
        try:
            yield self
        finally:
            if self._running is not None:
                self._running.cancel()
                await asyncio.gather(self._running, return_exceptions=True)

    async def __call__(self, call: Call) -> bytes:
        """Return the job that was begun or asked for, or the refusal."""
        try:
            if call.subject == self._ask:
                answer = await self._tell(_WHICH.decode(call.data))
            else:
                kind = WorkKind(call.subject.rpartition(".")[2])
                work = _WORK.decode(call.data) if call.data.strip() else Work()
                answer = self._begin(kind, work)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            answer = refuse(Refusal.MALFORMED, str(error))
        if isinstance(answer, Refused):
            return _ENCODE(answer)
        return _ENCODE(Page(kind="job", seq=answer.seq, items=(answer,)))

    def _begin(self, kind: WorkKind, work: Work) -> Job | Refused:
        known = {name_of(table): table for table in tables.TABLES}
        unknown = [name for name in work.views if name not in known]
        if unknown:
            return refuse(
                Refusal.MALFORMED, f"there is no view {unknown[0]!r}", f"views: {', '.join(known)}"
            )
        if self._running is not None and not self._running.done():
            going = next(reversed(self._jobs.values()))
            return refuse(Refusal.VIEWS_BUSY, f"{going.kind.value} is going on since {going.began}")
        self._begun += 1
        chosen = [known[name] for name in dict.fromkeys(work.views)] or list(known.values())
        job = Job(
            job=f"{self._instance}-{self._begun}",
            ask=self._ask,
            kind=kind,
            views=tuple(map(name_of, chosen)),
            state=JobState.RUNNING,
            began=self._now(),
        )
        self._jobs[job.job] = job
        while len(self._jobs) > _JOBS_MAX:
            del self._jobs[next(iter(self._jobs))]
        everything = not work.views
        self._running = asyncio.create_task(self._work(job, chosen, everything=everything))
        return job

    async def _tell(self, which: WhichJob) -> Job | Refused:
        if which.job not in self._jobs:
            return refuse(Refusal.MALFORMED, f"there is no job {which.job!r}", "begin one anew")
        running = self._running
        if running is not None and self._jobs[which.job].state is JobState.RUNNING:
            await asyncio.wait({running}, timeout=which.wait_ms / 1000)
        return self._jobs[which.job]

    async def _work(self, job: Job, chosen: list[Table[Row]], *, everything: bool) -> None:
        try:
            if job.kind is WorkKind.FSCK:
                done = await self._compare(job, chosen)
            else:
                await self._projector.rebuild(None if everything else chosen)
                rows = sum(
                    row.rows for row in await listed(self._projector) if row.name in job.views
                )
                done = replace(job, seq=self._projector.seq, rows=rows)
        except Exception as error:  # noqa: BLE001 -- whatever it was, who waits is told
            _LOG.exception("work on the views failed", kind=job.kind.value)
            done = replace(job, state=JobState.FAILED, because=f"{type(error).__name__}: {error}")
        else:
            done = replace(done, state=JobState.DONE)
        self._jobs[job.job] = replace(done, ended=self._now())

    async def _compare(self, job: Job, chosen: list[Table[Row]]) -> Job:
        async with self._projector.compared() as compared:
            seq = compared.positions[EVENTS]
            differing, found = await compared.look(differences, chosen, at_most=DIFFERENCES_MAX)
            rows = 0
            for table in chosen:
                rows += await compared.look(count, f"main.{table.name}")
        return replace(job, seq=seq, rows=rows, differing=differing, found=found)
