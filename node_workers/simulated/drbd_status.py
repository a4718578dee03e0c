"""What DRBD 8.4 says of itself: events, and the connections behind them."""

import re

from node_workers.drbd_config import FOLDER, RESOURCE, SPLITS
from node_workers.simulated.drbd_model import (
    BLOCK_BYTES,
    ESTABLISHED,
    SECTOR_BYTES,
    VERIFYING,
    Leg,
)
from node_workers.simulated.drbd_side import Side
from node_workers.simulated.model import State

_VERSION = "8.4.11 (api:1/proto:86-101)"
_KIB = 1 << 10
_FIRST_PORT, _PORTS = 32768, 28000  # where Linux takes the port from of who connects


def look(state: State) -> str:
    """Return what the driver's ``LOOK`` prints."""
    lines = [f"host {state.machine}"]
    for path, text in sorted(state.files.items()):
        folder, _, name = path.rpartition("/")
        if folder == FOLDER and name.startswith(RESOURCE) and name.endswith(".res"):
            first = text.partition("\n")[0]
            lines += [f"==> {path} <==", first, ""]
    lines += [f"split {path.rpartition('/')[2]}" for path in state.files if _is_mark(path)]
    if state.drbd_loaded:
        lines += [f"drbd {_VERSION}", *events(state)]
    return "\n".join(lines) + "\n"


def events(state: State) -> list[str]:
    """Return what ``drbdsetup events2 --now --statistics`` prints."""
    lines = []
    for leg in state.legs:
        about = f"name:{leg.name}"
        suspended = "fencing" if leg.suspended else "no"
        role = "Primary" if leg.primary else "Secondary"
        lines.append(f"exists resource {about} role:{role} suspended:{suspended}")
        other = f"{about} peer-node-id:0 conn-name:peer"
        known = "Primary" if leg.peer_primary else "Secondary"
        peer_role = known if leg.connected else "Unknown"
        lines.append(
            f"exists connection {other} connection:{leg.connection} role:{peer_role} congested:no"
        )
        if leg.minor is not None:
            size = leg.sectors * SECTOR_BYTES // _KIB
            lines.append(
                f"exists device {about} volume:0 minor:{leg.minor} disk:{leg.disk} size:{size}"
            )
            lines.append(f"exists peer-device {other} volume:0 {_peer_device(state, leg)}")
    return [*lines, "exists -"]


def line(state: State, mark: str | None, pattern: str) -> str:
    """Return what the driver's ``LINE`` prints: the mark, and the connections on those ports."""
    lines = [] if mark is None else [f"mark {mark.strip()}"]
    wanted = re.compile(pattern)
    for leg in state.legs:
        if leg.connected:
            there = leg.options.there.rpartition(":")[0]
            ends = f"{_end(leg.options.here)} {_end(f'{there}:{_FIRST_PORT + leg.link % _PORTS}')}"
            row = f"   0: {ends} 01 00000000:00000000 00:00000000 00000000     0        0 1"
            lines += [row] if wanted.search(row) else []
    return "".join(f"{one}\n" for one in lines)


def _peer_device(state: State, leg: Leg) -> str:
    out_of_sync = Side(state, leg).metadata.bits * BLOCK_BYTES
    replication = leg.replication if leg.connected else "Off"
    words = [f"replication:{replication}", f"peer-disk:{leg.peer_disk}", "resync-suspended:no"]
    if leg.connected and leg.replication != ESTABLISHED:
        done = 100.0 * leg.done_bytes / leg.total_bytes if leg.total_bytes else 100.0
        words.append(f"done:{done:.2f}")
        if leg.replication not in VERIFYING:
            out_of_sync = round(leg.total_bytes - leg.done_bytes)
    return " ".join([*words, f"out-of-sync:{out_of_sync // _KIB}"])


def _end(address: str) -> str:
    host, _, port = address.rpartition(":")
    words = host.strip("[]").split(".")
    return f"{''.join(f'{int(word):02X}' for word in reversed(words))}:{int(port):04X}"


def _is_mark(path: str) -> bool:
    return path.startswith(f"{SPLITS}/")
