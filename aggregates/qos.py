"""Limits with a name: what a class allows, and that no volume is left with a class that is gone."""

from typing import assert_never

import msgspec
from msgspec.structs import replace

from aggregates.decision import Decision, Facts
from schemas.answers import Refused, refuse
from schemas.attachment import Limits
from schemas.qos import (
    ChangeQosClass,
    CreateQosClass,
    DeleteQosClass,
    QosClassChanged,
    QosClassCreated,
    QosClassDeleted,
    QosCommand,
    QosEvent,
)
from schemas.refusals import Refusal

_NAMED_MAX = 20


class QosClass(msgspec.Struct, frozen=True, kw_only=True):
    """One class: how fast each volume that has it may be used."""

    uid: str = ""
    limits: Limits = Limits()


def decide(qos: QosClass, command: QosCommand, facts: Facts) -> Decision[QosEvent]:
    """Say what shall happen. May refuse a request."""
    match command:
        case CreateQosClass():
            return _create(qos, command, facts)
        case ChangeQosClass() | DeleteQosClass():
            if not qos.uid:
                return refuse(Refusal.UNKNOWN_QOS, f"there is no QoS class {command.qos}")
            if isinstance(command, DeleteQosClass):
                return _delete(qos, command, facts)
            return _change(qos, command, facts)
        case _:
            assert_never(command)


def _create(qos: QosClass, command: CreateQosClass, facts: Facts) -> Decision[QosEvent]:
    if qos.uid:
        return refuse(Refusal.QOS_EXISTS, f"there is a QoS class {command.qos}")
    return _limitless(command) or (
        QosClassCreated(qos=command.qos, uid=facts.uid, at=facts.at, limits=command.limits),
    )


def _change(qos: QosClass, command: ChangeQosClass, facts: Facts) -> Decision[QosEvent]:
    if command.limits == qos.limits:
        return ()
    return _limitless(command) or (
        QosClassChanged(qos=command.qos, at=facts.at, limits=command.limits),
    )


def _limitless(command: CreateQosClass | ChangeQosClass) -> Refused | None:
    if command.limits.any:
        return None
    return refuse(Refusal.QOS_LIMITS_NOTHING, f"{command.qos} would limit nothing")


def _delete(qos: QosClass, command: DeleteQosClass, facts: Facts) -> Decision[QosEvent]:
    using = sorted(
        name
        for name, volume in facts.world.volumes.items()
        if command.qos in {volume.use.qos, volume.use.limiting_qos}
    )
    if using:
        more = f" and {len(using) - _NAMED_MAX} more" if len(using) > _NAMED_MAX else ""
        named = f"{', '.join(using[:_NAMED_MAX])}{more}"
        return refuse(Refusal.QOS_IN_USE, f"{command.qos} is the class of {named}")
    return (QosClassDeleted(qos=command.qos, uid=qos.uid),)


def evolve(qos: QosClass, event: QosEvent) -> QosClass:
    """Apply what happened. Never refuses: the past cannot be wrong."""
    match event:
        case QosClassCreated():
            return QosClass(uid=event.uid, limits=event.limits)
        case QosClassChanged():
            return replace(qos, limits=event.limits)
        case QosClassDeleted():
            return QosClass()
        case _:
            assert_never(event)
