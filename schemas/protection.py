"""What is said about protections: which commands on which objects take a second person."""

from enum import StrEnum
from typing import Annotated

import msgspec

from schemas.grammar import Event, Request
from schemas.units import HoldSeconds, Id, Name, Seconds

PROTECTIONS = "protection"
DAY_S = 86_400
HOUR_S = 3600

Glob = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[-a-z0-9.*?/]+$(?!\n)",
        max_length=127,
        description="A name, or a pattern of names: * stands for anything, ? for one character.",
    ),
]


class ProtectedKind(StrEnum):
    """What can be protected."""

    VOLUME = "volume"
    SNAPSHOT = "snapshot"
    POOL = "pool"
    NODE = "node"
    DISK = "disk"
    TARGET = "target"
    POLICY = "policy"
    SCHEDULE = "schedule"
    TRAIL = "trail"


class Act(StrEnum):
    """Every command that destroys data, redundancy, or what keeps them; called as on the bus."""

    DELETE_VOLUME = "volume.delete"
    PURGE_VOLUME = "volume.purge"
    REKEY_VOLUME = "volume.rekey"
    REMOVE_REPLICA = "volume.remove-replica"
    SETTLE_SPLIT = "volume.settle-split"
    REPAIR_VOLUME = "volume.verify"
    DELETE_SNAPSHOT = "snapshot.delete"
    ROLL_BACK = "snapshot.roll-back"
    REMOVE_POOL = "pool.remove"
    FORGET_NODE = "node.forget"
    SETTLE_DRIFT = "node.settle-drift"
    UNRESERVE_DISK = "disk.unreserve"
    OVERRIDE_CLASS = "disk.override-class"
    SWEEP_TARGET = "target.sweep"
    SET_POLICY = "policy.set"
    PAUSE_POLICY = "policy.pause"
    REMOVE_POLICY = "policy.remove"
    PAUSE_SCHEDULE = "schedule.pause"
    REMOVE_SCHEDULE = "schedule.remove"
    PRUNE_TRAIL = "trail.prune"


class ProtectionSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is protected, and from what.

    ``kinds`` and ``acts``: none named means all. An object is protected if its name, or NODE/NAME
    of a pool, fits one of ``names``. A deletion that is held for ``hold_s`` or longer needs no
    approval (0: every deletion does). A request waits for ``waits_s``; once approved, the command
    may be said for ``good_for_s``.
    """

    kinds: Annotated[tuple[ProtectedKind, ...], msgspec.Meta(max_length=16)] = ()
    names: Annotated[tuple[Glob, ...], msgspec.Meta(min_length=1, max_length=64)] = ("*",)
    acts: Annotated[tuple[Act, ...], msgspec.Meta(max_length=64)] = ()
    hold_s: HoldSeconds = DAY_S
    waits_s: Seconds = DAY_S
    good_for_s: Seconds = HOUR_S


class SetProtection(Request, frozen=True, kw_only=True, tag="protection.set.v1"):
    """From now on, these commands need approval; to change one that there is does, too."""

    protection: Name
    spec: ProtectionSpec


class RemoveProtection(Request, frozen=True, kw_only=True, tag="protection.remove.v1"):
    """Protect this no more. It needs somebody else's approval."""

    protection: Name


class ProtectionChanged(Event, frozen=True, kw_only=True, tag="protection.changed.v1"):
    """This is protected from now on."""

    protection: Name
    uid: Id
    spec: ProtectionSpec


class ProtectionRemoved(Event, frozen=True, kw_only=True, tag="protection.removed.v1"):
    """There is no such protection any longer."""

    protection: Name
    uid: Id


ProtectionCommand = SetProtection | RemoveProtection
ProtectionEvent = ProtectionChanged | ProtectionRemoved
