"""How replicated legs are: brought up after a boot, looked at when they change, and told."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet

import msgspec
import structlog

from hwbus.identity import Mint
from node_workers.asked import bare, replication_spec, volume_spec
from node_workers.figures import Figures
from node_workers.ports import StorageError
from node_workers.replication import Connection, Peer, ReplicatedStorage, ReplicationState, Role
from node_workers.replication import Start as Began
from node_workers.reports import Letter, command_id, letter
from node_workers.state import State
from node_workers.wanted import WantedPool, WantedReplica
from schemas.grammar import kind_and_verb
from schemas.operation import ReportProgressed
from schemas.replication import LegDisk, LegSeen, PeerSeen, ReportReplication, Sync, Tie

_LOG = structlog.get_logger("node_workers.watching")
_SAID = "replication/"
_SYNCING = frozenset({Sync.SOURCE, Sync.TARGET, Sync.PAUSED, Sync.VERIFYING})
_NOT_RUNNING = LegSeen(primary=False, disk=LegDisk.UNKNOWN)
LOOK_EVERY_S = 30.0
AGAIN_S = 5.0
PATIENCE_S = 20.0
"""How long a leg looks for its peer before it begins again; then twice as long, and so on."""

_PATIENCE_MAX_S = 1280.0
SETTLE_S = 0.05
_REST = 2.0
"""For how many times as long as a look took it is not looked again: much changes in a row."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What was said last of a leg, since which wish: one that is tied anew is told of anew."""

    uid: str
    epoch: int
    wish: int
    seen: LegSeen


class Missing(msgspec.Struct):
    """Since when a leg looks for its peer, by the loop's clock, and how long it shall."""

    since_s: float
    patience_s: float = PATIENCE_S


class ReplicationWatch:
    """Looks whenever DRBD says that something changed, and now and then anyway.

    What is told is stamped with the epoch that was known before the look: so whoever hears of it
    can tell what was seen before a peer was given up from what was seen after.
    """

    def __init__(
        self,
        state: State,
        storage: ReplicatedStorage,
        busy: Callable[[], AbstractSet[str]],
        *,
        node: str,
        figures: Figures,
    ) -> None:
        self._state = state
        self._storage = storage
        self._busy = busy
        self._node = node
        self._figures = figures
        self._changed = asyncio.Event()
        # Not of the number of the look: a loss of power may take the newest of those with it.
        self._mint = Mint()
        self._tried: dict[str, float] = {}
        self._missing: dict[str, Missing] = {}

    def hint(self) -> None:
        """Look soon."""
        self._changed.set()

    async def run(self) -> None:
        """Watch until cancelled; a node without replicated legs is not looked at."""
        while not self._legs():
            await self._changed.wait()
            self._changed.clear()
        listening = asyncio.create_task(self._listen(), name="replication changes")
        now_s = asyncio.get_running_loop().time
        try:
            while True:
                self._changed.clear()
                began_s = now_s()
                unsettled = await self._once()
                next_s = now_s() + _REST * (now_s() - began_s)
                if listening.done():
                    listening.result()
                try:
                    async with asyncio.timeout(AGAIN_S if unsettled else self._rest_s()):
                        await self._changed.wait()
                except TimeoutError:
                    continue
                await asyncio.sleep(max(SETTLE_S, next_s - now_s()))
        finally:
            listening.cancel()
            await asyncio.wait({listening})

    def _rest_s(self) -> float:
        """Return how long nothing need be looked at: until some leg's patience is over."""
        now_s = asyncio.get_running_loop().time()
        due = (one.since_s + one.patience_s - now_s for one in self._missing.values())
        return max(SETTLE_S, min(LOOK_EVERY_S, *due, LOOK_EVERY_S))

    async def bring_up(self, cause: str) -> None:
        """Have every leg that was tied tied again, as after a boot; with the bus or without."""
        legs = [leg for leg in self._legs() if leg.tied and not leg.held]
        if all(leg.key in self._busy() for leg in legs):
            return
        try:
            running = await self._storage.replication_states(cause=cause)
        except StorageError as error:
            _LOG.error("replication could not be looked at", because=error.sentence)
            return
        for leg in legs:
            if leg.volume not in running and self._is_left_alone(leg):
                await self._bring_up(leg, cause)

    async def _bring_up(self, leg: WantedReplica, cause: str) -> bool:
        """Have the leg tied again; returns whether it is."""
        tied, pool = leg.spec.replication, self._state.wanted.get(f"pool/{leg.spec.pool}")
        if tied is None or not isinstance(pool, WantedPool) or self._is_being_rolled_back(leg):
            return False
        try:
            await self._storage.ensure_replicated(
                pool.uid,
                bare(volume_spec(leg.volume, leg.spec)),
                replication_spec(leg.volume, leg.uid, leg.spec.pool, tied),
                start=Began.DATA,
                may_create=False,
                cause=cause,
            )
        except StorageError as error:
            self._figures.count("troubles_total")
            _LOG.error("a replica is not up", volume=leg.volume, because=error.sentence)
            return False
        _LOG.info("replica up", volume=leg.volume, cause=cause)
        return True

    async def _listen(self) -> None:
        async for _ in self._storage.replication_changes():
            self._changed.set()

    async def _once(self) -> bool:
        """Look and tell; returns whether anything is being copied, or not as it shall be."""
        legs = self._legs()
        await self._forget_others(legs)
        if not legs:
            return False
        cause = f"watch:{await self._state.next_number('watch')}"
        try:
            states = await self._storage.replication_states(cause=cause)
        except StorageError as error:
            self._figures.count("troubles_total")
            _LOG.warning("replication could not be looked at", because=error.sentence)
            return True
        unsettled = False
        for leg in legs:  # before anything is done, which takes a while: it is told as it was seen
            state = states.get(leg.volume)
            copying = state is not None and await self._tell(leg, state, cause)
            unsettled |= state is None or copying or _alone(state)
        broken = await self._bring_up_missing(legs, states, cause)
        await self._begin_again(legs, states, cause)
        for leg in legs:
            if leg.volume not in states and leg.volume in broken:
                await self._say(leg, _NOT_RUNNING, cause)
        return unsettled

    async def _forget_others(self, legs: list[WantedReplica]) -> None:
        """Forget what was said of legs that are gone, or tied to nobody."""
        tied = {f"{_SAID}{leg.volume}" for leg in legs}
        gone = [key for key in self._state.said if key.startswith(_SAID) and key not in tied]
        await self._state.say((), dict.fromkeys(gone))
        uids = {leg.uid for leg in legs}
        self._tried = {uid: at_s for uid, at_s in self._tried.items() if uid in uids}
        self._missing = {uid: one for uid, one in self._missing.items() if uid in uids}

    async def _bring_up_missing(
        self, legs: list[WantedReplica], states: Mapping[str, ReplicationState], cause: str
    ) -> frozenset[str]:
        """Have those up again that run no more, and those look for peers that gave up on them.

        Returns the volumes whose legs could not be brought up.

        A leg gives up when it meets another primary, as one does that was given up by the log while
        it could not hear that; not after a split brain, which a person ends.
        """
        broken: set[str] = set()
        for leg in legs:
            state = states.get(leg.volume)
            if state is not None and not _alone(state):
                continue
            now_s = asyncio.get_running_loop().time()
            settled = leg.tied and not leg.held and not leg.open and self._is_left_alone(leg)
            if settled and now_s - self._tried.get(leg.uid, -AGAIN_S) >= AGAIN_S:
                self._tried[leg.uid] = now_s
                if not await self._bring_up(leg, cause) and self._is_left_alone(leg):
                    broken.add(leg.volume)
        return frozenset(broken)

    async def _begin_again(
        self, legs: list[WantedReplica], states: Mapping[str, ReplicationState], cause: str
    ) -> None:
        """Have those that have looked for their peer for long begin again to do so.

        DRBD 8.4 was seen to listen without hearing while its peer spoke to it. One that is written
        to is left alone: the other one begins again as well.
        """
        now_s = asyncio.get_running_loop().time()
        for leg in legs:
            state = states.get(leg.volume)
            if state is None or not _looks_for_peer(state):
                self._missing.pop(leg.uid, None)
                continue
            missing = self._missing.setdefault(leg.uid, Missing(since_s=now_s))
            waited_s = now_s - missing.since_s
            if waited_s < missing.patience_s or not self._is_left_alone(leg):
                continue
            patience_s = min(2 * missing.patience_s, _PATIENCE_MAX_S)
            self._missing[leg.uid] = Missing(since_s=now_s, patience_s=patience_s)
            _LOG.warning("connects anew", volume=leg.volume, waited_s=round(waited_s), cause=cause)
            try:
                await self._storage.connect_anew(leg.volume, leg.uid, cause=cause)
            except StorageError as error:
                self._figures.count("troubles_total")
                _LOG.error("not connected anew", volume=leg.volume, because=error.sentence)

    def _is_being_rolled_back(self, leg: WantedReplica) -> bool:
        """Whether it is to become what a snapshot kept of it: it does not run until that is so."""
        legs = (one for one in self._state.wanted.values() if isinstance(one, WantedReplica))
        merging = (one.spec.snapshot_of for one in legs if one.merging and one.open)
        return any(of is not None and of.uid == leg.uid for of in merging)

    def _is_left_alone(self, leg: WantedReplica) -> bool:
        """Whether nothing else is wanted of the leg since the look began, nor being done to it."""
        now = self._state.wanted.get(leg.key)
        same = isinstance(now, WantedReplica) and (now.uid, now.origin) == (leg.uid, leg.origin)
        return same and leg.key not in self._busy()

    async def _tell(self, leg: WantedReplica, state: ReplicationState, cause: str) -> bool:
        seen = leg_seen(state)
        await self._say(leg, seen, cause, self._progress(leg, state, cause))
        return any(peer.sync in _SYNCING for peer in seen.peers)

    async def _say(
        self, leg: WantedReplica, seen: LegSeen, cause: str, more: Sequence[Letter] = ()
    ) -> None:
        """Say how the leg is, unless that was said last, and *more* besides."""
        told = Told(uid=leg.uid, epoch=leg.epoch, wish=leg.origin.seq, seen=seen)
        key, value = f"{_SAID}{leg.volume}", msgspec.json.encode(told)
        letters: list[Letter] = []
        said: dict[str, bytes | None] = {}
        if self._state.said.get(key) != value:
            said[key] = value
            report = ReportReplication(
                volume=leg.volume, node=self._node, uid=leg.uid, epoch=leg.epoch, seen=seen
            )
            id_ = command_id(self._node, self._mint(), kind_and_verb(report)[1], leg.volume)
            letters.append(
                letter(
                    report,
                    node=self._node,
                    command_id=id_,
                    lane=key,
                    cause=cause,
                    correlation=leg.origin.correlation,
                    traceparent=leg.origin.traceparent,
                    newest_only=True,
                )
            )
        await self._state.say((*letters, *more), said)

    def _progress(self, leg: WantedReplica, state: ReplicationState, cause: str) -> list[Letter]:
        """Return how far the leg has been filled for the operation that wanted it, if it is."""
        tied = leg.spec.replication
        filling = next((p for p in state.peers if p.sync.value == Sync.TARGET), None)
        if tied is None or filling is None or filling.done_percent is None:
            return []
        done_bytes = int(tied.size_bytes * filling.done_percent / 100)
        report = ReportProgressed(
            operation=leg.origin.correlation, done_bytes=done_bytes, of_bytes=tied.size_bytes
        )
        if not leg.origin.correlation:
            return []
        id_ = command_id(self._node, self._mint(), kind_and_verb(report)[1], leg.volume)
        return [
            letter(
                report,
                node=self._node,
                command_id=id_,
                lane=f"progress/{leg.key}",
                cause=cause,
                correlation=leg.origin.correlation,
                newest_only=True,
            )
        ]

    def _legs(self) -> list[WantedReplica]:
        wanted = self._state.wanted.values()
        legs = (one for one in wanted if isinstance(one, WantedReplica) and one.present)
        return [one for one in legs if one.spec.replication is not None]


def leg_seen(state: ReplicationState) -> LegSeen:
    """Return how a leg is tied, in the words of the log; how much is left changes too often."""
    generations = state.generations
    told = "" if generations is None or not state.split else _readable(generations)
    return LegSeen(
        primary=state.role is Role.PRIMARY,
        disk=LegDisk(state.disk.value),
        peers=tuple(_peer_seen(peer) for peer in sorted(state.peers, key=lambda p: p.node)),
        frozen=state.frozen,
        split=state.split,
        generations=told,
    )


def _looks_for_peer(state: ReplicationState) -> bool:
    """Whether it looks for a peer in vain, and nobody writes to it."""
    looks = any(peer.connection is Connection.CONNECTING for peer in state.peers)
    return looks and state.role is Role.SECONDARY


def _alone(state: ReplicationState) -> bool:
    """Whether it does not look for a peer that it has, and nobody has to settle why."""
    idle = any(peer.connection is Connection.STANDALONE for peer in state.peers)
    return idle and not state.split


def _readable(generations: object) -> str:
    return msgspec.json.encode(generations).decode()[:1000]


def _peer_seen(peer: Peer) -> PeerSeen:
    at_rest = peer.connection is Connection.CONNECTED and peer.sync.value == Sync.NONE
    return PeerSeen(
        node=peer.node,
        tie=Tie(peer.connection.value),
        primary=peer.role is Role.PRIMARY,
        disk=LegDisk(peer.disk.value),
        sync=Sync(peer.sync.value),
        out_of_sync_bytes=peer.out_of_sync_bytes if at_rest else 0,
    )
