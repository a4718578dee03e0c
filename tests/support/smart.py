"""What smartctl prints: of disks that are well, and of some that are not."""

from typing import Any

import msgspec


def printed(**parts: Any) -> str:
    """Return the JSON of smartctl with *parts* beside what it always says of itself."""
    about = {
        "json_format_version": [1, 0],
        "smartctl": {"version": [7, 3], "exit_status": 0},
        "device": {"name": "/dev/sdb", "info_name": "/dev/sdb"},
    }
    return msgspec.json.encode(about | parts).decode()


def ata(*, passed: bool = True, **raw: str) -> str:
    """Return what an ATA disk says; *raw* is the raw text of attributes: ``id5="8"``."""
    table = [
        {
            "id": int(name.removeprefix("id")),
            "name": "Some_Attribute",
            "value": 100,
            "worst": 100,
            "thresh": 10,
            "when_failed": "",
            "flags": {"value": 51, "string": "PO--CK ", "prefailure": True},
            "raw": {"value": 1 << 40, "string": text},
        }
        for name, text in ({"id5": "0", "id194": "61 (Min/Max 20/61)", "id197": "0"} | raw).items()
    ]
    return printed(
        smart_support={"available": True, "enabled": True},
        smart_status={"passed": passed},
        ata_smart_attributes={"revision": 16, "table": table},
        temperature={"current": 61},
    )


def nvme(*, critical_warning: int = 0, media_errors: int = 0, percentage_used: int = 3) -> str:
    """Return what an NVMe disk says."""
    return printed(
        smart_status={"passed": critical_warning == 0, "nvme": {"value": critical_warning}},
        nvme_smart_health_information_log={
            "critical_warning": critical_warning,
            "temperature": 81,
            "available_spare": 100,
            "available_spare_threshold": 10,
            "percentage_used": percentage_used,
            "media_errors": media_errors,
            "num_err_log_entries": 12,
        },
    )
