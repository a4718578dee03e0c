"""Replicated storage that notes what it is asked, and says what it was told to."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from node_workers.ports import StorageError, VolumeSpec, VolumeState
from node_workers.replication import (
    Comparison,
    Connection,
    DiskState,
    Peer,
    ReplicationSpec,
    ReplicationState,
    Role,
    Start,
)

PEER = Peer(node="n2", connection=Connection.CONNECTED, disk=DiskState.UP_TO_DATE)


def leg_state(*peers: Peer, **more: Any) -> ReplicationState:
    """Return a leg of pg that has everything, with these peers."""
    about: dict[str, Any] = {"role": Role.SECONDARY, "disk": DiskState.UP_TO_DATE} | more
    return ReplicationState(volume="pg", device="/dev/drbd1000", peers=peers, **about)


class NotingReplication:
    """A ``ReplicatedStorage``. ``fails`` has an error for each method that shall raise one."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.fails: dict[str, StorageError] = {}
        self.states: dict[str, ReplicationState] = {}
        self.device_bytes: int | None = None
        self.comparisons: list[Comparison] = []
        self.changed = asyncio.Event()

    def _note(self, what: str, *details: Any) -> None:
        self.asked.append((what, *details))
        if what in self.fails:
            raise self.fails[what]

    def names(self) -> list[str]:
        """Return what was asked, without how."""
        return [one[0] for one in self.asked]

    async def ensure_replicated(
        self,
        pool_uid: str,
        leg: VolumeSpec,
        spec: ReplicationSpec,
        *,
        start: Start,
        may_create: bool,
        cause: str,  # noqa: ARG002
    ) -> ReplicationState:
        self._note("replicated", pool_uid, leg, spec, start, may_create)
        return leg_state(PEER)

    async def ensure_plain(
        self,
        pool_uid: str,
        leg: VolumeSpec,
        *,
        uid: str,
        cause: str,  # noqa: ARG002
    ) -> None:
        self._note("plain", pool_uid, leg, uid)

    async def ensure_replica_down(
        self,
        volume: str,
        uid: str,
        *,
        force: bool,
        cause: str,  # noqa: ARG002
    ) -> None:
        self._note("down", volume, uid, force)

    async def ensure_filesystem(
        self,
        leg: VolumeSpec,
        spec: ReplicationSpec,
        *,
        cause: str,  # noqa: ARG002
    ) -> None:
        self._note("filesystem", leg, spec)

    async def ensure_replicated_keys(
        self,
        leg: VolumeSpec,
        spec: ReplicationSpec,
        dropped: tuple[str, ...],
        *,
        elsewhere: bool,
        cause: str,  # noqa: ARG002
    ) -> None:
        self._note("keys", leg, spec, dropped, elsewhere)

    async def ensure_primary(self, spec: ReplicationSpec, *, cause: str) -> str:  # noqa: ARG002
        self._note("primary", spec)
        return "147:1000"

    async def ensure_secondary(
        self,
        volume: str,
        uid: str,
        *,
        force: bool,
        cause: str,  # noqa: ARG002
    ) -> None:
        self._note("secondary", volume, uid, force)

    async def ensure_replicated_size(
        self,
        pool_uid: str,
        leg: VolumeSpec,
        spec: ReplicationSpec,
        *,
        cause: str,  # noqa: ARG002
    ) -> VolumeState:
        self._note("size", pool_uid, leg, spec)
        size_bytes = spec.size_bytes if self.device_bytes is None else self.device_bytes
        return VolumeState(
            uid=spec.uid,
            name=spec.volume,
            pool=spec.pool,
            size_bytes=size_bytes,
            path="/dev/drbd1000",
            changed=False,
        )

    async def settle_split(
        self,
        spec: ReplicationSpec,
        *,
        loses: bool,
        cause: str,  # noqa: ARG002
    ) -> None:
        self._note("settle", spec, loses)

    async def connect_anew(
        self,
        volume: str,
        uid: str,
        *,
        cause: str,  # noqa: ARG002
    ) -> None:
        self._note("anew", volume, uid)

    async def ensure_metadata_spent(
        self,
        volume: str,
        uid: str,
        *,
        cause: str,  # noqa: ARG002
    ) -> None:
        self._note("spent", volume, uid)

    async def ensure_metadata_valid(
        self,
        volume: str,
        uid: str,
        *,
        cause: str,  # noqa: ARG002
    ) -> None:
        self._note("valid", volume, uid)

    async def compare(self, volume: str, uid: str, run: str, *, cause: str) -> Comparison:  # noqa: ARG002
        self._note("compare", volume, uid, run)
        return self.comparisons.pop(0)

    async def even_out(self, volume: str, uid: str, *, cause: str) -> Comparison:  # noqa: ARG002
        self._note("even-out", volume, uid)
        return self.comparisons.pop(0)

    async def stop_comparing(self, volume: str, uid: str, run: str, *, cause: str) -> None:  # noqa: ARG002
        self._note("stop-comparing", volume, uid, run)

    async def replication_states(self, *, cause: str) -> dict[str, ReplicationState]:  # noqa: ARG002
        self._note("look")
        return dict(self.states)

    async def replication_changes(self) -> AsyncIterator[None]:
        self._note("listen")
        while True:
            await self.changed.wait()
            self.changed.clear()
            yield
