"""The volumes of a group keep to common nodes: made, added to, moved, failed over, drained."""

from msgspec.structs import replace

from aggregates.common_nodes import Place, keeps, together
from aggregates.processes import drain_node
from aggregates.volume import VolumePhase
from schemas.answers import Refused
from schemas.draining import DrainBegan, DrainNode
from schemas.grammar import Event
from schemas.group_moves import (
    AddGroupReplica,
    GroupMoveBegan,
    GroupMoveEnded,
    HandGroupOver,
    MigrateGroup,
    Move,
    Mover,
)
from schemas.handing import (
    FailoverBegan,
    FailVolumeOver,
    HandOverBegan,
    HandOverVolume,
    PeerFenced,
    VolumeHandedOver,
)
from schemas.legs import AddReplica, MigrateVolume, MigrationBegan, ReplicaAdditionBegan
from schemas.node import NodeCordoned
from schemas.pool import RoomSettled
from schemas.refusals import Refusal
from schemas.replication import PeerSeen, Tie
from schemas.volume import ProvisionVolume, VolumeProvisioningBegan
from schemas.volume_group import (
    AddToGroup,
    ConcludeGroup,
    CreateGroup,
    GroupVolumesAdded,
    JoinGroup,
    Member,
    SnapshotGroup,
)
from tests.support.given import GIB, NOON, OPERATION, OTHER, Given, given
from tests.support.groups import UIDS, called, group, pair, plain
from tests.support.legs_words import MANY_PEERS, nodes, silent, tells
from tests.support.words import DEADLINE

N1, N2, N3 = "n1", "n2", "n3"
NODES = nodes(N1, N2, N3)
PLAIN = (*NODES, *plain("a", N1), *plain("b", N1), group("a", "b"))
PAIRS = (*NODES, *pair("a", N1, N2), *pair("b", N1, N2), group("a", "b"))
ADD_B = AddReplica(volume="b")


def full(node: str) -> RoomSettled:
    """Nothing more fits on that node."""
    return RoomSettled(pool="fast", node=node, claim=OTHER, size_bytes=19 * GIB)


def began(world: Given, command: object) -> Event:
    """Return what begins with *command*."""
    decision = world.decide(command)  # type: ignore[arg-type]
    assert not isinstance(decision, Refused), decision
    (event,) = decision
    return event


def fits(event: Event) -> set[str]:
    """Return on which nodes what began may be put."""
    assert isinstance(event, VolumeProvisioningBegan | ReplicaAdditionBegan)
    return {one.node for one in event.candidates if one.code is None}


def place(home: str, *more: str) -> Place:
    return Place(home, frozenset({home, *more}))


def test_together_are_volumes_written_to_on_one_node_with_replicas_on_the_same() -> None:
    assert together([place(N1), place(N1, N2), place(N1, N2, N3)])
    assert together([])
    assert not together([place(N1), place(N2)])
    assert not together([place(N1, N2), place(N2, N1)])
    assert not together([place(N1, N2), place(N1, N3)])


def test_who_is_apart_may_only_come_nearer() -> None:
    others = (place(N1, N2),)
    assert keeps(place(N3), place(N1), others)
    assert not keeps(place(N3), place("n4"), others)
    assert keeps(place(N2, N1), place(N1, N2), others)
    assert not keeps(place(N1, N2), place(N2, N1), others)
    apart = (place(N1), place(N2))
    assert keeps(None, place(N2), apart)
    assert not keeps(None, place(N3), apart)


def test_a_volume_that_is_made_for_a_group_is_put_where_the_others_are() -> None:
    wish = ProvisionVolume(volume="c", size_bytes=GIB, group="shop")
    event = began(given(*PLAIN), wish)
    assert fits(event) == {N1}
    assert isinstance(event, VolumeProvisioningBegan)
    assert event.group == "shop"
    ruled_out = {one.node: one.code for one in event.candidates if one.code is not None}
    assert ruled_out == {N2: Refusal.GROUP_APART, N3: Refusal.GROUP_APART}
    assert fits(began(given(*PLAIN), replace(wish, apart=True))) == {N1, N2, N3}
    assert fits(began(given(*PLAIN), replace(wish, group=None))) == {N1, N2, N3}


def test_it_is_refused_if_that_is_not_possible() -> None:
    wish = ProvisionVolume(volume="c", size_bytes=2 * GIB, group="shop")
    no = given(*PLAIN, full(N1)).when(wish)
    no.refused(Refusal.CAPACITY, "the group shop of c", "a is on n1", "asked for")
    no = given(*PLAIN, NodeCordoned(node=N1)).when(wish)
    no.refused(Refusal.NODE_CORDONED, N1)
    no = given(*PLAIN).when(replace(wish, node=N2))
    no.refused(Refusal.GROUP_APART, "a is on n1")
    given(*PLAIN).when(replace(wish, group="x")).refused(Refusal.UNKNOWN_GROUP)
    two = replace(wish, replicas=2)
    no = given(*PAIRS, full(N2)).when(two)
    no.refused(Refusal.CAPACITY, "a is on n1+n2", "n2/fast")


def test_two_that_are_made_at_the_same_time_are_put_on_one_node() -> None:
    past = (*NODES, group())
    wish = ProvisionVolume(volume="c", size_bytes=GIB, group="shop")
    first = given(*past).decide(wish, uid=UIDS["c"])
    assert not isinstance(first, Refused)
    (home,) = fits(first[0])
    second = began(given(*past, *first, NodeCordoned(node="n9")), replace(wish, volume="d"))
    assert fits(second) == {home}
    moved = given(*past, *first).when(MigrateGroup(group="shop", node=N2))
    moved.refused(Refusal.GROUP_EMPTY)


def test_it_joins_the_group_before_it_is_made() -> None:
    join = JoinGroup(group="shop", volume="c", uid=UIDS["c"], operation=OPERATION)
    member = Member(volume="c", uid=UIDS["c"])
    joined = GroupVolumesAdded(group="shop", at=NOON, members=(member,))
    given(*PLAIN).when(join).then(joined)
    given(*PLAIN, joined).when(join).nothing()
    given(*NODES).when(join).refused(Refusal.UNKNOWN_GROUP)
    given(*PLAIN, moving("a")).when(join).refused(Refusal.GROUP_BUSY)


def test_volumes_that_are_apart_are_put_into_a_group_only_if_they_may_be() -> None:
    past = (*NODES, *plain("a", N1), *plain("b", N2))
    create = CreateGroup(group="shop", volumes=("a", "b"))
    given(*past).when(create).refused(Refusal.GROUP_APART, "b is on n2", "a is on n1")
    assert began(given(*past), replace(create, apart=True)) == group("a", "b")
    add = AddToGroup(group="shop", volumes=("b",))
    given(*past, group("a")).when(add).refused(Refusal.GROUP_APART)
    added = began(given(*past, group("a")), replace(add, apart=True))
    assert isinstance(added, GroupVolumesAdded)


def test_what_is_on_its_way_is_put_into_no_group_until_it_is_there() -> None:
    create = CreateGroup(group="shop", volumes=("a", "b"))
    free = PLAIN[:-1]
    going = began(given(*free), MigrateVolume(volume="a", node=N2))
    given(*free, going).when(create).refused(Refusal.VOLUME_BUSY, "migrating")
    anywhere = began(given(*free), AddReplica(volume="a"))
    given(*free, anywhere).when(create).refused(Refusal.VOLUME_BUSY, "adding-replica")
    named = began(given(*free), AddReplica(volume="a", node=N2))
    assert began(given(*free, named), create) == group("a", "b")


def test_a_replica_more_goes_where_the_others_have_theirs() -> None:
    past = (*NODES, *pair("a", N1, N2), *plain("b", N1), group("a", "b"))
    assert fits(began(given(*past), ADD_B)) == {N2}
    given(*past).when(replace(ADD_B, node=N3)).refused(Refusal.GROUP_APART, "a is on n1+n2")
    assert fits(began(given(*past), replace(ADD_B, node=N3, apart=True))) == {N3}
    no = given(*past, full(N2)).when(ADD_B)
    no.refused(Refusal.CAPACITY, "n2/fast", "a is on n1+n2")


def test_also_if_those_are_only_being_filled() -> None:
    first = began(given(*PLAIN), AddReplica(volume="a"))
    (node,) = fits(first)
    less = RoomSettled(pool="fast", node=node, claim=OTHER, size_bytes=9 * GIB)
    assert fits(began(given(*PLAIN, first, less), ADD_B)) == {node}
    assert node != next(iter(fits(began(given(*PLAIN, less), ADD_B))))


def test_the_first_replica_goes_where_there_is_room_for_all() -> None:
    tight = RoomSettled(pool="fast", node=N2, claim=OTHER, size_bytes=18 * GIB + GIB // 2)
    roomy = RoomSettled(pool="fast", node=N3, claim=OTHER, size_bytes=17 * GIB)
    assert fits(began(given(*PLAIN, tight, roomy), ADD_B)) == {N3}
    # Alone it would fit there as well, and that one would score the same.
    assert N2 in fits(began(given(*PLAIN[:-1], tight, roomy), ADD_B))


def test_a_volume_does_not_move_away_alone() -> None:
    move = MigrateVolume(volume="a", node=N3)
    no = given(*PLAIN).when(move)
    no.refused(Refusal.GROUP_APART, "b is on n1")
    assert "hwbus group migrate" in no.decision.fix  # type: ignore[union-attr]
    gone = began(given(*PLAIN), replace(move, apart=True))
    assert isinstance(gone, MigrationBegan)
    assert gone.apart
    given(*PAIRS).when(replace(move, source=N2)).refused(Refusal.GROUP_APART)
    over = HandOverVolume(volume="a", node=N2)
    given(*PAIRS).when(over).refused(Refusal.GROUP_APART, "b is on n1+n2")
    assert isinstance(began(given(*PAIRS), replace(over, apart=True)), HandOverBegan)


def test_one_that_is_apart_may_join_the_others() -> None:
    past = (*NODES, *plain("a", N1), *plain("b", N2), group("a", "b"))
    going = began(given(*past), MigrateVolume(volume="b"))
    assert isinstance(going, MigrationBegan)
    assert going.node == N1


def test_nothing_is_moved_while_it_is_not_clear_where_the_others_will_be() -> None:
    going = began(given(*PLAIN), MigrateVolume(volume="a", node=N3, apart=True))
    past = (*PLAIN, going)
    for wish in (
        ADD_B,
        MigrateVolume(volume="b"),
        ProvisionVolume(volume="c", size_bytes=GIB, group="shop"),
    ):
        given(*past).when(wish).refused(Refusal.GROUP_BUSY, "a", "migrating")
    assert isinstance(began(given(*past), replace(ADD_B, apart=True)), ReplicaAdditionBegan)


def moving(*names: str, move: Move = Move.MIGRATE, node: str = N3, at_once: int = 2) -> Event:
    return GroupMoveBegan(
        group="shop",
        operation=OPERATION,
        deadline=DEADLINE,
        move=move,
        node=node,
        volumes=tuple(Mover(volume=name, size_bytes=GIB) for name in names),
        at_once=at_once,
    )


def test_a_group_moves_as_one() -> None:
    migrate = MigrateGroup(group="shop", node=N3, deadline_s=600)
    given(*PLAIN).when(migrate).then(moving("a", "b"))
    over = HandGroupOver(group="shop", node=N2)
    began_over = moving("a", "b", move=Move.HAND_OVER, node=N2, at_once=16)
    given(*PAIRS).when(over).then(began_over)
    more = AddGroupReplica(group="shop", node=N2, deadline_s=600)
    given(*PLAIN).when(more).then(moving("a", "b", move=Move.ADD_REPLICA, node=N2))
    given(*PLAIN).when(replace(migrate, node=N1)).nothing()
    given(*PAIRS).when(replace(over, node=N1)).nothing()
    given(*PAIRS).when(more).nothing()


def test_it_goes_where_all_fit_if_no_node_is_named() -> None:
    migrate = MigrateGroup(group="shop", deadline_s=600)
    given(*PLAIN, full(N2)).when(migrate).then(moving("a", "b"))
    tight = replace(full(N3), size_bytes=18 * GIB + GIB // 2)
    no = given(*PLAIN, full(N2), tight).when(migrate)
    no.refused(Refusal.NO_PLACE, "n3 has no room for a, b")


def test_those_that_are_there_stay_and_those_that_are_apart_come() -> None:
    past = (*NODES, *plain("a", N1), *plain("b", N2), group("a", "b"))
    event = began(given(*past), MigrateGroup(group="shop", node=N2))
    assert isinstance(event, GroupMoveBegan)
    assert [one.volume for one in event.volumes] == ["a"]
    assert event.stay == ("b",)


def test_a_group_moves_only_if_all_of_it_can() -> None:
    over = HandGroupOver(group="shop", node=N2)
    behind = PeerFenced(volume="b", node=N1, peer=N2, epoch=1)
    given(*PAIRS, behind).when(over).refused(Refusal.NOT_UP_TO_DATE, "b: ")
    given(*PLAIN).when(over).refused(Refusal.NOT_REPLICATED, "a: ")
    mixed = (*NODES, *pair("a", N1, N2), *plain("b", N1), group("a", "b"))
    migrate = MigrateGroup(group="shop", node=N3)
    given(*mixed).when(migrate).refused(Refusal.GROUP_APART, "a is on n2+n3", "b is on n3")
    given(*NODES, group()).when(migrate).refused(Refusal.GROUP_EMPTY)
    busy = began(given(*PLAIN), replace(ADD_B, apart=True))
    given(*PLAIN, busy).when(migrate).refused(Refusal.VOLUME_BUSY)


def test_one_that_was_handed_over_meanwhile_is_told_to_be_there() -> None:
    step = HandOverVolume(volume="a", node=N1, operation=OPERATION)
    there = VolumeHandedOver(volume="a", operation=OPERATION, node=N1)
    given(*PAIRS).when(step).then(there)
    world, after = given(*PAIRS).world, given(*PAIRS, there).world
    assert after.volumes == world.volumes
    given(*PAIRS).when(replace(step, operation=None)).nothing()


def test_nothing_else_moves_meanwhile() -> None:
    past = (*PLAIN, moving("a", "b"))
    for wish in (
        MigrateGroup(group="shop", node=N2),
        AddToGroup(group="shop", volumes=("a",)),
        SnapshotGroup(group="shop", snapshot="s"),
        ADD_B,
        MigrateVolume(volume="b"),
    ):
        given(*past).when(wish).refused(Refusal.GROUP_BUSY)
    step = MigrateVolume(volume="b", node=N3, operation=OPERATION)
    assert isinstance(began(given(*past), step), MigrationBegan)
    done = GroupMoveEnded(group="shop", operation=OPERATION)
    given(*past).when(ConcludeGroup(group="shop", operation=OPERATION)).then(done)
    assert given(*past, done).world.groups["shop"].operation == ""


def test_a_drain_moves_a_group_to_one_node() -> None:
    event = began(given(*PLAIN), DrainNode(node=N1))
    assert isinstance(event, DrainBegan)
    assert event.volumes == ("a", "b")
    (target,) = set(event.targets.values())
    step = drain_node.begin(event).begin_with("b")
    assert (step.source, step.node) == (N1, target)
    n4 = (*PAIRS, *nodes("n4"))
    event = began(given(*n4), DrainNode(node=N1))
    assert isinstance(event, DrainBegan)
    assert len({event.targets[name] for name in ("a", "b")} - {N2}) == 1
    mixed = (*NODES, *pair("a", N1, N2), *plain("b", N1), group("a", "b"))
    event = began(given(*mixed), DrainNode(node=N1))
    assert isinstance(event, DrainBegan)
    assert event.targets == {"a": N3, "b": N2}


def test_a_group_that_no_node_can_take_stays_and_is_named() -> None:
    tight = replace(full(N2), size_bytes=18 * GIB + GIB // 2)
    event = began(given(*PLAIN, tight, replace(tight, node=N3)), DrainNode(node=N1))
    assert isinstance(event, DrainBegan)
    assert event.volumes == ()
    assert {one.volume: one.code for one in event.stuck} == dict.fromkeys(
        ("a", "b"), Refusal.GROUP_APART
    )


def lost(*names: str, node: str = N2, home: str = N1) -> tuple[Event, ...]:
    """The node has told that its replicas of these volumes have lost the one that has them."""
    gone = tells(node, peers=(PeerSeen(node=home, tie=Tie.CONNECTING),))
    return tuple(event for name in names for event in called(name, [gone]))


def test_failed_over_are_all_to_where_all_of_them_are_good() -> None:
    three = nodes(N1, N2, N3, capabilities=MANY_PEERS)
    past = (*three, *pair("a", N1, N2, N3), *pair("b", N1, N2, N3), group("a", "b"))
    down = (*lost("a", "b"), *lost("a", "b", node=N3), silent(N1))
    first = began(given(*past, *down), FailVolumeOver(volume="a"))
    assert isinstance(first, FailoverBegan)
    assert first.node == N2
    # Where b has missed something, a does not go without it.
    behind = PeerFenced(volume="b", node=N1, peer=N2, epoch=1)
    first = began(given(*past, behind, *down), FailVolumeOver(volume="a"))
    assert isinstance(first, FailoverBegan)
    assert first.node == N3
    second = began(given(*past, behind, *down, first), FailVolumeOver(volume="b"))
    assert isinstance(second, FailoverBegan)
    assert second.node == N3


def test_who_can_fail_over_does_whether_or_not_the_others_can() -> None:
    behind = PeerFenced(volume="b", node=N1, peer=N2, epoch=1)
    down = (*lost("a", "b"), silent(N1))
    world = given(*PAIRS, behind, *down)
    over = began(world, FailVolumeOver(volume="a"))
    assert isinstance(over, FailoverBegan)
    assert over.node == N2
    world.when(FailVolumeOver(volume="b")).refused(Refusal.NOT_UP_TO_DATE)
    after = given(*PAIRS, behind, *down, over).world
    assert after.volumes["a"].phase is VolumePhase.FAILING_OVER
