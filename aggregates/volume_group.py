"""Volumes that belong together: who they are, and that they are kept at one instant.

A volume is in one group at most. The other groups are known from the world, which may be behind
when two desks decide at once; then the volume leaves the group that it joined later, by a rule.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import assert_never

import msgspec
from msgspec.structs import replace

from aggregates.decision import Decision, Facts
from aggregates.ledger import short_of
from aggregates.node import unheard
from aggregates.raw_disks import no_whole_disk
from aggregates.snapshot import busy, reserve_of
from aggregates.volume import Volume, VolumePhase
from schemas.answers import Refused, refuse
from schemas.pool import Reserve
from schemas.refusals import Refusal
from schemas.volume import Layout
from schemas.volume_group import (
    MEMBERS_MAX,
    AddToGroup,
    ConcludeGroup,
    CreateGroup,
    GroupCommand,
    GroupCreated,
    GroupEvent,
    GroupRemoved,
    GroupSnapshotBegan,
    GroupSnapshotFailed,
    GroupSnapshotTaken,
    GroupVolumesAdded,
    GroupVolumesLeft,
    Member,
    Part,
    RemoveGroup,
    ReportVolumeLeft,
    SnapshotGroup,
    TakeOutOfGroup,
)

_NAME_CHARACTERS_MAX = 63


class Joined(msgspec.Struct, frozen=True):
    """Which volume of that name is in the group, and since when."""

    uid: str
    at: datetime


class VolumeGroup(msgspec.Struct, frozen=True, kw_only=True):
    """One group; ``snapshot`` is what the running operation takes."""

    known: bool = False
    members: dict[str, Joined] = msgspec.field(default_factory=dict)
    operation: str = ""
    snapshot: str = ""


def decide(group: VolumeGroup, command: GroupCommand, facts: Facts) -> Decision[GroupEvent]:
    """Say what shall happen. May refuse a request; never refuses a report."""
    match command:
        case CreateGroup():
            if group.known:
                return refuse(Refusal.GROUP_EXISTS, f"there is a group {command.group}")
            members = _joining(group, command.group, command.volumes, facts)
            if isinstance(members, Refused):
                return members
            return (GroupCreated(group=command.group, at=facts.at, members=members),)
        case ConcludeGroup():
            return _conclude(group, command) if group.operation == command.operation else ()
        case ReportVolumeLeft():
            member = group.members.get(command.volume)
            if member is None or member.uid != command.uid:
                return ()
            left = (command.volume,)
            return (GroupVolumesLeft(group=command.group, volumes=left, because=command.because),)
        case AddToGroup() | TakeOutOfGroup() | RemoveGroup() | SnapshotGroup():
            if not group.known:
                return refuse(Refusal.UNKNOWN_GROUP, f"there is no group {command.group}")
            if group.operation:
                running = f"operation {group.operation} takes {group.snapshot} of {command.group}"
                return refuse(Refusal.GROUP_BUSY, running)
            return _change(group, command, facts)
        case _:
            assert_never(command)


def _change(
    group: VolumeGroup,
    command: AddToGroup | TakeOutOfGroup | RemoveGroup | SnapshotGroup,
    facts: Facts,
) -> Decision[GroupEvent]:
    match command:
        case AddToGroup():
            members = _joining(group, command.group, command.volumes, facts)
            if isinstance(members, Refused):
                return members
            added = GroupVolumesAdded(group=command.group, at=facts.at, members=members)
            return (added,) if members else ()
        case TakeOutOfGroup():
            strange = [name for name in command.volumes if name not in group.members]
            if strange:
                not_there = f"{command.group} has no volume {', '.join(strange)}"
                return refuse(Refusal.NOT_IN_GROUP, not_there[:1000])
            left = tuple(sorted(set(command.volumes)))
            return (GroupVolumesLeft(group=command.group, volumes=left),) if left else ()
        case RemoveGroup():
            return (GroupRemoved(group=command.group),)
        case SnapshotGroup():
            return _snapshot(group, command, facts)
        case _:
            assert_never(command)


def _joining(
    group: VolumeGroup, name: str, volumes: Sequence[str], facts: Facts
) -> tuple[Member, ...] | Refused:
    """Return those of *volumes* that are not in the group yet, or why one cannot join."""
    new = sorted(set(volumes) - group.members.keys())
    if len(group.members) + len(new) > MEMBERS_MAX:
        many = f"{name} would have {len(group.members) + len(new)} volumes"
        return refuse(Refusal.GROUP_FULL, many)
    for volume_name in new:
        volume = facts.world.volumes.get(volume_name)
        if volume is None or volume.phase is VolumePhase.PROVISIONING:
            return refuse(Refusal.UNKNOWN_VOLUME, f"there is no volume {volume_name}")
        if volume.until is not None:
            return refuse(Refusal.VOLUME_HELD, f"{volume_name} is deleted, and held")
        no = no_whole_disk(volume.layout, volume_name, "be in a group")
        if no is not None:
            return no
        for other_name, other in facts.world.groups.items():
            joined = other.members.get(volume_name)
            if other_name != name and joined is not None and joined.uid == volume.uid:
                return refuse(Refusal.IN_OTHER_GROUP, f"{volume_name} is in {other_name}")
    return tuple(Member(volume=one, uid=facts.world.volumes[one].uid) for one in new)


def _part(snapshot: str, name: str, volume: Volume, command: SnapshotGroup) -> Part:
    return Part(
        snapshot=snapshot,
        volume=name,
        volume_uid=volume.uid,
        pool=volume.pool,
        size_bytes=volume.size_bytes,
        reserve_bytes=reserve_of(volume, command.reserve_bytes),
        header_bytes=volume.header_bytes,
        layout=volume.layout,
    )


def _snapshot(group: VolumeGroup, command: SnapshotGroup, facts: Facts) -> Decision[GroupEvent]:
    members = [(name, facts.world.volumes.get(name)) for name in sorted(group.members)]
    there = [(name, volume) for name, volume in members if volume is not None]
    if not group.members:
        return refuse(Refusal.GROUP_EMPTY, f"{command.group} has no volumes")
    no = next(
        (no for name, one in members if (no := _hindered(group, name, one)) is not None), None
    )
    nodes = sorted({volume.node for _, volume in there})
    if no is None and len(nodes) > 1:
        spread = f"the volumes of {command.group} are on {', '.join(nodes)}"
        return refuse(Refusal.GROUP_SPREAD, spread)
    no = no or unheard(facts.world.nodes.get(nodes[0]), nodes[0])
    if no is not None:
        return no
    if command.reserve_bytes is not None and all(v.layout is Layout.THIN for _, v in there):
        return refuse(Refusal.NO_RESERVE, f"all volumes of {command.group} are thin")
    names = _names(command.snapshot, [name for name, _ in there])
    parts = tuple(_part(names[name], name, volume, command) for name, volume in there)
    return (
        _taken(parts, facts)
        or _no_room(parts, nodes[0], facts)
        or (
            GroupSnapshotBegan(
                group=command.group,
                snapshot=command.snapshot,
                operation=facts.operation,
                deadline=facts.at + timedelta(seconds=command.deadline_s),
                node=nodes[0],
                parts=parts,
                by=command.by,
            ),
        )
    )


def _hindered(group: VolumeGroup, name: str, volume: Volume | None) -> Refused | None:
    if volume is None or volume.uid != group.members[name].uid:
        return refuse(Refusal.UNKNOWN_VOLUME, f"there is no volume {name} any more")
    if volume.phase is VolumePhase.HELD:
        return refuse(Refusal.VOLUME_HELD, f"{name} is deleted, and held")
    return busy(volume, name)


def _names(snapshot: str, volumes: Sequence[str]) -> dict[str, str]:
    """Return what the snapshot of each volume is called; a long name gets a number instead."""
    full = {name: f"{snapshot}-{name}" for name in volumes}
    short = {name: f"{snapshot[: _NAME_CHARACTERS_MAX - 3]}-{i}" for i, name in enumerate(volumes)}
    fits = all(len(name) <= _NAME_CHARACTERS_MAX for name in full.values())
    return full if fits else short


def _taken(parts: Sequence[Part], facts: Facts) -> Refused | None:
    for part in parts:
        if part.snapshot in facts.world.snapshots:
            return refuse(Refusal.SNAPSHOT_EXISTS, f"there is a snapshot {part.snapshot}")
        if part.snapshot in facts.world.volumes:
            return refuse(Refusal.VOLUME_EXISTS, f"there is a volume {part.snapshot}")
        if part.snapshot in facts.world.volumes[part.volume].snapshots:
            left = f"the node still holds an earlier snapshot {part.snapshot}"
            return refuse(Refusal.REPLICA_BUSY, left)
    return None


def _no_room(parts: Sequence[Part], node: str, facts: Facts) -> Refused | None:
    """Return why one of the pools cannot take what is to be made in it, all together."""
    for wish in _needs(parts, node, facts.operation):
        pool = facts.world.pools.get((node, wish.pool))
        if pool is None or pool.facts is None:
            return refuse(Refusal.POOL_NOT_READY, f"{node}/{wish.pool} is not there")
        no = short_of(pool.ledger, pool.facts, pool.thin_ratio_percent, pool.volumes_max, wish)
        if no is not None:
            return no
    return None


def _needs(parts: Sequence[Part], node: str, operation: str) -> Iterator[Reserve]:
    for pool, thin in sorted({(part.pool, part.layout is Layout.THIN) for part in parts}):
        here = [p for p in parts if p.pool == pool and (p.layout is Layout.THIN) is thin]
        size_bytes = sum(part.room_bytes for part in here)
        yield Reserve(
            pool=pool,
            node=node,
            claim=operation,
            size_bytes=size_bytes,
            operation=operation,
            thin=thin,
        )


def _conclude(group: VolumeGroup, report: ConcludeGroup) -> Decision[GroupEvent]:
    about = {"group": report.group, "snapshot": group.snapshot, "operation": report.operation}
    if report.code is None:
        return (GroupSnapshotTaken(**about),)
    return (GroupSnapshotFailed(**about, code=report.code, because=report.because),)


def evolve(group: VolumeGroup, event: GroupEvent) -> VolumeGroup:
    """Apply what happened. Never refuses: the past cannot be wrong."""
    match event:
        case GroupCreated():
            return VolumeGroup(known=True, members=_with({}, event))
        case GroupVolumesAdded():
            return replace(group, members=_with(group.members, event))
        case GroupVolumesLeft():
            left = {n: one for n, one in group.members.items() if n not in event.volumes}
            return replace(group, members=left)
        case GroupRemoved():
            return VolumeGroup()
        case GroupSnapshotBegan():
            return replace(group, operation=event.operation, snapshot=event.snapshot)
        case GroupSnapshotTaken() | GroupSnapshotFailed():
            return replace(group, operation="", snapshot="")
        case _:
            assert_never(event)


def _with(members: dict[str, Joined], event: GroupCreated | GroupVolumesAdded) -> dict[str, Joined]:
    new = {member.volume: Joined(member.uid, event.at) for member in event.members}
    return {**members, **new}
