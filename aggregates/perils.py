"""Which commands destroy data, redundancy, or what keeps them, and which objects each one meets."""

from typing import Any

import msgspec

from aggregates.decision import World
from schemas.deleting import DeleteVolume, PurgeVolume
from schemas.disk import OverrideDiskClass, UnreserveDisk, Wiping
from schemas.draining import ForgetNode
from schemas.encrypting import RekeyVolume
from schemas.grammar import Message
from schemas.legs import RemoveReplicaOf, SettleSplitBrain
from schemas.policy import PausePolicy, RemovePolicy, SetPolicy
from schemas.pool import RemovePool
from schemas.protection import Act, ProtectedKind
from schemas.schedule import PauseSchedule, RemoveSchedule
from schemas.settling import SettleDrift, Verb
from schemas.snapshot import DeleteSnapshot, RollBackSnapshot
from schemas.target import SweepTarget
from schemas.trail import PruneTrail
from schemas.verifying import VerifyVolume

ACTS: dict[type[Message], Act] = {
    DeleteVolume: Act.DELETE_VOLUME,
    PurgeVolume: Act.PURGE_VOLUME,
    RekeyVolume: Act.REKEY_VOLUME,
    RemoveReplicaOf: Act.REMOVE_REPLICA,
    SettleSplitBrain: Act.SETTLE_SPLIT,
    VerifyVolume: Act.REPAIR_VOLUME,
    DeleteSnapshot: Act.DELETE_SNAPSHOT,
    RollBackSnapshot: Act.ROLL_BACK,
    RemovePool: Act.REMOVE_POOL,
    ForgetNode: Act.FORGET_NODE,
    SettleDrift: Act.SETTLE_DRIFT,
    UnreserveDisk: Act.UNRESERVE_DISK,
    OverrideDiskClass: Act.OVERRIDE_CLASS,
    SweepTarget: Act.SWEEP_TARGET,
    SetPolicy: Act.SET_POLICY,
    PausePolicy: Act.PAUSE_POLICY,
    RemovePolicy: Act.REMOVE_POLICY,
    PauseSchedule: Act.PAUSE_SCHEDULE,
    RemoveSchedule: Act.REMOVE_SCHEDULE,
    PruneTrail: Act.PRUNE_TRAIL,
}
# Those of which what was there, or what it was taken from, is left without its data.
_LOSING = frozenset({Verb.ACCEPT, Verb.RECREATE})
_MEETS: dict[Act, frozenset[ProtectedKind]] = {
    Act.DELETE_SNAPSHOT: frozenset({ProtectedKind.SNAPSHOT, ProtectedKind.VOLUME}),
    Act.ROLL_BACK: frozenset({ProtectedKind.SNAPSHOT, ProtectedKind.VOLUME}),
    Act.FORGET_NODE: frozenset({ProtectedKind.NODE, ProtectedKind.POOL}),
    Act.SETTLE_DRIFT: frozenset({ProtectedKind.NODE, ProtectedKind.VOLUME}),
}


class Thing(msgspec.Struct, frozen=True):
    """An object that a command meets; ``uid`` tells it from a later one of the same name."""

    kind: ProtectedKind
    name: str
    node: str = ""
    uid: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """How a pattern may call it."""
        return (self.name, f"{self.node}/{self.name}") if self.node else (self.name,)

    def __str__(self) -> str:
        """Write it as people read it, with its uid behind an @."""
        where = f"{self.node}/" if self.node else ""
        return f"{self.kind.value}/{where}{self.name}" + (f"@{self.uid}" if self.uid else "")


def meets(act: Act) -> frozenset[ProtectedKind]:
    """Return the kinds of objects that *act* meets."""
    return _MEETS.get(act) or frozenset({ProtectedKind(act.partition(".")[0])})


def held_s(command: Message) -> int:
    """Return for how long what *command* destroys can still be brought back."""
    kept = isinstance(command, DeleteVolume) and command.wiping is not Wiping.LOST
    return command.hold_s if kept and isinstance(command, DeleteVolume) else 0


def peril(command: Message, world: World) -> tuple[Act, tuple[Thing, ...]] | None:
    """Return what *command* would do, and to which objects; None: it destroys nothing."""
    act = ACTS.get(type(command))
    if act is None:
        return None
    match command:
        case SettleDrift():
            if command.verb not in _LOSING:
                return None
            volume = command.object.rpartition("/")[2]
            return act, (_thing(ProtectedKind.NODE, command.node, world), _volume(volume, world))
        case SweepTarget() if command.backup is None:
            return None
        case VerifyVolume() if not command.repair:
            return None
        case SetPolicy() if command.policy not in world.policies:
            return None
        case DeleteSnapshot() | RollBackSnapshot():
            of = world.snapshots.get(command.snapshot)
            one = _thing(ProtectedKind.SNAPSHOT, command.snapshot, world)
            return act, (one,) if of is None else (one, _volume(of.volume, world))
        case ForgetNode():
            pools = (_pool(*key, world) for key in world.pools if key[0] == command.node)
            return act, (_thing(ProtectedKind.NODE, command.node, world), *pools)
        case RemovePool():
            return act, (_pool(command.node, command.pool, world),)
        case _:
            kind = ProtectedKind(act.partition(".")[0])
            return act, (_thing(kind, getattr(command, kind.value), world),)


def _volume(name: str, world: World) -> Thing:
    return _thing(ProtectedKind.VOLUME, name, world)


def _pool(node: str, name: str, world: World) -> Thing:
    row = world.pools.get((node, name))
    return Thing(ProtectedKind.POOL, name, node, "" if row is None else row.uid)


def _thing(kind: ProtectedKind, name: str, world: World) -> Thing:
    rows: dict[ProtectedKind, Any] = {
        ProtectedKind.VOLUME: world.volumes,
        ProtectedKind.SNAPSHOT: world.snapshots,
        ProtectedKind.POLICY: world.policies,
        ProtectedKind.SCHEDULE: world.schedules,
    }
    row = rows[kind].get(name) if kind in rows else None
    return Thing(kind, name, uid=getattr(row, "uid", ""))
