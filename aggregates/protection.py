"""Protections: which commands take two people. Only two people can weaken or remove one."""

from typing import assert_never

import msgspec
from msgspec.structs import replace

from aggregates.decision import Decision, Facts
from aggregates.perils import meets
from schemas.answers import Refused, refuse
from schemas.protection import (
    ProtectionChanged,
    ProtectionCommand,
    ProtectionEvent,
    ProtectionRemoved,
    ProtectionSpec,
    RemoveProtection,
    SetProtection,
)
from schemas.refusals import Refusal


class Protection(msgspec.Struct, frozen=True, kw_only=True):
    """One protection, and what it covers."""

    uid: str = ""
    spec: ProtectionSpec | None = None


def decide(
    protection: Protection, command: ProtectionCommand, facts: Facts
) -> Decision[ProtectionEvent]:
    """Say what shall happen. May refuse a request."""
    name = command.protection
    match command:
        case SetProtection():
            if protection.spec == command.spec:
                return ()
            return _protects_nothing(name, command.spec) or (
                ProtectionChanged(
                    protection=name, uid=protection.uid or facts.uid, spec=command.spec
                ),
            )
        case RemoveProtection():
            if protection.spec is None:
                return refuse(Refusal.UNKNOWN_PROTECTION, f"there is no protection {name}")
            return (ProtectionRemoved(protection=name, uid=protection.uid),)
        case _:
            assert_never(command)


def _protects_nothing(name: str, spec: ProtectionSpec) -> Refused | None:
    if not spec.kinds or not spec.acts:
        return None
    idle = [act.value for act in spec.acts if not meets(act) & set(spec.kinds)]
    if not idle:
        return None
    kinds = ", ".join(kind.value for kind in spec.kinds)
    return refuse(Refusal.PROTECTS_NOTHING, f"{name}: {', '.join(idle)} is not about {kinds}")


def evolve(protection: Protection, event: ProtectionEvent) -> Protection:
    """Apply what happened. Never refuses: the past cannot be wrong."""
    match event:
        case ProtectionChanged():
            return replace(protection, uid=event.uid, spec=event.spec)
        case ProtectionRemoved():
            return Protection()
        case _:
            assert_never(event)
