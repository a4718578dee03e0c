"""From a path to the thing behind it."""

import msgspec
from msgspec.structs import replace

from node_workers.simulated.arguments import ToolRefusal
from node_workers.simulated.drbd_model import SECTOR_BYTES, Leg
from node_workers.simulated.model import (
    EXTENT_BYTES,
    OVERFLOWED_PERCENT,
    Content,
    Disk,
    Lv,
    Mapped,
    State,
    Vg,
    device_of,
)


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A device that can be opened: ``use`` is what mounts name, ``at`` where its content lies.

    ``inside``: behind the encryption of what lies there.
    """

    name: str
    use: str
    at: str
    size_bytes: int
    held: bool
    broken: bool
    inside: bool = False


class Devices:
    """Finds disks and logical volumes by path."""

    def __init__(self, state: State) -> None:
        self._state = state

    def disk(self, path: str) -> Disk:
        """Return the disk at *path*. Raises ``ToolRefusal`` as LVM words it."""
        for disk in self._state.disks.values():
            if f"/dev/{disk.name}" == path:
                return disk
        raise ToolRefusal(5, f"  No device found for {path}.\n")

    def find(self, path: str) -> Device | None:
        """Return the disk, active logical volume or stable device at *path*, or None."""
        path = self._state.links.get(path, path)
        for disk in self._state.disks.values():
            if f"/dev/{disk.name}" == path:
                return Device(
                    name=disk.name,
                    use=disk.key,
                    at=disk.key,
                    size_bytes=disk.size_bytes,
                    held=bool(disk.partitions) or self._state.pv_on(disk) is not None,
                    broken=disk.broken,
                )
        for leg in self._state.legs:
            if f"/dev/drbd{leg.minor}" == path:
                return self._replicated(leg)
        mapped = self._state.mapped_as(path.removeprefix("/dev/mapper/"))
        for vg in self._state.vgs:
            for lv in vg.lvs:
                if mapped is not None and self._state.chain(mapped)[-1].below == lv.uuid:
                    return self._mapped(vg, lv, mapped)
                if f"/dev/{vg.name}/{lv.name}" == path and lv.active and lv.kind != "thin-pool":
                    return self._volume(vg, lv)
        return None

    def content(self, device: Device) -> Content:
        """Return what lies on the device; blank if nothing was ever written."""
        content = self._state.contents.get(device.at, Content())
        return (content.inner or Content()) if device.inside else content

    def put(self, device: Device, content: Content | None) -> None:
        """Leave *content* on the device, or nothing."""
        found = self._state.contents.get(device.at, Content())
        if device.inside:
            found.inner = content
        elif content is not None:
            # What is copied ends before DRBD's metadata, there and here.
            self._state.contents[device.at] = replace(content, metadata=found.metadata)
        else:
            self._state.contents.pop(device.at, None)

    def _replicated(self, leg: Leg) -> Device | None:
        """Return the replicated device; only who is primary can open it."""
        mapped = next((one for one in self._state.mapped if one.uuid == leg.backing), None)
        below = None if mapped is None else self.find(f"/dev/mapper/{mapped.name}")
        if below is None:
            return None
        use = device_of(leg)
        return replace(
            below,
            name=f"drbd{leg.minor}",
            use=use,
            size_bytes=leg.sectors * SECTOR_BYTES,
            held=self._state.on_top_of(use) is not None,
            broken=below.broken or not leg.primary,
        )

    def _mapped(self, vg: Vg, lv: Lv, mapped: Mapped) -> Device:
        below = self._volume(vg, lv)
        return replace(
            below,
            name=mapped.name,
            use=mapped.uuid,
            size_bytes=mapped.size_bytes,
            held=mapped.held_open or self._state.on_top_of(mapped.uuid) is not None,
            inside=any(one.is_crypt for one in self._state.chain(mapped)),
        )

    def _volume(self, vg: Vg, lv: Lv) -> Device:
        broken = any(
            self._state.is_missing(self._state.pvs[piece.pv])
            or self._state.disks[self._state.pvs[piece.pv].disk].broken
            for piece in lv.pieces
        )
        origin = vg.lv(lv.origin) if lv.kind == "snapshot" else None
        broken = broken or lv.fill_percent >= OVERFLOWED_PERCENT
        return Device(
            name=lv.name,
            use=lv.uuid,
            at=self._state.content_key(lv),
            size_bytes=(origin or lv).extents * EXTENT_BYTES,
            held=lv.held_open or self._state.on_top_of(lv.uuid) is not None,
            broken=broken or vg.lv(lv.name) is None,
        )
