"""What holds of replicas in every order of wishes, fences, failovers and reports."""

from typing import Any

import hypothesis
from hypothesis import strategies as st

from aggregates.decision import Facts
from aggregates.ledger import room_bytes
from aggregates.processes.settlements import follows
from aggregates.world import World
from schemas.answers import Refused
from schemas.attaching import AttachVolume, DetachVolume
from schemas.grammar import Event, Message, Report
from schemas.handing import (
    FailVolumeOver,
    FencePeer,
    HandOverVolume,
    MoveHome,
    ReportPeerBack,
    SetFailover,
    TieAnew,
)
from schemas.legs import (
    AddReplica,
    ConcludeReplicas,
    MigrateVolume,
    RemoveReplicaOf,
    SettleSplitBrain,
)
from schemas.linking import ReportLinkReturned, TakeLink
from schemas.node import ReportNodeHeard, ReportNodeSilent
from schemas.place import place_of
from schemas.pool import Reserve
from schemas.refusals import Refusal
from schemas.replica import RemoveReplica, ReportReplicaAbsent, ReportReplicaPresent
from schemas.replication import (
    ForgetReplica,
    LegDisk,
    LegSeen,
    NoteEpoch,
    PeerSeen,
    ReportReplication,
    Sync,
    Tie,
    TieReplica,
)
from schemas.verifying import ConcludeVerification, RepairReplicas, VerifyVolume
from schemas.volume import ConcludeVolume, GrowVolume, LockVolume
from tests.support.given import GIB, NOON, UID
from tests.support.legs_words import MANY_PEERS, members, nodes, replicated

NAMES = ("n1", "n2", "n3")
NODES = st.sampled_from(NAMES)
VOLUMES = st.sampled_from(["pg", "other"])
IDS = st.sampled_from([f"{n:026d}" for n in range(1, 5)])
UIDS = st.sampled_from([UID, "0" * 25 + "3"])
EPOCHS = st.integers(0, 6)
CODES = st.none() | st.sampled_from([Refusal.DEADLINE, Refusal.CANCELLED])
PAST = (*nodes(*NAMES, capabilities=MANY_PEERS), *replicated("n1", "n2"))
PEERS = st.builds(
    PeerSeen,
    node=NODES,
    tie=st.sampled_from(Tie),
    disk=st.sampled_from([LegDisk.UP_TO_DATE, LegDisk.UNKNOWN]),
    sync=st.sampled_from([Sync.NONE, Sync.SOURCE]),
)
SEEN = st.builds(
    LegSeen,
    primary=st.booleans(),
    disk=st.sampled_from([LegDisk.UP_TO_DATE, LegDisk.INCONSISTENT]),
    peers=st.lists(PEERS, max_size=2, unique_by=lambda one: one.node).map(tuple),
    split=st.booleans(),
)
PG: Any = {"volume": st.just("pg")}
ABOUT_HOMES = (
    st.builds(FencePeer, **PG, uid=UIDS, node=NODES, peer=NODES),
    st.builds(FencePeer, **PG, uid=st.just(UID), node=NODES, peer=NODES),
    st.builds(FailVolumeOver, **PG, node=st.none() | NODES),
    st.builds(HandOverVolume, **PG, node=NODES),
    st.builds(MoveHome, **PG, operation=IDS, node=NODES),
    st.builds(ReportPeerBack, **PG, uid=UIDS, node=NODES, peer=NODES, epoch=EPOCHS),
    st.builds(AttachVolume, **PG, consumer=st.just("host/a"), node=st.none() | NODES),
    st.builds(DetachVolume, **PG),
    st.builds(ReportNodeSilent, node=NODES, last_heard=st.just(NOON)),
    st.builds(ReportNodeHeard, node=NODES),
    st.builds(ReportReplication, **PG, node=NODES, uid=st.just(UID), epoch=EPOCHS, seen=SEEN),
)
COMMANDS = st.one_of(
    *ABOUT_HOMES,
    st.builds(SetFailover, **PG, auto=st.booleans()),
    st.builds(AddReplica, **PG, node=st.none() | NODES),
    st.builds(RemoveReplicaOf, **PG, node=NODES, lost=st.booleans()),
    st.builds(MigrateVolume, **PG, source=st.none() | NODES),
    st.builds(SettleSplitBrain, **PG, loses=NODES),
    st.builds(VerifyVolume, **PG, repair=st.booleans()),
    st.builds(RepairReplicas, **PG, operation=IDS),
    st.builds(
        ConcludeVerification,
        **PG,
        operation=IDS,
        differing_bytes=st.sampled_from([0, 4096]),
        goes_on=st.booleans(),
        repaired=st.booleans(),
        code=CODES,
    ),
    st.builds(GrowVolume, **PG, size_bytes=st.just(2 * GIB)),
    st.builds(
        ConcludeReplicas,
        **PG,
        operation=IDS,
        members=st.sampled_from([(), members("n1", "n2"), members("n1", "n2", "n3")]),
        code=CODES,
        because=st.just("so"),
        kept=st.booleans(),
    ),
    st.builds(ConcludeVolume, **PG, operation=IDS, code=CODES, because=st.just("so")),
    st.builds(LockVolume, **PG, uid=st.just(UID), operation=IDS, snapshot=st.just("s")),
    st.builds(TieAnew, **PG, operation=IDS, node=NODES),
    st.builds(NoteEpoch, **PG, node=NODES, uid=UIDS, epoch=EPOCHS),
    st.builds(TieReplica, **PG, node=NODES, operation=IDS, size_bytes=st.integers(GIB, 2 * GIB)),
    st.builds(ForgetReplica, **PG, node=NODES, operation=IDS),
    st.builds(RemoveReplica, **PG, node=NODES, operation=IDS),
    st.builds(
        ReportReplicaPresent,
        **PG,
        node=NODES,
        uid=UIDS,
        size_bytes=st.integers(GIB, 2 * GIB),
        device=st.just("/dev/x"),
    ),
    st.builds(ReportReplicaAbsent, **PG, node=NODES, uid=UIDS),
    st.builds(TakeLink, node=NODES, volume=VOLUMES, uid=IDS, operation=IDS),
    st.builds(ReportLinkReturned, node=NODES, uid=IDS, taken_by=st.none() | IDS),
    st.builds(
        Reserve,
        pool=st.just("fast"),
        node=NODES,
        claim=IDS,
        size_bytes=st.integers(1, 12 * GIB),
        operation=IDS,
    ),
)


class House:
    """A world in which commands are decided one after another."""

    def __init__(self) -> None:
        self.world = World()
        self.number = 0
        self.happened: list[Event] = []
        for event in PAST:
            self.world.evolve(*place_of(event), [event])

    def decide(self, command: Message) -> bool:
        """Decide and apply; whether it was accepted."""
        self.number += 1
        operation, uid = f"{self.number % 4 + 1:026d}", f"{self.number + 100:026d}"
        facts = Facts(at=NOON, operation=operation, uid=uid, world=self.world)
        decided = self.world.decide(command, facts)
        assert not (isinstance(decided, Refused) and isinstance(command, Report)), command
        if isinstance(decided, Refused):
            return False
        for event in decided:
            self.world.evolve(*place_of(event), [event])
            self.happened.append(event)
        for report in follows(decided, self.world):
            self.decide(report)
        return True


def homes_hold(house: House, homes: dict[int, str], before: int) -> int:
    """Check the volume, and return its epoch."""
    volume = house.world.volumes["pg"]
    assert volume.epoch >= before, "an epoch has gone back"
    assert volume.node not in volume.outdated, "it is written to where something is missing"
    assert homes.setdefault(volume.epoch, volume.node) == volume.node, "two in one epoch"
    names = {one.node for one in volume.members}
    assert not names or volume.node in names
    return volume.epoch


@hypothesis.settings(max_examples=120)
@hypothesis.given(st.lists(COMMANDS, max_size=40))
def test_in_every_order_each_epoch_has_one_node_that_may_write(commands: list[Message]) -> None:
    house, homes, epoch = House(), {0: "n1"}, 0
    for command in commands:
        if "pg" not in house.world.volumes:
            return
        house.decide(command)
        if "pg" in house.world.volumes:
            epoch = homes_hold(house, homes, epoch)
        for (node, pool), one in house.world.pools.items():
            assert one.facts is not None, (node, pool)
            taken = one.ledger.thick_settled_bytes + one.ledger.thick_reserved_bytes
            assert taken + room_bytes(one.ledger, one.facts) == one.facts.size_bytes
        for node_ in house.world.nodes.values():
            minors = [link.minor for link in node_.links]
            assert len(minors) == len(set(minors))


@hypothesis.settings(max_examples=80)
@hypothesis.given(
    st.lists(st.one_of(*ABOUT_HOMES), max_size=30),
    st.sampled_from(["n1", "n2"]),
)
def test_who_was_granted_to_go_on_keeps_the_other_from_it_until_that_is_seen_whole(
    commands: list[Message], first: str
) -> None:
    """Whatever is said of an earlier epoch in between."""
    house = House()
    second = {"n1": "n2", "n2": "n1"}[first]
    for command in commands:
        house.decide(command)
    epoch = 0
    for _lost_again in range(2):
        before = house.world.volumes["pg"].epoch
        granted = house.decide(FencePeer(volume="pg", uid=UID, node=first, peer=second))
        volume = house.world.volumes["pg"]
        assert granted is (volume.node == first)
        if not granted:
            return
        epoch = volume.epoch
        # What was seen before it was lost is told only now.
        house.decide(ReportPeerBack(volume="pg", uid=UID, node=first, peer=second, epoch=before))
        assert second in house.world.volumes["pg"].outdated
    for command in commands:
        if isinstance(command, ReportPeerBack | ReportReplication) and command.epoch >= epoch:
            continue
        house.decide(command)
    after = house.world.volumes["pg"]
    assert second in after.outdated
    assert after.node == first


@hypothesis.settings(max_examples=60)
@hypothesis.given(st.permutations(["fence", "fail over", "peer back", "hand over"]))
def test_of_two_that_have_lost_each_other_one_goes_on(order: list[str]) -> None:
    house = House()
    house.decide(ReportNodeSilent(node="n1", last_heard=NOON))
    said: dict[str, Message] = {
        "fence": FencePeer(volume="pg", uid=UID, node="n1", peer="n2"),
        "fail over": FailVolumeOver(volume="pg"),
        "peer back": ReportPeerBack(volume="pg", uid=UID, node="n1", peer="n2", epoch=0),
        "hand over": HandOverVolume(volume="pg", node="n2"),
    }
    won = {name for name in order if house.decide(said[name])}
    assert len(won & {"fence", "fail over"}) == 1
    assert "hand over" not in won
    assert house.world.volumes["pg"].epoch == 1
