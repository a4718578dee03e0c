"""What is said about QoS classes: limits with a name, for as many volumes as are given it."""

from schemas.attachment import Limits
from schemas.grammar import Event, Request
from schemas.units import Id, Moment, Name

QOS = "qos"


class CreateQosClass(Request, frozen=True, kw_only=True, tag="qos.create.v1"):
    """Give limits a name. A class limits something."""

    qos: Name
    limits: Limits


class ChangeQosClass(Request, frozen=True, kw_only=True, tag="qos.change.v1"):
    """Let these limits hold instead of all others of the class, for every volume that has it."""

    qos: Name
    limits: Limits


class DeleteQosClass(Request, frozen=True, kw_only=True, tag="qos.delete.v1"):
    """Forget the class, which no volume may have."""

    qos: Name


class QosClassCreated(Event, frozen=True, kw_only=True, tag="qos.created.v1"):
    """There is a class of these limits."""

    qos: Name
    uid: Id
    at: Moment
    limits: Limits


class QosClassChanged(Event, frozen=True, kw_only=True, tag="qos.changed.v1"):
    """These are the limits of the class; each attached volume that has it follows by itself."""

    qos: Name
    at: Moment
    limits: Limits


class QosClassDeleted(Event, frozen=True, kw_only=True, tag="qos.deleted.v1"):
    """There is no such class any more, and no volume had it."""

    qos: Name
    uid: Id


QosCommand = CreateQosClass | ChangeQosClass | DeleteQosClass
QosEvent = QosClassCreated | QosClassChanged | QosClassDeleted
