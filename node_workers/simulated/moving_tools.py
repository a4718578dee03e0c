"""LVM's tools that look at the segments of disks and move them; a move is done in an instant."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from node_workers.simulated.arguments import ToolRefusal, UnknownToolUseError, read_arguments
from node_workers.simulated.devices import Devices
from node_workers.simulated.model import Lv, Piece, State, Vg

_FAILED = 5
_SEGMENTS = ("--reportformat", "json", "--segments", "-o")
_COLUMNS = "pv_name,pv_uuid,pv_allocatable,lv_name,move_pv_uuid"


class MovingTools:
    """``pvs --segments`` and ``pvmove`` over a ``State``; each returns what it would print."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._devices = Devices(state)
        self.commands: Mapping[str, Callable[[Sequence[str]], str]] = {
            "pvs": self._pvs,
            "pvmove": self._pvmove,
        }

    def _pvs(self, argv: Sequence[str]) -> str:
        *known, columns, select, group = argv
        if (tuple(known), columns, select) != (_SEGMENTS, _COLUMNS, "--select"):
            raise UnknownToolUseError(f"pvs {' '.join(argv)}")
        vg = self._state.vg(group.removeprefix("vg_name="))
        rows = [] if vg is None else [row for pv in vg.pvs for row in self._rows(vg, pv)]
        return msgspec.json.encode({"report": [{"pvseg": rows}]}).decode()

    def _rows(self, vg: Vg, uuid: str) -> list[dict[str, str]]:
        pv = self._state.pvs[uuid]
        path = f"/dev/{self._state.disks[pv.disk].name}" if pv.disk in self._state.disks else ""
        names = [name for name, pieces in _owners(vg) if any(p.pv == uuid for p in pieces)]
        if any(self._state.gaps(vg, uuid)):
            names.append("")
        about = {"pv_name": path or "[unknown]", "pv_uuid": uuid}
        about |= {"pv_allocatable": "allocatable" if pv.allocatable else ""}
        about |= {"move_pv_uuid": ""}  # nothing is ever underway here
        return [{**about, "lv_name": name} for name in names]

    def _pvmove(self, argv: Sequence[str]) -> str:
        valued = frozenset({"--interval", "--name"})
        given = read_arguments(argv, valued=valued, flags=frozenset({"--abort"}))
        if not given.words:
            # LVM would do it, to all that is being moved on the machine: nobody here may mean that.
            raise UnknownToolUseError(f"pvmove {' '.join(argv)}")
        pv = self._state.pv_on(self._devices.disk(given.word()))
        vg = None if pv is None else self._state.vg_of(pv.uuid)
        if pv is None or vg is None:
            raise ToolRefusal(_FAILED, f"  Failed to find physical volume {given.word()}.\n")
        if "--abort" in given.options:
            done = "No pvmove in progress - already finished or aborted."
            return f"  {given.word()}: {done}\n"
        named = given.one("--name")
        lvs = [lv for lv in vg.lvs if not named or lv.name == named]
        used = any(piece.pv == pv.uuid for lv in lvs for piece in (*lv.pieces, *lv.metadata))
        if not used and (named or all(piece.pv != pv.uuid for piece in vg.spare)):
            raise ToolRefusal(_FAILED, f"  No data to move for {vg.name}.\n")
        for lv in lvs:
            self._move(vg, lv, pv.uuid)
        if not named:
            vg.spare = self._elsewhere(vg, vg.spare, pv.uuid, frozenset())
        return f"  {given.word()}: Moved: 100.00%\n"

    def _move(self, vg: Vg, lv: Lv, pv: str) -> None:
        content = None if lv.kind == "thin" else self._state.content_key(lv)
        # A stripe never shares a disk with another of its volume.
        others = {piece.pv for piece in lv.pieces if piece.pv != pv} if lv.stripes > 1 else set()
        lv.pieces = self._elsewhere(vg, lv.pieces, pv, frozenset(others))
        lv.metadata = self._elsewhere(vg, lv.metadata, pv, frozenset())
        if content is not None and content in self._state.contents:
            # What is left behind on the old disk is nobody's, and is gone with its label.
            self._state.contents[self._state.content_key(lv)] = self._state.contents.pop(content)

    def _elsewhere(
        self, vg: Vg, pieces: Sequence[Piece], pv: str, avoiding: frozenset[str]
    ) -> list[Piece]:
        moved: list[Piece] = []
        for piece in pieces:
            if piece.pv != pv:
                moved.append(piece)
                continue
            left = piece.count
            for gap in self._gaps(vg, pv, avoiding, moved):
                take = min(gap.count, left)
                if take:
                    moved.append(Piece(pv=gap.pv, start=gap.start, count=take))
                left -= take
            if left:
                sentence = "  Insufficient suitable allocatable extents for logical volume pvmove0"
                raise ToolRefusal(_FAILED, f"{sentence}: {left} more required\n")
        return moved

    def _gaps(
        self, vg: Vg, leaving: str, avoiding: frozenset[str], taken: Sequence[Piece]
    ) -> list[Piece]:
        """Return the free runs that a move may use, besides what it has *taken* already."""
        free: list[Piece] = []
        for uuid in vg.pvs:
            if uuid == leaving or uuid in avoiding or not self._state.pvs[uuid].allocatable:
                continue
            for gap in self._state.gaps(vg, uuid):
                ours = sum(
                    piece.count
                    for piece in taken
                    if piece.pv == uuid and gap.start <= piece.start < gap.start + gap.count
                )
                start, count = gap.start + ours, gap.count - ours
                free.append(Piece(pv=uuid, start=start, count=count))
        return free


def _owners(vg: Vg) -> list[tuple[str, list[Piece]]]:
    """Return everything that takes extents, by the name that LVM shows for it."""
    owners: list[tuple[str, list[Piece]]] = [("[lvol0_pmspare]", vg.spare)]
    for lv in vg.lvs:
        pool = lv.kind == "thin-pool"
        owners.append((f"[{lv.name}_tdata]" if pool else lv.name, lv.pieces))
        owners.append((f"[{lv.name}_tmeta]", lv.metadata))
    return owners
