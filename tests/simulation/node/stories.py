"""What is wished of a node, in the words of the log, and how one knows that it was done."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import msgspec
from msgspec.structs import replace

from aggregates.raw_disks import given_bytes, group_of
from node_workers import backup_format
from node_workers.observation import as_seen
from node_workers.simulated.runner import SimulatedRunner
from schemas.attachment import (
    AttachmentLimitsWanted,
    AttachmentRemovalWanted,
    AttachmentRemovalWithdrawn,
    AttachmentSpec,
    AttachmentWanted,
    Limits,
)
from schemas.backups import FromBackup
from schemas.disk import Wiping
from schemas.errand import ErrandWanted
from schemas.grammar import type_name
from schemas.growing import ThinPoolGrowthAbandoned, ThinPoolGrowthBegan, ThinPoolGrowthWanted
from schemas.instants import Together
from schemas.keys import Encryption
from schemas.mending import Mend, ReplicaMendWanted, ReplicaMendWithdrawn, SeenVolume
from schemas.node import NodeJoined
from schemas.pool import (
    PoolBuildWanted,
    PoolExtensionWanted,
    PoolFormingBegan,
    PoolGrowthAbandoned,
    PoolGrowthBegan,
    PoolOperationEnded,
    PoolRemovalAbandoned,
    PoolRemovalBegan,
    PoolRemovalWanted,
)
from schemas.refusals import Refusal
from schemas.replica import (
    ReplicaHoldWanted,
    ReplicaMergeWanted,
    ReplicaRekeyWanted,
    ReplicaRemovalWanted,
    ReplicaRemovalWithdrawn,
    ReplicaResizeWanted,
    ReplicaSpec,
    ReplicaWanted,
    SnapshotOf,
)
from schemas.shrinking import PoolShrinkAbandoned, PoolShrinkBegan, PoolShrinkWanted
from schemas.volume import CopyOf, Filesystem, Layout
from tests.simulation.node.lives import NODE, Node
from tests.support.backup_words import PLACE
from tests.support.clock import NOON
from tests.support.errands import upload

MIB, GIB = 1 << 20, 1 << 30
POOL = "fast"
OP = "0" * 26
CGROUP = "web"
Wish = Callable[[Node], Awaitable[None]]


def uid(name: str) -> str:
    return (name.replace("-", "") + "0" * 26)[:26]


async def disks_of(node: Node, *indices: int) -> tuple[str, ...]:
    """Identities of the blank disks, by their place on the machine: 0 is sdb."""
    by_path = {disk.path: disk.identity for disk in (await node.look()).disks}
    return tuple(by_path[f"/dev/sd{'bcdefgh'[index]}"] for index in indices)


def form(*indices: int, thin_bytes: int = 0, name: str = POOL) -> Wish:
    async def wish(node: Node) -> None:
        disks = await disks_of(node, *indices)
        about: dict[str, Any] = {"pool": name, "node": node.name, "uid": uid(name)}
        await node.desk.happen(
            PoolFormingBegan(
                **about,
                operation=OP,
                deadline=NOON + timedelta(minutes=10),
                disks=disks,
                thin_bytes=thin_bytes,
            )
        )
        await node.desk.happen(
            PoolBuildWanted(**about, disks=disks, thin_bytes=thin_bytes), operation=OP
        )

    return wish


async def conclude(node: Node) -> None:
    await node.desk.happen(PoolOperationEnded(pool=POOL, node=node.name, operation=OP))


def extend(*indices: int) -> Wish:
    async def wish(node: Node) -> None:
        await conclude(node)
        before = node.desk.world.pools[node.name, POOL].disks
        more = await disks_of(node, *indices)
        await node.desk.happen(
            PoolGrowthBegan(pool=POOL, node=node.name, operation=OP, deadline=NOON, disks=more)
        )
        await node.desk.happen(
            PoolExtensionWanted(pool=POOL, node=node.name, uid=uid(POOL), disks=(*before, *more)),
            operation=OP,
        )

    return wish


def abandon_growth(*indices: int) -> Wish:
    async def wish(node: Node) -> None:
        pool = node.desk.world.pools[node.name, POOL]
        dropped = await disks_of(node, *indices)
        await node.desk.happen(
            PoolGrowthAbandoned(
                pool=POOL,
                node=node.name,
                uid=uid(POOL),
                operation=OP,
                code=Refusal.CANCELLED,
                because="the test says so",
                disks=tuple(disk for disk in pool.disks if disk not in dropped),
                dropped=dropped,
            ),
            operation=OP,
        )

    return wish


def shrink(index: int) -> Wish:
    """Wish that one disk leaves the pool, with all the others staying."""

    async def wish(node: Node) -> None:
        await conclude(node)
        before = node.desk.world.pools[node.name, POOL].disks
        leaving = (before[index],)
        about: dict[str, Any] = {"pool": POOL, "node": node.name}
        began = PoolShrinkBegan(
            **about, operation=OP, deadline=NOON, disks=leaving, leaving_bytes=4 * GIB
        )
        await node.desk.happen(began)
        staying = tuple(disk for disk in before if disk not in leaving)
        await node.desk.happen(
            PoolShrinkWanted(**about, uid=uid(POOL), disks=staying, leaving=leaving), operation=OP
        )

    return wish


async def abandon_shrink(node: Node) -> None:
    pool = node.desk.world.pools[node.name, POOL]
    await node.desk.happen(
        PoolShrinkAbandoned(
            pool=POOL,
            node=node.name,
            uid=uid(POOL),
            operation=OP,
            code=Refusal.CANCELLED,
            because="the test says so",
            disks=pool.disks,
            kept=pool.leaving,
        ),
        operation=OP,
    )


async def remove_pool(node: Node) -> None:
    await conclude(node)
    await node.desk.happen(PoolRemovalBegan(pool=POOL, node=node.name, operation=OP, deadline=NOON))
    await node.desk.happen(
        PoolRemovalWanted(pool=POOL, node=node.name, uid=uid(POOL), operation=OP), operation=OP
    )


async def keep_pool(node: Node) -> None:
    await node.desk.happen(
        PoolRemovalAbandoned(
            pool=POOL,
            node=node.name,
            uid=uid(POOL),
            operation=OP,
            code=Refusal.CANCELLED,
            because="the test says so",
        ),
        operation=OP,
    )


def spec(name: str, mib: int, **more: Any) -> ReplicaSpec:
    return ReplicaSpec(uid=uid(name), pool=POOL, size_bytes=mib * MIB, **more)


def provision(name: str = "pg", mib: int = 320, **more: Any) -> Wish:
    async def wish(node: Node) -> None:
        await node.desk.happen(
            ReplicaWanted(volume=name, node=node.name, operation=OP, spec=spec(name, mib, **more)),
            operation=OP,
        )

    return wish


def whole_disk(index: int = 2, name: str = "pg", **more: Any) -> tuple[Wish, str, str, str]:
    """Have a volume that is all of one disk."""

    async def wish(node: Node) -> None:
        (disk,) = await disks_of(node, index)
        whole = ReplicaSpec(
            uid=uid(name),
            pool=group_of(uid(name)),
            size_bytes=given_bytes(4 * GIB),
            layout=Layout.DISK,
            disk=disk,
            **more,
        )
        wanted = ReplicaWanted(volume=name, node=node.name, operation=OP, spec=whole)
        await node.desk.happen(wanted, operation=OP)

    return wish, "replica", name, CREATED


def grow(name: str = "pg", mib: int = 400) -> Wish:
    async def wish(node: Node) -> None:
        await node.desk.happen(
            ReplicaResizeWanted(
                volume=name, node=node.name, operation=OP, uid=uid(name), size_bytes=mib * MIB
            ),
            operation=OP,
        )

    return wish


def delete(name: str = "pg", wiping: Wiping = Wiping.DISCARD) -> Wish:
    async def wish(node: Node) -> None:
        about: dict[str, Any] = {"volume": name, "node": node.name, "uid": uid(name)}
        wanted = ReplicaRemovalWanted(**about, operation=OP, wiping=wiping)
        await node.desk.happen(wanted, operation=OP)

    return wish


def hold(name: str = "pg") -> Wish:
    async def wish(node: Node) -> None:
        await node.desk.happen(
            ReplicaHoldWanted(volume=name, node=node.name, operation=OP, uid=uid(name)),
            operation=OP,
        )

    return wish


def take(name: str = "s1", of: str = "pg", mib: int = 40, **more: Any) -> Wish:
    return provision(name, mib, snapshot_of=SnapshotOf(volume=of, uid=uid(of)), **more)


def copied(
    name: str = "v2", of: str = "s1", mib: int = 320, far: str | None = None, **more: Any
) -> tuple[Wish, str, str, str]:
    source = CopyOf(
        snapshot=of,
        uid=uid(of),
        volume="pg",
        volume_uid=uid("pg"),
        pool=POOL,
        size_bytes=320 * MIB,
        thin=more.get("layout") is Layout.THIN,
        node=far,
    )
    return (provision(name, mib, copy_of=source, **more), "replica", name, CREATED)


def grow_thin(mib: int, metadata_mib: int = 0) -> Wish:
    async def wish(node: Node) -> None:
        await conclude(node)
        about: dict[str, Any] = {"pool": POOL, "node": node.name}
        size: dict[str, Any] = {"thin_bytes": mib * MIB, "metadata_bytes": metadata_mib * MIB}
        began = ThinPoolGrowthBegan(
            **about, **size, operation=OP, deadline=NOON, from_bytes=GIB, reserved_bytes=GIB
        )
        await node.desk.happen(began)
        wanted = ThinPoolGrowthWanted(**about, **size, uid=uid(POOL))
        await node.desk.happen(wanted, operation=OP)

    return wish


async def keep_thin(node: Node) -> None:
    await node.desk.happen(
        ThinPoolGrowthAbandoned(
            pool=POOL,
            node=node.name,
            uid=uid(POOL),
            operation=OP,
            code=Refusal.CANCELLED,
            because="the test says so",
            thin_bytes=GIB,
        ),
        operation=OP,
    )


def take_together(*pairs: tuple[str, str], mib: int = 40, **more: Any) -> Wish:
    """Wish for a snapshot (name, volume) of each of several volumes, all of one instant."""
    together = Together(instant=OP, snapshots=tuple(name for name, _ in pairs))

    async def wish(node: Node) -> None:
        for name, of in pairs:
            await take(name, of, mib, together=together, **more)(node)

    return wish


def backed_up(mib: int = 320) -> tuple[Wish, str, str, str]:
    """Have the snapshot s1 uploaded."""
    about = replace(upload(mib * MIB), snapshot_uid=uid("s1"), volume="pg", volume_uid=uid("pg"))

    async def wish(node: Node) -> None:
        errand = ErrandWanted(operation=OP, node=node.name, errand=about)
        await node.desk.happen(errand, operation=OP)

    return wish, "errand", OP, "errand.done.v1"


def restored(name: str = "v2", mib: int = 320, **more: Any) -> tuple[Wish, str, str, str]:
    """Have a volume made of the backup that there is."""

    async def wish(node: Node) -> None:
        (kept,) = node.machine.state.backups.values()
        source = FromBackup(
            place=PLACE,
            target="s3",
            backup=kept.manifest.name,
            manifest=backup_format.seal(backup_format.write(kept.manifest)),
            size_bytes=kept.manifest.size_bytes,
        )
        await provision(name, mib, from_backup=source, **more)(node)

    return wish, "replica", name, CREATED


def roll_back(name: str = "s1") -> Wish:
    async def wish(node: Node) -> None:
        await node.desk.happen(
            ReplicaMergeWanted(volume=name, node=node.name, operation=OP, uid=uid(name)),
            operation=OP,
        )

    return wish


def write(data: str, volume: str = "pg") -> Wish:
    async def wish(node: Node) -> None:
        node.machine.write(f"{POOL}/{volume}", data)

    return wish


def keep(name: str = "pg") -> Wish:
    async def wish(node: Node) -> None:
        await node.desk.happen(
            ReplicaRemovalWithdrawn(volume=name, node=node.name, operation=OP, uid=uid(name)),
            operation=OP,
        )

    return wish


def attach(name: str = "pg", **more: Any) -> Wish:
    async def wish(node: Node) -> None:
        node.machine.add_cgroup(CGROUP, "io")
        about = AttachmentSpec(
            uid=uid(f"use-{name}"),
            volume_uid=uid(name),
            consumer="host/backup",
            cgroup=CGROUP,
            **{"pool": POOL, **more},
        )
        await node.desk.happen(
            AttachmentWanted(volume=name, node=node.name, operation=OP, spec=about), operation=OP
        )

    return wish


def limit(limits: Limits, name: str = "pg") -> Wish:
    async def wish(node: Node) -> None:
        about: dict[str, Any] = {"volume": name, "node": node.name, "uid": uid(f"use-{name}")}
        await node.desk.happen(
            AttachmentLimitsWanted(**about, operation=OP, limits=limits), operation=OP
        )

    return wish


def detach(name: str = "pg") -> Wish:
    async def wish(node: Node) -> None:
        about: dict[str, Any] = {"volume": name, "node": node.name, "uid": uid(f"use-{name}")}
        await node.desk.happen(AttachmentRemovalWanted(**about, operation=OP), operation=OP)

    return wish


def keep_attached(name: str = "pg") -> Wish:
    async def wish(node: Node) -> None:
        about: dict[str, Any] = {"volume": name, "node": node.name, "uid": uid(f"use-{name}")}
        await node.desk.happen(AttachmentRemovalWithdrawn(**about, operation=OP), operation=OP)

    return wish


def by_hand(*argv: str) -> Wish:
    """Have somebody run a tool on the machine."""

    async def wish(node: Node) -> None:
        runner = SimulatedRunner(node.machine, lambda: NOON)
        execution = await runner.run(argv, cause="a person", timeout_s=60)
        assert execution.exit_status == 0, execution

    return wish


async def look(node: Node, name: str) -> SeenVolume | None:
    """Return what a look shows of a volume, if it is there."""
    volumes = (await node.look()).volumes
    return next((as_seen(one, volumes) for one in volumes if one.name == name), None)


def mend(how: Mend, seen: str = "", name: str = "pg") -> Wish:
    """Wish that a volume be put right, which somebody saw under the name *seen*."""

    async def wish(node: Node) -> None:
        about: dict[str, Any] = {"volume": name, "node": node.name, "uid": uid(name)}
        found = await look(node, seen) if seen else None
        await node.desk.happen(
            ReplicaMendWanted(**about, operation=OP, mend=how, seen=found), operation=OP
        )

    return wish


def leave(name: str = "pg", *, give_back: bool = False) -> Wish:
    async def wish(node: Node) -> None:
        about: dict[str, Any] = {"volume": name, "node": node.name, "uid": uid(name)}
        await node.desk.happen(
            ReplicaMendWithdrawn(**about, operation=OP, give_back=give_back), operation=OP
        )

    return wish


def adopt(theirs: str, name: str = "pg", mib: int = 32) -> Wish:
    """Wish that what somebody made become a volume."""

    async def wish(node: Node) -> None:
        await provision(name, mib, adopts=await look(node, theirs))(node)

    return wish


def rekey(*keys: str, dropped: tuple[str, ...] = (), generation: int, name: str = "pg") -> Wish:
    async def wish(node: Node) -> None:
        now = Encryption(keys=keys, dropped=dropped, generation=generation)
        about: dict[str, Any] = {"volume": name, "node": node.name, "uid": uid(name)}
        await node.desk.happen(
            ReplicaRekeyWanted(**about, operation=OP, encryption=now), operation=OP
        )

    return wish


async def recorded(node: Node, kind: str, name: str) -> list[str]:
    """Names of the events about one object of the node."""
    return await node.desk.names(kind, node.name, name)


def shown(node: Node, kind: str, name: str, event: str) -> Callable[[], Awaitable[bool]]:
    """Whether the newest event about an object is called so."""

    async def true() -> bool:
        names = await recorded(node, kind, name)
        return bool(names) and names[-1] == event

    return true


FORMED, GROWN = "pool.formed.v1", "pool.grown.v1"
CREATED, RESIZED, KEPT = "replica.created.v1", "replica.resized.v1", "replica.kept.v1"
SHRUNK = "pool.disks-dropped.v1"
THIN_GROWN, THIN_KEPT = "pool.thin-grown.v1", "pool.thin-kept.v1"
DISKS_KEPT = "pool.disks-kept.v1"
POOL_GONE, GONE, HELD = "pool.removed.v1", "replica.removed.v1", "replica.held.v1"
REKEYED = "replica.rekeyed.v1"
MENDED, LEFT = "replica.mended.v1", "replica.mend-left.v1"
MADE, FREE = "attachment.made.v1", "attachment.removed.v1"
MOUNTED: dict[str, Any] = {"filesystem": Filesystem.EXT4, "mount_point": "/mnt/pg"}
EXT4: dict[str, Any] = {"filesystem": Filesystem.EXT4}
XFS: dict[str, Any] = {"filesystem": Filesystem.XFS}
STRIPED: dict[str, Any] = {"layout": Layout.STRIPED, "stripes": 2}
THIN: dict[str, Any] = {"layout": Layout.THIN}
LOCKED: dict[str, Any] = {"encryption": Encryption(keys=("file:old",))}


async def have(node: Node, *done: tuple[Wish, str, str, str]) -> None:
    """Let one life of a worker fulfil the wishes, one after another."""
    async with node.life() as worker:
        for wish, kind, name, event in done:
            await wish(node)
            await node.settle(worker, shown(node, kind, name, event))


def formed(*indices: int, **more: Any) -> tuple[Wish, str, str, str]:
    return form(*(indices or (0, 1)), **more), "pool", POOL, FORMED


def provisioned(name: str = "pg", mib: int = 320, **more: Any) -> tuple[Wish, str, str, str]:
    return provision(name, mib, **more), "replica", name, CREATED


def taken(name: str = "s1", **more: Any) -> tuple[Wish, str, str, str]:
    return take(name, **more), "replica", name, CREATED


def written(data: str, volume: str = "pg") -> tuple[Wish, str, str, str]:
    return write(data, volume), "replica", volume, CREATED


def joined() -> NodeJoined:
    return NodeJoined(node=NODE)


def plain(word: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"name": type_name(word), **msgspec.to_builtins(word)}
    return told


def attached(name: str = "pg", **more: Any) -> tuple[Wish, str, str, str]:
    return attach(name, **{**MOUNTED, **more}), "attachment", name, MADE
