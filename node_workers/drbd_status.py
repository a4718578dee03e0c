"""What DRBD says of itself, as states of legs.

Two forms: the lines of ``drbdsetup events2 --now --statistics``, which 8.4 and 9 both print (one
object a line, as drbdsetup(8) has it), and ``drbdsetup status --json --statistics`` of 9.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from node_workers.drbd_config import RESOURCE
from node_workers.ports import Bytes
from node_workers.replication import Connection, DiskState, Peer, ReplicationState, Role, Sync

_KIB = 1 << 10
_ROLES = {"Primary": Role.PRIMARY, "Secondary": Role.SECONDARY}
_DISKS = {
    "Diskless": DiskState.DISKLESS,
    "Attaching": DiskState.DISKLESS,
    "Negotiating": DiskState.DISKLESS,
    "Detaching": DiskState.FAILED,
    "Failed": DiskState.FAILED,
    "Inconsistent": DiskState.INCONSISTENT,
    "Outdated": DiskState.OUTDATED,
    "Consistent": DiskState.CONSISTENT,
    "UpToDate": DiskState.UP_TO_DATE,
}
_SYNCS = {
    **dict.fromkeys(("StartingSyncS", "WFBitMapS", "SyncSource", "Ahead"), Sync.SOURCE),
    **dict.fromkeys(("StartingSyncT", "WFBitMapT", "WFSyncUUID", "SyncTarget"), Sync.TARGET),
    "Behind": Sync.TARGET,
    **dict.fromkeys(("PausedSyncS", "PausedSyncT"), Sync.PAUSED),
    **dict.fromkeys(("VerifyS", "VerifyT"), Sync.VERIFYING),
}
# Why I/O may stand still until somebody decides; "user" is a person's own doing.
_FREEZING = frozenset({"fencing", "quorum", "no-data"})


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """A resource in the kernel; ``minor`` is None before it has a device.

    Peers bear the names of the resource file, or "peer" with 8.4, which has but one.
    """

    name: str
    role: Role = Role.UNKNOWN
    frozen: bool = False
    minor: int | None = None
    disk: DiskState = DiskState.DISKLESS
    size_bytes: Bytes = 0
    peers: tuple[Peer, ...] = ()

    @property
    def connected(self) -> bool:
        """Whether all of its peers are there."""
        return all(peer.connection is Connection.CONNECTED for peer in self.peers)

    def state(self, volume: str, peers: tuple[str, ...], *, split: bool) -> ReplicationState:
        """Return it as that of *volume*, whose peers in the resource file are *peers*."""
        nameless = len(self.peers) == len(peers) == 1
        known = {peers[0] if nameless else peer.node: peer for peer in self.peers}
        return ReplicationState(
            volume=volume,
            role=self.role,
            disk=self.disk,
            peers=tuple(
                msgspec.structs.replace(known.get(node, Peer(node=node)), node=node)
                for node in peers
            ),
            device=f"/dev/drbd{self.minor}" if self.minor is not None else "",
            size_bytes=self.size_bytes,
            frozen=self.frozen,
            split=split,
        )


def parse_events(output: str) -> dict[str, Resource]:
    """Return our resources, by name, of ``drbdsetup events2 --now --statistics``.

    A kind of object or a key that is not known is passed over: newer releases add some.
    """
    found: dict[str, Resource] = {}
    for kind, values in _objects(output):
        name = values.get("name", "")
        if not name.startswith(RESOURCE):
            continue
        one = found.get(name, Resource(name=name))
        found[name] = _with(one, kind, values)
    return found


def parse_json(output: str) -> dict[str, Resource]:
    """Return our resources, by name, of ``drbdsetup status --json --statistics`` (DRBD 9)."""
    rows: list[dict[str, Any]] = msgspec.json.decode(output) if output.strip() else []
    return {row["name"]: _from_row(row) for row in rows if row["name"].startswith(RESOURCE)}


def _objects(output: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    for line in output.splitlines():
        words = line.split()
        if len(words) > 2 and words[0] in {"exists", "create", "change"}:  # noqa: PLR2004
            pairs = (word.partition(":") for word in words[2:])
            yield words[1], {key: value for key, _, value in pairs}


def _with(one: Resource, kind: str, values: Mapping[str, str]) -> Resource:
    match kind:
        case "resource":
            why = values.get("suspended", "no").split(",")
            return msgspec.structs.replace(
                one,
                role=_ROLES.get(values.get("role", ""), Role.UNKNOWN),
                frozen=not _FREEZING.isdisjoint(why),
            )
        case "device":
            return msgspec.structs.replace(
                one,
                minor=int(values["minor"]),
                disk=_disk(values.get("disk", "")),
                size_bytes=int(values.get("size", "0")) * _KIB,
            )
        case "connection" | "peer-device":
            node = values.get("conn-name", "")
            known = {peer.node: peer for peer in one.peers}
            peer = _peer(known.get(node, Peer(node=node)), kind, values)
            return msgspec.structs.replace(one, peers=tuple({**known, node: peer}.values()))
        case _:
            return one


def _peer(peer: Peer, kind: str, values: Mapping[str, str]) -> Peer:
    if kind == "connection":
        return msgspec.structs.replace(
            peer,
            connection=_connection(values.get("connection", "")),
            role=_ROLES.get(values.get("role", ""), Role.UNKNOWN),
        )
    done = values.get("done")
    return msgspec.structs.replace(
        peer,
        connection=_met(peer.connection, values.get("replication", "")),
        disk=_disk(values.get("peer-disk", "")),
        sync=_SYNCS.get(values.get("replication", ""), Sync.NONE),
        done_percent=None if done is None else float(done),
        out_of_sync_bytes=int(values.get("out-of-sync", "0")) * _KIB,
    )


def _from_row(row: Mapping[str, Any]) -> Resource:
    device: Mapping[str, Any] = next(iter(row.get("devices", ())), {})
    return Resource(
        name=row["name"],
        role=_ROLES.get(row.get("role", ""), Role.UNKNOWN),
        frozen=_is_frozen(row),
        minor=device.get("minor"),
        disk=_disk(device.get("disk-state", "")),
        size_bytes=device.get("size", 0) * _KIB,
        peers=tuple(_from_connection(one) for one in row.get("connections", ())),
    )


def _is_frozen(row: Mapping[str, Any]) -> bool:
    """Return whether I/O waits; older releases say that it does, and not why."""
    why = {key: value for key, value in row.items() if key.startswith("suspended-")}
    if not why:
        return bool(row.get("suspended", False))
    return any(why.get(f"suspended-{one}", False) for one in _FREEZING)


def _from_connection(row: Mapping[str, Any]) -> Peer:
    device: Mapping[str, Any] = next(iter(row.get("peer_devices", ())), {})
    replication = device.get("replication-state", "")
    sync = _SYNCS.get(replication, Sync.NONE)
    return Peer(
        node=row["name"],
        connection=_met(_connection(row.get("connection-state", "")), replication),
        role=_ROLES.get(row.get("peer-role", ""), Role.UNKNOWN),
        disk=_disk(device.get("peer-disk-state", "")),
        sync=sync,
        done_percent=None
        if sync is Sync.NONE
        else device.get("done", device.get("percent-in-sync")),
        out_of_sync_bytes=device.get("out-of-sync", 0) * _KIB,
    )


def _disk(word: str) -> DiskState:
    return _DISKS.get(word, DiskState.UNKNOWN)


def _connection(word: str) -> Connection:
    if word in {"StandAlone", "Disconnecting"}:
        return Connection.STANDALONE
    return Connection.CONNECTED if word == "Connected" else Connection.CONNECTING


def _met(connection: Connection, replication: str) -> Connection:
    """Return how a leg stands to a peer, told whether its data is replicated to it.

    "Connected" begins with the first packet. Until both have said what they hold, and whether they
    may meet at all, replication is off, and nothing that is known of the peer counts.
    """
    if connection is Connection.CONNECTED and replication == "Off":
        return Connection.CONNECTING
    return connection
