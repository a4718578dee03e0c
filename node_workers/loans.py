"""Who may read a snapshot from another node: asked and answered over the bus, turn by turn.

A borrower asks the worker of the node that has the snapshot, on ``hwbus.lend.<node>``, with its
half of a key. The answer is ``Lent`` with the other half and where to connect (``lending``), or
``NotLent`` with a reason. So whoever can ask is who the broker lets speak there. No secret is said
over the bus: keys are made of one's own half and the other's (``sealed``).

A node lends what is its own and whole, and what the log says is being read by that operation. A
loan is for one connection, of a few seconds; then the borrower asks again, and so does the lender.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import msgspec
import structlog

from hwbus import subjects
from hwbus.codec import UnreadableError, commit_codec
from hwbus.ports import (
    Call,
    Endpoint,
    EventLog,
    ForbiddenError,
    NobodyThereError,
    OutcomeUnknownError,
)
from node_workers.borrowing import Access
from node_workers.keeping import CORRELATION
from node_workers.lending import Lender, Loan, NotLentError
from node_workers.outbox import Link
from node_workers.ports import LoanError, NotThereError, StorageError, UnsuitableError
from node_workers.sealed import NotGenuineError, borrower_keys, lender_keys, new_keys
from node_workers.wanted import Wanted, WantedReplica
from schemas.growing import SnapshotGrowthEvent
from schemas.snapshot import (
    SNAPSHOTS,
    SnapshotEvent,
    SnapshotReadingBegan,
    SnapshotReadingEnded,
)
from schemas.units import SomeBytes
from schemas.upcasts import UPCASTS

_LOG = structlog.get_logger("node_workers.loans")
_ANSWER_S = 30.0
_AT_ONCE_MAX = 4
_APPROVED_MAX = 64
_COMMITS = commit_codec(SnapshotEvent | SnapshotGrowthEvent, UPCASTS)
_NO_LOG = (OutcomeUnknownError, NobodyThereError, ForbiddenError)


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What *node* wants to read for *operation*, and its public key for that."""

    node: str
    operation: str
    snapshot: str
    uid: str
    size_bytes: SomeBytes
    key: bytes


class Lent(msgspec.Struct, frozen=True, kw_only=True, tag="lent"):
    """Where the snapshot can be read, once, by whoever has the other key to this one."""

    ticket: bytes
    host: str
    port: int
    key: bytes
    simulated: str = ""


class NotLent(msgspec.Struct, frozen=True, kw_only=True, tag="not-lent"):
    """Why it cannot be read; ``reason`` is a slug of ``StorageError``."""

    reason: str
    because: str


_ANSWER: msgspec.json.Decoder[Lent | NotLent] = msgspec.json.Decoder(Lent | NotLent)
_WISH = msgspec.json.Decoder(Wish)


class Borrower:
    """Asks other nodes for what this one is to copy. Without a bus it asks in vain."""

    def __init__(self, node: str) -> None:
        self._node = node
        self.link: Link | None = None

    async def borrow(
        self, lender: str, operation: str, snapshot: str, uid: str, size_bytes: int
    ) -> Access:
        """Return what it takes to read the snapshot of another node.

        Raises ``LoanError`` for what may pass, ``NotThereError`` and ``UnsuitableError``.
        """
        keys = new_keys()
        wish = Wish(
            node=self._node,
            operation=operation,
            snapshot=snapshot,
            uid=uid,
            size_bytes=size_bytes,
            key=keys.public,
        )
        answer = await self._ask(lender, wish)
        if isinstance(answer, NotLent):
            raise _refusal(lender, answer)
        try:
            opens, seals = borrower_keys(keys, answer.key)
        except NotGenuineError as error:
            raise LoanError("source-not-lent", f"{lender}: {error}") from error
        return Access(
            ticket=answer.ticket,
            host=answer.host,
            port=answer.port,
            opens=opens,
            seals=seals,
            simulated=answer.simulated,
        )

    async def _ask(self, lender: str, wish: Wish) -> Lent | NotLent:
        if self.link is None:
            raise LoanError("source-silent", f"there is no bus to ask {lender} by")
        try:
            said = await self.link.bus.request(
                subjects.lend(lender), msgspec.json.encode(wish), headers={}, timeout_s=_ANSWER_S
            )
            return _ANSWER.decode(said)
        except NobodyThereError as error:
            raise LoanError("source-silent", f"the worker of {lender} is not there") from error
        except (OutcomeUnknownError, ForbiddenError) as error:
            raise LoanError("source-silent", f"{lender} does not answer: {error}") from error
        except msgspec.DecodeError as error:
            raise LoanError("source-not-lent", f"{lender} says what is no answer") from error


class Shelf(Protocol):
    """The part of a ``Storage`` that knows what is there to be read."""

    async def ensure_snapshot_readable(
        self, pool_uid: str, pool: str, uid: str, name: str, *, cause: str
    ) -> str:
        """As ``Storage.ensure_snapshot_readable``."""
        ...


class LoanDesk:
    """Answers those who want to read snapshots of this node.

    ``wanted`` is what the node shall have, ``host`` the address at which it is reached by others.
    A simulated node has no bytes to lend: it says what is there at once, by ``contents``.
    """

    def __init__(
        self,
        node: str,
        wanted: Callable[[], Mapping[str, Wanted]],
        shelf: Shelf,
        lender: Lender,
        host: Callable[[], str],
        contents: Callable[[str], str] | None = None,
    ) -> None:
        self._node = node
        self._wanted = wanted
        self._shelf = shelf
        self._lender = lender
        self._host = host
        self._contents = contents
        self._approved: dict[tuple[str, str], int] = {}

    async def serve(self, link: Link, caught_up: Callable[[], bool]) -> None:
        """Answer until cancelled; only when the node knows all that is wanted of it."""

        async def answer(call: Call) -> bytes:
            return msgspec.json.encode(await self._answer(call.data, link.log, caught_up))

        endpoint = Endpoint(name="lend", subject=subjects.lend(self._node), metadata={})
        async with link.bus.serve(
            f"hwbus-loans-{self._node}", "1.0.0", [endpoint], answer, at_once_max=_AT_ONCE_MAX
        ):
            await _for_ever()

    async def call_in(self, uid: str) -> None:
        """Have nobody read the snapshot *uid*; it is about to go."""
        await self._lender.call_in(uid)

    async def close(self) -> None:
        """Have nobody read anything."""
        await self._lender.close()

    async def _answer(
        self, data: bytes, log: EventLog, caught_up: Callable[[], bool]
    ) -> Lent | NotLent:
        try:
            wish = _WISH.decode(data)
        except msgspec.DecodeError as error:
            return _not_lent(f"that is no wish: {error}")
        if not caught_up():
            return _not_lent(f"{self._node} does not know yet what is wanted of it")
        try:
            no = self._unknown(wish) or await self._unread(wish, log)
            if no is not None:
                return _not_lent(no)
            return await self._lend(wish)
        except StorageError as error:
            return NotLent(reason=error.reason, because=error.sentence)
        except (NotLentError, NotGenuineError, OSError, *_NO_LOG) as error:
            return _not_lent(f"{self._node}: {error}")

    async def _lend(self, wish: Wish) -> Lent | NotLent:
        replica = self._replica(wish)
        if replica is None:
            return _not_lent(f"{self._node} has no snapshot {wish.snapshot}")
        CORRELATION.set(wish.operation)
        pool = self._wanted().get(f"pool/{replica.spec.pool}")
        path = await self._shelf.ensure_snapshot_readable(
            pool.uid if pool is not None else "",
            replica.spec.pool,
            wish.uid,
            wish.snapshot,
            cause=f"loan:{wish.operation}",
        )
        if self._contents is not None:
            said = self._contents(path)
            return Lent(ticket=b"", host="", port=0, key=wish.key, simulated=said)
        keys = new_keys()
        loan = Loan(wish.uid, path, wish.size_bytes, *lender_keys(keys, wish.key))
        # In a thread: to know its own address the node may have to look a name up.
        ticket = await self._lender.lend(loan, await asyncio.to_thread(self._host))
        if (no := self._unknown(wish)) is not None:
            # It is to go since a moment ago, and nobody would call this loan in.
            await self._lender.call_in(wish.uid)
            return _not_lent(no)
        _LOG.info("lent", snapshot=wish.snapshot, to=wish.node, operation=wish.operation)
        return Lent(ticket=ticket.id, host=ticket.host, port=ticket.port, key=keys.public)

    def _replica(self, wish: Wish) -> WantedReplica | None:
        one = self._wanted().get(f"replica/{wish.snapshot}")
        mine = isinstance(one, WantedReplica) and one.uid == wish.uid
        return one if isinstance(one, WantedReplica) and mine else None

    def _unknown(self, wish: Wish) -> str | None:
        """Return why this node has nothing of the sort to lend, as far as it knows."""
        one = self._replica(wish)
        if one is None or one.spec.snapshot_of is None or one.may_create:
            return f"{self._node} has no snapshot {wish.snapshot}"
        if not one.present or one.merging:
            return f"the snapshot {wish.snapshot} is about to go"
        return None

    async def _unread(self, wish: Wish, log: EventLog) -> str | None:
        """Return why the log does not want the snapshot to be read by that operation."""
        subject = subjects.address(SNAPSHOTS, subjects.CLUSTER, wish.snapshot).subject
        about = (wish.operation, wish.uid)
        newest = await log.last(subject)
        if newest is not None and self._approved.get(about) == newest.seq:
            return None
        reading, seq = False, 0
        for stored in await log.history(subject):
            seq = stored.seq
            try:
                events = _COMMITS.decode(stored.data).events
            except UnreadableError as error:
                return f"what the log says of {wish.snapshot} cannot be read here: {error}"
            for event in events:
                if not isinstance(event, SnapshotReadingBegan | SnapshotReadingEnded):
                    continue
                if (event.operation, event.uid) == about:
                    reading = isinstance(event, SnapshotReadingBegan)
        self._approved.pop(about, None)
        if not reading:
            return f"operation {wish.operation} does not read {wish.snapshot}"
        self._approved[about] = seq
        if len(self._approved) > _APPROVED_MAX:
            del self._approved[next(iter(self._approved))]
        return None


class Loans(NamedTuple):
    """Both sides of loans, as one worker has them."""

    borrower: Borrower
    desk: LoanDesk


def _not_lent(because: str) -> NotLent:
    return NotLent(reason="source-not-lent", because=because)


def _refusal(lender: str, answer: NotLent) -> StorageError:
    if answer.reason == "snapshot-missing":
        return NotThereError(answer.reason, answer.because)
    if answer.reason == "snapshot-lost":
        return UnsuitableError(answer.reason, answer.because)
    return LoanError("source-not-lent", f"{lender} does not lend: {answer.because}")


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()
