"""Labels of volumes: keys and values by which people sort them, and what is said about them.

Keys and values are written as Kubernetes writes labels: ``team``, ``example.com/tier``.
"""

import re
from collections.abc import Mapping
from typing import Annotated

import msgspec

from schemas.grammar import Event, Request
from schemas.units import Id, Name

LABELS_MAX = 32
_PREFIX_MAX, _PART_MAX = 253, 63
_PART = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
# Longer than what may stand there: what is wrong with a label is told by the volume, in words.
_Written = Annotated[str, msgspec.Meta(max_length=1024)]
Labels = Annotated[
    dict[_Written, _Written],
    msgspec.Meta(
        max_length=4 * LABELS_MAX,
        description="Values by keys, both as Kubernetes writes labels; at most 32 on a volume.",
    ),
]
LabelKeys = Annotated[tuple[_Written, ...], msgspec.Meta(max_length=4 * LABELS_MAX)]


class LabelVolume(Request, frozen=True, kw_only=True, omit_defaults=True, tag="volume.label.v1"):
    """Give the volume the labels in ``set``, and take those with the keys in ``remove`` from it.

    What is so already changes nothing. It may be said at any time, whatever runs on the volume.
    """

    volume: Name
    set: Labels = msgspec.field(default_factory=dict)
    remove: LabelKeys = ()


class VolumeLabelled(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="volume.labelled.v1"
):
    """The volume has other labels: those in ``set`` are new or changed, ``removed`` are gone."""

    volume: Name
    uid: Id
    set: Labels = msgspec.field(default_factory=dict)
    removed: LabelKeys = ()


LabellingCommand = LabelVolume
LabellingEvent = VolumeLabelled


def with_labels(labels: Mapping[str, str], event: VolumeLabelled) -> dict[str, str]:
    """Return the labels after that has happened."""
    kept = {key: value for key, value in labels.items() if key not in event.removed}
    return kept | event.set


def bad_key(key: str) -> str:
    """Return what is wrong with the key of a label, or an empty string."""
    prefix, slash, part = key.rpartition("/")
    if slash and not (len(prefix) <= _PREFIX_MAX and _PREFIX.fullmatch(prefix)):
        return f"what stands before the / in {key[:80]!r} is no DNS name of at most {_PREFIX_MAX}"
    return _bad_part(part, f"the key {key[:80]!r}")


def bad_value(value: str) -> str:
    """Return what is wrong with the value of a label, or an empty string; it may be empty."""
    return _bad_part(value, f"the value {value[:80]!r}") if value else ""


def _bad_part(part: str, what: str) -> str:
    if len(part) > _PART_MAX:
        return f"{what} is longer than {_PART_MAX} characters"
    if not _PART.fullmatch(part):
        return f"{what} is not of letters, digits, - _ and . with a letter or digit at both ends"
    return ""
