"""Who has a volume attached: one consumer at a time, limited as somebody said."""

from datetime import timedelta
from typing import TYPE_CHECKING, assert_never

import msgspec
from msgspec.structs import replace

from aggregates.decision import Decision, Facts
from aggregates.peers import member_on, unwritable
from schemas.answers import Refused, refuse
from schemas.attaching import (
    AttachingCommand,
    AttachingEvent,
    AttachVolume,
    DetachVolume,
    FollowQosClass,
    LimitVolume,
    VolumeAttached,
    VolumeAttachingBegan,
    VolumeAttachingFailed,
    VolumeDetached,
    VolumeDetachingBegan,
    VolumeDetachingFailed,
    VolumeLimited,
    VolumeLimitingBegan,
    VolumeLimitingFailed,
)
from schemas.attachment import AttachmentSpec, Limits
from schemas.refusals import Refusal
from schemas.volume import ConcludeVolume, Filesystem

if TYPE_CHECKING:
    from aggregates.decision import World
    from aggregates.volume import Volume


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """How a volume is used: ``attachment`` is what holds, ``attaching`` what is being made.

    ``limits`` hold for every attachment, ``limiting`` are those that an operation is setting. With
    a class, ``qos``, it is its limits that count; ``limiting_qos`` is the one that is being given.
    """

    attachment: AttachmentSpec | None = None
    attaching: AttachmentSpec | None = None
    limits: Limits = Limits()
    limiting: Limits = Limits()
    qos: str = ""
    limiting_qos: str = ""


def decide(volume: "Volume", command: AttachingCommand, facts: Facts) -> Decision[AttachingEvent]:
    """Say what shall happen to a volume that is ready for it."""
    match command:
        case AttachVolume():
            return _attach(volume, command, facts)
        case DetachVolume():
            return _detach(volume, command, facts)
        case LimitVolume():
            return _limit(volume, command, facts)
        case FollowQosClass():
            return _follow(volume, command, facts)
        case _:
            assert_never(command)


def no_class(name: str | None, facts: Facts) -> Refused | None:
    """Return why no volume can be given the class of that *name*, or None; also without one."""
    if name is None or name in facts.world.qos:
        return None
    return refuse(Refusal.UNKNOWN_QOS, f"there is no QoS class {name}")


def behind(volume: "Volume", world: "World") -> Limits | None:
    """Return the limits of its class that an attached volume does not carry yet, or None."""
    now, given = volume.use.attachment, world.qos.get(volume.use.qos)
    if now is None or given is None or now.limits == given.limits:
        return None
    return given.limits


def held(volume: "Volume", name: str, wish: str) -> Refused | None:
    """Refuse *wish* while a consumer has the volume."""
    now = volume.use.attachment
    return None if now is None else _held(now, name, wish)


def _held(now: AttachmentSpec, name: str, wish: str) -> Refused:
    where = f", mounted at {now.mount_point}" if now.mount_point else ""
    return refuse(
        Refusal.VOLUME_ATTACHED, f"{name} is attached to {now.consumer}{where}: it cannot {wish}"
    )


def frozen(volume: "Volume", name: str) -> Refused | None:
    """Refuse to grow what nobody may write to: its filesystem could not follow."""
    now = volume.use.attachment
    if now is None or not now.read_only or volume.filesystem is Filesystem.NONE:
        return None
    return _held(now, name, "grow while its filesystem is read only")


def _attach(volume: "Volume", command: AttachVolume, facts: Facts) -> Decision[AttachingEvent]:
    given = facts.world.qos.get(volume.use.qos)
    node = command.node or volume.node
    there = member_on(volume, node)
    wish = AttachmentSpec(
        uid=facts.uid,
        volume_uid=volume.uid,
        pool=volume.pool if there is None else there.pool,
        consumer=command.consumer,
        filesystem=volume.filesystem,
        mount_point=command.mount_point,
        read_only=command.read_only,
        cgroup=command.cgroup,
        limits=volume.use.limits if given is None else given.limits,
    )
    now = volume.use.attachment
    same = now is not None and replace(now, uid=wish.uid, limits=wish.limits) == wish
    if same and node == volume.node:
        return ()
    if now is not None:
        return _held(now, command.volume, f"be attached to {command.consumer} in this way")
    no = no_class(volume.use.qos or None, facts)
    if node != volume.node:
        no = no or unwritable(volume, command.volume, node, facts.world)
    if no is not None:
        return no
    if command.mount_point and volume.filesystem is Filesystem.NONE:
        bare = f"{command.volume} has no filesystem to be mounted at {command.mount_point}"
        return refuse(Refusal.NO_FILESYSTEM, bare)
    if wish.limits.any and command.cgroup is None:
        loose = f"{command.volume} is limited: name the control group that the limits hold for"
        return refuse(Refusal.NO_CGROUP, loose)
    return (
        VolumeAttachingBegan(
            volume=command.volume,
            operation=facts.operation,
            deadline=facts.at + timedelta(seconds=command.deadline_s),
            node=node,
            attachment=wish,
        ),
    )


def _detach(volume: "Volume", command: DetachVolume, facts: Facts) -> Decision[AttachingEvent]:
    now = volume.use.attachment
    if now is None:
        return ()
    if command.consumer not in {None, now.consumer}:
        return _held(now, command.volume, f"be taken back from {command.consumer}")
    return (
        VolumeDetachingBegan(
            volume=command.volume,
            operation=facts.operation,
            deadline=facts.at + timedelta(seconds=command.deadline_s),
            node=volume.node,
            consumer=now.consumer,
        ),
    )


def _limit(volume: "Volume", command: LimitVolume, facts: Facts) -> Decision[AttachingEvent]:
    no = _unclear(command) or no_class(command.qos, facts)
    if no is not None:
        return no
    limits = command.limits if command.qos is None else facts.world.qos[command.qos].limits
    now = volume.use.attachment
    hold = volume.use.limits if now is None else now.limits
    if (command.qos or "") != volume.use.qos:
        # Another class, or none: that is to be said, even where the limits are the same.
        if now is None or limits == hold:
            return (VolumeLimited(volume=command.volume, limits=limits, qos=command.qos),)
    elif limits == hold or (now is None and command.qos is not None):
        return ()  # nobody has it: whoever gets it has the limits of its class then
    if now is None:
        return (VolumeLimited(volume=command.volume, limits=limits),)
    return _limiting(volume, now, command, limits, command.qos, facts)


def _unclear(command: LimitVolume) -> Refused | None:
    if command.qos is None or not command.limits.any:
        return None
    both = f"{command.volume} cannot have the class {command.qos} and limits of its own"
    return refuse(Refusal.QOS_UNCLEAR, both)


def _follow(volume: "Volume", command: FollowQosClass, facts: Facts) -> Decision[AttachingEvent]:
    now, limits = volume.use.attachment, behind(volume, facts.world)
    if volume.uid != command.uid or now is None or limits is None:
        return ()
    return _limiting(volume, now, command, limits, volume.use.qos, facts)


def _limiting(
    volume: "Volume",
    now: AttachmentSpec,
    command: LimitVolume | FollowQosClass,
    limits: Limits,
    qos: str | None,
    facts: Facts,
) -> Decision[AttachingEvent]:
    if now.cgroup is None:
        loose = f"{command.volume} is attached to {now.consumer} without a control group"
        return refuse(Refusal.NO_CGROUP, loose)
    return (
        VolumeLimitingBegan(
            volume=command.volume,
            operation=facts.operation,
            deadline=facts.at + timedelta(seconds=command.deadline_s),
            node=volume.node,
            limits=limits,
            before=now.limits,
            qos=qos,
        ),
    )


def attached(volume: "Volume", report: ConcludeVolume) -> Decision[AttachingEvent]:
    """Say how attaching ended."""
    if report.code is None and volume.use.attaching is not None:
        return (
            VolumeAttached(
                volume=report.volume,
                operation=report.operation,
                attachment=volume.use.attaching,
            ),
        )
    return (
        VolumeAttachingFailed(
            volume=report.volume,
            operation=report.operation,
            code=report.code or Refusal.VOLUME_NOT_READY,
            because=report.because,
        ),
    )


def detached(volume: "Volume", report: ConcludeVolume) -> Decision[AttachingEvent]:
    """Say how detaching ended."""
    if report.code is None and volume.use.attachment is not None:
        return (
            VolumeDetached(
                volume=report.volume,
                operation=report.operation,
                consumer=volume.use.attachment.consumer,
            ),
        )
    return (
        VolumeDetachingFailed(
            volume=report.volume,
            operation=report.operation,
            code=report.code or Refusal.VOLUME_NOT_READY,
            because=report.because,
        ),
    )


def limited(volume: "Volume", report: ConcludeVolume) -> Decision[AttachingEvent]:
    """Say how the change of limits ended."""
    if report.code is None:
        return (
            VolumeLimited(
                volume=report.volume,
                operation=report.operation,
                limits=volume.use.limiting,
                qos=volume.use.limiting_qos or None,
            ),
        )
    return (
        VolumeLimitingFailed(
            volume=report.volume,
            operation=report.operation,
            code=report.code,
            because=report.because,
        ),
    )


def evolve(use: Use, event: AttachingEvent) -> Use:
    """Apply what happened. Never refuses: the past cannot be wrong."""
    match event:
        case VolumeAttachingBegan():
            return replace(use, attaching=event.attachment)
        case VolumeAttached():
            limits = event.attachment.limits
            return replace(use, attachment=event.attachment, attaching=None, limits=limits)
        case VolumeAttachingFailed():
            return replace(use, attaching=None)
        case VolumeDetached():
            return replace(use, attachment=None)
        case VolumeLimitingBegan():
            return replace(use, limiting=event.limits, limiting_qos=event.qos or "")
        case VolumeLimited():
            now = use.attachment
            limited_ = None if now is None else replace(now, limits=event.limits)
            limited_use = replace(use, attachment=limited_, limits=event.limits)
            return replace(limited_use, qos=event.qos or "", limiting=Limits(), limiting_qos="")
        case VolumeLimitingFailed():
            return replace(use, limiting=Limits(), limiting_qos="")
        case VolumeDetachingBegan() | VolumeDetachingFailed():
            return use
        case _:
            assert_never(event)
