"""Chapter nine: mistakes are undone, by a snapshot and by the hold on what was deleted."""

from hwbus.demo.failing import LEDGER
from hwbus.demo.stage import Row, Stage

_TARGET = "/mnt/ledger"
_DATA = f"{_TARGET}/data"
_SNAPSHOT = "before"


async def mistakes_are_undone(stage: Stage) -> None:
    """Overwrite data and roll them back, delete a volume and bring it back."""
    stage.teller.chapter("Mistakes are undone: data rolled back, a deleted volume brought back")
    volume = next(r for r in await stage.rows("volumes") if r["name"].startswith(LEDGER))
    node, mount = volume["node"], ("mount", volume["device"], _TARGET)
    await stage.by_hand(node, ("mkdir", "-p", _TARGET), mount, _write(16), ("sync",))
    before = await stage.inside(node, "md5sum", _DATA)
    await _spoil(stage, volume, before)
    await stage.hwbus("snapshot", "rollback", _SNAPSHOT, "--yes", "--wait")
    await stage.by_hand(node, mount)
    after = await stage.inside(node, "md5sum", _DATA)
    stage.teller.same(after, before, "rolled back, the data are what they were")
    await stage.by_hand(node, ("umount", _TARGET))
    await _bring_back(stage, volume)
    await stage.by_hand(node, mount)
    after = await stage.inside(node, "md5sum", _DATA)
    stage.teller.same(after, before, "brought back, the data are still the same")
    await stage.by_hand(node, ("umount", _TARGET))


def _write(mib: int) -> tuple[str, ...]:
    return ("dd", "if=/dev/urandom", f"of={_DATA}", "bs=1M", f"count={mib}")


async def _spoil(stage: Stage, volume: Row, before: str) -> None:
    """Take a snapshot while the volume is in use, then overwrite what is on it."""
    teller, node = stage.teller, volume["node"]
    await stage.hwbus("snapshot", "create", volume["name"], _SNAPSHOT, "--wait")
    snapshot = await stage.row("snapshots", name=_SNAPSHOT)
    teller.same(snapshot["consistency"], "filesystem", "it caught the mounted filesystem whole")
    await stage.by_hand(node, _write(8), ("sync",))
    spoilt = await stage.inside(node, "md5sum", _DATA)
    teller.check(spoilt != before, "the data are overwritten", spoilt)
    await stage.by_hand(node, ("umount", _TARGET))


async def _bring_back(stage: Stage, volume: Row) -> None:
    teller, name = stage.teller, volume["name"]
    await stage.hwbus("volume", "delete", name, "--yes", "--wait")
    row = await stage.row("volumes", name=name)
    teller.same(row["state"], "held", "what is deleted is held for a day")
    found = await stage.lvs(volume["node"], volume["pool"])
    teller.check(name in found, "and LVM still has it", f"{sorted(found)}")
    await stage.hwbus("volume", "undelete", name, "--wait")
    row = await stage.row("volumes", name=name)
    teller.same(row["state"], "ready", "it is brought back")
