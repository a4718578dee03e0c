"""What is said about nodes that replicate: which device and port each volume has on each."""

from schemas.grammar import Event, Report, Request
from schemas.replication import Link
from schemas.units import Id, Name


class TakeLink(Request, frozen=True, kw_only=True, tag="node.take-link.v1"):
    """Step of replicating: the volume shall have a device and a port of its own on the node."""

    node: Name
    volume: Name
    uid: Id
    operation: Id


class ReportLinkReturned(
    Report, frozen=True, kw_only=True, omit_defaults=True, tag="node.report-link-returned.v1"
):
    """Step of replicating no more: nobody uses device and port of the volume on the node.

    ``taken_by``: unless another operation than that has taken them again meanwhile.
    """

    node: Name
    uid: Id
    taken_by: Id | None = None


class LinkTaken(Event, frozen=True, kw_only=True, tag="node.link-taken.v1"):
    """The volume has this device and port on the node; again, with what it had already."""

    node: Name
    volume: Name
    uid: Id
    operation: Id
    link: Link


class LinkReturned(Event, frozen=True, kw_only=True, tag="node.link-returned.v1"):
    """Device and port of the volume are free again."""

    node: Name
    uid: Id


LinkingCommand = TakeLink | ReportLinkReturned
LinkingEvent = LinkTaken | LinkReturned
