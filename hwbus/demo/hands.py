"""A person at a simulated node: the few tools that one types there to look, or to meddle."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from hwbus.demo.place import Ran
from node_workers.limits import CGROUPS
from node_workers.lvm_report import FULL_REPORT
from node_workers.simulated.arguments import ToolRefusal
from node_workers.simulated.devices import Devices
from node_workers.simulated.machine import SimulatedMachine

_MISUSE = 2
Rows = list[dict[str, str]]


class Hands:
    """Runs a command line on *machine*; what it changes is written down at once."""

    def __init__(self, machine: SimulatedMachine) -> None:
        self._machine = machine
        self._devices = Devices(machine.state)
        self._tools: Mapping[str, Callable[[Sequence[str]], str]] = {
            "vgs": self._vgs,
            "lvs": self._lvs,
            "blkid": self._blkid,
            "df": self._df,
            "findmnt": self._findmnt,
            "dd": self._dd,
            "md5sum": self._md5sum,
            "lvrename": self._lvrename,
            "lvremove": self._lvremove,
            "pvs": self._pvs,
            "mkdir": self._mkdir,
            "sync": lambda _: "",
        }

    def run(self, argv: Sequence[str]) -> Ran:
        """Run a tool: one of ours, or one of those that the machine knows anyway."""
        tool = self._tools.get(argv[0])
        if tool is None:
            status, stdout, stderr = self._machine.execute(argv)
            return Ran(status=status, stdout=stdout, stderr=stderr)
        try:
            return Ran(status=0, stdout=tool(argv[1:]), stderr="")
        except ToolRefusal as refusal:
            return Ran(status=refusal.exit_status, stdout="", stderr=refusal.stderr)
        except KeyError as error:
            return Ran(status=_MISUSE, stdout="", stderr=f"{argv[0]}: there is no {error}\n")

    def _vgs(self, argv: Sequence[str]) -> str:
        columns = _columns(argv)
        rows = [
            {**one["vg"][0], "pv_count": str(len(one["pv"])), "lv_count": str(len(one["lv"]))}
            for one in self._report()
            if "vg" in one
        ]
        return _table(columns, rows)

    def _pvs(self, argv: Sequence[str]) -> str:
        group = argv[-1].removeprefix("vg_name=")
        reports = (one for one in self._report() if "vg" in one)
        rows = [pv for one in reports if one["vg"][0]["vg_name"] == group for pv in one["pv"]]
        return _table(_columns(argv), rows)

    def _lvs(self, argv: Sequence[str]) -> str:
        columns, (group, _, name) = _columns(argv), argv[-1].partition("/")
        rows: Rows = []
        for one in self._report():
            if "vg" not in one or one["vg"][0]["vg_name"] != group:
                continue
            segments = {segment["lv_uuid"]: segment for segment in one["seg"]}
            rows += [
                {**lv, **segments[lv["lv_uuid"]]} for lv in one["lv"] if name in {"", lv["lv_name"]}
            ]
        return _table(columns, rows, headings="--noheadings" not in argv)

    def _report(self) -> list[dict[str, Any]]:
        _, stdout, _ = self._machine.execute(FULL_REPORT)
        report: list[dict[str, Any]] = msgspec.json.decode(stdout)["report"]
        return report

    def _blkid(self, argv: Sequence[str]) -> str:
        device = self._devices.find(argv[-1])
        kind = self._devices.content(device).kind if device else ""
        if not kind:
            raise ToolRefusal(_MISUSE, "")
        return f"{kind}\n"

    def _df(self, argv: Sequence[str]) -> str:
        target = argv[-1]
        size_bytes = self._machine.content(self._mounted(target)).size_bytes
        return f"1B-blocks Mounted on\n{size_bytes} {target}\n"

    def _findmnt(self, argv: Sequence[str]) -> str:
        path = self._mounted(argv[-1])
        device = f"/dev/mapper/{path.replace('-', '--').replace('/', '-')}"
        return f"{device} {self._machine.content(path).kind} {argv[-1]}\n"

    def _mkdir(self, argv: Sequence[str]) -> str:
        if argv[-1].startswith(f"{CGROUPS}/"):
            self._machine.add_cgroup(argv[-1].removeprefix(f"{CGROUPS}/"), "io")
        return ""

    def _dd(self, argv: Sequence[str]) -> str:
        target, _, name = _word(argv, "of=").rpartition("/")
        self._machine.write(self._mounted(target), f"{name}: {' '.join(argv)}")
        return ""

    def _md5sum(self, argv: Sequence[str]) -> str:
        target = argv[-1].rpartition("/")[0]
        data = self._machine.read(self._mounted(target)).encode()
        return f"{hashlib.md5(data, usedforsecurity=False).hexdigest()}  {argv[-1]}\n"

    def _lvrename(self, argv: Sequence[str]) -> str:
        group, old, new = argv
        self._machine.volume(f"{group}/{old}").name = new
        self._machine.save()
        return f'  Renamed "{old}" to "{new}" in volume group "{group}"\n'

    def _lvremove(self, argv: Sequence[str]) -> str:
        self._machine.remove_volume(argv[-1])
        return f'  Logical volume "{argv[-1].rpartition("/")[2]}" successfully removed.\n'

    def _mounted(self, target: str) -> str:
        """Return the volume "group/name" that is mounted at *target*."""
        state = self._machine.state
        for mount in state.mounts:
            for vg in state.vgs:
                for lv in vg.lvs:
                    if mount.target == target and mount.device == lv.uuid:
                        return f"{vg.name}/{lv.name}"
        raise ToolRefusal(1, f"{target}: nothing is mounted there\n")


def _columns(argv: Sequence[str]) -> list[str]:
    return argv[argv.index("-o") + 1].split(",")


def _word(argv: Sequence[str], beginning: str) -> str:
    return next(word for word in argv if word.startswith(beginning)).removeprefix(beginning)


def _table(columns: Sequence[str], rows: Rows, *, headings: bool = True) -> str:
    cells = [[_TITLES.get(column, column) for column in columns]] if headings else []
    cells += [[row[column] for column in columns] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in cells]
    return "".join(f"  {line.rstrip()}\n" for line in lines)


_TITLES = {
    "pv_name": "PV",
    "pv_size": "PSize",
    "pv_free": "PFree",
    "vg_name": "VG",
    "lv_name": "LV",
    "pv_count": "#PV",
    "lv_count": "#LV",
    "vg_size": "VSize",
    "vg_free": "VFree",
    "vg_tags": "VG Tags",
    "lv_size": "LSize",
    "lv_tags": "LV Tags",
    "lv_layout": "Layout",
}
