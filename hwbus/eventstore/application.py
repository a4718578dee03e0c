"""Applications of the library over the log of hwbus: one to follow, one to look back with."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, TypeVar, cast

import msgspec
from eventsourcing.application import Application
from eventsourcing.persistence import InfrastructureFactory, Notification
from eventsourcing.utils import Environment

from hwbus.eventstore.factory import Factory
from hwbus.eventstore.log import CommitMapper, HwbusLogRecorder, LoggedCommit

S = TypeVar("S")

_PAGE = 500
_CAUSES_MAX = 1000


class HwbusLog(Application[str]):
    """The log as an application that others follow and project; nothing can be saved in it.

    A subclass may narrow ``words`` to a union of event structs; ``name`` is what positions are
    kept under. It is on JetStream whatever ``PERSISTENCE_MODULE`` says, so that a view may be
    anywhere.
    """

    name = "hwbus"
    words: ClassVar[Any] = Any

    def construct_factory(self, env: Environment) -> InfrastructureFactory[Any]:
        """Return the factory of this package."""
        return Factory(env)

    def construct_mapper(self) -> CommitMapper:
        """Return a mapper that knows ``words``."""
        return CommitMapper(self.construct_transcoder(), self.words)

    def construct_recorder(self) -> HwbusLogRecorder:
        """Return a reader of the log."""
        return cast("Factory", self.factory).log_recorder()


class Tampered(msgspec.Struct, frozen=True, kw_only=True):
    """A commit that does not carry the hash of the one before it."""

    sequence: int
    aggregate: str
    claimed: str
    actual: str


class ForensicReplay(HwbusLog):
    """Answers what was, why, and whether it is still what was written.

    Every answer reads the log afresh, up to a sequence where one is given: nothing is kept.
    """

    name = "hwbus"
    log_section_size = _PAGE

    def commits(
        self, *, since: int = 1, until: int | None = None, kinds: Sequence[str] = ()
    ) -> Iterator[LoggedCommit]:
        """Yield the commits from sequence *since* to *until*, both included, oldest first."""
        for notification in self._notifications(since, until, kinds):
            yield self._commit(notification)

    def replay(
        self,
        fold: Callable[[S, LoggedCommit], S],
        initial: S,
        *,
        until: int | None = None,
        kinds: Sequence[str] = (),
    ) -> S:
        """Return the state that *fold* makes of all commits up to sequence *until*."""
        state = initial
        for commit in self.commits(until=until, kinds=kinds):
            state = fold(state, commit)
        return state

    def history(self, kind: str, place: str, id_: str) -> list[LoggedCommit]:
        """Return all commits of one aggregate, oldest first."""
        return [cast("LoggedCommit", event) for event in self.events.get(f"{kind}/{place}/{id_}")]

    def belonging_to(self, correlation: str) -> list[LoggedCommit]:
        """Return all commits of one operation or first command, oldest first."""
        return [commit for commit in self.commits() if commit.commit.correlation == correlation]

    def causes(self, sequence: int) -> list[LoggedCommit]:
        """Return the commit at *sequence*, the one that caused it, and so on to the first.

        A cause is followed as long as it is an event of the log; a command ends the chain.

        Raises:
            LookupError: there is no commit at *sequence*, or at a cause.
        """
        chain: list[LoggedCommit] = []
        wanted: int | None = sequence
        while wanted is not None and len(chain) < _CAUSES_MAX:
            found = next(self.commits(since=wanted, until=wanted), None)
            if found is None:
                raise LookupError(f"there is no commit at sequence {wanted}")
            chain.append(found)
            origin, _, seq = found.commit.cause.partition(":")
            # A cause lies in the past; a commit that claims otherwise must not lead in circles.
            is_earlier = origin == "event" and seq.isdecimal() and int(seq) < wanted
            wanted = int(seq) if is_earlier else None
        return chain

    def tampered(self, *, until: int | None = None) -> Iterator[Tampered]:
        """Yield every commit whose ``prev`` is not the SHA-256 of its aggregate's last message."""
        last: dict[str, str] = {}
        for notification in self._notifications(1, until, ()):
            claimed = self._commit(notification).commit.prev
            aggregate = str(notification.originator_id)
            actual = last.get(aggregate, "")
            if claimed != actual:
                yield Tampered(
                    sequence=notification.id, aggregate=aggregate, claimed=claimed, actual=actual
                )
            last[aggregate] = hashlib.sha256(notification.state).hexdigest()

    def _notifications(
        self, since: int, until: int | None, kinds: Sequence[str]
    ) -> Iterator[Notification]:
        # Without an end, the log as it is now: it may grow faster than somebody reads.
        end = until if until is not None else self.recorder.max_notification_id()
        start = max(since, 1)
        while end is not None and start <= end:
            found = self.notification_log.select(start, _PAGE, stop=end, topics=kinds)
            yield from found
            if len(found) < _PAGE:
                return
            start = found[-1].id + 1

    def _commit(self, notification: Notification) -> LoggedCommit:
        return cast("LoggedCommit", self.mapper.to_domain_event(notification))
