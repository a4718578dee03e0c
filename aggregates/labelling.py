"""Labels of volumes: they say nothing about storage, so nothing that runs stands in their way."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec.structs import replace

from aggregates.decision import Decision
from schemas.answers import Refused, refuse
from schemas.labels import (
    LABELS_MAX,
    LabelVolume,
    VolumeLabelled,
    bad_key,
    bad_value,
    with_labels,
)
from schemas.refusals import Refusal

if TYPE_CHECKING:
    from aggregates.volume import Volume


def bad_labels(labels: Mapping[str, str]) -> Refused | None:
    """Return why a volume cannot have these labels, or None."""
    wrong = (bad_key(key) or bad_value(value) for key, value in labels.items())
    first = next(filter(None, wrong), "")
    if first:
        return refuse(Refusal.BAD_LABEL, first)
    if len(labels) > LABELS_MAX:
        many = f"it would have {len(labels)} labels, more than {LABELS_MAX}"
        return refuse(Refusal.TOO_MANY_LABELS, many)
    return None


def decide(volume: "Volume", command: LabelVolume) -> Decision[VolumeLabelled]:
    """Say which labels the volume has from now on; what is so already is no event."""
    if not volume.uid:
        return refuse(Refusal.UNKNOWN_VOLUME, f"there is no volume {command.volume}")
    both = sorted(command.set.keys() & set(command.remove))
    if both:
        twice = f"{both[0][:80]!r} is to be set and to be removed"
        return refuse(Refusal.BAD_LABEL, twice)
    wrong = next(filter(None, map(bad_key, command.remove)), "")
    if wrong:
        return refuse(Refusal.BAD_LABEL, wrong)
    removed = tuple(sorted(set(command.remove) & volume.labels.keys()))
    new = {k: v for k, v in sorted(command.set.items()) if volume.labels.get(k) != v}
    event = VolumeLabelled(volume=command.volume, uid=volume.uid, set=new, removed=removed)
    no = bad_labels(command.set) or bad_labels(with_labels(volume.labels, event))
    return no or ((event,) if new or removed else ())


def evolve(volume: "Volume", event: VolumeLabelled) -> "Volume":
    """Apply what happened. Never refuses: the past cannot be wrong."""
    return replace(volume, labels=with_labels(volume.labels, event))
