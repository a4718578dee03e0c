"""The full report of LVM, column by column as the real one prints it: every value a string."""

from collections.abc import Sequence
from typing import Any

import msgspec

from node_workers.lvm_report import FULL_REPORT
from node_workers.simulated.arguments import ToolRefusal, UnknownToolUseError
from node_workers.simulated.model import (
    EXTENT_BYTES,
    OVERFLOWED_PERCENT,
    Lv,
    Piece,
    Pv,
    State,
    Vg,
)

_THIN_BYTES_A_FILESYSTEM_PERCENT = 5.0
_LAYOUTS = {"thin-pool": "thin,pool", "thin": "thin,sparse", "snapshot": "linear"}


def full_report(state: State, argv: Sequence[str]) -> str:
    """Answer ``lvm fullreport`` as the driver asks it, for all groups or one."""
    known, group = tuple(argv[: len(FULL_REPORT) - 1]), argv[len(FULL_REPORT) - 1 :]
    if known != FULL_REPORT[1:] or len(group) > 1:
        raise UnknownToolUseError(f"lvm {' '.join(argv)}")
    groups = [vg for vg in state.vgs if not group or vg.name == group[0]]
    if group and not groups:
        sentence = f'  Volume group "{group[0]}" not found\n'
        raise ToolRefusal(5, f"{sentence}  Cannot process volume group {group[0]}\n")
    report: list[dict[str, Any]] = [_group(state, vg) for vg in groups]
    orphans = [
        pv for pv in state.pvs.values() if state.vg_of(pv.uuid) is None and not state.is_missing(pv)
    ]
    if orphans and not group:
        report.append({"pv": [_pv(state, pv, None) for pv in orphans], "pvseg": [{}]})
    return msgspec.json.encode({"report": report}).decode()


def _group(state: State, vg: Vg) -> dict[str, Any]:
    extents = sum(state.pvs[pv].extents for pv in vg.pvs)
    free = state.free_extents(vg)
    metadata_bytes = min(state.pvs[pv].start_bytes for pv in vg.pvs) - 4096
    missing = sum(state.is_missing(state.pvs[pv]) for pv in vg.pvs)
    row = {"vg_name": vg.name, "vg_uuid": vg.uuid, "vg_tags": ",".join(vg.tags)}
    row |= {"vg_size": str(extents * EXTENT_BYTES), "vg_free": str(free * EXTENT_BYTES)}
    row |= {"vg_extent_size": str(EXTENT_BYTES), "vg_extent_count": str(extents)}
    row |= {"vg_free_count": str(free), "vg_mda_size": str(metadata_bytes)}
    row |= {"vg_mda_free": str(state.metadata_free_bytes(vg)), "vg_missing_pv_count": str(missing)}
    volumes = sorted((lv for lv in vg.lvs if not lv.merging), key=lambda lv: lv.name)
    return {
        "vg": [row],
        "pv": [_pv(state, state.pvs[pv], vg) for pv in vg.pvs],
        "lv": [_lv(state, vg, lv) for lv in volumes],
        "pvseg": [{}],
        "seg": [_segment(lv) for lv in volumes],
    }


def _pv(state: State, pv: Pv, vg: Vg | None) -> dict[str, str]:
    missing = state.is_missing(pv)
    path = "[unknown]" if missing else f"/dev/{state.disks[pv.disk].name}"
    size_bytes = pv.size_bytes if vg is None else pv.extents * EXTENT_BYTES
    taken = 0 if vg is None else _count([one for one in vg.pieces() if one.pv == pv.uuid])
    row = {"pv_name": path, "pv_uuid": pv.uuid, "pv_tags": ",".join(pv.tags)}
    row |= {"pv_size": str(size_bytes), "pv_free": str(size_bytes - taken * EXTENT_BYTES)}
    row |= {"pv_missing": "missing" if missing else "", "pv_in_use": "used" if vg else ""}
    return row | {"dev_size": "0" if missing else str(pv.size_bytes)}


def _lv(state: State, vg: Vg, lv: Lv) -> dict[str, str]:
    pool = lv.kind == "thin-pool"
    partial = any(state.is_missing(state.pvs[piece.pv]) for piece in lv.pieces)
    users = any(one.thin_pool == lv.name for one in vg.lvs)
    used = bool(state.mounts_of(lv.uuid)) or state.on_top_of(lv.uuid) is not None
    is_open = used or lv.held_open or (pool and users)
    layout = _LAYOUTS.get(lv.kind, lv.kind)
    kind = {"thin-pool": "t", "thin": "V", "snapshot": "s"}.get(lv.kind, "-")
    kind = "O" if vg.merging(lv) else "o" if vg.snapshots(lv) else kind
    attributes = f"{kind}wi-{'a' if lv.active else '-'}{'o' if is_open else '-'}"
    thin = f"{_thin_percent(state, vg, lv):.2f}" if "thin" in lv.kind and lv.active else ""
    thin = f"{lv.fill_percent:.2f}" if lv.kind == "snapshot" and lv.active else thin
    row = {"lv_name": lv.name, "lv_uuid": lv.uuid, "lv_tags": ",".join(lv.tags)}
    row |= {
        "lv_size": str(lv.extents * EXTENT_BYTES),
        "lv_attr": f"{attributes}---{'k' if lv.skipped else '-'}",
    }
    row |= {"lv_layout": layout, "pool_lv": lv.thin_pool, "data_percent": thin}
    row |= {"metadata_percent": f"{lv.metadata_percent:.2f}" if pool and lv.active else ""}
    row |= {"lv_active": "active" if lv.active else "", "lv_path": _path(vg, lv)}
    row |= {"lv_health_status": "partial" if partial else ""}
    row |= {"lv_device_open": ("open" if is_open else "") if lv.active else "unknown"}
    row |= {"lv_kernel_major": "254" if lv.active else "-1"}
    row |= {"lv_kernel_minor": str(lv.minor) if lv.active else "-1"}
    row |= {"lv_metadata_size": str(_count(lv.metadata) * EXTENT_BYTES) if pool else ""}
    row |= {"origin": lv.origin, "lv_snapshot_invalid": _invalid(lv)}
    return row | {"lv_when_full": lv.when_full}


def _invalid(lv: Lv) -> str:
    if lv.kind != "snapshot" or not lv.active:
        return "unknown"
    return "snapshot invalid" if lv.fill_percent >= OVERFLOWED_PERCENT else ""


def _segment(lv: Lv) -> dict[str, str]:
    kind = _LAYOUTS.get(lv.kind, lv.kind).partition(",")[0]
    return {"lv_uuid": lv.uuid, "segtype": kind, "stripes": str(lv.stripes)}


def _path(vg: Vg, lv: Lv) -> str:
    return "" if lv.kind == "thin-pool" else f"/dev/{vg.name}/{lv.name}"


def _thin_percent(state: State, vg: Vg, lv: Lv) -> float:
    """Say that a filesystem takes a twentieth of its volume: enough for a view to have numbers."""
    if lv.kind == "thin":
        written = state.content_key(lv) in state.contents
        return _THIN_BYTES_A_FILESYSTEM_PERCENT if written else 0.0
    users = [one for one in vg.lvs if one.thin_pool == lv.name]
    taken = sum(one.extents * _thin_percent(state, vg, one) for one in users)
    return min(100.0, taken / lv.extents)


def _count(pieces: Sequence[Piece]) -> int:
    return sum(piece.count for piece in pieces)
