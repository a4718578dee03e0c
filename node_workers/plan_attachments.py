"""What is to be ensured for volumes in use, and which of them miss something."""

from collections.abc import Mapping

from node_workers.observation import Observation
from node_workers.steps import HaveAttachment, HaveNoAttachment
from node_workers.wanted import Wanted, WantedAttachment, WantedPool, WantedReplica
from schemas.replication import Replication


def attachments(everything: Mapping[str, Wanted]) -> tuple[WantedAttachment, ...]:
    """Return the attachments that shall be there, whether or not that has been said yet."""
    wanted = (one for one in everything.values() if isinstance(one, WantedAttachment))
    return tuple(one for one in wanted if one.present)


def lost_attachments(
    everything: Mapping[str, Wanted], seen: Observation
) -> tuple[WantedAttachment, ...]:
    """Return the attachments of which the device or the mount is missing."""
    devices = {device.volume: device for device in seen.devices}

    def is_whole(one: WantedAttachment) -> bool:
        device = devices.get(one.volume)
        mounted = one.spec.mount_point in {None, *(device.mount_points if device else ())}
        return device is not None and mounted

    return tuple(one for one in attachments(everything) if not is_whole(one))


def limited_attachments(
    everything: Mapping[str, Wanted], seen: Observation
) -> tuple[tuple[WantedAttachment, str], ...]:
    """Return the attachments with limits, which no look shows, and the numbers of their devices."""
    numbers = {device.volume: device.number for device in seen.devices}
    limited = (one for one in attachments(everything) if one.spec.limits.any)
    return tuple((one, numbers[one.volume]) for one in limited if one.volume in numbers)


def attachment_step(
    attachment: WantedAttachment, everything: Mapping[str, Wanted]
) -> HaveAttachment:
    """Return what has the attachment there, whether or not its wish has been answered."""
    return HaveAttachment(
        key=attachment.key,
        group=attachment.spec.pool,
        uid=attachment.uid,
        origin=attachment.origin,
        volume=attachment.volume,
        pool_uid=_group_uid(attachment, everything),
        spec=attachment.spec,
        keys=_keys(attachment, everything),
        replication=_replication(attachment, everything),
    )


def _replication(
    attachment: WantedAttachment, everything: Mapping[str, Wanted]
) -> Replication | None:
    """Return how the leg of an attached volume is tied, if it is."""
    leg = everything.get(f"replica/{attachment.volume}")
    same = isinstance(leg, WantedReplica) and leg.uid == attachment.spec.volume_uid
    return leg.spec.replication if isinstance(leg, WantedReplica) and same else None


def _group_uid(attachment: WantedAttachment, everything: Mapping[str, Wanted]) -> str:
    """Return the uid of the group that an attached volume lies in: the pool's, or its own."""
    leg = everything.get(f"replica/{attachment.volume}")
    whole = isinstance(leg, WantedReplica) and leg.spec.disk is not None
    uid = attachment.spec.volume_uid
    return uid if whole else pool_uid_of(attachment.spec.pool, everything)


def _keys(attachment: WantedAttachment, everything: Mapping[str, Wanted]) -> tuple[str, ...]:
    """Return the references to keys of which one opens the volume, if it is encrypted."""
    leg = everything.get(f"replica/{attachment.volume}")
    same = isinstance(leg, WantedReplica) and leg.uid == attachment.spec.volume_uid
    encryption = leg.spec.encryption if isinstance(leg, WantedReplica) and same else None
    return () if encryption is None else encryption.known


def detachment_step(
    attachment: WantedAttachment, everything: Mapping[str, Wanted]
) -> HaveNoAttachment:
    """Return what has nothing of the attachment there any more."""
    return HaveNoAttachment(
        key=attachment.key,
        group=attachment.spec.pool,
        uid=attachment.uid,
        origin=attachment.origin,
        volume=attachment.volume,
        spec=attachment.spec,
        keys=_keys(attachment, everything),
        replication=_replication(attachment, everything),
        forced=attachment.forced,
    )


def pool_uid_of(name: str, everything: Mapping[str, Wanted]) -> str:
    """Return the uid of the pool of that name; empty if none is wanted."""
    pool = everything.get(f"pool/{name}")
    return pool.uid if isinstance(pool, WantedPool) else ""
