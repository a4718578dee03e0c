"""What a scripted node has attached: a dictionary of what is wanted of it."""

from msgspec.structs import replace

from schemas.attachment import (
    AttachmentLimitsWanted,
    AttachmentRemovalWanted,
    AttachmentRemovalWithdrawn,
    AttachmentSpec,
    AttachmentWanted,
    ReportAttachmentAbsent,
    ReportAttachmentPresent,
    ReportAttachmentTrouble,
    stable_device,
)
from schemas.grammar import Event, Message
from schemas.refusals import Refusal


class ScriptedAttachments:
    """The attachments of one node, by volume; those on their way out are kept in mind."""

    def __init__(self, node: str) -> None:
        self.made: dict[str, AttachmentSpec] = {}
        self._node = node
        self._known: dict[str, AttachmentSpec] = {}

    def do(self, event: Event, trouble: Refusal | None) -> Message | None:
        """Return what is to be said after *event*, which meets *trouble*; None: not for me."""
        match event:
            case AttachmentWanted():
                self._known[event.volume] = event.spec
            case AttachmentLimitsWanted():
                known = self._known[event.volume]
                self._known[event.volume] = replace(known, limits=event.limits)
            case AttachmentRemovalWanted() | AttachmentRemovalWithdrawn():
                pass
            case _:
                return None
        uid = self._known[event.volume].uid
        if trouble is not None:
            return ReportAttachmentTrouble(
                volume=event.volume,
                node=self._node,
                uid=uid,
                code=trouble,
                because="as the script has it",
                permanent=True,
            )
        if isinstance(event, AttachmentRemovalWanted):
            self.made.pop(event.volume, None)
            return ReportAttachmentAbsent(volume=event.volume, node=self._node, uid=uid)
        self.made[event.volume] = self._known[event.volume]
        return ReportAttachmentPresent(
            volume=event.volume,
            node=self._node,
            uid=uid,
            device=stable_device(event.volume),
            limits=self.made[event.volume].limits,
        )
