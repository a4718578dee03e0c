"""A cluster that nobody runs: a world, made by the deciders and by nodes on which all goes well."""

from aggregates.what_if.hands import IdealHands
from aggregates.world import World
from hwbus.controller.storage import StorageDomain, StorageScript
from hwbus.rehearsal import Rehearsal
from schemas.answers import Refused
from schemas.disk import Content, DiskClass, ReportDiskSeen, Sighting
from schemas.grammar import Message
from schemas.node import Capability, ReportNodeJoined
from schemas.pool import FormPool
from schemas.volume import ProvisionVolume
from tests.support.clock import NOON
from tests.support.given import GIB
from tests.support.stage import Counting

DISK = 20 * GIB
CAN = (
    Capability.LVM,
    Capability.ENCRYPTION,
    Capability.LENDING,
    Capability.REPLICATION,
    Capability.REPLICATION_MANY,
)


class Imagined:
    """Nodes n1, n2, ..., each with a pool ``fast`` of two disks; a third disk is free."""

    def __init__(self, nodes: int = 3) -> None:
        self.world = World()
        self.nodes = [f"n{number + 1}" for number in range(nodes)]
        self.played = Rehearsal(
            StorageDomain(self.world),
            StorageScript(self.world),
            IdealHands(self.world),
            at=NOON,
            mint=Counting(),
        )
        for node in self.nodes:
            self.join(node)
            self.say(FormPool(pool="fast", node=node, disks=(f"{node}-d0", f"{node}-d1")))

    def join(self, node: str) -> None:
        self.say(
            ReportNodeJoined(
                node=node,
                address=f"{node}.storage",
                zone=f"z{node[-1]}",
                capabilities=CAN,
                public_key=f"key of {node}",
            )
        )
        seen = Sighting(
            path="/dev/sdb", size_bytes=DISK, media=DiskClass.SSD, content=Content.BLANK
        )
        for number in range(3):
            self.say(ReportDiskSeen(disk=f"{node}-d{number}", node=node, sighting=seen))

    def say(self, command: Message) -> None:
        """Have it done, to its end."""
        answer = self.played.decide(command)
        assert not isinstance(answer, Refused), answer
        self.played.play()
        assert self.played.unended == ()

    def volume(self, name: str, size_bytes: int = GIB, replicas: int = 1, node: str = "") -> None:
        self.say(
            ProvisionVolume(
                volume=name, size_bytes=size_bytes, replicas=replicas, node=node or None
            )
        )
        assert name in self.world.volumes
