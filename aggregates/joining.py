"""Volumes that are made for a group: where the others are, or not at all."""

from functools import partial

from aggregates import common_nodes
from aggregates.common_nodes import Company, Place
from aggregates.decision import Facts
from aggregates.placement import nowhere, rank
from aggregates.raw_disks import no_whole_disk
from schemas.answers import Refused, refuse
from schemas.refusals import Refusal
from schemas.volume import Candidate, ProvisionVolume
from schemas.volume_group import MEMBERS_MAX


def placed(
    command: ProvisionVolume, candidates: tuple[Candidate, ...], facts: Facts
) -> tuple[Candidate, ...] | Refused:
    """Return where the volume may be put if it is made for a group, or why nowhere."""
    if command.group is None:
        return candidates
    company = common_nodes.of_group(command.group, command.volume, facts.world)
    no = no_whole_disk(command.layout, command.volume, "be in a group")
    if no is not None or company is None:
        return no or refuse(Refusal.UNKNOWN_GROUP, f"there is no group {command.group}")
    if len(company.others) >= MEMBERS_MAX:
        many = f"{command.group} has {len(company.others)} volumes, some of them being made"
        return refuse(Refusal.GROUP_FULL, many)
    no = common_nodes.unsettled(command.volume, company, making=False)
    if no is not None or command.apart:
        return no or candidates
    return _beside_the_others(command, candidates, company, facts)


def _beside_the_others(
    command: ProvisionVolume, candidates: tuple[Candidate, ...], company: Company, facts: Facts
) -> tuple[Candidate, ...] | Refused:
    name, world = command.volume, facts.world
    kept = common_nodes.keep(name, candidates, None, _alone, company, world)
    no = common_nodes.nowhere(kept, partial(nowhere, command), name, company)
    if no is not None or command.replicas == 1:
        return no or kept
    home = next(one.node for one in kept if one.code is None)
    free = ProvisionVolume(volume=name, size_bytes=command.size_bytes, layout=command.layout)
    beside = tuple(one for one in rank(free, world, "") if one.node != home)
    more = common_nodes.keep(name, beside, _alone(home), partial(_two, home), company, world)
    return common_nodes.nowhere(more, partial(nowhere, free), name, company) or kept


def _alone(node: str) -> Place:
    return Place(node, frozenset({node}))


def _two(home: str, node: str) -> Place:
    return Place(home, frozenset({home, node}))
