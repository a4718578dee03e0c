"""The LVM commands that the driver uses, with the refusals that LVM 2.03.16 was seen to give."""

import re
from collections.abc import Callable, Mapping, Sequence

from node_workers.simulated.arguments import (
    Arguments,
    ToolRefusal,
    UnknownToolUseError,
    read_arguments,
)
from node_workers.simulated.devices import Devices
from node_workers.simulated.model import (
    DEFAULT_METADATA_BYTES,
    EXTENT_BYTES,
    Content,
    Disk,
    Lv,
    Piece,
    Pv,
    State,
    Vg,
)
from node_workers.simulated.snapshot_tools import SnapshotTools

_UNITS = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_FAILED, _BAD_REQUEST = 5, 3
_NAMES_IN_DEV = frozenset({"block", "bus", "disk", "fd", "mapper", "mqueue", "null", "pts", "shm"})
_VOLUME_BYTES = 367
_LVCREATE_OPTIONS = frozenset(
    {"--type", "--extents", "--name", "--poolmetadatasize", "--chunksize", "--zero", "--config"}
    | {"--addtag", "--virtualsize", "--thinpool", "--wipesignatures", "--stripes", "--stripesize"}
    | {"--setactivationskip"}
)


class LvmTools:
    """LVM's commands over a ``State``; each returns what it would print."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._devices = Devices(state)
        self._snapshots = SnapshotTools(state)
        self.commands: Mapping[str, Callable[[Sequence[str]], str]] = {
            "pvcreate": self._pvcreate,
            "pvremove": self._pvremove,
            "pvchange": self._pvchange,
            "vgcreate": self._vgcreate,
            "vgextend": self._vgextend,
            "vgreduce": self._vgreduce,
            "vgremove": self._vgremove,
            "lvcreate": self._lvcreate,
            "lvextend": self._lvextend,
            "lvremove": self._lvremove,
            "lvchange": self._lvchange,
            **self._snapshots.commands,
        }

    def _pvcreate(self, argv: Sequence[str]) -> str:
        given = read_arguments(
            argv,
            valued=frozenset({"--uuid", "--metadatasize"}),
            flags=frozenset({"--norestorefile"}),
        )
        disk = self._blank_disk(given.word())
        metadata_bytes = _bytes(given.one("--metadatasize", f"{DEFAULT_METADATA_BYTES}b"))
        self._initialise(disk, given.one("--uuid") or self._state.fresh_uuid(), metadata_bytes)
        return f'  Physical volume "/dev/{disk.name}" successfully created.\n'

    def _pvremove(self, argv: Sequence[str]) -> str:
        given = read_arguments(argv, flags=frozenset())
        for path in given.words:
            pv = self._state.pv_on(self._devices.disk(path))
            if pv is None:
                raise ToolRefusal(_FAILED, f"  No PV found on device {path}.\n")
            if vg := self._state.vg_of(pv.uuid):
                sentence = f"  PV {path} is used by VG {vg.name} so please use vgreduce first.\n"
                raise ToolRefusal(_FAILED, sentence)
            del self._state.pvs[pv.uuid]
        return "".join(
            f'  Labels on physical volume "{path}" successfully wiped.\n' for path in given.words
        )

    def _pvchange(self, argv: Sequence[str]) -> str:
        valued = frozenset({"--addtag", "--allocatable"})
        given = read_arguments(argv, valued=valued, flags=frozenset())
        pv = self._state.pv_on(self._devices.disk(given.word()))
        vg = None if pv is None else self._state.vg_of(pv.uuid)
        if pv is None or vg is None:
            raise ToolRefusal(_FAILED, f"  Failed to find physical volume {given.word()}.\n")
        self._require_whole(vg)
        pv.tags = sorted({*pv.tags, *given.all("--addtag")})
        if given.all("--allocatable"):
            pv.allocatable = given.one("--allocatable") == "y"
        return f'  Physical volume "{given.word()}" changed\n'

    def _vgcreate(self, argv: Sequence[str]) -> str:
        given = read_arguments(argv, valued=frozenset({"--addtag"}), flags=frozenset())
        name, *paths = given.words
        if self._state.vg(name):
            raise ToolRefusal(_FAILED, f"  A volume group called {name} already exists.\n")
        if name in _NAMES_IN_DEV:
            raise ToolRefusal(_BAD_REQUEST, f"  /dev/{name}: already exists in filesystem\n")
        joining = [self._joining(path) for path in paths]
        vg = Vg(uuid=self._state.fresh_uuid(), name=name, tags=sorted(given.all("--addtag")))
        vg.pvs = [pv.uuid for pv in joining]
        self._state.vgs.append(vg)
        return f'  Volume group "{name}" successfully created\n'

    def _vgextend(self, argv: Sequence[str]) -> str:
        name, *paths = read_arguments(argv, flags=frozenset()).words
        vg = self._vg(name)
        self._require_whole(vg)
        vg.pvs.extend(pv.uuid for pv in [self._joining(path) for path in paths])
        return f'  Volume group "{name}" successfully extended\n'

    def _vgreduce(self, argv: Sequence[str]) -> str:
        name, *paths = read_arguments(argv, flags=frozenset()).words
        vg = self._vg(name)
        self._require_whole(vg)
        for path in paths:
            pv = self._state.pv_on(self._devices.disk(path))
            if pv is None or pv.uuid not in vg.pvs:
                raise ToolRefusal(_FAILED, f"  Physical Volume {path} not found in {name}.\n")
            if any(piece.pv == pv.uuid for piece in vg.pieces()):
                raise ToolRefusal(_FAILED, f'  Physical volume "{path}" still in use\n')
            if vg.pvs == [pv.uuid]:
                raise ToolRefusal(_FAILED, f"  Can't remove final physical volume {path}.\n")
            vg.pvs.remove(pv.uuid)
            pv.tags, pv.allocatable = [], True
        return "".join(f'  Removed "{path}" from volume group "{name}"\n' for path in paths)

    def _vgremove(self, argv: Sequence[str]) -> str:
        vg = self._vg(read_arguments(argv, flags=frozenset()).word())
        self._require_whole(vg)
        if vg.lvs:
            asked = f'Do you really want to remove volume group "{vg.name}" containing'
            raise ToolRefusal(
                _FAILED,
                f'{asked} {len(vg.lvs)} logical volumes? [y/n]: [n]\n  Volume group "'
                f'{vg.name}" not removed\n',
            )
        self._state.vgs.remove(vg)
        for uuid in vg.pvs:
            self._state.pvs[uuid].tags = []
        return f'  Volume group "{vg.name}" successfully removed\n'

    def _lvcreate(self, argv: Sequence[str]) -> str:
        given = read_arguments(
            argv,
            valued=_LVCREATE_OPTIONS,
            flags=frozenset({"--yes", "--snapshot"}),
        )
        group, _, origin = given.word().partition("/")
        vg, name = self._vg(group, creating=True), given.one("--name")
        if name.startswith(("snapshot", "pvmove")):
            raise ToolRefusal(_BAD_REQUEST, f'  Names starting "{name}" are reserved.\n')
        if vg.lv(name):
            sentence = f'  Logical Volume "{name}" already exists in volume group "{vg.name}"\n'
            raise ToolRefusal(_FAILED, sentence)
        self._require_whole(vg)
        if self._state.metadata_free_bytes(vg) < _VOLUME_BYTES:
            sentence = f"  VG {vg.name} metadata on disk exceeds maximum metadata size.\n"
            raise ToolRefusal(_FAILED, sentence)
        if "--snapshot" in given.options:
            lv = self._snapshots.taken(vg, name, origin)
            if lv.kind == "snapshot":
                lv.extents = int(given.one("--extents"))
                lv.pieces = self._allocate(vg, lv.extents, 1)
        else:
            lv = self._lay_out(vg, name, given)
        lv.tags = sorted(given.all("--addtag"))
        vg.lvs.append(lv)
        if "--wipesignatures" in given.options and "--yes" in given.options:
            self._state.contents.pop(self._state.content_key(lv), None)
        return f'  Logical volume "{name}" created.\n'

    def _lay_out(self, vg: Vg, name: str, given: Arguments) -> Lv:
        kind = given.one("--type", "striped" if given.all("--stripes") else "linear")
        lv = Lv(
            uuid=self._state.fresh_uuid(),
            name=name,
            kind=kind,
            extents=0,
            minor=self._state.fresh_minor(),
        )
        if kind == "thin":
            pool = vg.lv(given.one("--thinpool"))
            if pool is None or pool.kind != "thin-pool":
                wanted = given.one("--thinpool")
                sentence = f"  Pool {wanted} not found in Volume group {vg.name}.\n"
                raise ToolRefusal(_FAILED, sentence)
            lv.extents = -(-_bytes(given.one("--virtualsize")) // EXTENT_BYTES)
            lv.thin_pool, lv.stripes = pool.name, 0
            return lv
        lv.extents = int(given.one("--extents"))
        lv.stripes = int(given.one("--stripes", "1"))
        if kind != "thin-pool":
            lv.pieces = self._allocate(vg, lv.extents, lv.stripes)
            return lv
        metadata = _bytes(given.one("--poolmetadatasize")) // EXTENT_BYTES
        self._require_room(vg, lv.extents + metadata + max(0, metadata - _count(vg.spare)))
        lv.pieces = self._allocate(vg, lv.extents, 1)
        lv.when_full = "error" if "error_when_full=1" in given.one("--config") else "queue"
        # The pool counts as taken from here on, so that its metadata lands elsewhere.
        vg.lvs.append(lv)
        self._grow_metadata(vg, lv, metadata)
        vg.lvs.remove(lv)
        return lv

    def _lvextend(self, argv: Sequence[str]) -> str:
        valued = frozenset({"--extents", "--poolmetadatasize"})
        given = read_arguments(argv, valued=valued, flags=frozenset())
        vg, lv = self._lv(given.word())
        self._require_whole(vg)
        if given.all("--poolmetadatasize"):
            more = _bytes(given.one("--poolmetadatasize").removeprefix("+")) // EXTENT_BYTES
            self._require_room(vg, 2 * more)
            had = _count(lv.metadata)
            self._grow_metadata(vg, lv, had + more)
            lv.metadata_percent *= had / (had + more)
            return f"  Logical volume {vg.name}/{lv.name}_tmeta successfully resized.\n"
        more = int(given.one("--extents")) - lv.extents
        if more == 0:
            sentence = f"  New size ({lv.extents} extents) matches existing size"
            raise ToolRefusal(_FAILED, f"{sentence} ({lv.extents} extents).\n")
        if vg.snapshots(lv) and lv.active:
            raise ToolRefusal(
                _FAILED, "  Snapshot origin volumes can be resized only while inactive"
            )
        if more < 0:
            sentence = f"  New size given ({lv.extents + more} extents) not larger than existing"
            raise ToolRefusal(_FAILED, f"{sentence} size ({lv.extents} extents)\n")
        if lv.kind != "thin":
            free = sum(_count(room) for room in self._rooms(vg).values())
            if free < more:
                sentence = f"  Insufficient free space: {more} extents needed, but only {free}"
                raise ToolRefusal(_FAILED, f"{sentence} available\n")
            lv.pieces = [*lv.pieces, *self._allocate(vg, more, lv.stripes)]
        lv.fill_percent *= lv.extents / (lv.extents + more)
        lv.extents += more
        return f"  Logical volume {vg.name}/{lv.name} successfully resized.\n"

    def _lvremove(self, argv: Sequence[str]) -> str:
        given = read_arguments(argv, flags=frozenset({"--yes"}))
        return "".join(self._remove(target) for target in given.words)

    def _remove(self, target: str) -> str:
        vg, lv = self._lv(target)  # a missing disk is no hindrance to this one
        going = [lv, *(thin for thin in vg.lvs if thin.thin_pool == lv.name), *vg.snapshots(lv)]
        for one in going:
            if self._state.on_top_of(one.uuid):
                sentence = f"  Logical volume {vg.name}/{one.name} is used by another device.\n"
                raise ToolRefusal(_FAILED, sentence)
            if self._state.mounts_of(one.uuid) or one.held_open:
                sentence = f"  Logical volume {vg.name}/{one.name} contains a filesystem in use.\n"
                raise ToolRefusal(_FAILED, sentence)
        for one in going:
            vg.lvs.remove(one)
            if one.kind in {"thin", "snapshot"}:
                self._state.contents.pop(self._state.content_key(one), None)
        if lv.kind == "thin-pool":
            vg.spare = []
        return f'  Logical volume "{lv.name}" successfully removed.\n'

    def _lvchange(self, argv: Sequence[str]) -> str:
        valued = frozenset({"--activate", "--errorwhenfull", "--poll", "--addtag", "--deltag"})
        valued |= {"--setactivationskip"}
        given = read_arguments(argv, valued=valued, flags=frozenset())
        for target in given.words:
            vg, lv = self._lv(target)
            if given.one("--errorwhenfull"):
                if lv.when_full == "error":
                    sentence = f"  Error when full is already set for {target}.\n"
                    raise ToolRefusal(_FAILED, sentence)
                lv.when_full = "error"
                continue
            if given.all("--setactivationskip"):
                lv.skipped = given.one("--setactivationskip") == "y"
                continue
            if not given.all("--activate"):
                left = {*lv.tags, *given.all("--addtag")} - {*given.all("--deltag")}
                lv.tags = sorted(left)
                continue
            if given.one("--activate") == "n":
                self._snapshots.deactivate(vg, lv)
                continue
            if any(self._state.is_missing(self._state.pvs[piece.pv]) for piece in lv.pieces):
                sentence = f"  Refusing activation of partial LV {vg.name}/{lv.name}.\n"
                raise ToolRefusal(_FAILED, sentence)
            self._snapshots.activate(vg, lv, polling=given.one("--poll", "y") == "y")
        return ""

    def _allocate(self, vg: Vg, extents: int, stripes: int) -> list[Piece]:
        """Take free extents, first fit; a stripe each on another physical volume."""
        self._require_room(vg, extents)
        if stripes > len(vg.pvs):
            sentence = f"  Number of stripes ({stripes}) must not exceed number of physical volumes"
            raise ToolRefusal(_FAILED, f"{sentence} ({len(vg.pvs)})\n")
        if stripes == 1:
            return _first_fit([gap for gaps in self._rooms(vg).values() for gap in gaps], extents)
        each, rooms = extents // stripes, self._rooms(vg)
        wide = sorted(
            (pv for pv, room in rooms.items() if _count(room) >= each),
            key=lambda pv: (-_count(rooms[pv]), vg.pvs.index(pv)),
        )
        if len(wide) < stripes:
            sentence = "  Insufficient suitable allocatable extents for logical volume"
            raise ToolRefusal(_FAILED, f"{sentence}: {extents} more required\n")
        return [piece for pv in wide[:stripes] for piece in _first_fit(rooms[pv], each)]

    def _rooms(self, vg: Vg) -> dict[str, list[Piece]]:
        """Return the free runs of every physical volume that may be written to."""
        allocatable = (pv for pv in vg.pvs if self._state.pvs[pv].allocatable)
        return {pv: list(self._state.gaps(vg, pv)) for pv in allocatable}

    def _grow_metadata(self, vg: Vg, lv: Lv, extents: int) -> None:
        lv.metadata = [*lv.metadata, *self._allocate(vg, extents - _count(lv.metadata), 1)]
        if _count(vg.spare) < extents:
            vg.spare = [*vg.spare, *self._allocate(vg, extents - _count(vg.spare), 1)]

    def _require_room(self, vg: Vg, extents: int) -> None:
        free = sum(_count(room) for room in self._rooms(vg).values())
        if free < extents:
            sentence = f'  Volume group "{vg.name}" has insufficient free space ({free} extents)'
            raise ToolRefusal(_FAILED, f"{sentence}: {extents} required.\n")

    def _require_whole(self, vg: Vg) -> None:
        if any(self._state.is_missing(self._state.pvs[pv]) for pv in vg.pvs):
            sentence = f"  Cannot change VG {vg.name} while PVs are missing.\n"
            sentence += "  See vgreduce --removemissing and vgextend --restoremissing.\n"
            raise ToolRefusal(_FAILED, f"{sentence}  Cannot process volume group {vg.name}\n")

    def _joining(self, path: str) -> Pv:
        disk = self._devices.disk(path)
        pv = self._state.pv_on(disk)
        if pv is None:
            fresh = self._state.fresh_uuid()
            return self._initialise(self._blank_disk(path), fresh, DEFAULT_METADATA_BYTES)
        if vg := self._state.vg_of(pv.uuid):
            sentence = f"  Physical volume '{path}' is already in volume group '{vg.name}'\n"
            raise ToolRefusal(_FAILED, sentence)
        return pv

    def _initialise(self, disk: Disk, uuid: str, metadata_bytes: int) -> Pv:
        pv = Pv(uuid=uuid, disk=disk.key, size_bytes=disk.size_bytes, metadata_bytes=metadata_bytes)
        self._state.pvs[uuid] = pv
        return pv

    def _blank_disk(self, path: str) -> Disk:
        disk = self._devices.disk(path)
        pv = self._state.pv_on(disk)
        content = self._state.contents.get(disk.key, Content())
        if self._state.mounts_of(disk.key):
            sentence = f"  Can't open {path} exclusively.  Mounted filesystem?\n"
        elif disk.partitions or content.kind == "gpt":
            sentence = f"  Cannot use {path}: device is partitioned\n"
        elif content.kind.endswith("raid_member"):
            sentence = f"  Cannot use {path}: device is an md component\n"
        elif content.kind:
            sentence = f"WARNING: {content.kind} signature detected on {path} at offset 1080. Wipe"
            sentence += f" it? [y/n]: [n]\n  Aborted wiping of {content.kind}.\n"
        elif pv is not None and (vg := self._state.vg_of(pv.uuid)):
            sentence = f'  Can\'t initialize physical volume "{path}" of volume group "{vg.name}"'
            sentence += " without -ff\n"
        else:
            return disk
        raise ToolRefusal(_FAILED, sentence)

    def _vg(self, name: str, *, creating: bool = False) -> Vg:
        vg = self._state.vg(name)
        if vg is None:
            more = "process" if creating else "find"
            sentence = f'  Volume group "{name}" not found\n  Cannot {more} volume group {name}\n'
            raise ToolRefusal(_FAILED, sentence)
        return vg

    def _lv(self, target: str) -> tuple[Vg, Lv]:
        group, _, name = target.partition("/")
        vg = self._vg(group)
        lv = vg.lv(name)
        if lv is None:
            raise ToolRefusal(_FAILED, f'  Failed to find logical volume "{target}"\n')
        return vg, lv


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+)([bkmg])", text)
    if match is None:
        raise UnknownToolUseError(f"the model reads no size like {text}")
    return int(match[1]) * _UNITS[match[2]]


def _count(pieces: Sequence[Piece]) -> int:
    return sum(piece.count for piece in pieces)


def _first_fit(gaps: Sequence[Piece], extents: int) -> list[Piece]:
    pieces = []
    for gap in gaps:
        take = min(gap.count, extents)
        if take:
            pieces.append(Piece(pv=gap.pv, start=gap.start, count=take))
        extents -= take
    return pieces
