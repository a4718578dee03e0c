"""Random days of a small cluster: control planes and workers die, commands race, and laws hold.

A failure names its seed; ``HWBUS_SEED=n`` plays that day alone.
"""

import asyncio
import os
from collections.abc import Sequence
from random import Random

import pytest
from msgspec.structs import replace

from aggregates.attaching import behind
from aggregates.ledger import room_bytes
from aggregates.world import World
from hwbus.controller.holds import AGAIN_AFTER_S
from hwbus.subjects import parse_event
from schemas.answers import Refused
from schemas.attaching import AttachVolume, DetachVolume, LimitVolume
from schemas.attachment import Limits
from schemas.copying import CloneVolume, RestoreBackup, RestoreVolume
from schemas.deleting import DeleteVolume, PurgeVolume, UndeleteVolume
from schemas.disk import Wiping
from schemas.encrypting import RekeyVolume
from schemas.grammar import Event, Request
from schemas.mending import SeenVolume
from schemas.node import Drift, Finding, ReportDrift
from schemas.operation import CancelOperation, OperationEnded, OperationStarted
from schemas.pool import GrowPool, PoolFormingBegan, RemovePool
from schemas.qos import ChangeQosClass, CreateQosClass, DeleteQosClass
from schemas.refusals import Refusal
from schemas.replica import ReplicaWanted
from schemas.rhythm import Keep, Rhythm
from schemas.schedule import CreateSchedule, RemoveSchedule
from schemas.settling import SettleDrift, Verb, mark
from schemas.shrinking import ShrinkPool
from schemas.snapshot import CreateSnapshot, DeleteSnapshot, RollBackSnapshot
from schemas.target import BackUpVolume, SweepTarget, VerifyBackup
from schemas.volume import GrowVolume, Layout, ProvisionVolume
from schemas.volume_group import (
    AddToGroup,
    CreateGroup,
    RemoveGroup,
    SnapshotGroup,
    TakeOutOfGroup,
)
from tests.support.backup_words import ADD, SEAL
from tests.support.given import GIB
from tests.support.limbo import in_limbo
from tests.support.stage import CODEC, ScriptedNode, Stage, taken_bytes
from tests.support.virtual_time import VirtualClock, run_virtually

SEEDS = (
    [int(os.environ["HWBUS_SEED"])]
    if "HWBUS_SEED" in os.environ
    else range(int(os.environ.get("HWBUS_SEEDS", "60")))
)
DEADLINE_S = 40
MARGIN_S = 3.0
HOLDS_END_WITHIN_S = 3 * DEADLINE_S + 3 * AGAIN_AFTER_S
FOLLOWED_WITHIN_S = 1200
NODES = ("n1", "n2", "n3")
STRANGERS = ("f0", "f1")


class Day:
    """One seeded run."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.stage = Stage(VirtualClock(), Random(f"log{seed}"))
        self.nodes = [
            ScriptedNode(self.stage, name, Random(f"{seed}{name}"), self._troubles)
            for name in NODES
        ]
        self.operations: list[str] = []
        self.looks = {name: asyncio.Lock() for name in NODES}
        self.over = asyncio.Event()
        self.calm = False

    def _troubles(self, _: Event) -> Refusal | None:
        return Refusal.TOOL_FAILED if not self.calm and self.chance.random() < 0.05 else None

    async def play(self) -> None:
        """Live through the day, then let everybody recover."""
        plane = asyncio.create_task(self._mortal_control_plane())
        for node in self.nodes:
            await node.join(3)
        await self.stage.accepted(ADD)
        workers = [asyncio.create_task(self._mortal_worker(node)) for node in self.nodes]
        await asyncio.gather(*(self._user(number) for number in range(4)))
        self.calm = True
        await self.stage.say(RemoveSchedule(schedule="often"))
        await self.stage.until(_nothing_is_held, within_s=HOLDS_END_WITHIN_S)
        await self.stage.settled(within_s=20 * DEADLINE_S)
        for node in self.nodes:
            await self.stage.say(ReportDrift(node=node.name, findings=_strangers(node)))
        await self.stage.until(self._books_are_right, within_s=FOLLOWED_WITHIN_S)
        await self.stage.settled(within_s=20 * DEADLINE_S)
        self.over.set()
        for task in (*workers, plane):
            task.cancel()
        await asyncio.gather(*workers, plane, return_exceptions=True)

    async def _mortal_control_plane(self) -> None:
        while True:
            async with self.stage.control_plane():
                life_s = 3600.0 if self.calm else self.chance.expovariate(1 / 8)
                await asyncio.sleep(life_s)
            await asyncio.sleep(self.chance.random() * 0.5)

    async def _mortal_worker(self, node: ScriptedNode) -> None:
        while True:
            work = asyncio.create_task(node.work())
            await asyncio.wait({work}, timeout=self.chance.expovariate(1 / 20))
            if work.done():
                work.result()
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            away_s = 5 * DEADLINE_S if self.chance.random() < 0.1 else self.chance.random() * 5
            await asyncio.sleep(0.1 if self.calm else away_s)

    async def _user(self, number: int) -> None:
        for step in range(12):
            by_hand = step > 2 and self.chance.random() < 0.12
            wish = await self._look_and_settle() if by_hand else self._wish(step)
            id_ = f"user{number}.{step}"
            answers = [await self.stage.say(wish, id_=id_)]
            if self.chance.random() < 0.2:
                answers.append(await self.stage.say(wish, id_=id_))
                assert self._same(answers)
            self.operations += [getattr(a, "operation", "") for a in answers[:1]]
            await asyncio.sleep(self.chance.random() * 6)

    def _same(self, answers: Sequence[object]) -> bool:
        first, second = answers
        if isinstance(first, Refused) or isinstance(second, Refused):
            return True  # a refusal is no decision: asked again, the answer may be another one
        return getattr(first, "operation", 1) == getattr(second, "operation", 2)

    def _wish(self, step: int) -> Request:
        if step < 2:
            disks = self.chance.choice((1, 2))
            return self.chance.choice(self.nodes).form(disks, deadline_s=DEADLINE_S)
        if self.operations and self.operations[-1] and self.chance.random() < 0.06:
            return CancelOperation(operation=self.operations[-1])
        often = (self._volume_wish, self._volume_wish)
        others = (self._pool_wish, self._use_wish, self._snapshot_wish, self._backup_wish)
        wishes = (*often, *others, self._group_wish, self._qos_wish)
        return self.chance.choice(wishes)()

    def _pool_wish(self) -> Request:
        node = self.chance.choice(self.nodes).name
        match self.chance.randrange(3):
            case 0:
                disk = f"{node}-d2"
                return GrowPool(pool="fast", node=node, disks=(disk,), deadline_s=DEADLINE_S)
            case 1:
                return RemovePool(pool="fast", node=node, deadline_s=DEADLINE_S)
            case _:
                disk = f"{node}-d{self.chance.randrange(3)}"
                return ShrinkPool(pool="fast", node=node, disks=(disk,), deadline_s=DEADLINE_S)

    def _volume_wish(self) -> Request:
        volume = f"v{self.chance.randrange(8)}"
        size_bytes = self.chance.randrange(1, 9) * GIB
        key_ref = f"file:k{self.chance.randrange(3)}"
        match self.chance.randrange(12):
            case 10 | 11:
                return ProvisionVolume(
                    volume=volume,
                    size_bytes=size_bytes,
                    layout=Layout.DISK,
                    deadline_s=DEADLINE_S,
                )
            case 8:
                return RekeyVolume(volume=volume, key_ref=key_ref, deadline_s=DEADLINE_S)
            case 9:
                return ProvisionVolume(
                    volume=volume, size_bytes=size_bytes, key_ref=key_ref, deadline_s=DEADLINE_S
                )
            case 0:
                return GrowVolume(volume=volume, size_bytes=size_bytes, deadline_s=DEADLINE_S)
            case 1 | 2:
                return DeleteVolume(volume=volume, deadline_s=DEADLINE_S)
            case 3:
                hold_s = self.chance.randrange(1, 3 * DEADLINE_S)
                wiping = self.chance.choice((Wiping.DISCARD, *Wiping))
                return DeleteVolume(
                    volume=volume, deadline_s=DEADLINE_S, hold_s=hold_s, wiping=wiping
                )
            case 4:
                word = self.chance.choice((UndeleteVolume, UndeleteVolume, PurgeVolume))
                return word(volume=volume, deadline_s=DEADLINE_S)
            case _:
                return ProvisionVolume(
                    volume=volume,
                    size_bytes=size_bytes,
                    layout=Layout.LINEAR,
                    deadline_s=DEADLINE_S,
                )

    def _snapshot_wish(self) -> Request:
        snapshot = f"s{self.chance.randrange(4)}"
        volume, other = (f"v{self.chance.randrange(8)}" for _ in range(2))
        match self.chance.randrange(6):
            case 0 | 1:
                return CreateSnapshot(snapshot=snapshot, volume=volume, deadline_s=DEADLINE_S)
            case 2:
                return RestoreVolume(
                    volume=volume, snapshot=snapshot, node=self._node(), deadline_s=DEADLINE_S
                )
            case 3:
                return CloneVolume(
                    volume=volume, source=other, node=self._node(), deadline_s=DEADLINE_S
                )
            case 4:
                return DeleteSnapshot(snapshot=snapshot, deadline_s=DEADLINE_S)
            case _:
                return RollBackSnapshot(snapshot=snapshot, deadline_s=DEADLINE_S)

    def _node(self) -> str | None:
        """Return where a copy shall be: near its source, or on a node, which may be another one."""
        return self.chance.choice((None, *NODES))

    def _group_wish(self) -> Request:
        group, volumes = f"g{self.chance.randrange(2)}", (f"v{self.chance.randrange(8)}",)
        match self.chance.randrange(9):
            case 0 | 1:
                return CreateGroup(group=group, volumes=volumes)
            case 2 | 3:
                return AddToGroup(group=group, volumes=volumes)
            case 4:
                word = self.chance.choice((RemoveGroup, TakeOutOfGroup))
                return word(group=group, **({} if word is RemoveGroup else {"volumes": volumes}))
            case 5:
                rhythm, keep = Rhythm(every_s=15), Keep(hourly=1)
                of = self.chance.choice(((group, None), (None, volumes[0])))
                return CreateSchedule(
                    schedule="often", rhythm=rhythm, keep=keep, group=of[0], volume=of[1]
                )
            case _:
                snapshot = f"t{self.chance.randrange(4)}"
                return SnapshotGroup(group=group, snapshot=snapshot, deadline_s=DEADLINE_S)

    async def _look_and_settle(self) -> Request:
        """Have a node say what was changed by hand there, and decide about one of it."""
        node = self.chance.choice(self.nodes)
        mine, verb = self._finding(node)
        # What a node says comes in order: one look is told before the next one is.
        async with self.looks[node.name]:
            strange = _strangers(node)
            found = (mine, *strange)
            if verb in {Verb.ADOPT, Verb.QUARANTINE, Verb.RELEASE}:
                mine = self.chance.choice(strange)
                verb = Verb.RELEASE if mine.drift is Drift.VOLUME_QUARANTINED else verb
            await self.stage.say(ReportDrift(node=node.name, findings=found))
        return SettleDrift(
            node=node.name,
            drift=mine.drift,
            object=mine.object,
            verb=verb,
            seen=mark(mine),
            volume=f"v{self.chance.randrange(8)}",
            deadline_s=DEADLINE_S,
        )

    def _finding(self, node: ScriptedNode) -> tuple[Finding, Verb]:
        """Return something that may be wrong with a volume; what is missing is there after all."""
        name = self.chance.choice(sorted(node.volumes) or ["v0"])
        spec = node.volumes.get(name)
        size_bytes = GIB if spec is None else taken_bytes(spec)
        lv = SeenVolume(pool="fast", name=name, lv=name, size_bytes=size_bytes)
        larger = replace(lv, size_bytes=size_bytes + self.chance.randrange(1, 4) * GIB)
        leg = f"replica/{node.name}/{name}"
        return self.chance.choice(
            (
                (Finding(drift=Drift.VOLUME_RESIZED, object=leg, lv=larger), Verb.ACCEPT),
                (Finding(drift=Drift.VOLUME_RENAMED, object=leg, lv=lv), Verb.UNDO),
                (Finding(drift=Drift.VOLUME_MISSING, object=leg), Verb.ACCEPT),
                (Finding(drift=Drift.VOLUME_MISSING, object=leg), Verb.ADOPT),
                (Finding(drift=Drift.VOLUME_MISSING, object=leg), Verb.QUARANTINE),
            )
        )

    def _backup_wish(self) -> Request:
        volume, backup = f"v{self.chance.randrange(8)}", f"b{self.chance.randrange(3)}"
        match self.chance.randrange(8):
            case 0 | 1 | 2 | 3:
                return BackUpVolume(target="s3", volume=volume, deadline_s=DEADLINE_S)
            case 4:
                return BackUpVolume(
                    target="s3", volume=volume, backup=backup, deadline_s=DEADLINE_S
                )
            case 5:
                return SweepTarget(target="s3", backup=backup, deadline_s=DEADLINE_S)
            case 6:
                return VerifyBackup(target="s3", backup=backup, deadline_s=DEADLINE_S)
            case _:
                return RestoreBackup(
                    volume=volume,
                    target="s3",
                    backup=backup,
                    manifest=SEAL,
                    backup_bytes=GIB,
                    deadline_s=DEADLINE_S,
                )

    def _qos_wish(self) -> Request:
        qos, limits = f"c{self.chance.randrange(2)}", Limits(write_iops=self.chance.randrange(2, 6))
        match self.chance.randrange(5):
            case 0:
                return CreateQosClass(qos=qos, limits=limits)
            case 1:
                return DeleteQosClass(qos=qos)
            case 2:
                return ChangeQosClass(qos=qos, limits=limits)
            case _:
                volume = f"v{self.chance.randrange(8)}"
                return LimitVolume(volume=volume, qos=qos, deadline_s=DEADLINE_S)

    def _use_wish(self) -> Request:
        volume = f"v{self.chance.randrange(8)}"
        match self.chance.randrange(4):
            case 0 | 1:
                consumer = self.chance.choice(("host/a", "host/b"))
                return AttachVolume(
                    volume=volume, consumer=consumer, cgroup="c", deadline_s=DEADLINE_S
                )
            case 2:
                return DetachVolume(volume=volume, deadline_s=DEADLINE_S)
            case _:
                limits = Limits(read_iops=self.chance.randrange(2, 6))
                return LimitVolume(volume=volume, limits=limits, deadline_s=DEADLINE_S)

    def _books_are_right(self, world: World) -> bool:
        """Whether the ledgers, and the volumes, say what the nodes have."""
        for node in self.nodes:
            pools = {name: pool for (at, name), pool in world.pools.items() if at == node.name}
            booked = {
                claim: posting.size_bytes
                for pool in pools.values()
                for claim, posting in (pool.ledger.settled | pool.ledger.reserved).items()
            }
            in_pools = (spec for spec in node.volumes.values() if spec.disk is None)
            there = {spec.uid: taken_bytes(spec) for spec in in_pools}
            there |= {one.claim: one.seen.size_bytes for one in node.aside.values()}
            if booked != there or set(pools) != set(node.pools):
                return False
            attached = {
                name: volume.use.attachment
                for name, volume in world.volumes.items()
                if volume.node == node.name and volume.use.attachment is not None
            }
            late = any(behind(volume, world) for volume in world.volumes.values())
            if late or attached != node.attachments.made or not self._can_be_opened(world, node):
                return False
        kept = {(s.volume, name) for name, s in world.snapshots.items()}
        known = {(name, one) for name, v in world.volumes.items() for one in v.snapshots}
        joined = [(n, one.uid) for g in world.groups.values() for n, one in g.members.items()]
        volumes = {(name, volume.uid) for name, volume in world.volumes.items()}
        if len(joined) != len(set(joined)) or not set(joined) <= volumes:
            return False
        claimed = {(d.owner.node, d.owner.pool) for d in world.disks.values() if d.owner}
        carried = {(name, pool) for name, node in world.nodes.items() for pool in node.pools}
        whole = {
            (node.name, spec.pool): spec.disk
            for node in self.nodes
            for spec in node.volumes.values()
            if spec.disk is not None
        }
        formed = set(world.pools)
        if claimed != carried or claimed != formed | whole.keys():
            return False
        return whole == whole_disks(world) and kept == known

    def _can_be_opened(self, world: World, node: ScriptedNode) -> bool:
        """Whether the log knows every key that opens a leg, and its volume one of them."""
        for name, spec in node.volumes.items():
            leg = world.replicas.get((node.name, name))
            if spec.encryption is None or leg is None or leg.spec is None:
                continue
            now = leg.spec.encryption
            if now is None or not set(spec.encryption.keys) <= set(now.known):
                return False
            volume = world.volumes.get(name)
            if volume is not None and volume.key_ref not in now.known:
                return False
        return True


def whole_disks(world: World) -> dict[tuple[str, str], str]:
    """The disks that are volumes, by the group on each: never two of one volume."""
    owned = [(d.owner, name) for name, d in world.disks.items() if d.owner and d.owner.volume]
    groups = {(owner.node, owner.pool): name for owner, name in owned}
    assert len(groups) == len(owned), "a volume has two disks"
    return groups


def _strangers(node: ScriptedNode) -> tuple[Finding, ...]:
    """Return what a look at the node finds of volumes that somebody else made."""
    aside = {one.seen.name: one for one in node.aside.values()}
    found = []
    for name in STRANGERS:
        lv = SeenVolume(pool="fast", name=name, lv=name, size_bytes=GIB)
        kind = Drift.VOLUME_FOREIGN
        if name in aside:
            lv, kind = replace(lv, claim=aside[name].claim), Drift.VOLUME_QUARANTINED
        found.append(Finding(drift=kind, object=f"lv/{node.name}/fast/{name}", lv=lv))
    return tuple(found)


def _nothing_is_held(world: World) -> bool:
    return all(volume.until is None for volume in world.volumes.values())


async def commits(stage: Stage) -> list[tuple[str, str, str, list[Event]]]:
    found = []
    for seq in range(1, await stage.log.head() + 1):
        stored = await stage.log.get(seq)
        assert stored is not None
        at = parse_event(stored.subject)
        found.append((at.kind, at.place, at.id, list(CODEC.decode(stored.data).events)))
    return found


def never_over_committed(world: World) -> None:
    for pool in world.pools.values():
        if pool.facts is not None:
            taken = pool.ledger.thick_settled_bytes + pool.ledger.thick_reserved_bytes
            taken += pool.facts.thin_bytes + pool.facts.thin_overhead_bytes
            assert taken + room_bytes(pool.ledger, pool.facts) == pool.facts.size_bytes


def nothing_is_in_work_for(world: World, operation: str) -> bool:
    """Whether an operation has let go of all that it held; its time was not up."""
    held = {pool.operation for pool in world.pools.values()}
    held |= {volume.operation for volume in world.volumes.values()}
    for snapshot in world.snapshots.values():
        held |= {snapshot.operation, *snapshot.readers}
    for target in world.targets.values():
        held |= set(target.running)
    for node in world.nodes.values():
        held |= {one.operation for one in node.settling}
    held |= {one.verifying.operation for one in world.volumes.values() if one.verifying}
    return operation not in held


async def the_laws_hold(day: Day) -> None:
    """Everything that must be true of a day that is over."""
    again = World()
    wanted: set[str] = set()
    for kind, place, id_, events in await commits(day.stage):
        again.evolve(kind, place, id_, events)
        never_over_committed(again)
        for event in events:
            if isinstance(event, ReplicaWanted):
                assert event.spec.uid not in wanted, "made twice"
                wanted.add(event.spec.uid)
            if isinstance(event, OperationEnded) and event.code is not Refusal.DEADLINE:
                assert nothing_is_in_work_for(again, event.operation)
                given = {
                    f"errand/{node}/{of}" for node, of in again.errands if of == event.operation
                }
                assert given <= set(event.leftovers), "a node works on what is over"
    live = day.stage.world
    kinds = ("nodes", "disks", "pools", "volumes", "replicas", "attachments", "snapshots")
    for table in (*kinds, "groups", "schedules", "targets", "errands", "qos", "operations"):
        assert getattr(again, table) == getattr(live, table), table
    claimed = [(d.owner.node, d.owner.pool) for d in live.disks.values() if d.owner]
    formed = live.pools.keys() | whole_disks(live).keys()
    assert set(claimed) == formed
    assert {(n, p) for n, node in live.nodes.items() for p in node.pools} == formed
    await every_operation_ended_in_time(day)
    stage = day.stage
    assert await in_limbo(stage.log, stage.outlet, live, stage.clock.now()) == ()


async def every_operation_ended_in_time(day: Day) -> None:
    deadlines: dict[str, object] = {}
    for seq in range(1, await day.stage.log.head() + 1):
        stored = await day.stage.log.get(seq)
        assert stored is not None
        commit = CODEC.decode(stored.data)
        for event in commit.events:
            if isinstance(event, OperationStarted):
                deadlines[event.operation] = event.deadline
            if isinstance(event, OperationEnded):
                late_s = (commit.at - deadlines.pop(event.operation)).total_seconds()  # type: ignore[operator]
                assert late_s <= MARGIN_S, f"{event.kind} was {late_s} s late"
            if isinstance(event, PoolFormingBegan):
                assert event.operation == commit.correlation
    assert deadlines == {}


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_dies_the_laws_hold(seed: int) -> None:
    async def tale() -> None:
        day = Day(seed)
        await day.play()
        await the_laws_hold(day)

    run_virtually(tale)
