"""Runs the program that speaks with object stores: credentials by its input, answers in JSON."""

import sys

import msgspec
import structlog

from hwbus.bucket import Where
from node_workers import backing_up
from node_workers.credentials import credentials
from node_workers.keys import KeySource
from node_workers.ports import (
    Execution,
    Runner,
    StorageError,
    ToolFailedError,
    UnsuitableError,
)
from schemas.backups import Place

_LOG = structlog.get_logger("node_workers.backup_tool")
TURN_S = 5.0
_TIMEOUT_S = 600.0
_TOLD = frozenset({backing_up.DONE, backing_up.TIME_OVER})


class BackupTool:
    """The program on this machine, and the secrets that it is given."""

    def __init__(self, runner: Runner, keys: KeySource, folder: str) -> None:
        self._runner = runner
        self._keys = keys
        self.folder = folder

    async def run(
        self, verb: str, about: msgspec.Struct, place: Place, *, cause: str
    ) -> tuple[bool, bytes]:
        """Have one more turn of *verb*; return whether it is done, and what was printed.

        Raises ``UnsuitableError`` for what can never be done so, and ``StorageError``.
        """
        execution = await self._execute(verb, about, place, cause=cause)
        if execution.exit_status == backing_up.NEVER:
            said = msgspec.json.decode(execution.stdout, type=backing_up.Said)
            raise UnsuitableError(said.code, said.because)
        if execution.exit_status not in _TOLD:
            raise ToolFailedError(execution)
        return execution.exit_status == backing_up.DONE, execution.stdout.encode()

    async def try_run(self, verb: str, about: msgspec.Struct, place: Place, *, cause: str) -> None:
        """Have *verb* done if that can be done now; the audit keeps what came of it."""
        try:
            await self._execute(verb, about, place, cause=cause)
        except StorageError as error:
            _LOG.warning("not done", verb=verb, because=error.sentence)

    async def _execute(
        self, verb: str, about: msgspec.Struct, place: Place, *, cause: str
    ) -> Execution:
        secret = await credentials(self._keys, place.credentials)
        argv = (
            *(sys.executable, *backing_up.PROGRAM, verb),
            *(msgspec.json.encode(about).decode(), "--for", f"{TURN_S:g}"),
        )
        return await self._runner.run(argv, cause=cause, timeout_s=_TIMEOUT_S, stdin=secret)


def where(place: Place) -> Where:
    """Return where that is, without whose credentials it takes."""
    return Where(url=place.url, endpoint=place.endpoint, region=place.region)
