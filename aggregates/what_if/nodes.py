"""Nodes on which all goes well, or goes wrong where that is asked for: what they would report.

They have no memory of their own: what is on them is what the world says they were asked for.
"""

from collections.abc import Iterator
from typing import Any, get_args

import msgspec

from aggregates.ledger import rounded_bytes
from aggregates.raw_disks import given_bytes
from aggregates.what_if.errands import done
from aggregates.world import World
from schemas.attachment import (
    AttachmentLimitsWanted,
    AttachmentRemovalWanted,
    AttachmentRemovalWithdrawn,
    AttachmentWanted,
    ReportAttachmentAbsent,
    ReportAttachmentPresent,
    ReportAttachmentTrouble,
    stable_device,
)
from schemas.errand import ErrandStopWanted, ErrandWanted, ReportErrandStopped, ReportErrandTrouble
from schemas.grammar import Event, Message, type_name
from schemas.growing import ThinPoolGrowthAbandoned, ThinPoolGrowthWanted
from schemas.instants import InstantSettled
from schemas.mending import Mend, ReplicaMendWanted, ReplicaMendWithdrawn, ReportReplicaLeft
from schemas.pool import (
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
from schemas.replication import ReplicaTieWanted, SplitSettlingWanted, tie_of
from schemas.shrinking import PoolShrinkAbandoned, PoolShrinkWanted

EXTENT_BYTES = 4 << 20
AREA_BYTES = 17 << 20
"""What lies before the first extent of a disk in a pool: 16 MiB for LVM's text, and alignment."""

_TEXT_BYTES = 8 << 20
_THIN_METADATA_SHARE = 512

_PoolWanted = (
    PoolBuildWanted
    | PoolExtensionWanted
    | PoolGrowthAbandoned
    | PoolShrinkWanted
    | PoolShrinkAbandoned
    | ThinPoolGrowthWanted
    | ThinPoolGrowthAbandoned
)
POOL_WISHES: tuple[type[Event], ...] = (*get_args(_PoolWanted), PoolRemovalWanted)
"""What a node is asked to do with a pool."""

_LegGone = ReplicaRemovalWanted | ReplicaMergeWanted
_LegWanted = (
    ReplicaWanted
    | InstantSettled
    | ReplicaResizeWanted
    | ReplicaRekeyWanted
    | ReplicaHoldWanted
    | ReplicaRemovalWithdrawn
    | ReplicaTieWanted
    | ReplicaMendWanted
    | ReplicaMendWithdrawn
    | _LegGone
)
_InUseWanted = (
    AttachmentWanted | AttachmentLimitsWanted | AttachmentRemovalWanted | AttachmentRemovalWithdrawn
)


WISHES: frozenset[type[Event]] = frozenset(
    {
        *POOL_WISHES,
        *get_args(_LegWanted),
        *get_args(_InUseWanted),
        *(ErrandWanted, ErrandStopWanted, SplitSettlingWanted),
    }
)
"""All that a node is asked to do. How a split ends is told by what it sees of its peers then."""


class Fault(msgspec.Struct, frozen=True):
    """A node at which what an event of that name wants fails."""

    node: str
    event: str


Faults = dict[Fault, Refusal]


def reported(event: Event, world: World, faults: Faults) -> Iterator[Message]:
    """Return what the node says that *event* wants something of; *world* is that after it."""
    node = getattr(event, "node", "")
    code = faults.get(Fault(node, type_name(event))) if faults else None
    if code is not None:
        yield from _trouble(event, code, world)
        return
    if isinstance(event, _LegWanted):
        yield from _leg(event, world)
    elif isinstance(event, _InUseWanted):
        yield from _in_use(event, world)
    elif isinstance(event, ErrandWanted):
        yield done(event)
    elif isinstance(event, ErrandStopWanted):
        yield ReportErrandStopped(operation=event.operation, node=event.node)
    elif isinstance(event, PoolRemovalWanted):
        yield ReportPoolAbsent(pool=event.pool, node=event.node, uid=event.uid)
    elif isinstance(event, _PoolWanted):
        facts = _facts(event, world)
        yield ReportPoolBuilt(pool=event.pool, node=event.node, uid=event.uid, facts=facts)


def _trouble(event: Event, code: Refusal, world: World) -> Iterator[Message]:
    told: dict[str, Any] = {"code": code, "because": "as the scenario has it", "permanent": True}
    if isinstance(event, _LegWanted | SplitSettlingWanted):
        uid = event.spec.uid if isinstance(event, ReplicaWanted) else event.uid
        yield ReportReplicaTrouble(volume=event.volume, node=event.node, uid=uid, **told)
    elif isinstance(event, _InUseWanted):
        spec = world.attachments[event.node, event.volume].spec
        uid = "" if spec is None else spec.uid
        yield ReportAttachmentTrouble(volume=event.volume, node=event.node, uid=uid, **told)
    elif isinstance(event, _PoolWanted | PoolRemovalWanted):
        yield ReportPoolTrouble(pool=event.pool, node=event.node, uid=event.uid, **told)
    elif isinstance(event, ErrandWanted | ErrandStopWanted):
        yield ReportErrandTrouble(operation=event.operation, node=event.node, **told)


def _leg(event: _LegWanted, world: World) -> Iterator[Message]:
    leg = world.replicas.get((event.node, event.volume))
    spec = None if leg is None else leg.spec
    where: dict[str, Any] = {"volume": event.volume, "node": event.node}
    match event:
        case ReplicaWanted() if event.spec.together is not None and event.spec.together.follows:
            return  # it has nothing before it is known in what turn that was
        case ReplicaRemovalWanted():
            yield ReportReplicaAbsent(**where, uid=event.uid)
        case ReplicaMergeWanted():
            yield ReportReplicaAbsent(**where, uid=event.uid, merged=True)
        case ReplicaMendWanted(mend=Mend.FORGET):
            yield ReportReplicaAbsent(**where, uid=event.uid)
        case ReplicaMendWithdrawn():
            yield ReportReplicaLeft(**where, uid=event.uid)
        case ReplicaHoldWanted():
            yield ReportReplicaHeld(**where, uid=event.uid)
        case ReplicaRekeyWanted():
            generation = event.encryption.generation
            yield ReportReplicaRekeyed(**where, uid=event.uid, generation=generation)
        case ReplicaMendWanted(mend=Mend.SIZE, seen=seen) if spec is not None and seen is not None:
            yield _present(where, spec, world, seen.size_bytes)
        case ReplicaResizeWanted() | ReplicaTieWanted() if spec is not None:
            yield _present(where, spec, world, event.size_bytes)
        case _ if spec is not None:
            withdrawn = isinstance(event, ReplicaRemovalWithdrawn)
            yield _present(where, spec, world, spec.size_bytes, withdrawn=withdrawn)
        case _:
            return


def _present(
    where: dict[str, Any],
    spec: ReplicaSpec,
    world: World,
    size_bytes: int,
    *,
    withdrawn: bool = False,
) -> Message:
    whole = None if spec.disk is None else world.disks.get(spec.disk)
    pool = world.pools.get((where["node"], spec.pool))
    facts = None if pool is None else pool.facts
    extent_bytes = EXTENT_BYTES if facts is None else facts.extent_bytes
    taken_bytes = rounded_bytes(size_bytes, extent_bytes, spec.stripes)
    if whole is not None and where["node"] in whole.sightings:
        taken_bytes = given_bytes(whole.sightings[where["node"]].size_bytes) or taken_bytes
    return ReportReplicaPresent(
        **where,
        uid=spec.uid,
        size_bytes=taken_bytes,
        device=f"/dev/{spec.pool}/{where['volume']}",
        consistency=None if spec.snapshot_of is None else Consistency.FILESYSTEM,
        withdrawn=withdrawn,
        tie=tie_of(spec.replication, where["node"]),
        **_turn(spec),
    )


def _turn(spec: ReplicaSpec) -> dict[str, Any]:
    """Return in what turn a snapshot was taken, and who has followed: all that were to."""
    together = spec.together
    if together is None or together.leader is None:
        return {}
    return {"turn": together.turn or together.instant, "followed": together.followers}


def _in_use(event: _InUseWanted, world: World) -> Iterator[Message]:
    attachment = world.attachments.get((event.node, event.volume))
    spec = None if attachment is None else attachment.spec
    if spec is None:
        return
    where = {"volume": event.volume, "node": event.node, "uid": spec.uid}
    if isinstance(event, AttachmentRemovalWanted):
        yield ReportAttachmentAbsent(**where)
    else:
        device = stable_device(event.volume)
        yield ReportAttachmentPresent(**where, device=device, limits=spec.limits)


def _facts(event: _PoolWanted, world: World) -> PoolFacts:
    """Return the pool as LVM would have it after that, as closely as it can be told."""
    pool = world.pools[event.node, event.pool]
    known = pool.facts
    disks = getattr(event, "disks", pool.disks)
    had = () if known is None else known.disks
    size_bytes = 0 if known is None else known.size_bytes
    size_bytes += sum(_disk_bytes(one, event.node, world) for one in disks if one not in had)
    size_bytes -= sum(_disk_bytes(one, event.node, world) for one in had if one not in disks)
    thin_bytes = 0 if known is None else known.thin_bytes
    if not isinstance(event, ThinPoolGrowthAbandoned):
        thin_bytes = max(thin_bytes, getattr(event, "thin_bytes", 0))
    overhead_bytes = 0 if known is None else known.thin_overhead_bytes
    more = thin_bytes - (0 if known is None else known.thin_bytes)
    if more:
        overhead_bytes += 2 * rounded_bytes(more // _THIN_METADATA_SHARE, EXTENT_BYTES, 1)
    # LVM keeps a spare of the metadata, of the same size.
    overhead_bytes = max(overhead_bytes, 2 * getattr(event, "metadata_bytes", 0))
    return PoolFacts(
        size_bytes=max(EXTENT_BYTES, size_bytes),
        extent_bytes=EXTENT_BYTES if known is None else known.extent_bytes,
        metadata_bytes=_TEXT_BYTES if known is None else known.metadata_bytes,
        disks=tuple(disks),
        thin_bytes=thin_bytes,
        thin_overhead_bytes=overhead_bytes,
    )


def _disk_bytes(name: str, node: str, world: World) -> int:
    disk = world.disks.get(name)
    seen = None if disk is None else disk.sightings.get(node)
    whole = 0 if seen is None else seen.size_bytes
    return max(0, whole - AREA_BYTES) // EXTENT_BYTES * EXTENT_BYTES
