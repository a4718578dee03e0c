"""Whatever is said in whatever order: volumes of a group whose work has ended are together."""

from typing import Any

import hypothesis
from hypothesis import strategies as st
from msgspec.structs import replace

from aggregates.common_nodes import place, together
from aggregates.decision import Facts
from aggregates.processes.process import Process
from aggregates.processes.registry import begin
from aggregates.processes.together import follows
from aggregates.volume import Volume
from aggregates.world import World
from schemas.answers import Refused
from schemas.deleting import VolumeDeleted
from schemas.draining import ConcludeDrain, DrainNode
from schemas.grammar import Event, Message, Report
from schemas.group_moves import AddGroupReplica, HandGroupOver, MigrateGroup
from schemas.handing import FailoverBegan, FailVolumeOver, HandOverBegan, HandOverVolume, MoveHome
from schemas.legs import (
    AddReplica,
    ConcludeReplicas,
    MigrateVolume,
    RemoveReplicaOf,
    ReplicaAdditionBegan,
    ReplicaRemovalBegan,
)
from schemas.node import NodeHeard, UncordonNode
from schemas.operation import (
    OperationKind,
    ReportConcluded,
    ReportProgressed,
    ReportStarted,
    StepRefused,
)
from schemas.place import place_of
from schemas.pool import RoomSettled
from schemas.refusals import Refusal
from schemas.replication import PeerSeen, Tie
from schemas.volume import ConcludeVolume, ProvisionVolume, VolumeProvisioningBegan
from schemas.volume_group import (
    AddToGroup,
    ConcludeGroup,
    CreateGroup,
    JoinGroup,
    TakeOutOfGroup,
)
from tests.support.given import GIB, NOON
from tests.support.groups import UIDS, called
from tests.support.legs_words import leg, member, nodes, silent, tells

NAMES = ("n1", "n2", "n3", "n4")
NODES, VOLUMES = st.sampled_from(NAMES), st.sampled_from(["a", "b", "c"])
SOME = st.lists(VOLUMES, min_size=1, max_size=3).map(tuple)
SHOP: Any = {"group": st.just("shop")}
COMMANDS = st.one_of(
    st.builds(
        ProvisionVolume,
        volume=VOLUMES,
        size_bytes=st.just(GIB),
        node=st.none() | NODES,
        replicas=st.sampled_from([1, 2]),
        group=st.sampled_from([None, "shop", "shop"]),
    ),
    st.builds(CreateGroup, **SHOP, volumes=SOME),
    st.builds(AddToGroup, **SHOP, volumes=SOME),
    st.builds(TakeOutOfGroup, **SHOP, volumes=SOME),
    st.builds(AddReplica, volume=VOLUMES, node=st.none() | NODES),
    st.builds(RemoveReplicaOf, volume=VOLUMES, node=NODES),
    st.builds(HandOverVolume, volume=VOLUMES, node=NODES),
    st.builds(MigrateVolume, volume=VOLUMES, source=st.none() | NODES, node=st.none() | NODES),
    st.builds(MigrateGroup, **SHOP, source=st.none() | NODES, node=st.none() | NODES),
    st.builds(HandGroupOver, **SHOP, node=NODES),
    st.builds(AddGroupReplica, **SHOP, node=st.none() | NODES),
    st.builds(DrainNode, node=NODES),
    st.builds(UncordonNode, node=NODES),
)
DELETE, LOSE, GO_ON, FILL = "delete", "lose", "go on", "fill"
STEPS = st.one_of(
    COMMANDS,
    COMMANDS,
    st.tuples(st.just(GO_ON), st.integers(0, 9)),
    st.tuples(st.just(GO_ON), st.integers(0, 9)),
    st.tuples(st.just(LOSE), NODES),
    st.tuples(st.just(FILL), NODES),
    st.tuples(st.just(DELETE), VOLUMES),
)
_SAID = (
    AddReplica
    | RemoveReplicaOf
    | HandOverVolume
    | MigrateVolume
    | JoinGroup
    | ConcludeReplicas
    | ConcludeGroup
    | ConcludeDrain
    | ReportProgressed
    | ReportStarted
    | ReportConcluded
)


STEPS_MAX = 300


class Cluster:
    """Deciders and operations as they are; what nodes do for an operation is done at once."""

    def __init__(self) -> None:
        self.world = World()
        self.number = 100
        self.running: dict[str, Process] = {}
        self.begun: dict[str, Event] = {}
        self.failed = False
        self.tell(nodes(*NAMES))

    def tell(self, events: tuple[Event, ...], operation: str = "") -> None:
        """Let *events* have happened."""
        for event in events:
            self.world.evolve(*place_of(event), [event])
            name = getattr(event, "volume", "")
            if name and type(event).__name__.endswith("Began"):
                self.begun[name] = event
            part_of = getattr(event, "operation", "")
            fresh = begin(event) if part_of not in self.running else None
            if fresh is not None:
                self.running[part_of] = fresh
            elif operation in self.running:
                self.running[operation] = self.running[operation].evolve(event)
            for report in follows(event, self.world):
                self.say(report)

    def say(self, command: Message, operation: str = "") -> Refused | None:
        """Say *command*; return why it was refused, if it was."""
        self.number += 1
        uid = UIDS.get(getattr(command, "volume", ""), f"{self.number:026d}")
        facts = Facts(at=NOON, operation=f"{self.number:026d}", uid=uid, world=self.world)
        decision = self.world.decide(command, facts)
        if isinstance(decision, Refused):
            assert not isinstance(command, Report)
            return decision
        self.tell(decision, operation)
        return None

    def go_on(self, number: int) -> None:
        """Have one of the running operations take its next step."""
        if not self.running:
            return
        operation = sorted(self.running)[number % len(self.running)]
        due = self.running[operation].due()
        if due is None or not isinstance(due.command, _SAID):
            self._nodes_do(operation)
        elif isinstance(due.command, ReportConcluded):
            self.failed |= due.command.code is not None
            del self.running[operation]
        else:
            no = self.say(due.command, operation)
            if no is not None:
                told = StepRefused(
                    operation=operation, step=due.step, code=no.code, because=no.because
                )
                self.running[operation] = self.running[operation].evolve(told)

    def _nodes_do(self, operation: str) -> None:
        """Do what the operation waits for, of the first volume that something is done to."""
        for name, volume in sorted(self.world.volumes.items()):
            if volume.operation == operation:
                self._done(name, volume, operation)
                return
        del self.running[operation]  # it came to nothing

    def _done(self, name: str, volume: Volume, operation: str) -> None:
        about: dict[str, Any] = {"volume": name, "operation": operation}
        match self.begun[name]:
            case VolumeProvisioningBegan() as event:
                self._made(name, event, operation)
            case ReplicaAdditionBegan() as event:
                self._filled(name, event, operation)
            case ReplicaRemovalBegan() as event:
                left = tuple(one for one in volume.members if one.node != event.node)
                several = left if len(left) > 1 else ()
                end = ConcludeReplicas(**about, members=several, node=event.node)
                self.say(end, operation)
            case HandOverBegan() as event:
                self.say(MoveHome(**about, node=event.node), operation)
                self.say(ConcludeReplicas(**about), operation)
            case FailoverBegan():
                self.say(ConcludeReplicas(**about), operation)
            case _:
                pass

    def _made(self, name: str, event: VolumeProvisioningBegan, operation: str) -> None:
        here = next(one for one in event.candidates if one.code is None)
        self.tell(called(name, leg(here.node, here.node)))
        volume = self.world.volumes[name]
        if event.replicas > 1 and not volume.members:
            more = AddReplica(volume=name, made_on=here.node, made_in="fast", operation=operation)
            if self.say(more, operation) is not None:
                code = Refusal.NO_PLACE
                self.say(ConcludeVolume(volume=name, operation=operation, code=code), operation)
            return
        ready = ConcludeVolume(
            volume=name, operation=operation, node=here.node, pool="fast", size_bytes=GIB
        )
        self.say(ready, operation)

    def _filled(self, name: str, event: ReplicaAdditionBegan, operation: str) -> None:
        here = next(one for one in event.candidates if one.code is None)
        known = event.members or (member(event.node, 0),)
        both = (*known, member(here.node, len(known)))
        for one in both:
            self.tell(called(name, leg(one.node, *(m.node for m in both))))
        self.say(ConcludeReplicas(volume=name, operation=operation, members=both), operation)
        if self.world.volumes[name].phase.value == "provisioning":
            self.begun[name] = replace(  # what is left to be said is that it is there
                VolumeProvisioningBegan(
                    volume=name,
                    uid=UIDS[name],
                    operation=operation,
                    deadline=event.deadline,
                    size_bytes=GIB,
                    candidates=(replace(here, node=event.node),),
                )
            )

    def lose(self, node: str) -> None:
        """Have a node lose its power while nothing else happens, and come back."""
        if self.running:
            return
        self.tell((silent(node),))
        gone = PeerSeen(node=node, tie=Tie.CONNECTING)
        mine = [name for name, one in sorted(self.world.volumes.items()) if one.node == node]
        for name in mine:
            for other in self.world.volumes[name].members:
                if other.node != node:
                    self.tell(called(name, [tells(other.node, peers=(gone,))]))
            self.say(FailVolumeOver(volume=name))
        self.finish()
        self.tell((NodeHeard(node=node),))
        for name, volume in self.world.volumes.items():
            back = frozenset[str]()
            self.world.volumes[name] = replace(volume, outdated=back)

    def finish(self) -> None:
        """Have all that runs come to its end."""
        for _ in range(STEPS_MAX):
            self.go_on(0)
        assert not self.running, [one.due() for one in self.running.values()]

    def fill(self, node: str) -> None:
        """Have less room on a node than before, so that others are preferred."""
        self.number += 1
        claim = f"{self.number:026d}"
        self.tell((RoomSettled(pool="fast", node=node, claim=claim, size_bytes=2 * GIB),))

    def delete(self, name: str) -> None:
        volume = self.world.volumes.get(name)
        if volume is not None and not volume.operation:
            self.tell((VolumeDeleted(volume=name, uid=volume.uid, operation="0" * 26),))

    def take(self, step: Any) -> None:
        match step:
            case (str() as what, int() as number) if what == GO_ON:
                self.go_on(number)
            case (str() as what, str() as node) if what == LOSE:
                self.lose(node)
            case (str() as what, str() as node) if what == FILL:
                self.fill(node)
            case (str() as what, str() as name) if what == DELETE:
                self.delete(name)
            case _:
                self.say(step)

    def apart(self) -> str | None:
        """Return where the volumes of the group are if they are not together; None: not at rest."""
        known = self.world.groups.get("shop")
        mine = {name: self.world.volumes[name] for name in known.members} if known else {}
        places = {name: at for name, one in mine.items() if (at := place(one)) is not None}
        moving = any(one.kind is OperationKind.NODE_DRAIN for one in self.running.values())
        busy = moving or any(one.operation for one in mine.values())
        if known is None or known.operation or busy:
            return None
        if together(places.values()):
            return ""
        return ", ".join(f"{name} is on {at}" for name, at in sorted(places.items()))


REPLICAS = st.sampled_from([1, 1, 2, 2])


@hypothesis.given(REPLICAS, REPLICAS, st.lists(STEPS, max_size=40))
def test_volumes_of_a_group_are_together_whatever_is_said_in_whatever_order(
    of_a: int, of_b: int, steps: list[Any]
) -> None:
    cluster = Cluster()
    cluster.say(CreateGroup(group="shop"))
    for name, replicas in (("a", of_a), ("b", of_b)):
        wish = ProvisionVolume(volume=name, size_bytes=GIB, replicas=replicas, group="shop")
        assert cluster.say(wish) is None
    cluster.finish()
    assert len(cluster.world.groups["shop"].members) == 2
    excused = False
    for step in (*steps, None):
        cluster.failed = False
        lost = isinstance(step, tuple) and step[0] == LOSE
        if step is None:
            cluster.finish()
        else:
            cluster.take(step)
        # What a lost node, or a move that failed, has parted is told, and stays until it is mended.
        apart, excused = cluster.apart(), excused or lost or cluster.failed
        assert excused or not apart, f"after {step}: {apart}"
        excused = excused and apart != ""
