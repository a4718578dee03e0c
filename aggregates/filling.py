"""How full the filesystem on a volume is, as its node tells; a word from before growing is late."""

from typing import TYPE_CHECKING

from aggregates.decision import Decision
from schemas.filling import FillingEvent, ReportVolumeFill, VolumeFilled

if TYPE_CHECKING:
    from aggregates.volume import Volume


def note(volume: "Volume", report: ReportVolumeFill) -> Decision[FillingEvent]:
    """Take over what is new and is about the volume as it is now."""
    late = report.uid != volume.uid or report.size_bytes < volume.size_bytes
    if late or report.data_percent == volume.fill_percent:
        return ()
    return (
        VolumeFilled(
            volume=report.volume,
            uid=report.uid,
            data_percent=report.data_percent,
            used_bytes=report.used_bytes,
            filesystem_bytes=report.filesystem_bytes,
        ),
    )
