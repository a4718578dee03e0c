"""One machine, in memory or in a folder, and the hands of somebody who does not ask us."""

import copy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import msgspec
from msgspec.structs import replace

from node_workers.devices import DEVICE_NAME, IDENTITY
from node_workers.ports import BlockFacts, DeviceIo
from node_workers.simulated.arguments import ToolRefusal, UnknownToolUseError
from node_workers.simulated.block_tools import BlockTools
from node_workers.simulated.copying_tools import CopyingTools
from node_workers.simulated.crypt_tools import LUKS, CryptTools
from node_workers.simulated.drbd_handler import Handler
from node_workers.simulated.drbd_kernel import DrbdKernel
from node_workers.simulated.drbd_tools import DrbdTools, evict
from node_workers.simulated.drbd_wire import NoWire, Wire
from node_workers.simulated.kept import STATE_FILE, write_down
from node_workers.simulated.lvm_tools import LvmTools
from node_workers.simulated.mapping_tools import MappingTools
from node_workers.simulated.model import (
    EXTENT_BYTES,
    OVERFLOWED_PERCENT,
    Cgroup,
    Content,
    Disk,
    Lv,
    Mount,
    Pv,
    State,
    Vg,
)
from node_workers.simulated.moving_tools import MovingTools
from node_workers.simulated.report import full_report
from node_workers.simulated.stillness_tools import StillnessTools

# mkfs.ext4 writes its superblock last, and what the copier has not noted down does not count.
_NOTHING_HALF_DONE = frozenset({"mkfs.ext4", sys.executable})
_DISK_LETTERS = "bcdefghijklmnopqrstuvwxyz"


class PulledDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk in somebody's hand, with all that is written on it, LVM's metadata included."""

    disk: Disk
    pv: Pv | None
    group: Vg | None
    companions: tuple[Pv, ...]
    contents: dict[str, Content]


class SimulatedMachine:
    """Disks, LVM and filesystems of one machine; tools are run on it with ``execute``.

    With a *folder* every change is on the host's disk before the tool has ended, and each disk
    is a sparse file there. By *wire* it reaches those that it replicates with.
    """

    def __init__(self, state: State, folder: Path | None = None, wire: Wire | None = None) -> None:
        self.state = state
        self.kernel = DrbdKernel(state, wire or NoWire(), self.save)
        self.handler = Handler(state, self.kernel)
        self._drbd = DrbdTools(state, self.kernel)
        self._folder = folder
        self._lvm = LvmTools(state)
        self._blocks = BlockTools(state)
        self._moving = MovingTools(state)
        self._mappings = MappingTools(state)
        self._copying = CopyingTools(state)
        self._crypt = CryptTools(state)
        self._stillness = StillnessTools(state, self._lvm.commands, self._mappings.commands["sh"])

    @classmethod
    def with_disks(cls, name: str, sizes_bytes: Sequence[int], wire: Wire | None = None) -> Self:
        """Return a machine in memory: its system disk is sda, sdb, sdc and so on are blank."""
        machine = cls(State(machine=name), wire=wire)
        machine._furnish(sizes_bytes)
        return machine

    @classmethod
    def in_folder(
        cls, folder: Path, name: str, sizes_bytes: Sequence[int], wire: Wire | None = None
    ) -> Self:
        """Return the machine kept in *folder*; the first time, one with disks of those sizes."""
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / STATE_FILE
        if kept.exists():
            return cls(msgspec.json.decode(kept.read_bytes(), type=State), folder, wire)
        machine = cls(State(machine=name), folder, wire)
        machine._furnish(sizes_bytes)
        machine.save()
        return machine

    def execute(
        self,
        argv: Sequence[str],
        *,
        torn: bool = False,
        stdin: bytes = b"",
        refused: bool = False,
    ) -> tuple[int, str, str]:
        """Run a tool; returns exit status, standard output and standard error.

        *torn*: it dies in the middle. *refused*: DRBD's handler was asked, and said no. Raises
        ``UnknownToolUseError`` for what the model does not know, and ``HandlerNeeded``.
        """
        with self.kernel.at_work():
            return self._execute(argv, torn=torn, stdin=stdin, refused=refused)

    def _execute(
        self, argv: Sequence[str], *, torn: bool, stdin: bytes, refused: bool
    ) -> tuple[int, str, str]:
        commands = {
            **self._lvm.commands,
            **self._blocks.commands,
            **self._mappings.commands,
            **self._moving.commands,
            **self._copying.commands,
            sys.executable: lambda argv: self._python(argv, stdin),
            **self._stillness.commands,
            "sh": lambda argv: self._shell(argv, stdin, refused=refused),
            "drbdadm": self._drbd.version,
            "drbdmeta": self._drbd.meta,
            "drbdsetup": self._drbd.setup,
        }
        tool, rest = argv[0], argv[1:]
        torn = torn and (tool != "cryptsetup" or rest[0] == "luksFormat")
        before = copy.deepcopy(self.state.contents) if torn else {}
        try:
            if tool == "lvm" and rest[0] != "fullreport":
                tool, rest = rest[0], rest[1:]
            if tool == "lvm":
                return 0, full_report(self.state, rest), ""
            if tool == "cryptsetup":
                output = self._crypt.run(rest, stdin)
            elif tool not in commands:
                raise UnknownToolUseError(f"the model knows no tool {tool}")
            elif torn and tool in _NOTHING_HALF_DONE:
                return -9, "", ""
            else:
                output = commands[tool](rest)
        except ToolRefusal as refusal:
            return refusal.exit_status, refusal.stdout, refusal.stderr
        if torn:
            self._tear(before)
        return 0, output, ""

    def _python(self, argv: Sequence[str], stdin: bytes) -> str:
        return evict(self.state, argv) or self._copying.python(argv, stdin)

    def _shell(self, argv: Sequence[str], stdin: bytes, *, refused: bool) -> str:
        said = self._drbd.shell(argv, stdin, refused=refused)
        return self._stillness.commands["sh"](argv) if said is None else said

    def save(self) -> None:
        """Write the machine down, if it has a folder: wholly or not at all, and durably."""
        if self._folder is None:
            return
        write_down(self.state, self._folder)

    async def facts(self, names: Sequence[str]) -> dict[str, BlockFacts]:
        """Answer as ``Sysfs.facts`` does."""
        return {
            disk.name: BlockFacts(
                serial=disk.serial,
                wwn=disk.wwn,
                model=disk.model,
                rotational=disk.rotational,
            )
            for disk in self.state.disks.values()
            if disk.name in names
        }

    async def io(self, number: str, uid: str) -> DeviceIo | None:
        """Answer as ``Counters.io`` does."""
        uuid = f"{IDENTITY}{uid}"
        there = any((f"254:{one.minor}", one.uuid) == (number, uuid) for one in self.state.mapped)
        if not there or uuid not in self.state.moved:
            return None
        one = self.state.moved[uuid]
        written, read = one.written_bytes, one.read_bytes
        return DeviceIo(life=f"{one.life}", written_bytes=written, read_bytes=read)

    # What follows is done by somebody else's hands: no driver ever calls it.

    def add_disk(self, disk: Disk, content: Content | None = None) -> Disk:
        """Plug in a new disk, possibly with something on it."""
        self.state.disks[disk.key] = disk
        if content is not None:
            self.state.contents[disk.key] = content
        if self._folder is not None:
            with (self._folder / f"{disk.name}.img").open("ab") as file:
                file.truncate(disk.size_bytes)
        self.save()
        return disk

    def pull(self, name: str) -> PulledDisk:
        """Pull a disk out, in use or not; it can be plugged in again, here or elsewhere."""
        disk = self._disk(name)
        pv = self.state.pv_on(disk)
        vg = None if pv is None else self.state.vg_of(pv.uuid)
        del self.state.disks[disk.key]
        if pv is not None and vg is None:
            del self.state.pvs[pv.uuid]
        extents = disk.key if pv is None else f"{pv.uuid}:"
        contents = {
            key: content
            for key, content in self.state.contents.items()
            if key == disk.key or key.startswith(extents)
        }
        companions = () if vg is None else tuple(self.state.pvs[uuid] for uuid in vg.pvs)
        if vg is not None and all(self.state.is_missing(one) for one in companions):
            # What LVM knows of a group stands on its disks: with the last one it is forgotten.
            self.state.vgs.remove(vg)
            for companion in companions:
                del self.state.pvs[companion.uuid]
        self.save()
        return copy.deepcopy(
            PulledDisk(disk=disk, pv=pv, group=vg, companions=companions, contents=contents)
        )

    def plug(self, pulled: PulledDisk, name: str = "") -> Disk:
        """Plug a pulled disk in, under another *name* if given."""
        pulled = copy.deepcopy(pulled)
        disk = pulled.disk
        disk.name = name or disk.name
        self.state.disks[disk.key] = disk
        self.state.contents.update(pulled.contents)
        if pulled.pv is not None:
            self.state.pvs[pulled.pv.uuid] = pulled.pv
        if pulled.group is not None and all(vg.uuid != pulled.group.uuid for vg in self.state.vgs):
            for companion in pulled.companions:
                self.state.pvs.setdefault(companion.uuid, companion)
            for lv in pulled.group.lvs:
                lv.active = False
            self.state.vgs.append(pulled.group)
        self.save()
        return disk

    def reboot(self) -> None:
        """Start the machine again: nothing is mounted or mapped, and no volume is active."""
        self.state.mapped, self.state.links, self.state.cgroups = [], {}, {}
        self.state.moved = {}
        self.state.legs, self.state.drbd_loaded = [], False
        self.state.files = {
            path: text for path, text in self.state.files.items() if not path.startswith("/run/")
        }
        self.state.mounts = [mount for mount in self.state.mounts if mount.target == "/"]
        for vg in self.state.vgs:
            for lv in vg.lvs:
                lv.active = lv.held_open = False
        self.save()

    def transfer(self, volume: str, written_bytes: int, read_bytes: int = 0) -> None:
        """Write to the stable device of a volume and read from it, as its consumer does."""
        device = self.state.mapped_as(f"{DEVICE_NAME}{volume}")
        if device is None:
            raise KeyError(volume)
        moved = self.state.moved[device.uuid]
        moved.written_bytes += written_bytes
        moved.read_bytes += read_bytes
        self.save()

    def volume(self, path: str) -> Lv:
        """Return the logical volume "group/name", to be changed by hand."""
        group, _, name = path.partition("/")
        vg = self.state.vg(group)
        lv = None if vg is None else vg.lv(name)
        if lv is None:
            raise KeyError(path)
        return lv

    def remove_volume(self, path: str) -> None:
        """Remove a logical volume behind our back, signatures left where they are."""
        vg = self.state.vg(path.partition("/")[0])
        lv = self.volume(path)
        if vg is not None:
            vg.lvs.remove(lv)
        self.save()

    def lent(self, device: str) -> str:
        """Return what the device "/dev/group/name" holds, for another machine of this sort."""
        content = self.state.contents.get(
            self._content_key(device.removeprefix("/dev/")), Content()
        )
        return msgspec.json.encode(content).decode()

    def write(self, path: str, data: str) -> None:
        """Leave a mark on a volume "group/name" that only destroying its data removes."""
        content = self.state.contents.setdefault(self._content_key(path), Content())
        if content.kind == LUKS:
            content.inner = content.inner or Content()
            content = content.inner
        content.data = data
        self.save()

    def read(self, path: str) -> str:
        """Return the mark on a volume, or nothing if its data is gone."""
        return self.content(path).data

    def fill(self, path: str, used_bytes: int) -> None:
        """Have files take so much of the filesystem on a volume."""
        self.content(path).used_bytes = used_bytes
        self.save()

    def content(self, path: str) -> Content:
        """Return what lies on the volume "group/name", or behind its encryption."""
        content = self.header(path)
        return (content.inner or Content()) if content.kind == LUKS else content

    def header(self, path: str) -> Content:
        """Return what lies on the volume "group/name" for whoever has no key."""
        return self.state.contents.get(self._content_key(path), Content())

    def mount(self, path: str, target: str) -> None:
        """Mount the volume "group/name" as a consumer would."""
        self.state.mounts.append(Mount(device=self.volume(path).uuid, target=target))
        self.save()

    def add_cgroup(self, name: str, *controllers: str) -> Cgroup:
        """Make a control group with these controllers on."""
        cgroup = self.state.cgroups[name] = Cgroup(controllers=list(controllers))
        self.save()
        return cgroup

    def keep_busy(self, target: str, *, busy: bool = True) -> None:
        """Have somebody work (or no longer work) in what is mounted at *target*."""
        self.state.mounts = [
            replace(mount, busy=busy) if mount.target == target else mount
            for mount in self.state.mounts
        ]
        self.save()

    def unmount(self, target: str) -> None:
        """Unmount what is at *target*."""
        self.state.mounts = [mount for mount in self.state.mounts if mount.target != target]
        self.save()

    def change(self, path: str, changed_bytes: int) -> None:
        """Write so much to a volume: its thick snapshots keep what was there, if they have room."""
        vg = self.state.vg(path.partition("/")[0])
        for snapshot in vg.snapshots(self.volume(path)) if vg is not None else ():
            more = 100.0 * changed_bytes / (snapshot.extents * EXTENT_BYTES)
            snapshot.fill_percent = min(OVERFLOWED_PERCENT, snapshot.fill_percent + more)
        self.save()

    def _furnish(self, sizes_bytes: Sequence[int]) -> None:
        root = Disk(key=f"{self.state.machine}-a", name="sda", size_bytes=8 << 30, serial="root")
        self.add_disk(root, Content(kind="ext4", data="the system"))
        self.state.mounts.append(Mount(device=root.key, target="/"))
        for letter, size_bytes in zip(_DISK_LETTERS, sizes_bytes, strict=False):
            key = f"{self.state.machine}-{letter}"
            self.add_disk(
                Disk(key=key, name=f"sd{letter}", size_bytes=size_bytes, serial=key.upper())
            )

    def _disk(self, name: str) -> Disk:
        return next(disk for disk in self.state.disks.values() if disk.name == name)

    def _content_key(self, path: str) -> str:
        return self.state.content_key(self.volume(path))

    def _tear(self, before: dict[str, Content]) -> None:
        """Undo what the tool did last: wiping, clearing the mark of mkfs.xfs, filling a slot."""
        contents = self.state.contents
        for key, content in contents.items():
            _tear(content, before.get(key))
        contents.update({key: one for key, one in before.items() if key not in contents})


def _tear(content: Content, before: Content | None) -> None:
    """Leave half of what the tool did: of LUKS the header without a key, or what lies behind it."""
    header = (content.kind, content.uuid, content.slots)
    if content.kind == LUKS and before and header == (before.kind, before.uuid, before.slots):
        if content.inner is not None:
            _tear(content.inner, before.inner)
        return
    content.finished = content.finished and before == content
    if content.kind == LUKS:
        content.slots = []
