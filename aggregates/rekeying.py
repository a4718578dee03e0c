"""By which keys a leg opens: no reference is forgotten before its key opens the leg no more."""

from typing import TYPE_CHECKING

from msgspec.structs import replace

from aggregates.decision import Decision
from schemas.answers import refuse
from schemas.keys import Encryption
from schemas.refusals import Refusal
from schemas.replica import (
    RekeyReplica,
    ReplicaEvent,
    ReplicaRekeyed,
    ReplicaRekeyWanted,
    ReplicaSpec,
    ReportReplicaRekeyed,
)

if TYPE_CHECKING:
    from aggregates.replica import Replica

_KEYS_MAX = 30  # a LUKS2 header has 32 slots


def want(spec: ReplicaSpec, command: RekeyReplica, busy: str) -> Decision[ReplicaEvent]:
    """Have other keys open the leg, unless something else is done with it, as *busy* says."""
    now = spec.encryption
    if now is None:
        return refuse(Refusal.NOT_ENCRYPTED, f"{command.volume} on {command.node} is not encrypted")
    if busy:
        return refuse(Refusal.REPLICA_BUSY, busy)
    dropped = tuple(key for key in now.known if key not in command.keys)
    if len(command.keys) + len(dropped) > _KEYS_MAX:
        many = f"{len(now.known)} keys of {command.volume} were wanted and never done with"
        return refuse(Refusal.NO_KEY_SLOT, many)
    keys = Encryption(keys=command.keys, dropped=dropped, generation=now.generation + 1)
    # Said again even if it is so already: whoever asks waits for the node to say that it is.
    return (
        ReplicaRekeyWanted(
            volume=command.volume,
            node=command.node,
            operation=command.operation,
            uid=spec.uid,
            encryption=keys,
            elsewhere=command.elsewhere,
        ),
    )


def note(
    replica: "Replica", spec: ReplicaSpec, report: ReportReplicaRekeyed
) -> Decision[ReplicaEvent]:
    """Take over that the leg opens by the keys wanted last, and by no others."""
    now = spec.encryption
    if now is None or report.generation != now.generation or now.generation == replica.rekeyed:
        return ()
    return (
        ReplicaRekeyed(
            volume=report.volume,
            node=report.node,
            uid=spec.uid,
            keys=now.keys,
            generation=now.generation,
        ),
    )


def evolve(replica: "Replica", event: ReplicaRekeyWanted | ReplicaRekeyed) -> "Replica":
    """Apply what happened."""
    if replica.spec is None or replica.spec.encryption is None:
        return replica
    if isinstance(event, ReplicaRekeyWanted):
        spec = replace(replica.spec, encryption=event.encryption)
        return replace(replica, spec=spec, trouble=None)
    now = Encryption(keys=event.keys, generation=event.generation)
    spec = replace(replica.spec, encryption=now)
    return replace(replica, spec=spec, rekeyed=event.generation, trouble=None)
