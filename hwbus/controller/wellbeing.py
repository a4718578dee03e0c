"""What figures tell and nobody has at hand when they are asked: looked up now and then.

How volumes with several replicas are is in the views; how large the streams are knows the broker.
When a volume was backed up last is noted as the log tells it.
"""

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec
import structlog

from hwbus.desk import Seen
from hwbus.ports import Bus, NobodyThereError, OutcomeUnknownError
from hwbus.streams import STREAMS
from projectors.projector import Projector
from projectors.service import all_rows
from projectors.tables import VOLUMES
from schemas.replica_view import VolumeHealth
from schemas.target import BackupMade

if TYPE_CHECKING:
    from datetime import datetime

LOOK_EVERY_S = 15.0
VOLUMES_MAX = 5000
_ASK_S = 3.0
_LOG = structlog.get_logger("hwbus.wellbeing")


_T = TypeVar("_T")


class _Limits(msgspec.Struct, frozen=True):
    max_storage: int = -1


class _Account(msgspec.Struct, frozen=True):
    limits: _Limits = _Limits()


class _Config(msgspec.Struct, frozen=True):
    max_bytes: int = -1


class _State(msgspec.Struct, frozen=True):
    bytes: int = 0


class _Info(msgspec.Struct, frozen=True):
    config: _Config = _Config()
    state: _State = _State()


class StreamSize(msgspec.Struct, frozen=True):
    """How large a stream is, and may become: None where the broker sets no limit that it tells."""

    size_bytes: int
    limit_bytes: int | None


class Wellbeing:
    """Looks every quarter of a minute. What it could not look up it forgets: no figure is stale."""

    def __init__(self, projector: Projector, bus: Bus, state: Path) -> None:
        self.health: Mapping[str, VolumeHealth] = {}
        self.streams: Mapping[str, StreamSize] = {}
        self.free_bytes: int | None = None
        self.backed_up: dict[tuple[str, str, str], datetime] = {}
        self._projector = projector
        self._bus = bus
        self._state = state

    def take(self, seen: Sequence[Seen]) -> None:
        """Note when each volume was backed up."""
        for one in seen:
            for event in one.commit.events:
                if type(event) is BackupMade:
                    key = (event.volume, event.volume_uid, event.target)
                    self.backed_up.pop(key, None)
                    self.backed_up[key] = one.commit.at
                    if len(self.backed_up) > VOLUMES_MAX:
                        del self.backed_up[next(iter(self.backed_up))]

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Look up everything once."""
        self.health = await self._health()
        self.streams = await self._streams()
        try:
            self.free_bytes = shutil.disk_usage(self._state).free
        except OSError as error:
            self.free_bytes = None
            _LOG.warning("the room for the state is not known", because=str(error))

    async def _health(self) -> dict[str, VolumeHealth]:
        found: dict[str, VolumeHealth] = {}
        async with self._projector.reading() as store:
            for health in VolumeHealth:
                async for row in all_rows(store, VOLUMES, ("health", health.value)):
                    if len(found) == VOLUMES_MAX:
                        return found
                    found[row.name] = health
        return found

    async def _streams(self) -> dict[str, StreamSize]:
        try:
            account = await self._ask("$JS.API.INFO", _Account)
            infos = {
                stream.name: await self._ask(f"$JS.API.STREAM.INFO.{stream.name}", _Info)
                for stream in STREAMS
            }
        except (OutcomeUnknownError, NobodyThereError, msgspec.DecodeError) as error:
            _LOG.warning("the size of the log is not known", because=str(error))
            return {}
        whole = sum(info.state.bytes for info in infos.values())
        sizes = {}
        for name, info in infos.items():
            # What the account has is for all streams: each may take what the others leave.
            left = account.limits.max_storage - whole + info.state.bytes
            limits = [info.config.max_bytes] if info.config.max_bytes > 0 else []
            limits += [left] if account.limits.max_storage > 0 else []
            sizes[name] = StreamSize(info.state.bytes, min(limits, default=None))
        return sizes

    async def _ask(self, subject: str, kind: type[_T]) -> _T:
        answer = await self._bus.request(subject, b"", headers={}, timeout_s=_ASK_S)
        return msgspec.json.decode(answer, type=kind)
