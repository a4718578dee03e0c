"""One attachment on one node: what shall be there, and what the node says of it."""

from enum import StrEnum
from typing import assert_never

import msgspec
from msgspec.structs import replace

from aggregates.decision import Decision, Facts
from aggregates.node import unheard
from schemas.answers import refuse
from schemas.attachment import (
    AttachmentCommand,
    AttachmentEvent,
    AttachmentLimitsWanted,
    AttachmentMade,
    AttachmentRemovalWanted,
    AttachmentRemovalWithdrawn,
    AttachmentRemoved,
    AttachmentSpec,
    AttachmentTroubled,
    AttachmentWanted,
    KeepAttachment,
    LimitAttachment,
    RemoveAttachment,
    ReportAttachmentAbsent,
    ReportAttachmentPresent,
    ReportAttachmentTrouble,
    WantAttachment,
)
from schemas.refusals import Refusal


class AttachmentPhase(StrEnum):
    """How what is wanted and what is stand to one another."""

    ABSENT = "absent"
    WANTED = "wanted"
    PRESENT = "present"
    GOING = "going"


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """One attachment; ``spec.limits`` are those that are wanted."""

    phase: AttachmentPhase = AttachmentPhase.ABSENT
    spec: AttachmentSpec | None = None
    trouble: tuple[Refusal, str] | None = None


def decide(
    attachment: Attachment, command: AttachmentCommand, facts: Facts
) -> Decision[AttachmentEvent]:
    """Say what shall happen. May refuse a request; never refuses a report."""
    match command:
        case WantAttachment():
            return _want(attachment, command, facts)
        case ReportAttachmentPresent() | ReportAttachmentAbsent() | ReportAttachmentTrouble():
            if attachment.spec is None or attachment.spec.uid != command.uid:
                return ()
            return _note(attachment, attachment.spec, command)
        case LimitAttachment() | RemoveAttachment() | KeepAttachment():
            if attachment.spec is None:
                where = f"{command.volume} is not attached on {command.node}"
                return refuse(Refusal.VOLUME_NOT_READY, where)
            return _change(attachment, attachment.spec, command)
        case _:
            assert_never(command)


def _want(
    attachment: Attachment, command: WantAttachment, facts: Facts
) -> Decision[AttachmentEvent]:
    if attachment.spec is not None:
        going = attachment.phase is AttachmentPhase.GOING
        if attachment.spec.uid == command.spec.uid and not going:
            return ()
        still = f"{command.node} still has {command.volume} for {attachment.spec.consumer}"
        return refuse(Refusal.STILL_ATTACHED, still)
    no = unheard(facts.world.nodes.get(command.node), command.node)
    return no or (
        AttachmentWanted(
            volume=command.volume,
            node=command.node,
            operation=command.operation,
            spec=command.spec,
        ),
    )


def _change(
    attachment: Attachment,
    spec: AttachmentSpec,
    command: LimitAttachment | RemoveAttachment | KeepAttachment,
) -> Decision[AttachmentEvent]:
    going = attachment.phase is AttachmentPhase.GOING
    match command:
        case LimitAttachment():
            if going:
                return refuse(Refusal.STILL_ATTACHED, f"{command.volume} is being detached")
            if spec.limits == command.limits:
                return ()
            return (
                AttachmentLimitsWanted(
                    volume=command.volume,
                    node=command.node,
                    operation=command.operation,
                    uid=spec.uid,
                    limits=command.limits,
                ),
            )
        case RemoveAttachment() | KeepAttachment():
            return _remove_or_keep(command, spec.uid, going=going)
        case _:
            assert_never(command)


def _remove_or_keep(
    command: RemoveAttachment | KeepAttachment, uid: str, *, going: bool
) -> Decision[AttachmentEvent]:
    about = {
        "volume": command.volume,
        "node": command.node,
        "operation": command.operation,
        "uid": uid,
    }
    if isinstance(command, KeepAttachment):
        return (AttachmentRemovalWithdrawn(**about),) if going else ()
    # What was on its way out already may still have to be told that nobody is waited for.
    if going and not command.forced:
        return ()
    return (AttachmentRemovalWanted(**about, forced=command.forced),)


def _note(
    attachment: Attachment,
    spec: AttachmentSpec,
    report: ReportAttachmentPresent | ReportAttachmentAbsent | ReportAttachmentTrouble,
) -> Decision[AttachmentEvent]:
    match report:
        case ReportAttachmentPresent():
            if attachment.phase is not AttachmentPhase.WANTED or report.limits != spec.limits:
                return ()  # known, or said before the node knew what is wanted now
            return (
                AttachmentMade(
                    volume=report.volume,
                    node=report.node,
                    uid=spec.uid,
                    device=report.device,
                    limits=report.limits,
                ),
            )
        case ReportAttachmentAbsent():
            # Withdrawn meanwhile, it is made again by the node that hears of it, and so not gone.
            if attachment.phase is not AttachmentPhase.GOING:
                return ()
            return (AttachmentRemoved(volume=report.volume, node=report.node, uid=spec.uid),)
        case ReportAttachmentTrouble():
            if attachment.trouble == (report.code, report.because) and not report.permanent:
                return ()
            return (
                AttachmentTroubled(
                    volume=report.volume,
                    node=report.node,
                    uid=spec.uid,
                    code=report.code,
                    because=report.because,
                    permanent=report.permanent,
                ),
            )
        case _:
            assert_never(report)


def evolve(attachment: Attachment, event: AttachmentEvent) -> Attachment:
    """Apply what happened. Never refuses: the past cannot be wrong."""
    match event:
        case AttachmentWanted():
            return Attachment(phase=AttachmentPhase.WANTED, spec=event.spec)
        case AttachmentLimitsWanted():
            spec = attachment.spec
            limited = None if spec is None else replace(spec, limits=event.limits)
            return Attachment(phase=AttachmentPhase.WANTED, spec=limited)
        case AttachmentRemovalWanted():
            return replace(attachment, phase=AttachmentPhase.GOING, trouble=None)
        case AttachmentRemovalWithdrawn():
            return replace(attachment, phase=AttachmentPhase.WANTED, trouble=None)
        case AttachmentMade():
            return replace(attachment, phase=AttachmentPhase.PRESENT, trouble=None)
        case AttachmentRemoved():
            return Attachment()
        case AttachmentTroubled():
            return replace(attachment, trouble=(event.code, event.because))
        case _:
            assert_never(event)
