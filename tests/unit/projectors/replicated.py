"""Histories of volumes with several replicas, in a few words."""

from datetime import timedelta
from typing import Any

from projectors.tables import REPLICAS, VOLUMES
from schemas.legs import ReplicaAdded, ReplicaAdditionBegan
from schemas.replica import ReplicaCreated, ReplicaSpec, ReplicaWanted
from schemas.replication import (
    LegDisk,
    LegSeen,
    Link,
    Member,
    PeerSeen,
    ReplicaTieWanted,
    Replication,
    ReplicationChanged,
    Sync,
    Tie,
)
from schemas.views import ReplicaRow, VolumeRow
from tests.support.clock import NOON
from tests.unit.projectors.stories import GIB, MIB, Story, uid

LATER = NOON + timedelta(hours=1)
HEAD = 4 * MIB
WORK: dict[str, Any] = {"volume": "pg", "uid": uid(1), "operation": uid(8), "deadline": LATER}


def member(node: str, index: int) -> Member:
    link = Link(minor=1000 + index, port=7800 + index, address=f"10.0.0.{index}", key="k")
    return Member(node=node, pool="fast", index=index, link=link)


PAIR = (member("n1", 0), member("n2", 1))


def peer(node: str, **more: Any) -> PeerSeen:
    """Return a peer with which all is well, but for what is said."""
    given: dict[str, Any] = {"tie": Tie.CONNECTED, "disk": LegDisk.UP_TO_DATE}
    return PeerSeen(node=node, **(given | more))


def away(node: str) -> PeerSeen:
    return PeerSeen(node=node, tie=Tie.CONNECTING)


def told(story: Story, node: str, *peers: PeerSeen, epoch: int = 0, **more: Any) -> None:
    """Have a node tell how its replica is: up to date, if nothing else is said."""
    given: dict[str, Any] = {"primary": node == "n1", "disk": LegDisk.UP_TO_DATE}
    seen = LegSeen(peers=peers, **(given | more))
    change = ReplicationChanged(volume="pg", node=node, uid=uid(1), epoch=epoch, seen=seen)
    story.say(change, actor=f"node:{node}")


def adding() -> Story:
    """Begin to give a volume on n1 a replica on n2, up to where both are tied."""
    story = Story().node("n1").node("n2").pool().pool(node="n2", number=950)
    story.volume("pg", 1, GIB)
    began = ReplicaAdditionBegan(
        **WORK,
        node="n1",
        pool="fast",
        size_bytes=GIB,
        leg_bytes=GIB,
        candidates=(),
    )
    story.say(began, correlation=uid(8))
    tied = Replication(members=PAIR, size_bytes=GIB)
    spec = ReplicaSpec(uid=uid(1), pool="fast", size_bytes=GIB + HEAD, replication=tied)
    story.say(ReplicaWanted(volume="pg", node="n2", operation=uid(8), spec=spec))
    tie = ReplicaTieWanted(
        volume="pg",
        node="n1",
        operation=uid(8),
        uid=uid(1),
        size_bytes=GIB + HEAD,
        replication=tied,
    )
    story.say(tie)
    created = ReplicaCreated(
        volume="pg",
        node="n2",
        uid=uid(1),
        pool="fast",
        size_bytes=GIB + HEAD,
        device="/dev/fast/pg",
    )
    story.say(created)
    return story


def pair() -> Story:
    """Have a volume with replicas on n1, where it is written to, and n2; all is well."""
    story = adding()
    told(story, "n1", peer("n2"))
    told(story, "n2", peer("n1", primary=True))
    story.say(ReplicaAdded(volume="pg", operation=uid(8), members=PAIR))
    return story


def volume(story: Story) -> VolumeRow:
    row = story.row(VOLUMES, "pg")
    assert row is not None
    return row


def leg(story: Story, node: str) -> ReplicaRow:
    row = story.row(REPLICAS, f"{node}/pg")
    assert row is not None
    return row


FILLING = peer("n2", disk=LegDisk.INCONSISTENT, sync=Sync.SOURCE, out_of_sync_bytes=GIB // 4)
FILLED = peer("n1", sync=Sync.TARGET, out_of_sync_bytes=GIB // 4, primary=True)
