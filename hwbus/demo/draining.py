"""Chapter three: a disk is taken out of a pool while a volume that lies on it is used."""

from hwbus.demo.forming import FAST
from hwbus.demo.stage import Row, Stage

ARCHIVE = "archive"
_NODE = "n2"
_SIZE = "128MiB"
_FOUND_S = 30.0
_TARGET = "/mnt/archive"
_DATA = f"{_TARGET}/data"


async def a_disk_is_drained(stage: Stage) -> None:
    """Fill a volume, drain the disk below it, read the same again, and put the disk back."""
    teller = stage.teller
    teller.chapter("A disk is drained while what lies on it is in use")
    await stage.hwbus(
        *("volume", "create", ARCHIVE, _SIZE, "--fs", "ext4", "--pool", FAST, "--node", _NODE),
        "--wait",
        output=False,
    )
    volume = await stage.row("volumes", name=ARCHIVE)
    await stage.by_hand(
        _NODE,
        ("mkdir", "-p", _TARGET),
        ("mount", volume["device"], _TARGET),
        ("dd", "if=/dev/urandom", f"of={_DATA}", "bs=1M", "count=32"),
        ("sync",),
    )
    checksum = await stage.inside(_NODE, "md5sum", _DATA)
    disk = await _below(stage)
    await stage.hwbus("disk", "drain", disk["id"], "--wait", progress=True)
    left = await _disks(stage)
    teller.check(
        len(left) == 1 and disk["path"] not in left,
        f"LVM has {disk['path']} in {FAST} no longer, and the other disk still",
        f"{left}",
    )
    taken_bytes = sum(size - free for size, free in left.values())
    teller.same(taken_bytes, volume["size_bytes"], "all that lay on it lies on the other now")
    await stage.look_again(_NODE)
    free = await stage.until("disks", 1, _FOUND_S, id=disk["id"], state="free", content="blank")
    teller.same(len(free), 1, "the disk is found blank and free, and may be pulled out")
    mounted = await stage.inside(_NODE, "findmnt", "-n", "-o", "SOURCE,FSTYPE,TARGET", _TARGET)
    teller.check(_TARGET in mounted, "the volume is mounted all the while", mounted)
    teller.same(await stage.inside(_NODE, "md5sum", _DATA), checksum, "its data are the same")
    await stage.by_hand(_NODE, ("umount", _TARGET))
    await stage.side_by_side(
        ("volume", "delete", ARCHIVE, "--hold", "0s", "--yes", "--wait"),
        ("pool", "grow", FAST, "--node", _NODE, "--disk", disk["id"], "--wait"),
    )
    teller.same(len(await _disks(stage)), 2, f"another disk takes its place: {FAST} has two again")


async def _below(stage: Stage) -> Row:
    """Return the disk that something lies on; the pool holds nothing but the volume."""
    used = [path for path, (size, free) in (await _disks(stage)).items() if free < size]
    stage.teller.same(len(used), 1, f"{ARCHIVE} lies on one of the two disks of {FAST}")
    return await stage.row("disks", node=_NODE, path=used[0])


async def _disks(stage: Stage) -> dict[str, tuple[int, int]]:
    """Ask LVM for the disks of the pool: path, size and what is free, in bytes."""
    columns = "pv_name,pv_size,pv_free"
    argv = ("pvs", "--units", "b", "--nosuffix", "-o", columns, "-S", f"vg_name={FAST}")
    lines = (await stage.inside(_NODE, *argv)).splitlines()[1:]
    found = (line.split() for line in lines if line.strip())
    return {path: (int(size), int(free)) for path, size, free in found}
