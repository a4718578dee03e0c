"""Turns: one node holds volumes still, and has others take the snapshots of their replicas now.

The node that writes asks the workers of the others on ``hwbus.turn.<node>``, twice: whether they
are ready, and, once nobody writes, to take theirs. A node takes no snapshot that the log has not
asked it for, of that instant and led by that node; and what it takes does not count before the log
says in which turn that was. So who can ask can waste a moment of work, and nothing else.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import msgspec
import structlog

from hwbus import subjects
from hwbus.identity import Mint
from hwbus.ports import Call, Endpoint, ForbiddenError, NobodyThereError, OutcomeUnknownError
from node_workers.asked import snapshot_spec
from node_workers.keeping import CORRELATION
from node_workers.outbox import Link
from node_workers.plan import followed_by
from node_workers.ports import Consistency, SnapshotSpec, StorageError
from node_workers.wanted import Wanted
from schemas.units import Id, Name

_LOG = structlog.get_logger("node_workers.turns")
_READY_S = 6.0
_TAKE_S = 5.0
_AGAIN_S = 0.2
_AT_ONCE_MAX = 16  # each may wait for what else is done with its volumes
_AWAY = (OutcomeUnknownError, NobodyThereError, ForbiddenError, OSError, msgspec.DecodeError)


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """Can the snapshots of that instant be taken, in a turn of that name?"""

    instant: Id
    turn: Id
    leader: Name


class Take(msgspec.Struct, frozen=True, kw_only=True, tag="take"):
    """Take them now; *caught* has the state of each volume, by its uid."""

    instant: Id
    turn: Id
    leader: Name
    caught: dict[str, Consistency]


class Yes(msgspec.Struct, frozen=True, kw_only=True, tag="yes"):
    """So it is, or has been done."""


class No(msgspec.Struct, frozen=True, kw_only=True, tag="no"):
    """Why not; ``later``: asked again in a moment, the answer may be another one."""

    because: str
    later: bool = False


_QUESTION: msgspec.json.Decoder[Ready | Take] = msgspec.json.Decoder(Ready | Take)
_ANSWER: msgspec.json.Decoder[Yes | No] = msgspec.json.Decoder(Yes | No)


class Leader:
    """Asks other nodes. Without a bus it asks in vain, and nobody follows."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._mint = Mint()
        self.link: Link | None = None

    def lead(self, instant: str, followers: tuple[str, ...]) -> "Leading":
        """Return the next turn of that instant."""
        return Leading(self, instant, followers, self._mint())

    async def ask(self, node: str, question: Ready | Take, *, within_s: float) -> Yes | No:
        """Return what that node says; silence is a no."""
        if self.link is None:
            return No(because="there is no bus to ask by")
        try:
            said = await self.link.bus.request(
                subjects.turn(node), msgspec.json.encode(question), headers={}, timeout_s=within_s
            )
            return _ANSWER.decode(said)
        except _AWAY as error:
            return No(because=f"{node} does not answer: {error}")

    @property
    def node(self) -> str:
        """Who asks."""
        return self._node


class Leading:
    """One turn of one instant: a ``Lead``."""

    def __init__(self, leader: Leader, instant: str, followers: tuple[str, ...], turn: str) -> None:
        self._leader = leader
        self._instant = instant
        self._followers = followers
        self.turn = turn

    async def ready(self) -> tuple[str, ...]:
        """Return who can take theirs at once; their news may be a moment behind ours."""
        question = Ready(instant=self._instant, turn=self.turn, leader=self._leader.node)
        answers = await asyncio.gather(*(self._is_ready(n, question) for n in self._followers))
        return self._those_who(self._followers, answers)

    async def take(
        self, nodes: tuple[str, ...], caught: Mapping[str, Consistency]
    ) -> tuple[str, ...]:
        """Have theirs taken; return who has."""
        question = Take(
            instant=self._instant,
            turn=self.turn,
            leader=self._leader.node,
            caught=dict(caught),
        )
        asked = (self._leader.ask(node, question, within_s=_TAKE_S) for node in nodes)
        return self._those_who(nodes, await asyncio.gather(*asked))

    async def _is_ready(self, node: str, question: Ready) -> Yes | No:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + _READY_S
        while True:
            answer = await self._leader.ask(node, question, within_s=until_s - loop.time())
            if isinstance(answer, Yes) or not answer.later:
                return answer
            if loop.time() + _AGAIN_S >= until_s:
                return answer
            await asyncio.sleep(_AGAIN_S)

    def _those_who(self, nodes: tuple[str, ...], answers: list[Yes | No]) -> tuple[str, ...]:
        for node, answer in zip(nodes, answers, strict=True):
            if isinstance(answer, No):
                _LOG.warning(
                    "does not follow", node=node, instant=self._instant, because=answer.because
                )
        return tuple(n for n, one in zip(nodes, answers, strict=True) if isinstance(one, Yes))


class Shelf(Protocol):
    """The part of a ``Storage`` that follows."""

    async def prepare_turn(
        self, wishes: list[tuple[str, SnapshotSpec]], turn: str, *, cause: str
    ) -> None:
        """As ``Storage.prepare_turn``."""
        ...

    async def follow(self, turn: str, caught: Mapping[str, Consistency], *, cause: str) -> None:
        """As ``Storage.follow``."""
        ...


class Follower:
    """Answers those who lead. ``wanted`` is what the node shall have."""

    def __init__(self, node: str, wanted: Callable[[], Mapping[str, Wanted]], shelf: Shelf) -> None:
        self._node = node
        self._wanted = wanted
        self._shelf = shelf

    async def serve(self, link: Link, caught_up: Callable[[], bool]) -> None:
        """Answer until cancelled; only when the node knows all that is wanted of it."""

        async def answer(call: Call) -> bytes:
            return msgspec.json.encode(await self._answer(call.data, caught_up))

        endpoint = Endpoint(name="turn", subject=subjects.turn(self._node), metadata={})
        async with link.bus.serve(
            f"hwbus-turns-{self._node}", "1.0.0", [endpoint], answer, at_once_max=_AT_ONCE_MAX
        ):
            await asyncio.get_running_loop().create_future()

    async def _answer(self, data: bytes, caught_up: Callable[[], bool]) -> Yes | No:
        try:
            question = _QUESTION.decode(data)
        except msgspec.DecodeError as error:
            return No(because=f"that is no question: {error}")
        if not caught_up():
            return No(because=f"{self._node} does not know yet what is wanted of it", later=True)
        legs = followed_by(question.instant, question.leader, self._wanted())
        if not legs:
            unknown = f"{self._node} is asked for no snapshot of that instant"
            return No(because=unknown, later=True)
        CORRELATION.set(legs[0].correlation)
        cause = legs[0].cause
        try:
            if isinstance(question, Take):
                await self._shelf.follow(question.turn, question.caught, cause=cause)
                return Yes()
            wishes = [
                (leg.pool_uid, snapshot_spec(leg.volume, leg.spec, leg.spec.snapshot_of))
                for leg in legs
                if leg.spec.snapshot_of is not None
            ]
            await self._shelf.prepare_turn(wishes, question.turn, cause=cause)
        except StorageError as error:
            return No(because=error.sentence)
        return Yes()


class Turns(NamedTuple):
    """Both sides of turns, as one worker has them."""

    leader: Leader
    follower: Follower
