"""A node that leads and one that follows, both on the same machine."""

import itertools
from collections.abc import Mapping

from node_workers.ports import Consistency, SnapshotState
from node_workers.storage import Storage
from tests.support.snapshot_contract import snapshot
from tests.support.storage_bench import CAUSE, UID

_TURNS = itertools.count()


class Beside:
    """A lead of the first volume that has the second one follow, in that turn."""

    def __init__(self, storage: Storage, turn: str) -> None:
        self.storage, self.turn = storage, turn
        self.wish = (UID, snapshot("s2", 20, volume="v2"))

    async def ready(self) -> tuple[str, ...]:
        await self.storage.prepare_turn([self.wish], self.turn, cause=CAUSE)
        return ("n2",)

    async def take(
        self, nodes: tuple[str, ...], caught: Mapping[str, Consistency]
    ) -> tuple[str, ...]:
        (held,) = caught.values()
        await self.storage.follow(self.turn, {"uid-v2": held}, cause=CAUSE)
        return nodes

    async def led(self) -> SnapshotState:
        """Have the first volume's taken, and the other meanwhile."""
        wishes = [(UID, snapshot("s1", 20, volume="v1"))]
        (state,) = await self.storage.ensure_snapshots(
            wishes, may_take=True, cause=CAUSE, lead=self
        )
        return state

    async def settled(self, turn: str = "") -> SnapshotState:
        """Have what was taken in that turn, or in this one."""
        return await self.storage.ensure_followed(self.wish, turn or self.turn, cause=CAUSE)


async def led_beside(storage: Storage, _disks: object = None) -> None:
    """Lead and follow in a new turn; what both keep is of the turn that counts."""
    lead = Beside(storage, f"{next(_TURNS):026}")
    state = await lead.led()
    await lead.settled(state.turn)
