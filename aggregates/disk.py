"""Which disks there are, where each is seen, and whose it is: claimed once, never when in doubt."""

from typing import assert_never

import msgspec
from msgspec.structs import replace

from aggregates.decision import Decision, Facts
from schemas.answers import Refused, refuse
from schemas.disk import (
    ClaimDisk,
    Content,
    DiskChanged,
    DiskClaimed,
    DiskClass,
    DiskClassOverridden,
    DiskCommand,
    DiskEvent,
    DiskForgotten,
    DiskFound,
    DiskGone,
    DiskHealthChanged,
    DiskReleased,
    DiskReserved,
    DiskSeenTwice,
    DiskUnreserved,
    Health,
    OverrideDiskClass,
    ReportDiskForgotten,
    ReportDiskGone,
    ReportDiskHealth,
    ReportDiskReleased,
    ReportDiskSeen,
    ReserveDisk,
    Sighting,
    UnreserveDisk,
)
from schemas.refusals import Refusal


class Owner(msgspec.Struct, frozen=True):
    """The pool that a disk belongs to; with ``volume`` it is that volume, and in no pool."""

    node: str
    pool: str
    volume: str = ""

    @property
    def named(self) -> str:
        """Say whose it is."""
        return f"volume {self.volume}" if self.volume else f"pool {self.node}/{self.pool}"


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """One physical disk. ``sightings`` has an entry for each node that sees it now.

    ``was_used``: it was in a pool since it was plugged in, so somebody took it out on purpose.
    """

    known: bool = False
    sightings: dict[str, Sighting] = {}
    last_node: str = ""
    reserved: bool = False
    override: DiskClass | None = None
    owner: Owner | None = None
    was_used: bool = False
    health: Health = Health.UNKNOWN
    reasons: tuple[str, ...] = ()

    @property
    def media(self) -> DiskClass | None:
        """What the disk is: the operator's word, else the node's."""
        if self.override is not None:
            return self.override
        return next((s.media for s in self.sightings.values()), None)


def unclaimable(disk: Disk | None, name: str, node: str) -> Refused | None:
    """Return why a pool of *node* cannot have the disk, or None if it can."""
    if disk is None or not disk.known:
        return refuse(Refusal.UNKNOWN_DISK, f"there is no disk {name}")
    if disk.owner is not None:
        return refuse(Refusal.DISK_CLAIMED, f"{name} belongs to {disk.owner.named}")
    if disk.reserved:
        return refuse(Refusal.DISK_RESERVED, f"{name} is reserved")
    if not disk.sightings:
        return refuse(Refusal.DISK_GONE, f"{name} was last seen on {disk.last_node}")
    if len(disk.sightings) > 1:
        places = " and ".join(sorted(disk.sightings))
        return refuse(Refusal.DISK_SEEN_TWICE, f"{name} is seen on {places}")
    if disk.health is Health.FAILING:
        return refuse(Refusal.DISK_FAILING, f"{name} is failing: {', '.join(disk.reasons)}")
    sighting = disk.sightings.get(node)
    if sighting is None:
        return refuse(Refusal.DISK_ELSEWHERE, f"{name} is on {disk.last_node}, not on {node}")
    if sighting.content is not Content.BLANK:
        what = " ".join(filter(None, (sighting.content.value, sighting.detail)))
        return refuse(Refusal.DISK_NOT_BLANK, f"{name} ({node} {sighting.path}) carries: {what}")
    return None


def decide(disk: Disk, command: DiskCommand, facts: Facts) -> Decision[DiskEvent]:  # noqa: ARG001
    """Say what shall happen. May refuse a request; never refuses a report."""
    match command:
        case ReportDiskSeen():
            return _note_sighting(disk, command)
        case ReportDiskGone():
            seen = command.node in disk.sightings
            return (DiskGone(disk=command.disk, node=command.node),) if seen else ()
        case ReportDiskHealth():
            return _note_health(disk, command)
        case ReportDiskReleased():
            whose = disk.owner
            mine = whose is not None and (whose.node, whose.pool) == (command.node, command.pool)
            released = DiskReleased(disk=command.disk, node=command.node, pool=command.pool)
            return (released,) if mine else ()
        case ReportDiskForgotten():
            seen = command.node in disk.sightings or disk.last_node == command.node
            return (DiskForgotten(disk=command.disk, node=command.node),) if seen else ()
        case ClaimDisk():
            return _claim(disk, command)
        case ReserveDisk() | UnreserveDisk() | OverrideDiskClass():
            if not disk.known:
                return refuse(Refusal.UNKNOWN_DISK, f"there is no disk {command.disk}")
            return _mark(disk, command)
        case _:
            assert_never(command)


def _mark(
    disk: Disk, command: ReserveDisk | UnreserveDisk | OverrideDiskClass
) -> Decision[DiskEvent]:
    match command:
        case ReserveDisk():
            if disk.owner is not None:
                return refuse(Refusal.DISK_CLAIMED, f"{command.disk} belongs to {disk.owner.named}")
            if disk.reserved:
                return ()
            return (DiskReserved(disk=command.disk, because=command.because),)
        case UnreserveDisk():
            if not disk.reserved:
                return refuse(Refusal.DISK_NOT_RESERVED, f"{command.disk} is not reserved")
            return (DiskUnreserved(disk=command.disk),)
        case OverrideDiskClass():
            if disk.override == command.media:
                return ()
            return (DiskClassOverridden(disk=command.disk, media=command.media),)
        case _:
            assert_never(command)


def _claim(disk: Disk, command: ClaimDisk) -> Decision[DiskEvent]:
    if disk.owner == Owner(command.node, command.pool, command.volume or ""):
        return ()
    no = unclaimable(disk, command.disk, command.node)
    return no or (
        DiskClaimed(
            disk=command.disk,
            node=command.node,
            pool=command.pool,
            operation=command.operation,
            volume=command.volume,
        ),
    )


def _note_sighting(disk: Disk, report: ReportDiskSeen) -> Decision[DiskEvent]:
    known, node = report.sighting, report.node
    if disk.sightings.get(node) == known:
        return ()
    if node in disk.sightings:
        return (DiskChanged(disk=report.disk, node=node, sighting=known),)
    if disk.sightings:
        return (DiskSeenTwice(disk=report.disk, node=node, sighting=known),)
    moved_from = disk.last_node if disk.last_node != node else ""
    return (DiskFound(disk=report.disk, node=node, sighting=known, moved_from=moved_from),)


def _note_health(disk: Disk, report: ReportDiskHealth) -> Decision[DiskEvent]:
    learnt_nothing = report.health is Health.UNKNOWN
    if learnt_nothing and disk.health is Health.FAILING:
        return ()  # a disk that no longer answers has not recovered
    if (disk.health, disk.reasons) == (report.health, report.reasons):
        return ()
    return (
        DiskHealthChanged(
            disk=report.disk, node=report.node, health=report.health, reasons=report.reasons
        ),
    )


def evolve(disk: Disk, event: DiskEvent) -> Disk:
    """Apply what happened. Never refuses: the past cannot be wrong."""
    match event:
        case DiskFound() | DiskChanged() | DiskSeenTwice():
            sightings = {**disk.sightings, event.node: event.sighting}
            used = disk.was_used and not isinstance(event, DiskFound)
            seen = replace(disk, known=True, sightings=sightings, last_node=event.node)
            return replace(seen, was_used=used)
        case DiskGone():
            return _unseen(disk, event.node)
        case DiskReserved():
            return replace(disk, reserved=True)
        case DiskUnreserved():
            return replace(disk, reserved=False)
        case DiskClassOverridden():
            return replace(disk, override=event.media)
        case DiskClaimed():
            return replace(disk, owner=Owner(event.node, event.pool, event.volume or ""))
        case DiskReleased():
            return replace(disk, owner=None, was_used=True)
        case DiskHealthChanged():
            return replace(disk, health=event.health, reasons=event.reasons)
        case DiskForgotten():
            return _forgotten(disk, event.node)
        case _:
            assert_never(event)


def _unseen(disk: Disk, node: str) -> Disk:
    left = {at: sighting for at, sighting in disk.sightings.items() if at != node}
    return replace(disk, sightings=left, last_node=next(iter(left), node))


def _forgotten(disk: Disk, node: str) -> Disk:
    left = _unseen(disk, node)
    if left.sightings:
        return left
    # A pool on another node may still miss it: then it is a disk of that node that is not there.
    return Disk() if disk.owner is None else replace(left, last_node=disk.owner.node)
