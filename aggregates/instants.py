"""The snapshots of one instant on several nodes: the log says in what turn they were taken."""

from msgspec.structs import replace

from aggregates.decision import Decision
from schemas.answers import refuse
from schemas.instants import InstantSettled, SettleInstant
from schemas.refusals import Refusal
from schemas.replica import ReplicaSpec


def settle(spec: ReplicaSpec, command: SettleInstant, *, wanted: bool) -> Decision[InstantSettled]:
    """Say in what turn it was taken; only while it is *wanted* and nothing is said of it yet."""
    if spec.together is None or not wanted:
        none = f"no snapshot {command.volume} is to be taken on {command.node}"
        return refuse(Refusal.REPLICA_BUSY, none)
    if spec.together.turn == command.turn:
        return ()
    return (
        InstantSettled(
            volume=command.volume,
            node=command.node,
            operation=command.operation,
            uid=spec.uid,
            turn=command.turn,
        ),
    )


def settled(spec: ReplicaSpec | None, event: InstantSettled) -> ReplicaSpec | None:
    """Return the leg of a snapshot of which is known in what turn it was taken."""
    if spec is None or spec.together is None:
        return spec
    return replace(spec, together=replace(spec.together, turn=event.turn))
