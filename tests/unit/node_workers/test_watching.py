"""What a node tells of its replicated legs, when it looks, and which of them it brings up."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from hwbus.codec import commit_codec
from hwbus.ports import Stored
from node_workers.figures import Figures
from node_workers.outbox import Outbox
from node_workers.ports import StorageError
from node_workers.replication import Connection, DiskState, Generations, Peer, Role, Sync
from node_workers.replication import ReplicationState as Seen
from node_workers.reports import Letter
from node_workers.state import State
from node_workers.store import Change, Store, open_store
from node_workers.wanted import Origin, Wanted, WantedPool, WantedReplica
from node_workers.watching import AGAIN_S, LOOK_EVERY_S, PATIENCE_S, ReplicationWatch, leg_seen
from schemas.commit import Commit
from schemas.grammar import Event
from schemas.operation import ReportProgressed
from schemas.replica import ReplicaHoldWanted, ReplicaRemoved, ReplicaSpec, SnapshotOf
from schemas.replication import (
    EpochNoted,
    LegDisk,
    LegSeen,
    PeerSeen,
    ReplicaTieWanted,
    Replication,
    ReportReplication,
    Tie,
)
from schemas.replication import Sync as Copying
from schemas.words import AnyEvent
from tests.simulation.node.lives import at_once
from tests.support.clock import NOON, ManualClock
from tests.support.legs_words import members
from tests.support.replicated import PEER, NotingReplication, leg_state
from tests.support.virtual_time import run_virtually

UID, OTHER, OP = "1" * 26, "2" * 26, "0" * 26
TIED = Replication(members=members("n1", "n2"), size_bytes=1000)
ABOUT: dict[str, Any] = {"volume": "pg", "node": "n1", "uid": UID}
POOL = WantedPool(name="fast", uid=OTHER, origin=Origin(seq=1), folded_seq=1, answered_seq=1)
LEG = WantedReplica(
    volume="pg",
    uid=UID,
    spec=ReplicaSpec(uid=UID, pool="fast", size_bytes=1008, replication=TIED),
    origin=Origin(seq=2, correlation=OP),
    folded_seq=2,
    answered_seq=2,
    tied=True,
    epoch=3,
)
SPLIT = leg_state(
    replace(PEER, connection=Connection.STANDALONE),
    split=True,
    generations=Generations(current="A1", bitmap="B2"),
)
GAVE_UP = leg_state(replace(PEER, connection=Connection.STANDALONE))
LOST = leg_state(replace(PEER, connection=Connection.CONNECTING))
CODEC = commit_codec(AnyEvent)
FAILED = StorageError("tool-failed", "drbdsetup said no")


class Letters(Outbox):
    """Keeps what is posted."""

    def __init__(self, store: Store) -> None:
        super().__init__(
            store, node="n1", identity="i", clock=ManualClock(), rng=Random(1), figures=Figures()
        )
        self.posted: list[Letter] = []

    def post(self, letters: Sequence[Letter], numbers: Sequence[int]) -> None:
        super().post(letters, numbers)
        self.posted += letters


class Slow(NotingReplication):
    """Its looks are of one moment, and come out after something else has happened."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    async def replication_states(self, *, cause: str) -> dict[str, Seen]:
        found = await super().replication_states(cause=cause)
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        return found


class Bench:
    """A watch over a state, what it asks and what it says."""

    def __init__(self, state: State, letters: Letters) -> None:
        self.state = state
        self.letters = letters
        self.storage = Slow()
        self.busy: set[str] = set()
        self.figures = Figures()
        self.watch = ReplicationWatch(
            state, self.storage, lambda: self.busy, node="n1", figures=self.figures
        )
        self._seq = 100

    def says(self, state: Seen) -> None:
        self.storage.states = {"pg": state}

    @property
    def looks(self) -> int:
        return self.storage.names().count("look")

    @property
    def raised(self) -> int:
        return self.storage.names().count("replicated")

    @property
    def begun_again(self) -> int:
        return self.storage.names().count("anew")

    def told(self) -> list[ReportReplication]:
        found = [one for one in self.letters.posted if one.lane.startswith("replication/")]
        return [msgspec.json.decode(one.data, type=ReportReplication) for one in found]

    def progress(self) -> list[ReportProgressed]:
        found = [one for one in self.letters.posted if one.lane.startswith("progress/")]
        return [msgspec.json.decode(one.data, type=ReportProgressed) for one in found]

    async def hears(self, event: Event) -> None:
        """Have the node hear of an event of the leg."""
        self._seq += 1
        commit: Commit[Any] = Commit(
            id=f"{self._seq:026d}",
            at=NOON,
            actor="tester",
            command=f"{self._seq:026d}",
            word="",
            correlation=OTHER,
            version=1,
            events=(event,),
        )
        data = CODEC.encode(commit)
        await self.state.take([Stored(self._seq, "hwbus.evt.replica.n1.pg", data, NOON)])
        self.watch.hint()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch; give it a moment to have looked."""
        task = asyncio.create_task(self.watch.run())
        try:
            await asyncio.sleep(1)
            yield
            if task.done():
                task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def hint(self) -> None:
        """Have it look, and wait until it has."""
        self.watch.hint()
        await asyncio.sleep(1)


Tale = Callable[[Bench], Awaitable[None]]


def story(folder: Path, tale: Tale, *wanted: Wanted) -> None:
    async def run() -> None:
        all_ = {one.key: one for one in wanted}
        async with open_store(
            folder / "s", node="n1", identity="i", syncing=False, connect=at_once
        ) as store:
            await store.commit(Change(wanted=all_))
            await tale(await bench(store))

    run_virtually(run)


async def bench(store: Store) -> Bench:
    """Return a life over what the store has."""
    letters = Letters(store)
    kept = await store.load()
    about: dict[str, Any] = {"node": "n1", "clock": ManualClock(), "figures": Figures()}
    return Bench(State(kept, store, letters, **about), letters)


def good(epoch: int = 3, **more: Any) -> ReportReplication:
    seen = LegSeen(primary=False, disk=LegDisk.UP_TO_DATE, peers=(there(**more),))
    return ReportReplication(**ABOUT, epoch=epoch, seen=seen)


def there(**more: Any) -> PeerSeen:
    return PeerSeen(**{"node": "n2", "tie": Tie.CONNECTED, "disk": LegDisk.UP_TO_DATE} | more)


def test_how_a_leg_is_is_told_once_and_again_when_it_changes(tmp_path: Path) -> None:
    async def tale(here: Bench) -> None:
        here.says(leg_state(PEER))
        async with here.watching():
            await here.hint()
            assert here.told() == [good()]
            here.says(LOST)
            await here.hint()
            assert here.told()[1:] == [good(tie=Tie.CONNECTING)]

    story(tmp_path, tale, POOL, LEG)


def test_the_letter_belongs_to_the_last_wish_and_voids_older_ones(tmp_path: Path) -> None:
    async def tale(here: Bench) -> None:
        here.says(leg_state(PEER))
        async with here.watching():
            here.says(LOST)
            await here.hint()
        first, second = here.letters.posted
        assert first.headers["Hwbus-Correlation"] == OP
        assert (first.newest_only, first.lane) == (True, "replication/pg")
        assert first.headers["Hwbus-Command-Id"] != second.headers["Hwbus-Command-Id"]
        assert here.letters.letters_waiting == 1

    story(tmp_path, tale, POOL, LEG)


def test_what_was_seen_is_told_in_the_epoch_that_was_known_before_the_look(tmp_path: Path) -> None:
    """An epoch that begins while the look is under way must not make old sights new."""

    async def tale(here: Bench) -> None:
        async def fenced() -> None:
            await here.hears(EpochNoted(**ABOUT, epoch=4))

        here.says(leg_state(PEER))
        here.storage.meanwhile = fenced
        async with here.watching():
            assert here.told() == [good(3), good(4)]
            assert here.looks == 2

    story(tmp_path, tale, POOL, LEG)


def test_what_was_said_is_not_said_again_in_another_life(tmp_path: Path) -> None:
    async def tale(here: Bench) -> None:
        here.says(leg_state(PEER))
        async with here.watching():
            pass
        again = Bench(here.state, here.letters)
        again.says(leg_state(PEER))
        async with again.watching():
            assert again.looks == 1
        assert here.told() == [good()]

    story(tmp_path, tale, POOL, LEG)


def test_a_leg_that_is_tied_anew_is_told_of_anew(tmp_path: Path) -> None:
    """The log has forgotten how it was when it was tied to nobody."""

    async def tale(here: Bench) -> None:
        here.says(leg_state(PEER))
        tie: dict[str, Any] = ABOUT | {"operation": OP, "size_bytes": 1008}
        async with here.watching():
            await here.hears(ReplicaTieWanted(**tie))
            await here.hears(ReplicaTieWanted(**tie, replication=TIED))
            await asyncio.sleep(1)
        assert here.told() == [good(), good()]

    story(tmp_path, tale, POOL, LEG)


def test_nothing_is_remembered_of_a_leg_that_is_gone(tmp_path: Path) -> None:
    async def tale(here: Bench) -> None:
        here.says(leg_state(PEER))
        async with here.watching():
            assert list(here.state.said) == ["replication/pg"]
            await here.hears(ReplicaRemoved(**ABOUT, pool="fast"))
            await asyncio.sleep(1)
            assert not here.state.said

    story(tmp_path, tale, POOL, LEG)


def test_how_far_a_leg_has_been_filled_is_told_to_who_waits_for_it(tmp_path: Path) -> None:
    filling = replace(PEER, sync=Sync.TARGET, done_percent=25.0, out_of_sync_bytes=750)

    async def tale(here: Bench) -> None:
        here.says(leg_state(filling, disk=DiskState.INCONSISTENT))
        async with here.watching():
            await asyncio.sleep(2 * AGAIN_S)
            assert here.looks == 3
        told = ReportProgressed(operation=OP, done_bytes=250, of_bytes=1000)
        assert here.progress() == [told] * 3
        assert len(here.told()) == 1, "how much is left is not worth a letter"
        assert here.letters.letters_waiting == 2

    story(tmp_path, tale, POOL, LEG)


@pytest.mark.parametrize(
    "peer",
    [
        replace(PEER, sync=Sync.SOURCE, done_percent=25.0),
        replace(PEER, sync=Sync.TARGET),
        PEER,
    ],
    ids=["fills another", "not known", "at rest"],
)
def test_there_is_progress_only_where_a_leg_is_filled(tmp_path: Path, peer: Peer) -> None:
    async def tale(here: Bench) -> None:
        here.says(leg_state(peer))
        async with here.watching():
            assert len(here.told()) == 1
            assert here.progress() == []

    story(tmp_path, tale, POOL, LEG)


def test_a_leg_that_looks_for_its_peer_in_vain_begins_again_ever_more_patiently(
    tmp_path: Path,
) -> None:
    async def tale(here: Bench) -> None:
        here.says(LOST)
        async with here.watching():
            for patience_s in (PATIENCE_S, 2 * PATIENCE_S, 4 * PATIENCE_S):
                before = here.begun_again
                await asyncio.sleep(patience_s - 2)
                assert here.begun_again == before
                await asyncio.sleep(2)
                assert here.begun_again == before + 1
            here.says(leg_state(PEER))
            await here.hint()
            here.says(LOST)
            await here.hint()
            await asyncio.sleep(PATIENCE_S)
            assert here.begun_again == 4
        assert ("anew", "pg", UID) in here.storage.asked

    story(tmp_path, tale, POOL, LEG)


def test_who_is_written_to_or_being_worked_on_does_not_begin_again(tmp_path: Path) -> None:
    async def tale(here: Bench) -> None:
        here.says(replace(LOST, role=Role.PRIMARY))
        async with here.watching():
            await asyncio.sleep(4 * PATIENCE_S)
            here.busy.add(LEG.key)
            here.says(LOST)
            await asyncio.sleep(4 * PATIENCE_S)
            assert here.begun_again == 0
            here.busy.clear()
            here.storage.fails["anew"] = FAILED
            await here.hint()
            assert here.begun_again == 1
            assert here.figures.counters["troubles_total"] == 1

    story(tmp_path, tale, POOL, LEG)


def test_it_looks_seldom_at_what_is_at_rest_and_often_at_what_is_not(tmp_path: Path) -> None:
    async def tale(here: Bench) -> None:
        here.says(leg_state(PEER))
        async with here.watching():
            await asyncio.sleep(10 * LOOK_EVERY_S)
            assert here.looks == 11
            here.says(leg_state(replace(PEER, sync=Sync.SOURCE)))
            await here.hint()
            await asyncio.sleep(10 * AGAIN_S)
            assert here.looks == 22

    story(tmp_path, tale, POOL, LEG)


def test_it_looks_as_soon_as_drbd_says_something(tmp_path: Path) -> None:
    async def tale(here: Bench) -> None:
        here.says(leg_state(PEER))
        async with here.watching():
            here.says(LOST)
            here.storage.changed.set()
            await asyncio.sleep(0.2)
            assert here.told()[-1] == good(tie=Tie.CONNECTING)

    story(tmp_path, tale, POOL, LEG)


def test_while_much_changes_in_a_row_it_looks_a_third_of_the_time_at_most(tmp_path: Path) -> None:
    async def tale(here: Bench) -> None:
        here.says(leg_state(PEER))

        async def takes_long() -> None:
            here.storage.meanwhile = takes_long
            await asyncio.sleep(1)

        here.storage.meanwhile = takes_long
        async with here.watching():
            for _ in range(300):
                here.storage.changed.set()
                await asyncio.sleep(0.1)
            assert 10 <= here.looks <= 11

    story(tmp_path, tale, POOL, LEG)


def test_a_look_that_failed_is_taken_again_soon(tmp_path: Path) -> None:
    async def tale(here: Bench) -> None:
        here.storage.fails["look"] = FAILED
        async with here.watching():
            assert here.told() == []
            assert here.figures.counters["troubles_total"] == 1
            here.storage.fails.clear()
            here.says(leg_state(PEER))
            await asyncio.sleep(AGAIN_S)
            assert here.told() == [good()]

    story(tmp_path, tale, POOL, LEG)


def test_a_watch_that_hears_nothing_any_more_says_so(tmp_path: Path) -> None:
    async def tale(here: Bench) -> None:
        here.says(leg_state(PEER))
        here.storage.fails["listen"] = FAILED
        with pytest.raises(StorageError):
            async with here.watching():
                await asyncio.sleep(LOOK_EVERY_S)

    story(tmp_path, tale, POOL, LEG)


@pytest.mark.parametrize(
    "leg",
    [replace(LEG, spec=replace(LEG.spec, replication=None)), replace(LEG, present=False)],
    ids=["plain", "gone"],
)
def test_a_node_without_replicated_legs_is_not_looked_at(
    tmp_path: Path, leg: WantedReplica
) -> None:
    async def tale(here: Bench) -> None:
        async with here.watching():
            await here.hint()
            await asyncio.sleep(10 * LOOK_EVERY_S)
        assert here.storage.asked == []

    story(tmp_path, tale, POOL, leg)


@pytest.mark.parametrize("state", [None, GAVE_UP], ids=["runs no more", "gave up"])
def test_a_leg_that_does_not_look_for_its_peers_is_brought_up(
    tmp_path: Path, state: Seen | None
) -> None:
    async def tale(here: Bench) -> None:
        here.storage.states = {} if state is None else {"pg": state}
        async with here.watching():
            assert here.raised == 1
            await here.hint()
            await here.hint()
            assert here.raised == 1, "not at once again"
            await asyncio.sleep(AGAIN_S)
            assert here.raised == 2
            here.says(LOST)
            await here.hint()
            await asyncio.sleep(4 * LOOK_EVERY_S)
            assert here.raised == 2
        [asked] = {one[-1] for one in here.storage.asked if one[0] == "replicated"}
        assert asked is False, "metadata is never made by the way"

    story(tmp_path, tale, POOL, LEG)


def test_a_leg_that_cannot_be_brought_up_is_told_not_to_run(tmp_path: Path) -> None:
    """Else the log would go on to call it good."""

    async def tale(here: Bench) -> None:
        here.says(leg_state(PEER))
        async with here.watching():
            here.storage.states = {}
            here.storage.fails["replicated"] = FAILED
            await here.hint()
            await asyncio.sleep(2 * AGAIN_S)
            down = LegSeen(primary=False, disk=LegDisk.UNKNOWN)
            assert here.told() == [good(), ReportReplication(**ABOUT, epoch=3, seen=down)]
            here.says(leg_state(PEER))
            await here.hint()
            assert here.told()[2:] == [good()]

    story(tmp_path, tale, POOL, LEG)


def test_one_of_several_peers_that_is_not_looked_for_is_enough(tmp_path: Path) -> None:
    third = Peer(node="n3", connection=Connection.STANDALONE)

    async def tale(here: Bench) -> None:
        here.says(leg_state(PEER, third))
        async with here.watching():
            assert here.raised == 1

    story(tmp_path, tale, POOL, LEG)


UNTOUCHED: list[tuple[str, Seen | None, WantedReplica, set[str]]] = [
    ("split", SPLIT, LEG, set()),
    ("held", None, replace(LEG, held=True), set()),
    ("never tied", None, replace(LEG, tied=False), set()),
    ("wanted otherwise", None, replace(LEG, answered_seq=0), set()),
    ("worked on", None, LEG, {"replica/pg"}),
    ("without a peer", leg_state(), LEG, set()),
    ("looking", LOST, LEG, set()),
]


@pytest.mark.parametrize(
    ("state", "leg", "busy"), [one[1:] for one in UNTOUCHED], ids=[one[0] for one in UNTOUCHED]
)
def test_no_other_leg_is_brought_up(
    tmp_path: Path, state: Seen | None, leg: WantedReplica, busy: set[str]
) -> None:
    async def tale(here: Bench) -> None:
        here.storage.states = {} if state is None else {"pg": state}
        here.busy |= busy
        async with here.watching():
            await asyncio.sleep(2 * LOOK_EVERY_S)
            assert here.looks >= 3
            assert here.raised == 0

    story(tmp_path, tale, POOL, leg)


def test_a_leg_that_was_put_aside_during_the_look_is_left_alone(tmp_path: Path) -> None:
    async def tale(here: Bench) -> None:
        async def held() -> None:
            await here.hears(ReplicaHoldWanted(**ABOUT, operation=OP))

        here.storage.meanwhile = held
        async with here.watching():
            assert here.looks == 2
            assert here.raised == 0
        here.storage.meanwhile = None

    story(tmp_path, tale, POOL, LEG)


def test_after_a_boot_legs_run_again_without_the_bus(tmp_path: Path) -> None:
    async def tale(here: Bench) -> None:
        await here.watch.bring_up("start:boot")
        assert here.raised == 1
        here.says(LOST)
        await here.watch.bring_up("start:boot")
        assert here.raised == 1

    story(tmp_path, tale, POOL, LEG)


@pytest.mark.parametrize("failing", ["look", "replicated"])
def test_what_fails_after_a_boot_does_not_keep_the_worker_from_its_work(
    tmp_path: Path, failing: str
) -> None:
    async def tale(here: Bench) -> None:
        here.storage.fails[failing] = FAILED
        await here.watch.bring_up("start:boot")
        assert here.storage.names()[-1] == failing
        here.storage.fails.clear()
        async with here.watching():
            assert here.raised == 1 + (failing == "replicated")

    story(tmp_path, tale, POOL, LEG)


@pytest.mark.parametrize(
    "leg",
    [replace(LEG, held=True), replace(LEG, tied=False), replace(LEG, present=False)],
    ids=["held", "never tied", "gone"],
)
def test_after_a_boot_no_other_leg_runs(tmp_path: Path, leg: WantedReplica) -> None:
    async def tale(here: Bench) -> None:
        await here.watch.bring_up("start:boot")
        assert here.storage.asked == []

    story(tmp_path, tale, POOL, leg)


@pytest.mark.parametrize("over", [True, False])
def test_a_leg_does_not_run_while_it_is_rolled_back_and_is_told_so(
    tmp_path: Path, *, over: bool
) -> None:
    kept = ReplicaSpec(
        uid=OTHER, pool="fast", size_bytes=8, snapshot_of=SnapshotOf(volume="pg", uid=UID)
    )
    merging = WantedReplica(
        volume="s", uid=OTHER, spec=kept, origin=Origin(seq=3), folded_seq=3, merging=not over
    )

    async def tale(here: Bench) -> None:
        await here.watch.bring_up("start:boot")
        assert here.raised == over
        async with here.watching():
            await asyncio.sleep(2 * AGAIN_S)
            down = LegSeen(primary=False, disk=LegDisk.UNKNOWN)
            told = [] if over else [ReportReplication(**ABOUT, epoch=3, seen=down)]
            assert here.told() == told

    story(tmp_path, tale, POOL, LEG, merging)


def test_a_split_is_told_with_the_generations_of_this_side() -> None:
    seen = leg_seen(SPLIT)
    assert seen.split
    assert '"current":"A1"' in seen.generations
    assert leg_seen(replace(SPLIT, split=False)).generations == ""


def test_a_leg_is_told_in_the_words_of_the_log() -> None:
    third = Peer(node="n3", role=Role.PRIMARY, disk=DiskState.OUTDATED, out_of_sync_bytes=9)
    frozen = leg_state(third, replace(PEER, out_of_sync_bytes=7), role=Role.PRIMARY, frozen=True)
    seen = leg_seen(frozen)
    assert (seen.primary, seen.frozen, seen.disk) == (True, True, LegDisk.UP_TO_DATE)
    assert seen.peers == (
        there(out_of_sync_bytes=7),
        PeerSeen(node="n3", primary=True, disk=LegDisk.OUTDATED),
    )
    for kind in DiskState:
        assert leg_seen(replace(frozen, disk=kind)).disk.value == kind.value
    for sync in Sync:
        [peer] = leg_seen(leg_state(replace(PEER, sync=sync))).peers
        assert peer.sync is Copying(sync.value)
