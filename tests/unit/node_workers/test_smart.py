"""What smartctl prints, and what that amounts to."""

import pytest

from node_workers.ports import Execution
from node_workers.smart import UNKNOWN, Verdict, judge
from schemas.disk import Health
from tests.support.clock import NOON
from tests.support.smart import ata, nvme, printed

HEALTHY = Verdict(health=Health.HEALTHY)


def verdict(stdout: str, exit_status: int = 0) -> Verdict:
    return judge(
        Execution(
            argv=("smartctl", "-j", "-a", "/dev/sdb"),
            exit_status=exit_status,
            stdout=stdout,
            stderr="",
            duration_ms=1.0,
            cause="health:1",
            started_at=NOON,
        )
    )


def failing(*reasons: str) -> Verdict:
    return Verdict(health=Health.FAILING, reasons=reasons)


def test_a_disk_that_is_well_is_healthy() -> None:
    assert verdict(ata()) == HEALTHY
    assert verdict(nvme()) == HEALTHY


@pytest.mark.parametrize(
    ("said", "reasons"),
    [
        (ata(passed=False), ("its overall SMART status is failed",)),
        (ata(id5="1"), ("1 or more reallocated sectors",)),
        (ata(id5="8 (2000 0)"), ("1 or more reallocated sectors",)),
        (ata(id197="24"), ("10 or more sectors waiting to be reallocated",)),
        (ata(id198="4711"), ("1000 or more sectors that cannot be corrected",)),
        (
            ata(passed=False, id5="300", id197="9"),
            (
                "its overall SMART status is failed",
                "100 or more reallocated sectors",
                "1 or more sectors waiting to be reallocated",
            ),
        ),
    ],
)
def test_an_ata_disk_that_fails_or_loses_sectors_is_failing(
    said: str, reasons: tuple[str, ...]
) -> None:
    assert verdict(said) == failing(*reasons)


@pytest.mark.parametrize(
    ("said", "reasons"),
    [
        (nvme(critical_warning=1), ("its spare space is running out",)),
        (nvme(critical_warning=4), ("it is no longer reliable: media or internal errors",)),
        (nvme(critical_warning=8), ("it has become read-only",)),
        (nvme(critical_warning=64), ("critical warning 0x40",)),
        (nvme(media_errors=1), ("1 or more media errors",)),
        (
            nvme(critical_warning=9, media_errors=17),
            (
                "its spare space is running out",
                "it has become read-only",
                "10 or more media errors",
            ),
        ),
    ],
)
def test_an_nvme_disk_with_a_warning_or_media_errors_is_failing(
    said: str, reasons: tuple[str, ...]
) -> None:
    assert verdict(said, exit_status=8) == failing(*reasons)


def test_heat_and_wear_make_no_disk_failing() -> None:
    assert verdict(nvme(critical_warning=2), exit_status=8) == HEALTHY
    assert verdict(nvme(percentage_used=120)) == HEALTHY
    assert verdict(ata(id194="80 (Min/Max 20/80)")) == HEALTHY


@pytest.mark.parametrize("bits", [1 << 2, 1 << 5, 1 << 6, 1 << 7, 1 << 2 | 1 << 6 | 1 << 7])
def test_what_went_wrong_long_ago_or_in_part_is_no_verdict(bits: int) -> None:
    assert verdict(ata(), bits) == HEALTHY


def test_the_exit_status_alone_may_say_that_a_disk_is_failing() -> None:
    assert verdict(ata(), 1 << 3) == failing("its overall SMART status is failed")
    assert verdict(ata(), 1 << 4) == failing("a pre-failure attribute is at its threshold")


@pytest.mark.parametrize(
    ("said", "exit_status"),
    [
        (printed(), 1),
        (printed(), 2),
        (ata(passed=False), 2),
        (printed(), 0),
        (printed(), 4),
        ("", 127),
        ("", -9),
        ("not JSON", 0),
        ('{"smart_status": {"passed": "who knows"}}', 0),
    ],
)
def test_a_disk_that_does_not_say_is_unknown(said: str, exit_status: int) -> None:
    assert verdict(said, exit_status) == UNKNOWN
