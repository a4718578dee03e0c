"""The control plane in memory, and nodes that act from a script: for stories about operations."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import msgspec

from aggregates.world import World
from hwbus.asking import Asked
from hwbus.codec import commit_codec
from hwbus.controller.care import Care
from hwbus.controller.classes import Classes
from hwbus.controller.holds import Holds
from hwbus.controller.schedules import Schedules
from hwbus.controller.storage import StorageDomain, StorageScript
from hwbus.desk import CommandDesk
from hwbus.driver import Driver
from hwbus.memory import MemoryLog, MemoryOutlet
from hwbus.ports import Clock
from hwbus.subjects import Address, of_node, parse_event
from schemas.answers import Accepted, Answer, Refused, Undecided
from schemas.attachment import ReportAttachmentTrouble
from schemas.disk import Content, DiskClass, ReportDiskSeen, Sighting
from schemas.errand import (
    ErrandStopWanted,
    ErrandWanted,
    PutAside,
    PutBack,
    ReportErrandDone,
    ReportErrandStopped,
    ReportErrandTrouble,
)
from schemas.grammar import Event, Message, kind_and_verb
from schemas.growing import ThinPoolGrowthAbandoned, ThinPoolGrowthWanted
from schemas.instants import InstantSettled
from schemas.keys import Encryption
from schemas.mending import Mend, ReplicaMendWanted, ReplicaMendWithdrawn, ReportReplicaLeft
from schemas.node import Capability, ReportNodeJoined
from schemas.place import place_of
from schemas.pool import (
    FormPool,
    PoolBuildWanted,
    PoolExtensionWanted,
    PoolFacts,
    PoolGrowthAbandoned,
    PoolRemovalWanted,
    ReportPoolAbsent,
    ReportPoolBuilt,
    ReportPoolTrouble,
)
from schemas.refusals import Refusal
from schemas.replica import (
    Consistency,
    ReplicaHoldWanted,
    ReplicaMergeWanted,
    ReplicaRekeyWanted,
    ReplicaRemovalWanted,
    ReplicaRemovalWithdrawn,
    ReplicaResizeWanted,
    ReplicaSpec,
    ReplicaWanted,
    ReportReplicaAbsent,
    ReportReplicaHeld,
    ReportReplicaPresent,
    ReportReplicaRekeyed,
    ReportReplicaTrouble,
)
from schemas.replication import tie_of
from schemas.shrinking import PoolShrinkAbandoned, PoolShrinkWanted
from schemas.words import AnyEvent
from tests.support.backup_words import found
from tests.support.given import GIB, MIB
from tests.support.scripted_attachments import ScriptedAttachments
from tests.support.unsteady import UnsteadyLog

EXTENT = 4 * MIB
CODEC = commit_codec(AnyEvent)


class Counting:
    """Gives out identities that are easy to tell apart and the same in every run."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def __call__(self) -> str:
        return f"{next(self._numbers):026d}"


class Stage:
    """A log, and whatever control plane is alive just now."""

    def __init__(self, clock: Clock, chance: Random | None = None) -> None:
        """*chance* makes the log unsteady."""
        self.clock = clock
        self.mint = Counting()
        self.log = MemoryLog(clock) if chance is None else UnsteadyLog(clock, chance)
        self.outlet = MemoryOutlet()
        self.desk: CommandDesk | None = None
        self.world = World()

    @asynccontextmanager
    async def control_plane(self) -> AsyncIterator["Driver"]:
        """A control plane that reads the past, lives, and dies with the context."""
        domain = StorageDomain()
        desk = CommandDesk(domain, self.log, self.outlet, CODEC, self.clock, self.mint)
        encode = msgspec.json.Encoder().encode
        driver = Driver(desk, StorageScript(domain.world), self.clock, encode)
        care = Care(desk, domain.world, self.clock, self.mint)
        caught_up = asyncio.Event()
        head = await self.log.head()

        async def follow() -> None:
            if head == 0:
                caught_up.set()
            async for seen in desk.follow():
                care.take(seen)
                await driver.take(seen)
                if desk.position >= head:
                    caught_up.set()

        follower = asyncio.create_task(follow())
        await caught_up.wait()
        driver.go_live()
        self.desk, self.world = desk, domain.world
        loops = [
            loop(desk, domain.world, self.clock, self.mint).run()
            for loop in (Holds, Schedules, Classes)
        ]
        standing = [asyncio.create_task(loop) for loop in (*loops, care.run())]
        try:
            yield driver
            for task in standing:
                if task.done():
                    task.result()
        finally:
            self.desk = None
            await driver.close()
            for task in (follower, *standing):
                task.cancel()
            await asyncio.gather(follower, *standing, return_exceptions=True)

    async def say(
        self,
        command: Message,
        *,
        id_: str = "",
        correlation: str = "",
        actor: str = "tester",
        within: bool = False,
    ) -> Answer:
        """Say *command* to whatever desk is alive until one of them knows the answer."""
        kind, verb = kind_and_verb(command)
        wish = Asked(
            id=id_ or self.mint(),
            actor=actor,
            kind=kind,
            verb=verb,
            data=msgspec.json.encode(command),
            correlation=correlation,
            within=within,
        )
        async with asyncio.timeout(3600):
            while True:
                desk = self.desk
                answer = await desk.handle(wish) if desk is not None else None
                if answer is not None and not isinstance(answer, Undecided):
                    return answer
                await asyncio.sleep(0.1)

    async def accepted(self, command: Message) -> Accepted:
        """Say *command* and insist."""
        answer = await self.say(command)
        assert isinstance(answer, Accepted), answer
        return answer

    async def refused(self, command: Message, code: Refusal) -> Refused:
        """Say *command* and expect it to be refused."""
        answer = await self.say(command)
        assert isinstance(answer, Refused), answer
        assert answer.code is code, answer
        return answer

    async def until(self, true: Callable[[World], bool], within_s: float = 3600) -> None:
        """Wait until *true* holds of the world."""
        async with asyncio.timeout(within_s):
            while not true(self.world):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def settled(self, within_s: float = 3600) -> None:
        """Wait until every operation has ended."""
        await self.until(_at_rest, within_s)

    async def events(self) -> list[Event]:
        """Return all that was ever recorded, in order."""
        found: list[Event] = []
        for seq in range(1, await self.log.head() + 1):
            stored = await self.log.get(seq)
            assert stored is not None
            found += CODEC.decode(stored.data).events
        return found


class ScriptedNode:
    """Does what is wanted of it, in its own time; its disks are a dictionary.

    *troubles* is asked before each piece of work; what it returns is reported instead of done.
    """

    def __init__(
        self,
        stage: Stage,
        name: str,
        chance: Random,
        troubles: Callable[[Event], Refusal | None] = lambda _: None,
    ) -> None:
        self.name = name
        self.pools: dict[str, tuple[str, ...]] = {}
        self.thin_bytes: dict[str, int] = {}
        self.volumes: dict[str, ReplicaSpec] = {}
        self.attachments = ScriptedAttachments(name)
        self.merged: set[str] = set()
        self.lost: dict[str, ReplicaSpec] = {}
        self.anew: set[str] = set()
        self.aside: dict[str, PutAside] = {}
        self.following: dict[str, ReplicaSpec] = {}
        self.deaf: set[str] = set()
        self.slow_s = 0.01
        self._stage = stage
        self._chance = chance
        self._troubles = troubles
        self._position = 0
        self._read = 0
        self._undone: dict[str, tuple[Event, str]] = {}
        self._again: dict[str, tuple[Event, str]] = {}

    async def join(self, disks: int = 2, size_bytes: int = 20 * GIB) -> None:
        """Join with blank disks."""
        can = (Capability.LVM, Capability.ENCRYPTION, Capability.LENDING)
        await self._stage.accepted(ReportNodeJoined(node=self.name, capabilities=can))
        seen = Sighting(
            path="/dev/sdb", size_bytes=size_bytes, media=DiskClass.SSD, content=Content.BLANK
        )
        for number in range(disks):
            disk = f"{self.name}-d{number}"
            await self._stage.accepted(ReportDiskSeen(disk=disk, node=self.name, sighting=seen))

    def form(self, disks: int = 1, thin_bytes: int = 0, deadline_s: int = 600) -> FormPool:
        """Return the wish for a pool of its first disks."""
        return FormPool(
            pool="fast",
            node=self.name,
            disks=tuple(f"{self.name}-d{n}" for n in range(disks)),
            thin_bytes=thin_bytes,
            deadline_s=deadline_s,
        )

    async def work(self) -> None:
        """Work until cancelled; begun anew it tries again what failed and is still wanted."""
        mine = of_node(self.name)
        self._again = dict(self._undone)
        await self._try_again(mine)
        async with self._stage.log.follow(after=self._position, subjects=(mine,)) as batches:
            async for batch in batches:
                for stored in batch:
                    assert parse_event(stored.subject).place == self.name
                    commit = CODEC.decode(stored.data)
                    self._read = stored.seq
                    for event in commit.events:
                        await self._take(event, commit.correlation)
                    self._position = stored.seq
                await self._try_again(mine)

    async def _try_again(self, mine: str) -> None:
        """Do what is left, and wanted, once it is known that nothing else was said of it."""
        if not self._again or await self._is_old(mine):
            return
        again, self._again = self._again, {}
        for about, one in again.items():
            if self._undone.get(about) is one:
                await self._take(*one)

    async def _is_old(self, subject: str) -> bool:
        newest = await self._stage.log.last(subject)
        return newest is not None and newest.seq > self._read

    async def _take(self, event: Event, correlation: str) -> None:
        await asyncio.sleep(self._chance.random() * self.slow_s)
        place = place_of(event)
        about = str(place)
        # As a worker: what takes data away is not done on old news.
        if isinstance(event, ReplicaRemovalWanted) and await self._is_old(Address(*place).subject):
            self._undone[about] = self._again[about] = (event, correlation)
            return
        report = self._do(event)
        if report is None:
            return
        self._undone[about] = (event, correlation)
        await self._stage.say(report, correlation=correlation)
        troubles = (
            ReportReplicaTrouble | ReportPoolTrouble | ReportAttachmentTrouble | ReportErrandTrouble
        )
        if not isinstance(report, troubles):
            del self._undone[about]

    def _do(self, event: Event) -> Message | None:  # noqa: C901
        trouble = self._troubles(event)
        match event:
            case (
                PoolBuildWanted()
                | PoolExtensionWanted()
                | PoolGrowthAbandoned()
                | PoolShrinkWanted()
                | PoolShrinkAbandoned()
                | ThinPoolGrowthWanted()
                | ThinPoolGrowthAbandoned()
            ):
                if trouble is not None:
                    return ReportPoolTrouble(
                        pool=event.pool,
                        node=self.name,
                        uid=event.uid,
                        code=trouble,
                        because="as the script has it",
                        permanent=True,
                    )
                self._have_pool(event)
                return ReportPoolBuilt(
                    pool=event.pool, node=self.name, uid=event.uid, facts=self._facts(event.pool)
                )
            case PoolRemovalWanted():
                self.pools.pop(event.pool, None)
                self.thin_bytes.pop(event.pool, None)
                return ReportPoolAbsent(pool=event.pool, node=self.name, uid=event.uid)
            case ReplicaWanted() | InstantSettled():
                return self._have(event, trouble)
            case ReplicaResizeWanted() if event.volume in self.volumes:
                spec = self.volumes[event.volume]
                size_bytes = max(spec.size_bytes, event.size_bytes)
                if trouble is None:
                    self.volumes[event.volume] = msgspec.structs.replace(
                        spec, size_bytes=size_bytes
                    )
                return self._said(event.volume, event.uid, trouble)
            case ReplicaRekeyWanted() if event.volume in self.volumes:
                return self._rekeyed(event, trouble)
            case ReplicaRemovalWanted() | ReplicaMergeWanted():
                return self._gone(event, trouble)
            case ReplicaHoldWanted() | ReplicaRemovalWithdrawn():
                held = isinstance(event, ReplicaHoldWanted)
                told = trouble if held else None
                return self._said(event.volume, event.uid, told, held=held, withdrawn=not held)
            case ErrandWanted() | ErrandStopWanted() | ReplicaMendWanted() | ReplicaMendWithdrawn():
                return self._errand(event, trouble)
            case _:
                return self.attachments.do(event, trouble)

    def _have(
        self, event: ReplicaWanted | InstantSettled, trouble: Refusal | None
    ) -> Message | None:
        name = event.volume
        if isinstance(event, InstantSettled):
            if trouble is None and name in self.following:
                self.volumes[name] = self.following.pop(name)
            return self._said(name, event.uid, trouble)
        if trouble is None and event.spec.together is not None and event.spec.together.follows:
            self.following[name] = event.spec
            return None
        if trouble is None:
            self.volumes[name] = event.spec
        return self._said(name, event.spec.uid, trouble)

    def lose(self, volume: str) -> None:
        """Have somebody remove a volume by hand."""
        self.lost[volume] = self.volumes.pop(volume)

    def _mend(
        self, event: ReplicaMendWanted | ReplicaMendWithdrawn, trouble: Refusal | None
    ) -> Message:
        name, uid = event.volume, event.uid
        if isinstance(event, ReplicaMendWithdrawn):
            if event.give_back:
                self.volumes.pop(name, None)
            if uid in self.anew:
                return self._said(name, uid, None)
            return ReportReplicaLeft(volume=name, node=self.name, uid=uid)
        there = name in self.volumes
        if trouble is not None or there is not (event.mend in {Mend.SIZE, Mend.UNDO}):
            return self._said(name, uid, trouble or Refusal.NOT_AS_SEEN)
        if event.mend is Mend.RECREATE:
            self.volumes[name] = self.lost.pop(name)
            self.anew.add(uid)
        if event.mend is Mend.SIZE and event.seen is not None:
            self.volumes[name] = msgspec.structs.replace(
                self.volumes[name], size_bytes=event.seen.size_bytes
            )
        return self._said(name, uid, None)

    def _gone(
        self, event: ReplicaRemovalWanted | ReplicaMergeWanted, trouble: Refusal | None
    ) -> Message:
        self.following.pop(event.volume, None)
        was_there = trouble is None and self.volumes.pop(event.volume, None) is not None
        if was_there and isinstance(event, ReplicaMergeWanted):
            self.merged.add(event.uid)
        return self._said(event.volume, event.uid, trouble)

    def _rekeyed(self, event: ReplicaRekeyWanted, trouble: Refusal | None) -> Message:
        if trouble is not None:
            return self._said(event.volume, event.uid, trouble)
        now = event.encryption
        spec, keys = self.volumes[event.volume], Encryption(keys=now.keys)
        self.volumes[event.volume] = msgspec.structs.replace(spec, encryption=keys)
        return ReportReplicaRekeyed(
            volume=event.volume, node=self.name, uid=event.uid, generation=now.generation
        )

    def _errand(
        self,
        event: ErrandWanted | ErrandStopWanted | ReplicaMendWanted | ReplicaMendWithdrawn,
        trouble: Refusal | None,
    ) -> Message:
        if isinstance(event, ReplicaMendWanted | ReplicaMendWithdrawn):
            return self._mend(event, trouble)
        about = {"operation": event.operation, "node": self.name}
        if isinstance(event, ErrandStopWanted):
            self.aside = {k: v for k, v in self.aside.items() if k != event.operation}
            return ReportErrandStopped(**about)
        if trouble is not None:
            return ReportErrandTrouble(
                operation=event.operation,
                node=self.name,
                code=trouble,
                because="as the script has it",
                permanent=True,
            )
        if isinstance(event.errand, PutAside):
            self.aside[event.operation] = event.errand
        if isinstance(event.errand, PutBack):
            claim = event.errand.claim
            self.aside = {k: v for k, v in self.aside.items() if v.claim != claim}
        return ReportErrandDone(
            operation=event.operation, node=self.name, found=found(event.errand)
        )

    def _said(
        self,
        volume: str,
        uid: str,
        trouble: Refusal | None,
        *,
        held: bool = False,
        withdrawn: bool = False,
    ) -> Message:
        if trouble is not None:
            return ReportReplicaTrouble(
                volume=volume,
                node=self.name,
                uid=uid,
                code=trouble,
                because="as the script has it",
                permanent=True,
            )
        spec = self.volumes.get(volume)
        if spec is None:
            return ReportReplicaAbsent(
                volume=volume, node=self.name, uid=uid, merged=uid in self.merged
            )
        if held:
            return ReportReplicaHeld(volume=volume, node=self.name, uid=uid)
        return ReportReplicaPresent(
            volume=volume,
            node=self.name,
            uid=uid,
            size_bytes=taken_bytes(spec),
            device=f"/dev/{spec.pool}/{volume}",
            consistency=Consistency.FILESYSTEM if spec.snapshot_of is not None else None,
            withdrawn=withdrawn,
            tie=tie_of(spec.replication, self.name),
            **self._turn(spec),
        )

    def _turn(self, spec: ReplicaSpec) -> dict[str, Any]:
        """Return in what turn a snapshot was taken, and who has followed: all who are not deaf."""
        together = spec.together
        if together is None or not together.followers:
            return {}
        followed = tuple(node for node in together.followers if node not in self.deaf)
        return {"turn": together.instant, "followed": followed}

    def _have_pool(self, event: Event) -> None:
        pool = getattr(event, "pool")  # noqa: B009
        self.pools[pool] = getattr(event, "disks", None) or self.pools[pool]
        more = getattr(event, "thin_bytes", 0)
        self.thin_bytes[pool] = max(self.thin_bytes.get(pool, 0), more)

    def _facts(self, pool: str) -> PoolFacts:
        disks, thin_bytes = self.pools[pool], self.thin_bytes.get(pool, 0)
        return PoolFacts(
            size_bytes=20 * GIB * len(disks),
            extent_bytes=EXTENT,
            metadata_bytes=8 * MIB,
            disks=disks,
            thin_bytes=thin_bytes,
            thin_overhead_bytes=16 * MIB if thin_bytes else 0,
        )


def _at_rest(world: World) -> bool:
    objects = (
        *world.nodes.values(),
        *world.pools.values(),
        *world.volumes.values(),
        *world.snapshots.values(),
        *world.groups.values(),
    )
    begun = any(getattr(thing, "operation", "") for thing in objects)
    begun = begun or any(target.running for target in world.targets.values())
    begun = begun or any(node.settling for node in world.nodes.values())
    begun = begun or any(volume.verifying for volume in world.volumes.values())
    lasting = not world.errands and not any(
        one.readers or one.of_operation for one in world.snapshots.values()
    )
    return not begun and lasting and all(o.outcome is not None for o in world.operations.values())


def taken_bytes(spec: ReplicaSpec) -> int:
    """Return what a leg takes of its pool."""
    unit = EXTENT * spec.stripes
    return -(-spec.size_bytes // unit) * unit
