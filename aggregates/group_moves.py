"""All volumes of a group move as one: where to, and whether each of them can.

Each volume is asked first, by the words that will move it. What moves many, such as emptying a
node, finds here where those of one group can go together.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import assert_never

import msgspec

from aggregates import common_nodes, legs
from aggregates.common_nodes import Company, Place, keeps, moved, place, room_for, together, told
from aggregates.decision import Decision, Facts
from aggregates.ledger import room_bytes
from aggregates.volume import Volume, VolumePhase
from schemas.answers import Refused, refuse
from schemas.group_moves import (
    AddGroupReplica,
    GroupMoveBegan,
    GroupMoveCommand,
    HandGroupOver,
    MigrateGroup,
    Move,
    Mover,
)
from schemas.handing import HandOverVolume
from schemas.legs import AddReplica, MigrateVolume
from schemas.refusals import Refusal
from schemas.volume_group import GroupEvent

_Wish = MigrateVolume | HandOverVolume | AddReplica


class _Plan(msgspec.Struct, frozen=True):
    """How one volume would move to a node: by which word, and where it is then."""

    volume: Volume
    wish: _Wish
    after: Place


def far_apart(group: str, joining: Sequence[str], facts: Facts) -> Refused | None:
    """Return why these volumes cannot be in the group together with those that are, or None."""
    known = common_nodes.of_group(group, "", facts.world)
    volumes = {} if known is None else dict(known.others)
    no = _on_its_way(joining, facts)
    if no is not None:
        return no
    for name in joining:
        volume = facts.world.volumes[name]
        company = Company(group=group, others=dict(volumes))
        no = common_nodes.unsettled(name, company, making=False)
        here = place(volume) or Place(volume.node, frozenset({volume.node}))
        if no is None and not keeps(None, here, company.places):
            no = refuse(Refusal.GROUP_APART, f"{name} is on {here}; {company.says(name)}"[:1000])
        if no is not None:
            return no
        volumes[name] = volume
    return None


def _on_its_way(joining: Sequence[str], facts: Facts) -> Refused | None:
    """Return which of these volumes is being moved itself, to nobody knows where, or None."""
    for name in joining:
        volume = facts.world.volumes[name]
        anywhere = volume.phase is VolumePhase.ADDING_REPLICA and not volume.coming
        if anywhere or volume.phase.value in common_nodes.ON_ITS_WAY:
            busy = f"operation {volume.operation} ({volume.phase.value}) runs on {name}"
            return refuse(Refusal.VOLUME_BUSY, busy)
    return None


def decide(command: GroupMoveCommand, facts: Facts) -> Decision[GroupEvent]:
    """Say whether all volumes of the group shall move; the group is there, and idle."""
    known = common_nodes.of_group(command.group, "", facts.world)
    volumes = {} if known is None else known.others
    making = [name for name, one in volumes.items() if one.phase is VolumePhase.PROVISIONING]
    if making:
        busy = f"{', '.join(sorted(making))} is being made for {command.group}"
        return refuse(Refusal.GROUP_BUSY, busy[:1000])
    reasons: list[Refused] = []
    for node in (command.node,) if command.node is not None else _by_room(facts):
        plans = {n: plan for n, v in volumes.items() if (plan := _plan(command, n, v, node, facts))}
        if not plans and command.node is not None:
            return ()
        stay = {name: one for name, one in volumes.items() if name not in plans}
        no = _hindered(plans, _places(stay).values(), node, facts) if plans else None
        if plans and no is None:
            return (_began(command, plans, sorted(stay), node, facts),)
        reasons += [] if no is None else [no]
    if len(reasons) == 1:
        return reasons[0]
    because = "; ".join(no.because for no in reasons) or "there is no other node"
    return refuse(Refusal.NO_PLACE, because[:1000])


def emptied(
    going: Sequence[str], source: str, facts: Facts
) -> tuple[dict[str, str], dict[str, Refused]]:
    """Return where those of *going* that are of a group go from that node, and which cannot.

    Where volumes with several replicas are written to when one of them has moved, those with one
    have to go: so the former are looked at first.
    """
    targets: dict[str, str] = {}
    stuck: dict[str, Refused] = {}
    seen: set[str] = set()
    for name in going:
        volume = facts.world.volumes[name]
        company = common_nodes.of_member(name, volume, facts.world)
        if company is None or not company.others or company.group in seen:
            continue
        seen.add(company.group)
        members = company.others | company.own
        mine = {one: members[one] for one in going if one in members}
        staying = _places({n: v for n, v in members.items() if n not in mine})
        was_together = together(_places(members).values())
        for several in (True, False):
            batch = {n: v for n, v in mine.items() if bool(v.members) is several}
            if not batch:
                continue
            node = _common(batch, source, staying.values(), facts, strict=was_together)
            if isinstance(node, Refused):
                stuck |= dict.fromkeys(batch, node)
                continue
            targets |= dict.fromkeys(batch, node)
            staying = {**staying, **{n: moved(v, source, node) for n, v in batch.items()}}
    return targets, stuck


def _common(
    batch: Mapping[str, Volume], source: str, others: Iterable[Place], facts: Facts, *, strict: bool
) -> str | Refused:
    """Return a node that can take all of *batch*, together with *others*.

    Not *strict*: where the others are not, if need be; the group is apart already.
    """
    near = tuple(others)
    first = sorted({one.home for one in near} - {source})
    nodes = (*first, *(one for one in _by_room(facts) if one not in {*first, source}))
    reasons: list[str] = []
    for beside in (near,) if strict else (near, None):
        reasons = []
        for node in nodes:
            no = _hindered(_from(batch, source, node, facts), beside, node, facts)
            if no is None:
                return node
            reasons.append(no.because)
    because = "; ".join(reasons) or "there is no other node"
    names = ", ".join(sorted(batch))
    return refuse(Refusal.GROUP_APART, f"no node can take {names} together: {because}"[:1000])


def _from(batch: Mapping[str, Volume], source: str, node: str, facts: Facts) -> dict[str, _Plan]:
    return {
        name: _Plan(
            volume,
            MigrateVolume(volume=name, source=source, node=node, operation=facts.operation),
            moved(volume, source, node),
        )
        for name, volume in batch.items()
    }


def _places(volumes: Mapping[str, Volume]) -> dict[str, Place]:
    found = {name: place(one) for name, one in volumes.items()}
    return {name: at for name, at in found.items() if at is not None}


def _by_room(facts: Facts) -> Iterator[str]:
    """Return all nodes, those with the most room free first."""
    free = dict.fromkeys(facts.world.nodes, 0)
    for (node, _), pool in facts.world.pools.items():
        usable = pool.usable
        if node in free and usable is not None:
            free[node] += room_bytes(pool.ledger, usable)
    yield from sorted(free, key=lambda node: (-free[node], node))


def _plan(
    command: GroupMoveCommand, name: str, volume: Volume, node: str, facts: Facts
) -> _Plan | None:
    """Return how the volume would get to that node, or None if it stays as it is."""
    here = place(volume) or Place(volume.node, frozenset({volume.node}))
    wish: _Wish
    match command:
        case MigrateGroup():
            source = command.source or volume.node
            stays = source not in here.nodes or (command.source is None and node == here.home)
            wish = MigrateVolume(volume=name, source=source, node=node, operation=facts.operation)
            after = moved(volume, source, node)
        case HandGroupOver():
            stays = node == here.home
            wish = HandOverVolume(volume=name, node=node, operation=facts.operation)
            after = Place(node, here.nodes)
        case AddGroupReplica():
            stays = node in here.nodes
            wish = AddReplica(volume=name, node=node, operation=facts.operation)
            after = Place(here.home, here.nodes | {node})
        case _:
            assert_never(command)
    return None if stays else _Plan(volume, wish, after)


def _hindered(
    plans: Mapping[str, _Plan], staying: Iterable[Place] | None, node: str, facts: Facts
) -> Refused | None:
    """Return why not all of them can move to that node, or None; *staying* None: they may part."""
    for name, plan in plans.items():
        answer = legs.decide(plan.volume, plan.wish, facts)
        if isinstance(answer, Refused) and answer.code is not Refusal.VOLUME_BUSY:
            return refuse(answer.code, f"{name}: {answer.because}"[:1000])
    need_room = {
        name: plan.volume
        for name, plan in plans.items()
        if not isinstance(plan.wish, HandOverVolume)
    }
    if not room_for(need_room, node, facts.world):
        return refuse(Refusal.CAPACITY, f"{node} has no room for {', '.join(sorted(need_room))}")
    after = {name: plan.after for name, plan in plans.items()}
    if staying is None or together((*after.values(), *staying)):
        return None
    return refuse(Refusal.GROUP_APART, f"they would be apart: {told(after)}"[:1000])


def _began(
    command: GroupMoveCommand,
    plans: Mapping[str, _Plan],
    stay: Sequence[str],
    node: str,
    facts: Facts,
) -> GroupMoveBegan:
    many = isinstance(command, HandGroupOver)
    return GroupMoveBegan(
        group=command.group,
        operation=facts.operation,
        deadline=facts.at + timedelta(seconds=command.deadline_s),
        move=_MOVES[type(command)],
        node=node,
        volumes=tuple(
            Mover(volume=name, size_bytes=plan.volume.size_bytes)
            for name, plan in sorted(plans.items())
        ),
        stay=tuple(stay),
        source=getattr(command, "source", None),
        at_once=_AT_ONCE_MAX if many else getattr(command, "at_once", 2),
        resync_bytes_per_s=getattr(command, "resync_bytes_per_s", None),
    )


_AT_ONCE_MAX = 16
_MOVES: dict[type[GroupMoveCommand], Move] = {
    MigrateGroup: Move.MIGRATE,
    HandGroupOver: Move.HAND_OVER,
    AddGroupReplica: Move.ADD_REPLICA,
}
