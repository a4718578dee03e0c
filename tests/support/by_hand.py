"""What people do to a machine by hand, and what is done about it, for tests that crash in it."""

from collections.abc import Awaitable, Callable
from typing import Any

from node_workers.lvm import LvmStorage
from node_workers.ports import PoolDisk, VolumeSpec
from schemas.errand import PutAside, PutBack
from schemas.mending import Mend, SeenVolume

MIB = 1 << 20
UID, POOL, CAUSE = "01pool", "fast", "01command"
Step = Callable[[LvmStorage, list[PoolDisk]], Awaitable[object]]
_V1 = VolumeSpec(uid="uid-v1", name="v1", pool=POOL, size_bytes=32 * MIB)


class ByHand:
    """Somebody runs a tool; ``LVS`` is what LVM's own identity of each volume is after it."""

    def __init__(self, *argv: str) -> None:
        self.argv = argv


LVS: dict[str, str] = {}


def look(name: str, mib: int, **more: Any) -> SeenVolume:
    return SeenVolume(pool=POOL, name=name, lv=LVS[name], size_bytes=mib * MIB, **more)


def mended(wanted: VolumeSpec, mend: Mend, name: str = "", mib: int = 320) -> Step:
    def step(storage: LvmStorage, _: list[PoolDisk]) -> Awaitable[object]:
        seen = look(name, mib, uid=wanted.uid) if name else None
        return storage.ensure_mended(UID, wanted, mend, seen, cause=CAUSE)

    return step


def adopted(storage: LvmStorage, _: list[PoolDisk]) -> Awaitable[object]:
    return storage.ensure_adopted(UID, _V1, look("theirs", 32), cause=CAUSE)


def given_back(storage: LvmStorage, _: list[PoolDisk]) -> Awaitable[object]:
    return storage.ensure_given_back(UID, _V1, look("theirs", 32), cause=CAUSE)


def put(what: type[PutAside | PutBack]) -> Step:
    claim = "c" * 26
    return lambda storage, _: storage.do_errand(
        "op", what(seen=look("theirs", 32), claim=claim), UID, cause=CAUSE
    )


THEIRS = ByHand("lvcreate", "--yes", "--extents", "8", "--name", "theirs", POOL)
RENAMED = ByHand("lvrename", POOL, "v1", "taken")
GROWN = ByHand("lvextend", "--extents", "90", f"{POOL}/v1")
LOST = ByHand("lvremove", "--yes", f"{POOL}/v1")
