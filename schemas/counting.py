"""What is said about bytes that consumers wrote and read: running totals, told now and then."""

from schemas.grammar import Event, Report
from schemas.units import Id, Name, SomeBytes


class ReportVolumeIo(
    Report, frozen=True, kw_only=True, omit_defaults=True, tag="volume.report-io.v1"
):
    """So much has gone through the device of the volume on that node, since ``book`` was begun.

    A book is what one node knows of one volume: it is kept over detaching, restarts and reboots,
    and its totals never become less. A node that has lost it begins another, at nought.
    """

    volume: Name
    uid: Id
    node: Name
    book: Id
    written_bytes: SomeBytes
    read_bytes: SomeBytes


class VolumeIoCounted(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="volume.io-counted.v1"
):
    """Consumers have written and read that much ``more`` on the node, where the leg is in ``pool``.

    ``written_bytes`` and ``read_bytes`` are what its ``book`` says by now.
    """

    volume: Name
    uid: Id
    node: Name
    pool: Name | None = None
    book: Id
    written_bytes: SomeBytes
    read_bytes: SomeBytes
    more_written_bytes: SomeBytes = 0
    more_read_bytes: SomeBytes = 0


CountingCommand = ReportVolumeIo
CountingEvent = VolumeIoCounted
