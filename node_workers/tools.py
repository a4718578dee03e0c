"""Run a tool that must succeed, and know what its refusals mean."""

import re
from collections.abc import Callable

import msgspec

from node_workers.ports import (
    Execution,
    InUseError,
    NoSpaceError,
    NotThereError,
    Refusal,
    RefusedToTouchError,
    Runner,
    StorageError,
    ToolFailedError,
    UnsuitableError,
)

LVM_TIMEOUT_S = 60.0
# Arguments: paths, the first in the folder that is forced to the disk. Without that a power loss
# brings back what a journal or a resource file said, and it would be believed once more.
REMOVE = (
    "sh",
    "-ec",
    'rm -f "$@"; [ ! -d "${1%/*}" ] || sync "${1%/*}"',
    "hwbus",
)


class NameTakenError(StorageError):
    """There is a logical volume of that name already: look whose it is."""


# LVM has one exit status for everything, so the sentence is all there is to tell reasons apart.
_MEANINGS: tuple[tuple[re.Pattern[str], Callable[[str], StorageError]], ...] = (
    (
        re.compile(r"exceeds maximum metadata size|metadata area.*(full|too small)", re.IGNORECASE),
        lambda said: NoSpaceError("no-metadata-space", said),
    ),
    (
        re.compile(r"insufficient (free space|suitable allocatable extents)", re.IGNORECASE),
        lambda said: NoSpaceError("no-space", said),
    ),
    (
        re.compile(r'Logical Volume ".*" already exists in volume group'),
        lambda said: NameTakenError("name-taken", said),
    ),
    (
        re.compile(
            r"contains a filesystem in use|in use: |Device or resource busy|target is busy"
            r"|Device \S+ is still in use|which is in use \(already mapped or mounted\)"
            r"|Logical volume \S+ (is )?(in use|used by another device)"
        ),
        InUseError,
    ),
    (
        re.compile(r"already exists in filesystem|are reserved"),
        lambda said: RefusedToTouchError(Refusal.RESERVED_NAME, said),
    ),
    (
        re.compile(r"Pool \S+ not found in Volume group"),
        lambda said: NotThereError("thin-pool-missing", said),
    ),
    (
        re.compile(r"while PVs are missing|Refusing activation of partial LV"),
        lambda said: NotThereError("disk-missing", said),
    ),
    (
        re.compile(r'Volume group "\S+" not found'),
        lambda said: NotThereError("pool-missing", said),
    ),
    (
        re.compile(r"No usable keyslot is available|is not a valid LUKS device"),
        lambda said: NotThereError("header-lost", said),
    ),
    (
        re.compile(r"All key slots full|No space for new keyslot"),
        lambda said: UnsuitableError("no-key-slot", said),
    ),
    (
        re.compile(r"Number of stripes .* must not exceed number of physical volumes"),
        lambda said: UnsuitableError("too-few-disks", said),
    ),
)


class Tools(msgspec.Struct, frozen=True):
    """A runner whose tools succeed or raise."""

    runner: Runner

    async def must(
        self,
        *argv: str,
        cause: str,
        timeout_s: float = LVM_TIMEOUT_S,
        accepted: frozenset[int] = frozenset({0}),
        stdin: bytes = b"",
    ) -> Execution:
        """Run *argv* and return what it left, its exit status being one of *accepted*.

        Raises ``StorageError``: of the most telling kind, else ``ToolFailedError``.
        """
        execution = await self.runner.run(argv, cause=cause, timeout_s=timeout_s, stdin=stdin)
        if execution.exit_status not in accepted:
            raise meaning(execution)
        return execution


def meaning(execution: Execution) -> StorageError:
    """Return the error that the failed *execution* amounts to."""
    for line in execution.stderr.splitlines():
        for pattern, error in _MEANINGS:
            if pattern.search(line):
                return error(line.strip())
    return ToolFailedError(execution)
