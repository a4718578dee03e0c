"""Volumes that belong together: who they are, and that they are kept at one instant.

A volume is in one group at most. The other groups are known from the world, which may be behind
when two desks decide at once; then the volume leaves the group that it joined later, by a rule.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import assert_never

import msgspec
from msgspec.structs import replace

from aggregates import group_moves, twins
from aggregates.decision import Decision, Facts
from aggregates.ledger import short_of
from aggregates.node import unheard
from aggregates.raw_disks import no_whole_disk
from aggregates.snapshot import busy
from aggregates.twins import part_of
from aggregates.volume import Volume, VolumePhase
from schemas.answers import Refused, refuse
from schemas.group_moves import (
    AddGroupReplica,
    GroupMoveBegan,
    GroupMoveEnded,
    HandGroupOver,
    MigrateGroup,
)
from schemas.pool import Reserve
from schemas.refusals import Refusal
from schemas.snapshot import Part
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
    JoinGroup,
    Member,
    RemoveGroup,
    ReportVolumeLeft,
    SnapshotGroup,
    TakeOutOfGroup,
)

_NAME_CHARACTERS_MAX = 63
_Move = MigrateGroup | HandGroupOver | AddGroupReplica
_Change = AddToGroup | TakeOutOfGroup | RemoveGroup | SnapshotGroup | _Move


class Joined(msgspec.Struct, frozen=True):
    """Which volume of that name is in the group, and since when."""

    uid: str
    at: datetime


class VolumeGroup(msgspec.Struct, frozen=True, kw_only=True):
    """One group; ``snapshot`` is what the running operation takes, if it does not move all."""

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
            members = _joining(group, command, facts)
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
        case JoinGroup():
            return _join(group, command, facts)
        case (
            AddToGroup()
            | TakeOutOfGroup()
            | RemoveGroup()
            | SnapshotGroup()
            | MigrateGroup()
            | HandGroupOver()
            | AddGroupReplica()
        ):
            return _unready(group, command.group) or _change(group, command, facts)
        case _:
            assert_never(command)


def _unready(group: VolumeGroup, name: str) -> Refused | None:
    if not group.known:
        return refuse(Refusal.UNKNOWN_GROUP, f"there is no group {name}")
    if not group.operation:
        return None
    does = f"takes {group.snapshot} of" if group.snapshot else "moves the volumes of"
    return refuse(Refusal.GROUP_BUSY, f"operation {group.operation} {does} {name}")


def _change(group: VolumeGroup, command: _Change, facts: Facts) -> Decision[GroupEvent]:
    match command:
        case AddToGroup():
            members = _joining(group, command, facts)
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
        case MigrateGroup() | HandGroupOver() | AddGroupReplica():
            if not group.members:
                return refuse(Refusal.GROUP_EMPTY, f"{command.group} has no volumes")
            no = _one_hindered(group, facts)
            return no or group_moves.decide(command, facts)
        case _:
            assert_never(command)


def _join(group: VolumeGroup, command: JoinGroup, facts: Facts) -> Decision[GroupEvent]:
    """Say whether a volume that is being made may be in the group; a snapshot does not mind."""
    name, there = command.group, group.members.get(command.volume)
    if not group.known or (group.operation and not group.snapshot):
        return _unready(group, name) or ()
    if there is not None and there.uid == command.uid:
        return ()
    if there is None and len(group.members) >= MEMBERS_MAX:
        return refuse(Refusal.GROUP_FULL, f"{name} has {len(group.members)} volumes")
    member = Member(volume=command.volume, uid=command.uid)
    return (GroupVolumesAdded(group=name, at=facts.at, members=(member,)),)


def _joining(
    group: VolumeGroup, command: CreateGroup | AddToGroup, facts: Facts
) -> tuple[Member, ...] | Refused:
    """Return those of the volumes that are not in the group yet, or why one cannot join."""
    name, new = command.group, sorted(set(command.volumes) - group.members.keys())
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
    no = None if command.apart or not new else group_moves.far_apart(name, new, facts)
    return no or tuple(Member(volume=one, uid=facts.world.volumes[one].uid) for one in new)


def _snapshot(group: VolumeGroup, command: SnapshotGroup, facts: Facts) -> Decision[GroupEvent]:
    members = [(name, facts.world.volumes.get(name)) for name in sorted(group.members)]
    there = [(name, volume) for name, volume in members if volume is not None]
    if not group.members:
        return refuse(Refusal.GROUP_EMPTY, f"{command.group} has no volumes")
    no = _one_hindered(group, facts)
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
    parts = [part_of(names[name], name, volume, command.reserve_bytes) for name, volume in there]
    if not command.single:
        pairs = zip(tuple(parts), (volume for _, volume in there), strict=True)
        parts += [twin for part, volume in pairs for twin in twins.twins_of(part, volume, facts)]
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
                parts=tuple(parts),
                by=command.by,
            ),
        )
    )


def _one_hindered(group: VolumeGroup, facts: Facts) -> Refused | None:
    members = ((name, facts.world.volumes.get(name)) for name in sorted(group.members))
    reasons = (_hindered(group, name, one) for name, one in members)
    return next((no for no in reasons if no is not None), None)


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
    reasons = (twins.taken(part, facts) for part in parts)
    return next((no for no in reasons if no is not None), None)


def _no_room(parts: Sequence[Part], node: str, facts: Facts) -> Refused | None:
    """Return why one of the pools cannot take what is to be made in it, all together."""
    for wish in _needs(parts, node, facts.operation):
        pool = facts.world.pools.get((wish.node, wish.pool))
        if pool is None or pool.facts is None:
            return refuse(Refusal.POOL_NOT_READY, f"{wish.node}/{wish.pool} is not there")
        no = short_of(pool.ledger, pool.facts, pool.thin_ratio_percent, pool.volumes_max, wish)
        if no is not None:
            return no
    return None


def _needs(parts: Sequence[Part], node: str, operation: str) -> Iterator[Reserve]:
    def place(part: Part) -> tuple[str, str, bool]:
        return part.node or node, part.pool, part.layout is Layout.THIN

    for where, pool, thin in sorted({place(part) for part in parts}):
        here = [part for part in parts if place(part) == (where, pool, thin)]
        size_bytes = sum(part.room_bytes for part in here)
        yield Reserve(
            pool=pool,
            node=where,
            claim=operation,
            size_bytes=size_bytes,
            operation=operation,
            thin=thin,
        )


def _conclude(group: VolumeGroup, report: ConcludeGroup) -> Decision[GroupEvent]:
    if not group.snapshot:
        return (
            GroupMoveEnded(
                group=report.group,
                operation=report.operation,
                code=report.code,
                because=report.because,
            ),
        )
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
        case GroupMoveBegan():
            return replace(group, operation=event.operation)
        case GroupSnapshotTaken() | GroupSnapshotFailed() | GroupMoveEnded():
            return replace(group, operation="", snapshot="")
        case _:
            assert_never(event)


def _with(members: dict[str, Joined], event: GroupCreated | GroupVolumesAdded) -> dict[str, Joined]:
    new = {member.volume: Joined(member.uid, event.at) for member in event.members}
    return {**members, **new}
