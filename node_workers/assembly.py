"""A worker put together from finished things: the same one for a node, a laptop and a test."""

from random import Random

import msgspec

from hwbus.ports import Clock
from node_workers.figures import Figures
from node_workers.health import Checkups
from node_workers.inventory import observe
from node_workers.keeping import KeepingRunner
from node_workers.keys import KeySource, NoKeys
from node_workers.lvm import COPIES_FOLDER, LvmStorage
from node_workers.observation import Observation
from node_workers.outbox import Outbox
from node_workers.ports import Execution, Runner, Sysfs
from node_workers.presence import Presence, probe
from node_workers.scans import Rhythm
from node_workers.state import State
from node_workers.store import Kept, Store
from node_workers.worker import Worker
from schemas.node import Capability

SIMULATED = (
    Capability.LVM,
    Capability.THIN,
    Capability.EXT4,
    Capability.XFS,
    Capability.ENCRYPTION,
    Capability.SIMULATED,
)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a worker works: the node, how it is reached, and the machine under it.

    ``capabilities`` None: the machine's tools are asked. How far copies are is kept in
    ``copies_folder``. ``keys`` gives those of encrypted volumes, and the credentials of backup
    targets unless ``credentials`` does. ``earlier`` are tools that ran before there was a worker,
    to be recorded by it.
    """

    node: str
    runner: Runner
    sysfs: Sysfs
    address: str = ""
    zone: str = ""
    capabilities: tuple[Capability, ...] | None = None
    credentials: KeySource | None = None
    copies_folder: str = COPIES_FOLDER
    keys: KeySource = NoKeys()
    earlier: tuple[Execution, ...] = ()


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
    capabilities = place.capabilities if place.capabilities is not None else await probe(runner)

    rhythm = rhythm or Rhythm()

    async def look(cause: str) -> Observation:
        return await observe(runner, place.sysfs, node=place.node, cause=cause)

    return Worker(
        node=place.node,
        state=state,
        outbox=outbox,
        storage=_storage(place, runner),
        observe=look,
        presence=Presence(
            node=place.node,
            address=place.address,
            zone=place.zone,
            capabilities=capabilities,
            state=state,
            clock=clock,
        ),
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
    )


async def _runner(place: Place, outbox: Outbox, clock: Clock, figures: Figures) -> KeepingRunner:
    runner = KeepingRunner(place.runner, outbox.keep, node=place.node, clock=clock, figures=figures)
    for execution in place.earlier:
        await runner.record(execution)
    return runner


def _storage(place: Place, runner: Runner) -> LvmStorage:
    return LvmStorage(
        runner,
        place.sysfs,
        node=place.node,
        keys=place.keys,
        folder=place.copies_folder,
        credentials=place.credentials,
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
