"""A scripted node that replicates: its worker does what the log says, its kernel is the fabric."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from msgspec.structs import replace

from schemas.answers import Accepted
from schemas.attachment import (
    AttachmentRemovalWanted,
    AttachmentRemovalWithdrawn,
    AttachmentWanted,
    ReportAttachmentTrouble,
)
from schemas.disk import Content, DiskClass, ReportDiskSeen, Sighting
from schemas.errand import Compared, ErrandStopWanted, ErrandWanted, ReportErrandDone
from schemas.grammar import Event, Message
from schemas.handing import FencePeer
from schemas.instants import InstantSettled
from schemas.mending import ReplicaMendWanted, ReplicaMendWithdrawn
from schemas.node import Capability, ReportNodeJoined
from schemas.place import place_of
from schemas.refusals import Refusal
from schemas.replica import (
    ReplicaMergeWanted,
    ReplicaRekeyWanted,
    ReplicaRemovalWanted,
    ReplicaRemovalWithdrawn,
    ReplicaResizeWanted,
    ReplicaSpec,
    ReplicaWanted,
    ReportReplicaRekeyed,
    SnapshotOf,
)
from schemas.replication import (
    EpochNoted,
    LegSeen,
    ReplicaForgotten,
    ReplicaTieWanted,
    ReportReplication,
)
from tests.support.fabric import Fabric, Leg
from tests.support.given import GIB
from tests.support.stage import ScriptedNode, Stage

TRIES = 20
"""How often a node looks whether a leg can be primary, or no more, before it says it cannot."""

LOOKS_EVERY_S = 0.3


class ReplicatingNode(ScriptedNode):
    """``cut``: it does not reach the log. ``many``: its DRBD takes several peers.

    ``differing_bytes`` is what it finds when it compares; None: something now and then.
    """

    def __init__(
        self,
        stage: Stage,
        fabric: Fabric,
        name: str,
        chance: Random,
        troubles: Callable[[Event], Refusal | None] = lambda _: None,
        *,
        many: bool = False,
    ) -> None:
        super().__init__(stage, name, chance, troubles)
        self.fabric = fabric
        self.cut = False
        self.many = many
        self.late_s = 0.3
        self.differing_bytes: int | None = None
        self._told: dict[str, tuple[LegSeen, int]] = {}
        self._number = 0

    async def join(self, disks: int = 2, size_bytes: int = 20 * GIB) -> None:
        """Join with blank disks, DRBD, and an address."""
        await self._stage.accepted(self.joined())
        seen = Sighting(
            path="/dev/sdb", size_bytes=size_bytes, media=DiskClass.SSD, content=Content.BLANK
        )
        for number in range(disks):
            disk = f"{self.name}-d{number}"
            await self._stage.accepted(ReportDiskSeen(disk=disk, node=self.name, sighting=seen))

    def joined(self) -> ReportNodeJoined:
        """Return what its worker says when it starts."""
        can: tuple[Capability, ...] = (
            Capability.LVM,
            Capability.ENCRYPTION,
            Capability.REPLICATION,
        )
        can += (Capability.REPLICATION_MANY,) if self.many else ()
        return ReportNodeJoined(
            node=self.name,
            address=f"{self.name}.storage",
            zone="z" + self.name[-1],
            capabilities=can,
            public_key=f"key of {self.name}",
        )

    async def work(self) -> None:
        """Work until cancelled: what is wanted, what is seen, what is to be asked."""
        await self._boot()
        tasks = [asyncio.create_task(one) for one in (super().work(), self._watch(), self._guard())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _boot(self) -> None:
        """Have what is attached be in use again, as after a crash."""
        for volume, spec in self.attachments.made.items():
            self._promote(volume, spec.volume_uid)

    async def _watch(self) -> None:
        """Say what is seen of the legs, each time in the epoch that was known at that moment."""
        while True:
            for volume, spec in list(self.volumes.items()):
                leg = self.fabric.leg(spec.uid, self.name)
                if leg is None or leg.tied is None:
                    continue
                now = (self.fabric.seen(spec.uid, self.name), leg.epoch)
                if self._told.get(spec.uid) == now:
                    continue
                await asyncio.sleep(self._chance.random() * self.late_s)
                seen, epoch = now
                await self._say(
                    ReportReplication(
                        volume=volume, node=self.name, uid=spec.uid, epoch=epoch, seen=seen
                    )
                )
                self._told[spec.uid] = now
            await asyncio.sleep(LOOKS_EVERY_S)

    async def _guard(self) -> None:
        """Ask the log, for each peer that is lost, whether the node may go on without."""
        while True:
            names = {spec.uid: volume for volume, spec in self.volumes.items()}
            for uid, peer, connects in self.fabric.asks(self.name):
                self._number += 1
                ask = FencePeer(volume=names[uid], uid=uid, node=self.name, peer=peer)
                answer = await self._say(ask)
                await asyncio.sleep(self._chance.random() * self.late_s)
                if isinstance(answer, Accepted):
                    self.fabric.granted(uid, self.name, peer, connects)
                else:
                    self.fabric.denied(uid, self.name)
            await asyncio.sleep(LOOKS_EVERY_S)

    async def _say(self, message: Message) -> object:
        await self._reach()
        return await self._stage.say(message)

    async def _reach(self) -> None:
        while self.cut:  # noqa: ASYNC110
            await asyncio.sleep(0.2)

    async def _take(self, event: Event, correlation: str) -> None:
        await self._reach()
        trouble = await self._in_use(event)
        if trouble is None:
            await super()._take(event, correlation)
            return
        self._undone[str(place_of(event))] = (event, correlation)
        await self._stage.say(trouble, correlation=correlation)

    async def _in_use(self, event: Event) -> ReportAttachmentTrouble | None:
        """Have the leg be primary, or no more; return why it cannot."""
        if isinstance(event, AttachmentWanted):
            uid, word = event.spec.uid, Refusal.PEER_UNREACHABLE
            volume_uid = event.spec.volume_uid
        elif isinstance(event, AttachmentRemovalWanted | AttachmentRemovalWithdrawn):
            known = self.attachments._known[event.volume]
            uid, volume_uid, word = known.uid, known.volume_uid, Refusal.IN_USE
        else:
            return None
        gone = isinstance(event, AttachmentRemovalWanted)
        forced = isinstance(event, AttachmentRemovalWanted) and event.forced
        for _ in range(TRIES):
            if gone and self.fabric.demote(volume_uid, self.name, forced=forced):
                return None
            if not gone and self._promote(event.volume, volume_uid):
                return None
            await asyncio.sleep(0.2)
        if not gone:
            self.fabric.demote(volume_uid, self.name, forced=True)
        if isinstance(event, AttachmentWanted):
            self.attachments._known[event.volume] = event.spec
        return ReportAttachmentTrouble(
            volume=event.volume,
            node=self.name,
            uid=uid,
            code=word,
            because="as the fabric has it",
            permanent=True,
        )

    def _promote(self, volume: str, uid: str) -> bool:
        leg = self.fabric.leg(uid, self.name)
        if leg is not None:
            return self.fabric.promote(uid, self.name)
        return volume in self.volumes

    def _do(self, event: Event) -> Message | None:
        if isinstance(event, ReplicaTieWanted):
            return self._tie(event)
        name = getattr(event, "volume", "")
        known = self.volumes.get(name, self.following.get(name))
        known = event.spec if isinstance(event, ReplicaWanted) else known
        if known is not None and known.snapshot_of is not None:
            return self._of_snapshot(event, known, known.snapshot_of)
        report = super()._do(event)
        self._lock(event, report)
        match event:
            case ReplicaWanted() if event.volume in self.volumes:
                uid = event.spec.uid
                self.fabric.names[uid] = event.volume
                if self.fabric.leg(uid, self.name) is None:
                    self.fabric.legs[uid, self.name] = Leg(event.spec.replication)
            case ReplicaResizeWanted() | ReplicaRemovalWanted():
                if event.volume not in self.volumes:
                    self.fabric.legs.pop((event.uid, self.name), None)
            case ReplicaForgotten():
                self.volumes.pop(event.volume, None)
                self.fabric.legs.pop((event.uid, self.name), None)
            case EpochNoted():
                leg = self.fabric.leg(event.uid, self.name)
                if leg is not None:
                    leg.epoch = event.epoch
            case _:
                pass
        return report

    def _of_snapshot(self, event: Event, spec: ReplicaSpec, of: SnapshotOf) -> Message | None:
        """Have a snapshot, or the leg that it is of be what it was, or count again."""
        name, leg = getattr(event, "volume", ""), self.fabric.leg(of.uid, self.name)
        if isinstance(event, ReplicaMergeWanted) and leg is not None:
            self.fabric.spend(of.uid, self.name)
        report = super()._do(event)
        if leg is None:
            return report
        if isinstance(event, ReplicaWanted) and name in self.volumes:
            self.fabric.keep(of.uid, self.name, spec.uid)
            if spec.together is not None:
                self.fabric.keep_twins(of.uid, spec.together)
        elif isinstance(event, InstantSettled) and name in self.volumes:
            self.fabric.settle(self.name, event.turn, spec.uid)
        elif isinstance(event, ReplicaMergeWanted) and name not in self.volumes:
            self.fabric.roll_back(of.uid, self.name, spec.uid)
        elif isinstance(event, ReplicaRemovalWithdrawn):
            leg.spent = False
        return report

    def _turn(self, spec: ReplicaSpec) -> dict[str, Any]:
        """Return who has followed, but for those that have not all that was written."""
        told, of = super()._turn(spec), spec.snapshot_of
        mine = None if of is None else self.fabric.leg(of.uid, self.name)
        if not told or of is None or mine is None:
            return told
        legs = {node: self.fabric.leg(of.uid, node) for node in told["followed"]}
        whole = (n for n, leg in legs.items() if leg is not None and leg.have == mine.have)
        return {**told, "followed": tuple(whole)}

    def _errand(
        self,
        event: ErrandWanted | ErrandStopWanted | ReplicaMendWanted | ReplicaMendWithdrawn,
        trouble: Refusal | None,
    ) -> Message:
        report = super()._errand(event, trouble)
        compared = isinstance(report, ReportErrandDone) and isinstance(report.found, Compared)
        if compared:
            differs = self._chance.random() < 0.5
            found = 4096 * differs if self.differing_bytes is None else self.differing_bytes
            return replace(report, found=Compared(differing_bytes=found))
        return report

    def _lock(self, event: Event, report: Message | None) -> None:
        """Have the header of an encrypted volume, there is one for all legs, open as wanted."""
        headers = self.fabric.headers
        match event:
            case ReplicaWanted() if event.spec.encryption is not None:
                headers.setdefault(event.spec.uid, frozenset(event.spec.encryption.keys[:1]))
            case ReplicaRekeyWanted(elsewhere=False) if isinstance(report, ReportReplicaRekeyed):
                headers[event.uid] = frozenset(event.encryption.keys)
            case _:
                pass

    def _tie(self, event: ReplicaTieWanted) -> Message | None:
        if event.volume not in self.volumes:
            return None
        trouble = self._troubles(event)
        if trouble is None:
            spec = self.volumes[event.volume]
            size_bytes = max(spec.size_bytes, event.size_bytes)
            tied = event.replication
            self.volumes[event.volume] = replace(spec, size_bytes=size_bytes, replication=tied)
            self.fabric.tie(event.uid, self.name, event.replication)
        return self._said(event.volume, event.uid, trouble)
