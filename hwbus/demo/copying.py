"""Chapter ten: a copy of a volume in use is as the volume was, and has a life of its own."""

from hwbus.demo.forming import FAST
from hwbus.demo.stage import Stage

SHOP = "shop"
COPY = "shop-test"
_MIB = 1 << 20
_SIZES = ("128MiB", "192MiB")
_HERE, _THERE = "/mnt/shop", "/mnt/shop-test"


async def a_volume_is_cloned_in_use(stage: Stage) -> None:
    """Clone a mounted volume into a larger one, and go on writing to it."""
    teller = stage.teller
    teller.chapter("A volume is cloned while it is in use; its copy is read back before it counts")
    small, large = _SIZES
    await stage.hwbus(
        "volume", "create", SHOP, small, "--fs", "ext4", "--pool", FAST, "--wait", output=False
    )
    volume = await stage.row("volumes", name=SHOP)
    node = volume["node"]
    await stage.by_hand(
        node,
        ("mkdir", "-p", _HERE, _THERE),
        ("mount", volume["device"], _HERE),
        _write(16),
        ("sync",),
    )
    then = _digest(await stage.inside(node, "md5sum", f"{_HERE}/data"))
    await stage.hwbus("volume", "clone", SHOP, COPY, "--size", large, "--wait", progress=True)
    await stage.by_hand(node, _write(8), ("sync",))
    copy = await stage.row("volumes", name=COPY)
    await stage.by_hand(node, ("mount", copy["device"], _THERE))
    found = _digest(await stage.inside(node, "md5sum", f"{_THERE}/data"))
    teller.same(found, then, "the copy holds what the volume held when it was cloned")
    now = _digest(await stage.inside(node, "md5sum", f"{_HERE}/data"))
    teller.check(now != then, "and the volume has gone on since", now)
    said = await stage.inside(node, "df", "-B1", "--output=size,target", _THERE)
    size_bytes = int(said.split()[-2])
    teller.check(
        size_bytes > 150 * _MIB, "its filesystem fills the larger copy", f"{size_bytes} bytes"
    )
    left = list(await stage.rows("snapshots"))
    teller.same(left, [], "the snapshot it was made by way of is gone")
    await stage.by_hand(node, ("umount", _HERE), ("umount", _THERE))
    await stage.side_by_side(
        *(("volume", "delete", name, "--hold", "0s", "--yes", "--wait") for name in (SHOP, COPY))
    )


def _write(mib: int) -> tuple[str, ...]:
    return ("dd", "if=/dev/urandom", f"of={_HERE}/data", "bs=1M", f"count={mib}")


def _digest(printed: str) -> str:
    return printed.split(maxsplit=1)[0]
