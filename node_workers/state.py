"""What the worker knows, in memory and on disk at once: each change is one transaction."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec
import structlog
from msgspec.structs import replace

from hwbus.codec import UnreadableError, commit_codec
from hwbus.ports import Clock, Stored
from hwbus.subjects import BadNameError, parse_event
from node_workers.figures import Figures
from node_workers.folding import fold, still_there, there, there_as
from node_workers.outbox import Outbox, parked
from node_workers.reports import Letter, Trouble, command_id, letter, trouble_report
from node_workers.steps import Step
from node_workers.store import Change, Kept, Record, Store
from node_workers.wanted import Origin, Wanted, WantedPool, WantedReplica
from schemas.attachment import ATTACHMENTS, AttachmentEvent
from schemas.draining import DrainingEvent, ForgettingEvent
from schemas.errand import ERRANDS, ErrandEvent
from schemas.grammar import Report, kind_and_verb
from schemas.growing import ThinGrowthEvent
from schemas.linking import LinkingEvent
from schemas.mending import MendEvent
from schemas.node import NODES, NodeAdmitted, NodeEvent, NodeRemoved
from schemas.operation import ReportProgressed
from schemas.pool import POOLS, PoolEvent, ReportPoolBuilt
from schemas.replica import REPLICAS, ReplicaEvent, ReportReplicaPresent
from schemas.replication import ReplicationEvent
from schemas.settling import SettlingEvent
from schemas.shrinking import ShrinkEvent
from schemas.upcasts import UPCASTS

_LOG = structlog.get_logger("node_workers.state")
_COMMITS = commit_codec(
    PoolEvent
    | ShrinkEvent
    | ThinGrowthEvent
    | ReplicaEvent
    | AttachmentEvent
    | ErrandEvent
    | NodeEvent
    | MendEvent
    | SettlingEvent
    | LinkingEvent
    | DrainingEvent
    | ForgettingEvent
    | ReplicationEvent,
    UPCASTS,
)
_REMOVED = "removed"
_SAID_CHARACTERS = 16
T = TypeVar("T")


class _StrangeCommitError(Exception):
    """A commit that is not about what its subject says, or not about this node."""


class News(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch of commits changed: which objects, and whether the node was let in again."""

    keys: tuple[str, ...] = ()
    admitted: bool = False


class State:
    """The fold of the node's events, and what was said about the machine."""

    def __init__(
        self,
        kept: Kept,
        store: Store,
        outbox: Outbox,
        *,
        node: str,
        clock: Clock,
        figures: Figures,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._node = node
        self._clock = clock
        self._figures = figures
        self._meta = dict(kept.meta)
        self._one_at_a_time = asyncio.Lock()
        self._position = kept.position
        self._wanted = dict(kept.wanted)
        self._said = dict(kept.said)
        figures.show("position", self._position)

    @property
    def position(self) -> int:
        """The sequence up to which the log has been folded."""
        return self._position

    @property
    def wanted(self) -> Mapping[str, Wanted]:
        """What is wanted of this node, by lane."""
        return self._wanted

    @property
    def said(self) -> Mapping[str, bytes]:
        """What was last reported of the machine itself: disks, drift, fill."""
        return self._said

    @property
    def removed(self) -> bool:
        """Whether the node is out of the cluster, and its inventory nobody's business."""
        return self._meta.get(_REMOVED) == "yes"

    async def next_number(self, what: str) -> int:
        """Return a number that was never given out for *what* before, not even before a crash."""

        def counted() -> Change:
            return Change(meta={what: str(int(self._meta.get(what, "0")) + 1)})

        return int((await self._make(counted)).meta[what])

    async def take(self, batch: Sequence[Stored]) -> News:
        """Fold *batch* and remember how far we are. What cannot be read is set aside."""
        change = await self._make(lambda: self._folded(batch))
        return News(keys=tuple(change.wanted), admitted=change.meta.get(_REMOVED) == "no")

    async def answered(self, step: Step, report: Report, *, traceparent: str) -> None:
        """Know that *step* is done, and say so."""
        id_ = command_id(self._node, str(step.origin.seq), kind_and_verb(report)[1])
        about = self._letter(step, report, id_, traceparent)
        await self._make(lambda: Change(wanted=self._after(step, report), letters=(about,)))

    async def progressed(self, step: Step, report: ReportProgressed) -> None:
        """Say how far *step* is; only the newest of such letters that wait is sent."""
        number = str(report.done_bytes)
        id_ = command_id(
            self._node, str(step.origin.seq), kind_and_verb(report)[1], step.uid, number
        )
        about = letter(
            report,
            node=self._node,
            command_id=id_,
            lane=f"progress/{step.key}",
            cause=step.origin.cause,
            correlation=step.origin.correlation,
            traceparent=step.origin.traceparent,
            newest_only=True,
        )
        await self.say((about,), {})

    async def troubled(
        self, step: Step, trouble: Trouble, *, attempt: int, traceparent: str
    ) -> None:
        """Say that *step* met *trouble*; if it is permanent, nothing more is tried."""
        report = trouble_report(step, trouble, self._node)
        verb = kind_and_verb(report)[1]
        # With what is said: attempts are counted anew after a restart, and the desk refuses one id
        # for two texts.
        said = hashlib.sha256(msgspec.json.encode(report)).hexdigest()[:_SAID_CHARACTERS]
        id_ = command_id(self._node, str(step.origin.seq), verb, str(attempt), said)
        about = self._letter(step, report, id_, traceparent)

        def given_up() -> Change:
            now = self._current(step)
            if not trouble.permanent or now is None:
                return Change(letters=(about,))
            given_up = replace(now, given_up_seq=step.origin.seq)
            return Change(wanted={step.key: given_up}, letters=(about,))

        await self._make(given_up)

    async def reopen(self, key: str) -> None:
        """Try again what was given up."""

        def reopened() -> Change | None:
            now = self._wanted.get(key)
            if now is None or not now.given_up_seq:
                return None
            return Change(wanted={key: replace(now, given_up_seq=0)})

        await self._make(reopened)

    async def again(self, key: str) -> None:
        """Do again what was answered or given up: it is no longer so."""

        def anew() -> Change | None:
            now = self._wanted.get(key)
            if now is None:
                return None
            return Change(wanted={key: replace(now, answered_seq=0, given_up_seq=0)})

        await self._make(anew)

    async def say(self, letters: Sequence[Letter], said: Mapping[str, bytes | None]) -> None:
        """Send *letters* about the machine, and remember what was *said*."""
        if letters or said:
            await self._make(lambda: Change(said=said, letters=tuple(letters)))

    def _folded(self, batch: Sequence[Stored]) -> Change:
        changed: dict[str, Wanted | None] = {}
        records: list[Record] = []
        meta: dict[str, str] = {}
        for stored in batch:
            if stored.seq <= self._position:
                continue
            try:
                self._fold(stored, changed, meta)
            except (UnreadableError, _StrangeCommitError) as error:
                records.append(self._set_aside(stored, str(error)))
        last = max(self._position, batch[-1].seq)
        return Change(position=last, wanted=changed, meta=meta, records=tuple(records))

    def _fold(
        self, stored: Stored, changed: dict[str, Wanted | None], meta: dict[str, str]
    ) -> None:
        try:
            where = parse_event(stored.subject)
        except BadNameError as error:
            raise _StrangeCommitError(str(error)) from error
        if where.kind not in {POOLS, REPLICAS, ATTACHMENTS, ERRANDS, NODES}:
            return
        commit = _COMMITS.decode(stored.data)
        if any(kind_and_verb(e)[0] != where.kind or e.node != self._node for e in commit.events):
            raise _StrangeCommitError(f"not about {where}")
        if where.kind == NODES:
            for event in commit.events:
                if isinstance(event, NodeRemoved | NodeAdmitted):
                    meta[_REMOVED] = "yes" if isinstance(event, NodeRemoved) else "no"
            return
        key = f"{where.kind}/{where.id}"
        origin = Origin(
            seq=stored.seq, correlation=commit.correlation, traceparent=commit.traceparent
        )
        before = changed[key] if key in changed else self._wanted.get(key)
        changed[key] = fold(before, commit.events, origin, commit.cause)

    def _set_aside(self, stored: Stored, because: str) -> Record:
        self._figures.count("messages_parked_total")
        _LOG.error("message parked", seq=stored.seq, subject=stored.subject, because=because)
        return parked(
            self._node,
            self._clock,
            subject=stored.subject,
            seq=stored.seq,
            because=because,
            data=stored.data,
        )

    def _current(self, step: Step) -> Wanted | None:
        now = self._wanted.get(step.key)
        return now if now is not None and now.uid == step.uid else None

    def _after(self, step: Step, report: Report) -> dict[str, Wanted | None]:
        now = self._current(step)
        if now is None:
            return {}
        now = replace(now, answered_seq=max(now.answered_seq, step.origin.seq))
        if isinstance(now, WantedPool) and isinstance(report, ReportPoolBuilt):
            looked_at = now.origin == step.origin
            now = replace(there(now, report.facts), thin_growing=now.thin_growing and not looked_at)
        if isinstance(now, WantedReplica) and isinstance(report, ReportReplicaPresent):
            mine = now.origin == step.origin
            size_bytes = report.size_bytes
            now = there_as(now, size_bytes) if mine else still_there(now, size_bytes)
        return {step.key: now}

    def _letter(self, step: Step, report: Report, id_: str, traceparent: str) -> Letter:
        return letter(
            report,
            node=self._node,
            command_id=id_,
            lane=step.key,
            cause=step.origin.cause,
            correlation=step.origin.correlation,
            traceparent=traceparent or step.origin.traceparent,
        )

    async def _make(self, change: Callable[[], Change | None]) -> Change:
        """Have what *change* returns true on disk and in memory; return it.

        Nothing else changes between what *change* sees and that. Whoever is cancelled before it is
        his turn changes nothing; after that all of it is done, and only then the lock let go. Were
        it let go while the change is being written, the next one would be made of what was true
        before it, and take it back.
        """
        await self._one_at_a_time.acquire()
        return await asyncio.shield(self._make_and_let_go(change))

    async def _make_and_let_go(self, change: Callable[[], Change | None]) -> Change:
        try:
            made = change()
            if made is None:
                return Change()
            await self._commit(made)
            return made
        finally:
            self._one_at_a_time.release()

    async def _commit(self, change: Change) -> None:
        numbers = await self._store.commit(change)
        _apply(self._wanted, change.wanted)
        _apply(self._said, change.said)
        self._meta.update(change.meta)
        self._position = change.position if change.position is not None else self._position
        self._figures.show("position", self._position)
        if change.letters:
            self._outbox.post(change.letters, numbers)
        if change.records:
            await self._outbox.added(len(change.records))


def _apply(known: dict[str, T], change: Mapping[str, T | None]) -> None:
    for key, value in change.items():
        if value is None:
            known.pop(key, None)
        else:
            known[key] = value
