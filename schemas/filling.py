"""What is said about how full filesystems are: told when a mark is passed, and not in between."""

from typing import Annotated

import msgspec

from schemas.grammar import Event, Report
from schemas.units import Bytes, Id, Name, SomeBytes

FillPercent = Annotated[int, msgspec.Meta(ge=0, le=100)]


class ReportVolumeFill(Report, frozen=True, kw_only=True, tag="volume.report-fill.v1"):
    """The mounted filesystem has passed a mark (50, 55, ... 100 per cent), or has fallen below it.

    ``used_bytes`` are those of the ``filesystem_bytes`` that an ordinary user may write; the volume
    was ``size_bytes`` large then.
    """

    volume: Name
    uid: Id
    data_percent: FillPercent
    used_bytes: SomeBytes
    filesystem_bytes: SomeBytes
    size_bytes: Bytes


class VolumeFilled(Event, frozen=True, kw_only=True, tag="volume.filled.v1"):
    """The filesystem on the volume is that full."""

    volume: Name
    uid: Id
    data_percent: FillPercent
    used_bytes: SomeBytes
    filesystem_bytes: SomeBytes


FillingCommand = ReportVolumeFill
FillingEvent = VolumeFilled
