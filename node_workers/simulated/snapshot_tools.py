"""What LVM 2.03.16 does with snapshots, thick and thin, as was seen on a real kernel."""

import copy
from collections.abc import Callable, Mapping, Sequence

from node_workers.simulated.arguments import ToolRefusal, read_arguments
from node_workers.simulated.model import OVERFLOWED_PERCENT, Content, Lv, State, Vg

_FAILED = 5


class SnapshotTools:
    """Takes, merges, activates and deactivates volumes with their snapshots in a ``State``."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.commands: Mapping[str, Callable[[Sequence[str]], str]] = {
            "lvconvert": self._lvconvert,
            "lvpoll": self._lvpoll,
            "lvrename": self._lvrename,
        }

    def taken(self, vg: Vg, name: str, origin: str) -> Lv:
        """Return a new snapshot of *origin*, which has room in no pool yet."""
        source = vg.lv(origin)
        if source is None:
            sentence = f"  Snapshot origin LV {origin} not found in Volume group {vg.name}.\n"
            raise ToolRefusal(_FAILED, sentence)
        thin = source.kind == "thin"
        lv = Lv(
            uuid=self._state.fresh_uuid(),
            name=name,
            kind="thin" if thin else "snapshot",
            extents=source.extents if thin else 0,
            minor=self._minor(),
            stripes=0 if thin else 1,
            thin_pool=source.thin_pool,
            origin=origin,
            active=thin or source.active,
        )
        self._copy(source, lv)
        return lv

    def activate(self, vg: Vg, lv: Lv, *, polling: bool) -> None:
        """Activate a volume and its thick snapshots, and merge what waits, if that is polled."""
        if lv.kind == "snapshot":
            self._refuse_alone(vg, lv)
        if lv.skipped:
            return  # not said twice; LVM calls that a success
        lv.active = True
        for snapshot in vg.snapshots(lv):
            snapshot.active = True
        merging = vg.merging(lv)
        if merging is not None and polling:
            self._merge(vg, merging, lv)

    def deactivate(self, vg: Vg, lv: Lv) -> None:
        """Deactivate a volume, and with it its thick snapshots, if nobody has one of them open."""
        if lv.kind == "snapshot":
            self._refuse_alone(vg, lv)
        pair = [lv, *vg.snapshots(lv)]
        for one in pair:
            if self._is_open(one):
                mounted = bool(self._state.mounts_of(one.uuid))
                what = "contains a filesystem in use" if mounted else "in use"
                raise ToolRefusal(_FAILED, f"  Logical volume {vg.name}/{one.name} {what}.\n")
        for one in pair:
            one.active = False

    def _lvconvert(self, argv: Sequence[str]) -> str:
        given = read_arguments(argv, flags=frozenset({"--yes", "--merge"}))
        vg, lv = self._find(given.word())
        origin = vg.lv(lv.origin)
        target = f"{vg.name}/{lv.name}"
        if lv.merging or origin is None:
            raise ToolRefusal(_FAILED, f"  Command not permitted on LV {target}.\n")
        if lv.fill_percent >= OVERFLOWED_PERCENT:
            sentence = f"  Unable to merge invalidated snapshot LV {target}.\n"
            raise ToolRefusal(_FAILED, sentence)
        if vg.merging(origin) is not None:
            sentence = f"  Cannot merge snapshot {target} into the origin with merging snapshot.\n"
            raise ToolRefusal(_FAILED, sentence)
        lv.merging = True
        waits = lv.kind == "snapshot" and not origin.active
        if waits or self._is_open(origin) or self._is_open(lv):
            where = f"{vg.name}/{origin.name}"
            return f"  Merging of snapshot {target} will occur on next activation of {where}.\n"
        self._merge(vg, lv, origin)
        return f"  Merge of snapshot into logical volume {vg.name}/{origin.name} has finished.\n"

    def _lvpoll(self, argv: Sequence[str]) -> str:
        """Wait for the end of a merge. Like the real one, it never says that it failed."""
        valued = frozenset({"--polloperation", "--interval"})
        vg, origin = self._find(read_arguments(argv, valued=valued, flags=frozenset()).word())
        merging = vg.merging(origin)
        if merging is None:
            return f"  Logical volume {vg.name}/{origin.name} is no longer merging origin.\n"
        if not origin.active:
            return f"  {vg.name}/{origin.name}: Interrupted: No longer active.\n"
        self._merge(vg, merging, origin)
        return f"  Merge of snapshot into logical volume {vg.name}/{origin.name} has finished.\n"

    def _lvrename(self, argv: Sequence[str]) -> str:
        """Rename a volume; its snapshots go on being its own."""
        group, old, new = read_arguments(argv, flags=frozenset()).words
        vg, lv = self._find(f"{group}/{old}")
        if vg.lv(new):
            sentence = f'  Logical Volume "{new}" already exists in volume group "{group}"\n'
            raise ToolRefusal(_FAILED, sentence)
        for other in vg.lvs:
            other.origin = new if other.origin == old else other.origin
        lv.name = new
        return f'  Renamed "{old}" to "{new}" in volume group "{group}"\n'

    def _merge(self, vg: Vg, snapshot: Lv, origin: Lv) -> None:
        self._copy(snapshot, origin)
        self._state.contents.pop(self._state.content_key(snapshot), None)
        if snapshot.kind == "thin":
            origin.extents = snapshot.extents
        vg.lvs.remove(snapshot)

    def _copy(self, source: Lv, target: Lv) -> None:
        content = self._state.contents.get(self._state.content_key(source), Content())
        self._state.contents[self._state.content_key(target)] = copy.deepcopy(content)

    def _is_open(self, lv: Lv) -> bool:
        used = self._state.mounts_of(lv.uuid) or self._state.on_top_of(lv.uuid)
        return bool(used) or lv.held_open

    def _refuse_alone(self, vg: Vg, lv: Lv) -> None:
        target, origin = f"{vg.name}/{lv.name}", f"{vg.name}/{lv.origin}"
        asked = f"Change of snapshot {target} will also change its origin {origin}. Proceed?"
        raise ToolRefusal(_FAILED, f"{asked} [y/n]: [n]\n  Logical volume {target} not changed.\n")

    def _find(self, target: str) -> tuple[Vg, Lv]:
        group, _, name = target.partition("/")
        vg = self._state.vg(group)
        lv = None if vg is None else vg.lv(name)
        if vg is None or lv is None:
            raise ToolRefusal(_FAILED, f'  Failed to find logical volume "{target}"\n')
        return vg, lv

    def _minor(self) -> int:
        taken = {lv.minor for vg in self._state.vgs for lv in vg.lvs}
        return next(number for number in range(len(taken) + 1) if number not in taken)
