"""Nodes, and whoever looks after them: all that speaks in a rehearsal but the one who asks."""

from collections.abc import Iterator, Sequence

from aggregates.recovering import lacking, to_go_on_elsewhere
from aggregates.what_if.nodes import Faults, reported
from aggregates.what_if.ties import Lost, seen_of
from aggregates.world import World
from schemas.grammar import Event, Message
from schemas.handing import FailVolumeOver
from schemas.legs import AddReplica, VolumeReplicaRemoved
from schemas.node import NodeFellSilent, NodeHeard


class IdealHands:
    """Every node that is not lost does at once what is wanted, but for ``faults``.

    A node that is silent is lost. What the control plane does by itself when nodes are lost is done
    here, too; what it would have done anyhow is left out.
    """

    def __init__(self, world: World, *, leave: tuple[type[Event], ...] = ()) -> None:
        """What events of the types *leave* want is left to others."""
        self.lost = Lost({name for name, node in world.nodes.items() if node.silent})
        self.faults: Faults = {}
        self._world = world
        self._leave = leave
        self._begun = set(self._due())
        self._look = False

    def after(self, events: Sequence[Event]) -> Sequence[Message]:
        """Return what nodes say once *events* have happened."""
        said: list[Message] = []
        touched: dict[str, dict[str, None]] = {}
        for event in events:
            self._note(event)
            node = getattr(event, "node", "")
            if node and node not in self.lost.nodes and not isinstance(event, self._leave):
                said += reported(event, self._world, self.faults)
            volume = getattr(event, "volume", "")
            if volume:
                touched.setdefault(volume, {})[node] = None
        for volume, nodes in touched.items():
            said += seen_of(volume, self._world, self.lost, nodes)
        return said

    def _note(self, event: Event) -> None:
        if isinstance(event, NodeFellSilent):
            self.lost.nodes.add(event.node)
            self._look = True
        elif isinstance(event, NodeHeard):
            self.lost.nodes.discard(event.node)
            self._look = True
        elif isinstance(event, VolumeReplicaRemoved):
            self._look = True

    def unasked(self) -> Sequence[Message]:
        """Return what the control plane begins by itself; each once."""
        if not self._look:
            return ()  # nothing has happened that it would see to, and there are many volumes
        due = [one for one in self._due() if one not in self._begun]
        self._begun.update(due)
        return due

    def _due(self) -> Iterator[Message]:
        lost = to_go_on_elsewhere(self._world)
        yield from (FailVolumeOver(volume=name) for name, one in lost if not one.operation)
        yield from (AddReplica(volume=name) for name, _ in lacking(self._world))
