"""The volumes of a group keep to common nodes: which that are, and what would part them.

The group knows who belongs to it, and each volume where it is: both are looked up in the world,
which may be behind when two desks decide at once. What was parted so is told by the views, like all
that a failure has parted.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from aggregates.ledger import Posting, rounded_bytes, short_of
from aggregates.pool import PoolPhase
from schemas.answers import Refused, refuse
from schemas.pool import Reserve
from schemas.refusals import Refusal
from schemas.replicating import head_room_bytes
from schemas.volume import Candidate, Layout

if TYPE_CHECKING:
    from aggregates.decision import World
    from aggregates.volume import Volume

_GROUP_POINTS = 100_000
ON_ITS_WAY = frozenset({"migrating", "handing-over", "failing-over"})
_BEING_MADE = "provisioning"


class Place(msgspec.Struct, frozen=True):
    """Where a volume is: the node that it is written to on, and all that have it, or will have."""

    home: str
    nodes: frozenset[str]

    def __str__(self) -> str:
        """Return it for people, the node that is written to first."""
        return "+".join((self.home, *sorted(self.nodes - {self.home})))


class Company(msgspec.Struct, frozen=True, kw_only=True):
    """The other volumes of a group, as one of them finds them; ``running`` moves all of them.

    ``own`` is that one, if it is there already.
    """

    group: str
    others: "dict[str, Volume]"
    own: "dict[str, Volume]" = {}
    running: str = ""

    @property
    def places(self) -> tuple[Place, ...]:
        """Where the others are, as far as that is known."""
        found = (place(one) for one in self.others.values())
        return tuple(one for one in found if one is not None)

    def says(self, name: str) -> str:
        """Return where the others are, for people."""
        known = {other: place(one) for other, one in self.others.items()}
        where = told({other: at for other, at in known.items() if at is not None})
        return f"the group {self.group} of {name}: {where}"


def place(volume: "Volume") -> Place | None:
    """Return where a volume is, or will be when what was begun with it has gone well."""
    home = volume.node
    if not home:  # it is being made, where it fits first
        fits = (one.node for one in volume.candidates if one.code is None)
        home = next(fits, "")
    if not home:
        return None
    nodes = {home, *(one.node for one in volume.members), *([volume.coming] * bool(volume.coming))}
    return Place(home, frozenset(nodes))


def of_member(name: str, volume: "Volume", world: "World") -> Company | None:
    """Return the other volumes of the group that the volume belongs to, if it does to any."""
    found = volume.joining
    for group, one in world.groups.items():
        member = one.members.get(name)
        if member is not None and member.uid == volume.uid:
            found = group
    company = of_group(found, name, world)
    return None if company is None else msgspec.structs.replace(company, own={name: volume})


def of_group(group: str, name: str, world: "World") -> Company | None:
    """Return the volumes of the group besides the one of that name, those being made included."""
    known = world.groups.get(group)
    if known is None:
        return None
    others = {
        other: world.volumes[other]
        for other, member in known.members.items()
        if other != name and other in world.volumes and world.volumes[other].uid == member.uid
    }
    making = ((other, world.volumes[other]) for other in world.provisioning if other != name)
    others |= {other: one for other, one in making if one.joining == group}
    moving = known.operation if not known.snapshot else ""
    return Company(group=group, others=others, running=moving)


def together(places: Iterable[Place]) -> bool:
    """Return whether all are written to on one node, and no two have replicas on different ones."""
    known = sorted(places, key=lambda one: len(one.nodes))
    alike = len({one.home for one in known}) <= 1
    return alike and all(a.nodes <= b.nodes for a, b in pairwise(known))


def told(places: Mapping[str, Place]) -> str:
    """Return where volumes are, for people."""
    return ", ".join(f"{name} is on {at}" for name, at in sorted(places.items()))


def keeps(before: Place | None, after: Place, others: tuple[Place, ...]) -> bool:
    """Return whether a volume that goes there leaves the group no more apart than it was.

    Where some are apart already, it may only go where some other is.
    """
    was = others if before is None else (*others, before)
    if not others or together((*others, after)):
        return True
    if together(was):
        return False
    here: frozenset[str] = frozenset() if before is None else before.nodes
    homes = {one.home for one in others} | ({before.home} if before is not None else set())
    nodes = frozenset(node for one in others for node in one.nodes)
    return after.home in homes and after.nodes - here <= nodes


def unsettled(name: str, company: Company | None, *, making: bool) -> Refused | None:
    """Return why it is not clear yet where the others will be; *making*: those being made count."""
    if company is None:
        return None
    if company.running:
        running = f"operation {company.running} moves the group {company.group}"
        return refuse(Refusal.GROUP_BUSY, running)
    waits = ON_ITS_WAY | ({_BEING_MADE} if making else set())
    for other, one in company.others.items():
        if one.phase.value in waits:
            busy = f"{other}, which is of the group of {name}, is {one.phase.value}"
            return refuse(Refusal.GROUP_BUSY, busy)
    return None


def parted(name: str, before: Place, after: Place, company: Company | None) -> Refused | None:
    """Return why the volume shall not go there without the others, or None."""
    if company is None or keeps(before, after, company.places):
        return None
    return refuse(Refusal.GROUP_APART, company.says(name)[:1000])


def moved(volume: "Volume", source: str, target: str) -> Place:
    """Return where the volume will be with its replica of *source* on *target* instead.

    Where that is written to, the other one takes over.
    """
    members = [one.node for one in volume.members]
    nodes = (frozenset(members or [volume.node]) - {source}) | {target}
    if volume.node != source:
        return Place(volume.node, nodes)
    return Place(next((one for one in members if one != source), target), nodes)


def keep(
    name: str,
    candidates: Iterable[Candidate],
    before: Place | None,
    after: Callable[[str], Place],
    company: Company,
    world: "World",
) -> tuple[Candidate, ...]:
    """Return the candidates with those ruled out that would part the volume from the others.

    Those that are left are all of one node, so that others know where it goes before it is there.
    """
    others = company.places
    far = company.says(name)
    ranked = [
        one if keeps(before, after(one.node), others) else _ruled_out(one, far)
        for one in candidates
    ]
    lacking = _lacking(after, company)
    ranked = [
        _preferred(one)
        if one.code is None and room_for(lacking(one.node), one.node, world)
        else one
        for one in ranked
    ]
    ranked.sort(key=lambda c: (c.code is not None, -c.score, c.node, c.pool))
    best = next((one.node for one in ranked if one.code is None), "")
    first = f"the group {company.group} is to be on common nodes: {best} comes first"
    return tuple(
        _ruled_out(one, first) if one.code is None and one.node != best else one for one in ranked
    )


def nowhere(
    candidates: Iterable[Candidate],
    ask: Callable[[tuple[Candidate, ...]], Refused | None],
    name: str,
    company: Company,
) -> Refused | None:
    """Return why none of the candidates can take the volume: of the nodes of the group first."""
    looked_at = tuple(candidates)
    near = tuple(one for one in looked_at if one.code is not Refusal.GROUP_APART)
    # That it has a replica somewhere already tells nothing about where another one may be.
    new = tuple(one for one in near if one.code is not Refusal.TOO_MANY_REPLICAS)
    near = new or near
    if near or not looked_at:
        no = ask(near)
        return None if no is None else refuse(no.code, f"{company.says(name)}; {no.because}"[:1000])
    return refuse(Refusal.GROUP_APART, company.says(name)[:1000])


def _ruled_out(candidate: Candidate, because: str) -> Candidate:
    return Candidate(
        node=candidate.node,
        pool=candidate.pool,
        room_bytes=candidate.room_bytes,
        code=Refusal.GROUP_APART,
        because=because[:1000],
    )


def _preferred(candidate: Candidate) -> Candidate:
    parts = candidate.parts | {"group": _GROUP_POINTS}
    return msgspec.structs.replace(candidate, score=sum(parts.values()), parts=parts)


def _lacking(
    after: Callable[[str], Place], company: Company
) -> "Callable[[str], dict[str, Volume]]":
    """Return, by node, which of the others would have to follow if the volume went there."""

    def follow(node: str) -> "dict[str, Volume]":
        wanted = after(node).nodes
        return {
            name: one
            for name, one in (company.others | company.own).items()
            if (at := place(one)) is not None and len(at.nodes) < len(wanted)
        }

    return follow


def room_for(volumes: "Mapping[str, Volume]", node: str, world: "World") -> bool:
    """Return whether the pools of the node can take a replica of all these volumes at once."""
    pools = {
        name: pool
        for (at, name), pool in world.pools.items()
        if at == node and pool.phase is PoolPhase.READY and pool.usable is not None
    }
    ledgers = {name: pool.ledger for name, pool in pools.items()}
    for volume in sorted(volumes.values(), key=lambda one: -one.size_bytes):
        for name, pool in sorted(pools.items()):
            usable = pool.usable
            if usable is None:
                continue
            wish = _reserve(volume, node, name)
            if short_of(ledgers[name], usable, pool.thin_ratio_percent, pool.volumes_max, wish):
                continue
            size_bytes = rounded_bytes(wish.size_bytes, usable.extent_bytes, wish.stripes)
            posting = Posting(size_bytes=size_bytes, thin=wish.thin)
            ledgers[name] = ledgers[name].reserve(f"{wish.claim} to come", posting)
            break
        else:
            return False
    return True


def _reserve(volume: "Volume", node: str, pool: str) -> Reserve:
    device_bytes = volume.size_bytes + volume.header_bytes
    leg_bytes = device_bytes + head_room_bytes(device_bytes, max(2, len(volume.members)))
    return Reserve(
        pool=pool,
        node=node,
        claim=volume.uid,
        size_bytes=leg_bytes,
        operation=volume.uid,
        thin=volume.layout is Layout.THIN,
        stripes=volume.stripes,
    )
