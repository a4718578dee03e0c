"""Snapshots of replicas on this node, taken while another node holds their volumes still.

What can be looked at before is looked at before, so that the moment is short. Each is made with a
tag of the turn, and counts when the log says that this turn was the one: until then there may be
another, and what an earlier one has left is removed first. Turns are in the order of their names.
"""

from collections.abc import Mapping, Sequence

import msgspec

from node_workers.lvm_instants import (
    Wish,
    catching,
    create_argv,
    found_in,
    groups_of,
    is_unmarked,
    mark,
    state_of,
    turn_of,
)
from node_workers.lvm_report import VolumeGroup
from node_workers.lvm_volumes import ours, refuse_reserved
from node_workers.ports import (
    Consistency,
    NotThereError,
    Runner,
    SnapshotState,
    UnsuitableError,
)
from node_workers.tools import Tools

_PREPARED_MAX = 16


class _Prepared(msgspec.Struct, frozen=True):
    """A turn that may come: all that it takes is known."""

    wishes: tuple[Wish, ...]
    groups: dict[str, VolumeGroup]


class Followers:
    """Takes the snapshots of this node in the turns of others; each turn is taken once."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._tools = Tools(runner)
        self._prepared: dict[str, _Prepared] = {}

    async def prepare(self, wishes: Sequence[Wish], turn: str, *, cause: str) -> None:
        """Have all ready, as ``Storage.prepare_turn`` promises."""
        for wish in wishes:
            refuse_reserved(wish.spec.name)
        groups = await groups_of(self._runner, wishes, cause=cause)
        left: list[str] = []
        for wish in wishes:
            spec, found = wish.spec, found_in(groups, wish)
            if found is not None and not is_unmarked(found):
                raise UnsuitableError("not-still", f"{spec.name} is there, and of another turn")
            if found is not None and turn_of(found) >= turn:
                # Whoever asked waited so long that a later turn has been, which may be what counts.
                raise UnsuitableError("not-still", f"{spec.name} is there, and of a later turn")
            if found is not None:
                left.append(f"{spec.pool}/{spec.name}")
            if ours(groups[spec.pool], spec.volume_uid, spec.volume) is None:
                missing = f"there is no volume {spec.pool}/{spec.volume}"
                raise NotThereError("volume-missing", missing)
        if left:
            await self._tools.must("lvremove", "--yes", *left, cause=cause)
        for wish in wishes:
            self.forget(wish.spec.uid)
        self._prepared[turn] = _Prepared(tuple(wishes), groups)
        while len(self._prepared) > _PREPARED_MAX:
            del self._prepared[next(iter(self._prepared))]

    def prepared_for(self, turn: str) -> tuple[str, ...]:
        """Return the uids of the snapshots that the turn would take."""
        ready = self._prepared.get(turn)
        return () if ready is None else tuple(wish.spec.uid for wish in ready.wishes)

    def forget(self, uid: str) -> None:
        """Have no turn take that snapshot any more."""
        for turn in [one for one in self._prepared if uid in self.prepared_for(one)]:
            del self._prepared[turn]

    async def follow(self, turn: str, caught: Mapping[str, Consistency], *, cause: str) -> None:
        """Have what was prepared, as ``Storage.follow`` promises."""
        ready = self._prepared.pop(turn, None)
        if ready is None:
            raise UnsuitableError("not-still", "nothing was prepared for that turn")
        commands = [
            create_argv(
                wish.spec,
                ready.groups[wish.spec.pool],
                caught.get(wish.spec.volume_uid, Consistency.CRASH),
                cause,
                turn,
            )
            for wish in ready.wishes
        ]
        for command in commands:
            await self._tools.must(*command, cause=cause)

    async def ensure(self, wish: Wish, turn: str, *, cause: str) -> SnapshotState:
        """Have the snapshot of that turn, as ``Storage.ensure_followed`` promises."""
        groups = await groups_of(self._runner, [wish], cause=cause)
        found, spec = found_in(groups, wish), wish.spec
        if found is None or turn_of(found) != turn:
            missing = f"{spec.pool}/{spec.name} was not taken in that turn"
            raise NotThereError("snapshot-missing", missing)
        fresh = is_unmarked(found)
        if fresh:
            name = f"{spec.pool}/{spec.name}"
            await mark(self._tools, [name], catching(found), cause=cause)
        return state_of(spec, found, changed=fresh)
