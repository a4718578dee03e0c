"""One question to LVM for everything: asking for one volume costs as much as asking for all."""

import re
from typing import Any

import msgspec

from node_workers.ports import Bytes, Execution, Runner, ToolFailedError
from schemas.mending import SeenVolume

REPORT_TIMEOUT_S = 60.0

POOL_TAG = "hwbus.pool="
DISK_TAG = "hwbus.disk="
VOLUME_TAG = "hwbus.volume="
CAUSE_TAG = "hwbus.cause="
STABLE_DEVICES = ("/dev/hwbus/", "/dev/mapper/hwbus:", "/dev/mapper/hwbus-crypt:")
MERGED_TAG = "hwbus.merged="
CONSISTENCY_TAG = "hwbus.consistency="
FILLING_TAG = "hwbus.filling"
ENCRYPTED_TAG = "hwbus.encrypted=luks2"
TURN_TAG = "hwbus.turn="
FOLLOWED_TAG = "hwbus.followed="
CATCHING_TAG = "hwbus.catching="
WIPED_TAG = "hwbus.wiped"
QUARANTINE_TAG = "hwbus.quarantine="
_UNFINISHED = (FILLING_TAG, ENCRYPTED_TAG, CATCHING_TAG)

_VG_COLUMNS = (
    "vg_name,vg_uuid,vg_tags,vg_size,vg_free,vg_extent_size,vg_extent_count,vg_free_count,"
    "vg_mda_size,vg_mda_free,vg_missing_pv_count"
)
_PV_COLUMNS = "pv_name,pv_uuid,pv_tags,pv_size,pv_free,pv_missing,pv_in_use,dev_size"
_LV_COLUMNS = (
    "lv_name,lv_uuid,lv_tags,lv_size,lv_attr,lv_layout,pool_lv,data_percent,metadata_percent,"
    "lv_active,lv_health_status,lv_path,lv_device_open,lv_kernel_major,lv_kernel_minor,"
    "lv_metadata_size,lv_when_full,origin,lv_snapshot_invalid"
)
_SEGMENT_COLUMNS = "lv_uuid,segtype,stripes"

FULL_REPORT = (
    *("lvm", "fullreport", "--reportformat", "json", "--units", "b", "--nosuffix"),
    *("--configreport", "vg", "-o", _VG_COLUMNS),
    *("--configreport", "pv", "-o", _PV_COLUMNS),
    *("--configreport", "lv", "-o", _LV_COLUMNS),
    *("--configreport", "pvseg", "-o,"),
    *("--configreport", "seg", "-o", _SEGMENT_COLUMNS),
)

_UNSAFE_IN_TAG = re.compile(r"[^A-Za-z0-9_+.\-/=!:#&]")
_TAG_VALUE_CHARACTERS_MAX = 128
_INVALID, _MERGING_ORIGIN, _SKIPPED = "snapshot invalid", "O", 9
PARTIAL = "partial"
"""What LVM says of the health of a volume that lies on a disk which is missing."""
_PARTIAL_STATUS = 5  # what LVM answers for a group that is gone, or one with a missing disk


class PhysicalVolume(msgspec.Struct, frozen=True, kw_only=True):
    """A disk as LVM sees it; ``disk`` is our stamp, or empty; ``wiped``: what was on it is gone."""

    path: str
    uuid: str
    disk: str
    size_bytes: Bytes
    free_bytes: Bytes
    device_bytes: Bytes
    missing: bool
    wiped: bool = False


class LogicalVolume(msgspec.Struct, frozen=True, kw_only=True):
    """A logical volume; ``uid`` and ``cause`` are our tags, or empty.

    ``origin`` is what it is a snapshot of, ``invalid`` that it overflowed. ``merging``: one of its
    snapshots, which LVM shows no more, is becoming this volume. ``mixed``: its segments differ.
    ``skipped``: LVM activates it only for somebody who says so twice.
    """

    name: str
    uuid: str
    tags: tuple[str, ...]
    uid: str
    cause: str
    size_bytes: Bytes
    layout: tuple[str, ...]
    stripes: int
    thin_pool: str
    data_percent: float | None
    metadata_percent: float | None
    metadata_bytes: Bytes
    active: bool
    open: bool
    health: str
    path: str
    device: str
    when_full: str
    origin: str
    invalid: bool
    merging: bool
    mixed: bool = False
    skipped: bool = False

    @property
    def encrypted(self) -> bool:
        """Whether a header of ours is, or shall be, at its start."""
        return ENCRYPTED_TAG in self.tags

    @property
    def unfinished(self) -> bool:
        """Whether a tag of ours says that it is half made, or that a header of ours is on it."""
        return any(tag.startswith(_UNFINISHED) for tag in self.tags)

    @property
    def claim(self) -> str:
        """Under what it is in quarantine, or empty."""
        return _tagged(self.tags, QUARANTINE_TAG)

    @property
    def is_thick_snapshot(self) -> bool:
        """Whether it has room of its own for what changes in its origin, and no life without it."""
        return bool(self.origin) and "thin" not in self.layout

    @property
    def is_thin_pool(self) -> bool:
        """Whether this holds the data of thin volumes and is no volume itself."""
        return "pool" in self.layout and "thin" in self.layout


class VolumeGroup(msgspec.Struct, frozen=True, kw_only=True):
    """A volume group with its members; ``uid`` is our tag, or empty for a foreign one."""

    name: str
    uuid: str
    uid: str
    size_bytes: Bytes
    free_bytes: Bytes
    extent_bytes: Bytes
    free_extents: int
    metadata_bytes: Bytes
    metadata_free_bytes: Bytes
    missing_disks: int
    physical: tuple[PhysicalVolume, ...]
    logical: tuple[LogicalVolume, ...]

    def volume(self, name: str) -> LogicalVolume | None:
        """Return the logical volume of that name, ours or not."""
        return next((lv for lv in self.logical if lv.name == name), None)

    def volume_with_uid(self, uid: str) -> LogicalVolume | None:
        """Return our volume of that uid, whatever it is called now."""
        return next((lv for lv in self.logical if lv.uid == uid), None)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything LVM has; ``orphans`` are physical volumes in no group."""

    groups: tuple[VolumeGroup, ...]
    orphans: tuple[PhysicalVolume, ...]

    def named(self, name: str) -> tuple[VolumeGroup, ...]:
        """Return the groups of that name: two, when a disk came over from another machine."""
        return tuple(group for group in self.groups if group.name == name)


async def ask(runner: Runner, *, cause: str, group: str = "") -> Report:
    """Return LVM's full report, of one *group* or of all; a group that is gone is left out.

    Raises ``ToolFailedError`` when LVM gives no readable answer.
    """
    argv = (*FULL_REPORT, group) if group else FULL_REPORT
    execution = await runner.run(argv, cause=cause, timeout_s=REPORT_TIMEOUT_S)
    if execution.exit_status not in {0, _PARTIAL_STATUS}:
        raise ToolFailedError(execution)
    return parse(execution)


def parse(execution: Execution) -> Report:
    """Return the report in the tool's output. Raises ``ToolFailedError`` if it is not one."""
    try:
        rows = msgspec.json.decode(execution.stdout)["report"]
        groups = tuple(_group(row) for row in rows if row.get("vg") and not _on_a_volume(row))
        orphans = tuple(
            _physical(pv)
            for row in rows
            if not row.get("vg")
            for pv in row.get("pv", ())
            if not pv["pv_name"].startswith(STABLE_DEVICES)
        )
    except (msgspec.DecodeError, KeyError, ValueError, TypeError) as error:
        raise ToolFailedError(execution) from error
    return Report(groups=groups, orphans=orphans)


def seen_volume(group: VolumeGroup, lv: LogicalVolume) -> SeenVolume:
    """Return the logical volume as a person is told of it."""
    return SeenVolume(
        pool=group.name,
        name=lv.name,
        lv=lv.uuid,
        size_bytes=lv.size_bytes,
        layout=",".join(lv.layout) or "unknown",
        stripes=lv.stripes,
        uid=lv.uid,
        origin=lv.origin,
        mixed=lv.mixed,
        kept=any(one.is_thick_snapshot and one.origin == lv.name for one in group.logical),
        unfinished=lv.unfinished,
        claim=lv.claim,
    )


def tag_value(text: str) -> str:
    """Return *text* in the characters that an LVM tag may have."""
    return _UNSAFE_IN_TAG.sub("-", text)[:_TAG_VALUE_CHARACTERS_MAX]


def _on_a_volume(row: dict[str, Any]) -> bool:
    """Whether a group lies on an attached volume: it is its consumer's, whatever it is called."""
    return any(pv["pv_name"].startswith(STABLE_DEVICES) for pv in row.get("pv", ()))


def _group(row: dict[str, Any]) -> VolumeGroup:
    vg = row["vg"][0]
    segments: dict[str, set[tuple[str, int]]] = {}
    for segment in row.get("seg", ()):
        if segment.get("lv_uuid"):
            kind = (segment["segtype"], int(segment["stripes"] or 0))
            segments.setdefault(segment["lv_uuid"], set()).add(kind)
    return VolumeGroup(
        name=vg["vg_name"],
        uuid=vg["vg_uuid"],
        uid=_tagged(_tags(vg["vg_tags"]), POOL_TAG),
        size_bytes=int(vg["vg_size"]),
        free_bytes=int(vg["vg_free"]),
        extent_bytes=int(vg["vg_extent_size"]),
        free_extents=int(vg["vg_free_count"]),
        metadata_bytes=int(vg["vg_mda_size"]),
        metadata_free_bytes=int(vg["vg_mda_free"]),
        missing_disks=int(vg["vg_missing_pv_count"]),
        physical=tuple(_physical(pv) for pv in row.get("pv", ()) if pv.get("pv_uuid")),
        logical=tuple(
            _logical(lv, segments.get(lv["lv_uuid"], set()))
            for lv in row.get("lv", ())
            if lv.get("lv_uuid")
        ),
    )


def _physical(pv: dict[str, str]) -> PhysicalVolume:
    return PhysicalVolume(
        path=pv["pv_name"],
        uuid=pv["pv_uuid"],
        disk=_tagged(_tags(pv["pv_tags"]), DISK_TAG),
        size_bytes=int(pv["pv_size"]),
        free_bytes=int(pv["pv_free"]),
        device_bytes=int(pv["dev_size"] or 0),
        missing=bool(pv["pv_missing"]),
        wiped=WIPED_TAG in _tags(pv["pv_tags"]),
    )


def _logical(lv: dict[str, str], segments: set[tuple[str, int]]) -> LogicalVolume:
    tags = _tags(lv["lv_tags"])
    device = f"{lv['lv_kernel_major']}:{lv['lv_kernel_minor']}"
    active = lv["lv_active"].startswith("active")
    return LogicalVolume(
        name=lv["lv_name"],
        uuid=lv["lv_uuid"],
        tags=tags,
        uid=_tagged(tags, VOLUME_TAG),
        cause=_tagged(tags, CAUSE_TAG),
        size_bytes=int(lv["lv_size"]),
        layout=_tags(lv["lv_layout"]),
        stripes=max((stripes for _, stripes in segments), default=0),
        thin_pool=lv["pool_lv"],
        data_percent=float(lv["data_percent"]) if lv["data_percent"] else None,
        metadata_percent=float(lv["metadata_percent"]) if lv["metadata_percent"] else None,
        metadata_bytes=int(lv["lv_metadata_size"] or 0),
        active=active,
        open=lv["lv_device_open"] == "open",
        health=lv["lv_health_status"],
        path=lv["lv_path"],
        device=device if active else "",
        when_full=lv["lv_when_full"],
        origin=lv["origin"],
        invalid=lv["lv_snapshot_invalid"] == _INVALID,
        merging=lv["lv_attr"].startswith(_MERGING_ORIGIN),
        mixed=len(segments) > 1,
        skipped=lv["lv_attr"][_SKIPPED : _SKIPPED + 1] == "k",
    )


def _tags(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _tagged(tags: tuple[str, ...], prefix: str) -> str:
    return next((tag.removeprefix(prefix) for tag in tags if tag.startswith(prefix)), "")
