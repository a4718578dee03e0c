"""A worker put together from finished things: the same one for a node, a laptop and a test."""

from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random

import msgspec

from hwbus.ports import Clock
from node_workers.counting import Counting
from node_workers.drbd_changes import changes
from node_workers.drbd_legs import Replicating
from node_workers.fencing import Promises
from node_workers.figures import Figures
from node_workers.health import Checkups
from node_workers.inventory import observe
from node_workers.keeping import KeepingRunner
from node_workers.keys import KeySource, NoKeys
from node_workers.lending import Lender
from node_workers.loans import Borrower, LoanDesk, Loans
from node_workers.lvm import COPIES_FOLDER, LvmStorage
from node_workers.node_key import readable
from node_workers.observation import Observation
from node_workers.outbox import Outbox
from node_workers.ports import Counters, Execution, Runner, Sysfs
from node_workers.presence import Presence, probe
from node_workers.refereeing import Referee
from node_workers.replication import Judge
from node_workers.scans import Rhythm
from node_workers.sealed import Keys
from node_workers.state import State
from node_workers.store import Kept, Store
from node_workers.turns import Follower, Leader, Turns
from node_workers.worker import Worker
from schemas.node import Capability

SIMULATED = (
    Capability.LVM,
    Capability.THIN,
    Capability.EXT4,
    Capability.XFS,
    Capability.ENCRYPTION,
    Capability.LENDING,
    Capability.SIMULATED,
)


class Peering(msgspec.Struct, frozen=True, kw_only=True):
    """What a node replicates with: its keys, and the program that asks its worker for the log.

    ``promises`` are shared with whoever answers that program. ``changes`` tells that there may be
    something new.
    """

    keys: Keys
    handler: tuple[str, ...]
    promises: Promises
    changes: Callable[[], AsyncIterator[None]] = changes

    def __repr__(self) -> str:
        """Tell nobody the secret, whoever prints it."""
        return f"Peering(handler={self.handler})"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a worker works: the node, how it is reached, and the machine under it.

    ``capabilities`` None: the machine's tools are asked. How far copies are is kept in
    ``copies_folder``. ``keys`` gives those of encrypted volumes, and the credentials of backup
    targets unless ``credentials`` does. ``earlier`` are tools that ran before there was a worker,
    to be recorded by it. Other nodes read its snapshots at ``lend_at`` and ``lend_port`` (0: any);
    of a simulated node they are told the ``contents`` of one instead. Without ``replicating`` it
    can have no replicated volumes. ``kernel`` is what has to run for a simulated one besides, and
    asks the judge that it is given.
    """

    node: str
    runner: Runner
    sysfs: Sysfs
    counters: Counters
    address: str = ""
    zone: str = ""
    capabilities: tuple[Capability, ...] | None = None
    credentials: KeySource | None = None
    copies_folder: str = COPIES_FOLDER
    keys: KeySource = NoKeys()
    earlier: tuple[Execution, ...] = ()
    lend_at: Callable[[], str] = lambda: ""
    lend_port: int = 0
    replicating: Peering | None = None
    contents: Callable[[str], str] | None = None
    kernel: Callable[[Judge], Awaitable[None]] | None = None


async def assemble(
    place: Place,
    store: Store,
    *,
    clock: Clock,
    rng: Random,
    figures: Figures,
    rhythm: Rhythm | None = None,
) -> Worker:
    """Return a worker with the memory that *store* holds."""
    kept = await store.load()
    outbox = await _outbox(place, store, kept, clock=clock, rng=rng, figures=figures)
    state = State(kept, store, outbox, node=place.node, clock=clock, figures=figures)
    runner = await _runner(place, outbox, clock, figures)
    rhythm = rhythm or Rhythm()
    borrower, referee = Borrower(place.node), Referee(place.node)
    storage = _storage(place, runner, borrower, referee)

    async def look(cause: str) -> Observation:
        return await observe(runner, place.sysfs, node=place.node, cause=cause)

    return Worker(
        node=place.node,
        state=state,
        outbox=outbox,
        storage=storage,
        observe=look,
        presence=await _presence(place, state, runner, clock),
        checkups=Checkups(
            runner,
            state,
            node=place.node,
            figures=figures,
            every_s=rhythm.health_every_s,
        ),
        rng=rng,
        figures=figures,
        rhythm=rhythm,
        loans=Loans(borrower, _desk(place, state, storage)),
        turns=Turns(Leader(place.node), Follower(place.node, lambda: state.wanted, storage)),
        replicated=storage,
        referee=referee,
        counting=Counting(state, place.counters, clock.now, place.node),
    )


def _desk(place: Place, state: State, storage: LvmStorage) -> LoanDesk:
    return LoanDesk(
        place.node,
        lambda: state.wanted,
        storage,
        Lender(port=place.lend_port),
        place.lend_at,
        place.contents,
    )


async def _presence(place: Place, state: State, runner: Runner, clock: Clock) -> Presence:
    known = place.capabilities
    return Presence(
        node=place.node,
        address=place.address,
        zone=place.zone,
        capabilities=await probe(runner) if known is None else known,
        state=state,
        clock=clock,
        public_key="" if place.replicating is None else readable(place.replicating.keys.public),
    )


async def _runner(place: Place, outbox: Outbox, clock: Clock, figures: Figures) -> KeepingRunner:
    runner = KeepingRunner(place.runner, outbox.keep, node=place.node, clock=clock, figures=figures)
    for execution in place.earlier:
        await runner.record(execution)
    return runner


def _storage(place: Place, runner: Runner, borrower: Borrower, referee: Referee) -> LvmStorage:
    peering = place.replicating
    return LvmStorage(
        runner,
        place.sysfs,
        node=place.node,
        keys=place.keys,
        folder=place.copies_folder,
        credentials=place.credentials,
        borrower=borrower,
        replicating=None
        if peering is None
        else Replicating(
            secret=peering.keys.secret,
            judge=referee,
            handler=peering.handler,
            promises=peering.promises,
            changes=peering.changes,
        ),
    )


async def _outbox(
    place: Place, store: Store, kept: Kept, *, clock: Clock, rng: Random, figures: Figures
) -> Outbox:
    outbox = Outbox(
        store,
        node=place.node,
        identity=kept.meta["identity"],
        clock=clock,
        rng=rng,
        figures=figures,
    )
    await outbox.load(kept.letters)
    return outbox
