"""What a disk says of its health by SMART, as smartctl prints it, and what that amounts to."""

import re
from collections.abc import Iterator

import msgspec

from node_workers.ports import Execution
from schemas.disk import Health

SMARTCTL = ("smartctl", "-j", "-a")

# The exit status of smartctl is a mask of eight bits, see EXIT STATUS in smartctl(8). Bit 2 (a
# command of many failed), 5 (long ago), 6 and 7 (there are old entries in a log) are no verdict.
_NOT_ASKED = 1 << 0 | 1 << 1
_DISK_FAILING = 1 << 3
_PREFAIL_NOW = 1 << 4

# NVM Express base specification, figure "SMART / Health Information Log", critical warning.
_TOO_HOT = 1 << 1
_NVME_WARNINGS = {
    1 << 0: "its spare space is running out",
    1 << 2: "it is no longer reliable: media or internal errors",
    1 << 3: "it has become read-only",
    1 << 4: "its backup of volatile memory has failed",
    1 << 5: "its persistent memory has become read-only or unreliable",
}
# The attributes that count sectors lost or about to be, whatever the vendor calls them.
_ATA_SECTORS = {
    5: "reallocated sectors",
    197: "sectors waiting to be reallocated",
    198: "sectors that cannot be corrected",
}
_MARKS = (1000, 100, 10, 1)


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a disk says of its health, and why it is failing."""

    health: Health
    reasons: tuple[str, ...] = ()


UNKNOWN = Verdict(health=Health.UNKNOWN)


def judge(execution: Execution) -> Verdict:
    """Return the verdict in what smartctl left; unknown where it could not ask the disk.

    Temperature and wear are no reasons: they come and go, or come to every disk.
    """
    if execution.exit_status < 0 or execution.exit_status & _NOT_ASKED:
        return UNKNOWN
    try:
        said = msgspec.json.decode(execution.stdout, type=_Said)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return UNKNOWN
    if said.nvme is not None:
        reasons = tuple(_of_nvme(said.nvme))
    else:
        reasons = tuple(_of_ata(said, execution.exit_status))
    if reasons:
        return Verdict(health=Health.FAILING, reasons=reasons)
    answered = said.nvme is not None or said.status is not None
    return Verdict(health=Health.HEALTHY) if answered else UNKNOWN


class _Status(msgspec.Struct, frozen=True):
    passed: bool


class _Nvme(msgspec.Struct, frozen=True, kw_only=True):
    critical_warning: int = 0
    media_errors: int = 0


class _Raw(msgspec.Struct, frozen=True):
    string: str = "0"


class _Attribute(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    raw: _Raw = _Raw()


class _Table(msgspec.Struct, frozen=True):
    table: tuple[_Attribute, ...] = ()


class _Said(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of smartctl's JSON that decide, whatever else is in it."""

    status: _Status | None = msgspec.field(name="smart_status", default=None)
    nvme: _Nvme | None = msgspec.field(name="nvme_smart_health_information_log", default=None)
    attributes: _Table = msgspec.field(name="ata_smart_attributes", default=_Table())


def _of_nvme(log: _Nvme) -> Iterator[str]:
    # The overall status of such a disk is "passed" exactly if no warning is set, heat included.
    for bit, meaning in _NVME_WARNINGS.items():
        if log.critical_warning & bit:
            yield meaning
    unknown = log.critical_warning & ~(_TOO_HOT | sum(_NVME_WARNINGS))
    if unknown:
        yield f"critical warning {unknown:#04x}"
    if log.media_errors > 0:
        yield f"{_mark(log.media_errors)} media errors"


def _of_ata(said: _Said, exit_status: int) -> Iterator[str]:
    failed = said.status is not None and not said.status.passed
    if failed or exit_status & _DISK_FAILING:
        yield "its overall SMART status is failed"
    if exit_status & _PREFAIL_NOW:
        yield "a pre-failure attribute is at its threshold"
    for attribute in said.attributes.table:
        meaning = _ATA_SECTORS.get(attribute.id)
        # The number is what the text begins with: vendors pack other things into the raw value.
        found = re.match(r"\d+", attribute.raw.string)
        if meaning is not None and found is not None and int(found[0]) > 0:
            yield f"{_mark(int(found[0]))} {meaning}"


def _mark(count: int) -> str:
    """Return the last mark that *count* has passed: not each further sector is news."""
    mark = next(mark for mark in _MARKS if count >= mark)
    return f"{mark} or more"
