"""What is to be done when nodes are lost, whoever looks: from the world alone."""

from collections.abc import Iterator

from aggregates.node import unheard
from aggregates.peers import successor
from aggregates.volume import Volume, VolumePhase
from aggregates.world import World
from schemas.answers import Refused


def to_go_on_elsewhere(world: World) -> Iterator[tuple[str, Volume]]:
    """Return the volumes whose node is silent, and that may and can go on with another replica.

    Those on which an operation runs are among them: it has to end first.
    """
    for name, volume in world.volumes.items():
        home = world.nodes.get(volume.node)
        if not volume.members or not volume.failover or home is None or not home.silent:
            continue
        if not isinstance(successor(volume, name, None, world), Refused):
            yield name, volume


def lacking(world: World) -> Iterator[tuple[str, Volume]]:
    """Return the volumes at rest that have fewer replicas than they shall have."""
    for name, volume in world.volumes.items():
        enough = volume.replicas <= max(1, len(volume.members))
        if enough or volume.phase is not VolumePhase.READY:
            continue
        if unheard(world.nodes.get(volume.node), volume.node) is None:
            yield name, volume
