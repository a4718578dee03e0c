"""The archivist: brings the archive up to the newest signed heads, by the clock.

It remembers nothing: where it goes on is what lies in the archive.
"""

import asyncio
from collections.abc import Iterable, Sequence

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hwbus.archiving import ArchiveError, Archiver
from hwbus.places import PlaceError
from hwbus.ports import Clock, ForbiddenError, NobodyThereError, OutcomeUnknownError

ARCHIVE_EVERY_S = 3600.0
_SOON_S = 60.0
_TROUBLES = (PlaceError, OutcomeUnknownError, NobodyThereError, ForbiddenError)
_LOG = structlog.get_logger("hwbus.archivist")


class Archivist:
    """Archives some streams at intervals, sooner again if that failed.

    ``until`` is how far each is archived, as far as is known here; ``trouble`` why not further.
    """

    def __init__(self, archivers: Sequence[Archiver], clock: Clock, *, every_s: float) -> None:
        self.every_s = every_s
        self.until: dict[str, int] = {}
        self.trouble: dict[str, str] = {}
        self._archivers = tuple(archivers)
        self._clock = clock
        self._up_to_date = dict.fromkeys((one.stream.name for one in archivers), clock.now())

    @property
    def streams(self) -> tuple[str, ...]:
        """Which streams are archived."""
        return tuple(self._up_to_date)

    def age_s(self, stream: str) -> float:
        """Return for how long the archive of *stream* was not up to date, or since the start."""
        return max(0.0, (self._clock.now() - self._up_to_date[stream]).total_seconds())

    async def run(self) -> None:
        """Archive until cancelled. What cannot be archived is told, and tried again."""
        soon_s = min(_SOON_S, self.every_s)
        # Not at once: a control plane that starts has more urgent things to read.
        await asyncio.sleep(soon_s)
        while True:
            well = await self.archive()
            await asyncio.sleep(self.every_s if well else soon_s)

    async def archive(self) -> bool:
        """Archive what is signed; say in ``trouble`` and in the log why not, if not."""
        for archiver in self._archivers:
            stream = archiver.stream.name
            began = self._clock.now()
            try:
                done = await archiver.archive()
            except _TROUBLES as error:
                self._tell(stream, error)
                _LOG.warning("not archived yet", stream=stream, because=self.trouble[stream])
            except ArchiveError as error:
                self._tell(stream, error)
                _LOG.error("not archived any more", stream=stream, because=self.trouble[stream])
            else:
                self.trouble.pop(stream, None)
                self.until[stream], self._up_to_date[stream] = done.until, began
        return not self.trouble

    def _tell(self, stream: str, error: Exception) -> None:
        self.trouble[stream] = str(error) or type(error).__name__


class ArchiveFigures(Collector):
    """How far the archive is; without an archivist there are no values."""

    def __init__(self, archivist: Archivist | None) -> None:
        self._archivist = archivist

    def collect(self) -> Iterable[Metric]:
        """Return every family, whether there is anything to tell or not."""
        until = _gauge("hwbus_archive_position", "The last sequence that is archived.")
        age = _gauge("hwbus_archive_age_seconds", "For how long the archive was not up to date.")
        every = _gauge("hwbus_archive_every_seconds", "How often it is brought up to date.")
        trouble = _gauge("hwbus_archive_trouble", "1 while it cannot be.")
        for here in () if self._archivist is None else (self._archivist,):
            for stream in here.streams:
                if stream in here.until:
                    until.add_metric((stream,), here.until[stream])
                age.add_metric((stream,), here.age_s(stream))
                every.add_metric((stream,), here.every_s)
                trouble.add_metric((stream,), stream in here.trouble)
        yield from (until, age, every, trouble)


def _gauge(name: str, meaning: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, meaning, labels=("stream",))
