"""Classes of limits: what may be said about them, and what that is to the volumes that have one."""

from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from msgspec.structs import replace

from aggregates.attaching import behind
from aggregates.decision import Facts
from aggregates.world import World
from schemas.answers import Refused
from schemas.attaching import (
    AttachVolume,
    DetachVolume,
    FollowQosClass,
    LimitVolume,
    VolumeAttached,
    VolumeAttachingBegan,
    VolumeDetached,
    VolumeLimited,
    VolumeLimitingBegan,
    VolumeLimitingFailed,
)
from schemas.attachment import AttachmentSpec, Limits
from schemas.grammar import Message
from schemas.place import place_of
from schemas.qos import (
    ChangeQosClass,
    CreateQosClass,
    DeleteQosClass,
    QosClassChanged,
    QosClassCreated,
    QosClassDeleted,
)
from schemas.refusals import Refusal
from schemas.volume import ConcludeVolume, ProvisionVolume, VolumeProvisioningBegan
from tests.support.given import GIB, MIB, NOON, OPERATION, OTHER, UID, given
from tests.support.words import DEADLINE, pool_ready, volume_ready

FAST, SLOW = Limits(read_iops=1000), Limits(read_iops=100, write_bytes_per_s=MIB)
GOLD = QosClassCreated(qos="gold", uid=OTHER, at=NOON, limits=FAST)
SLOWER = QosClassChanged(qos="gold", at=NOON, limits=SLOW)
READY = (*pool_ready("n1"), *volume_ready("n1"))
PAST = (*READY, GOLD)
BUSY: dict[str, Any] = {"volume": "pg", "operation": OPERATION}
SPEC = AttachmentSpec(uid=UID, volume_uid=UID, pool="fast", consumer="host/a", cgroup="a")
ATTACH = AttachVolume(volume="pg", consumer="host/a", cgroup="a")
GIVE = LimitVolume(volume="pg", qos="gold")
GIVEN = VolumeLimited(volume="pg", limits=FAST, qos="gold")
HELD = (*PAST, VolumeAttached(**BUSY, attachment=SPEC))
LIMITING = VolumeLimitingBegan(**BUSY, deadline=DEADLINE, node="n1", limits=FAST, qos="gold")
LIMITED = VolumeLimited(**BUSY, limits=FAST, qos="gold")
FOLLOW = FollowQosClass(volume="pg", uid=UID)
DONE = ConcludeVolume(**BUSY)
LATE = ConcludeVolume(**BUSY, code=Refusal.DEADLINE, because="late")


def test_a_class_is_made_changed_and_deleted() -> None:
    created = replace(GOLD, uid=UID)
    given().when(CreateQosClass(qos="gold", limits=FAST)).then(created)
    given(GOLD).when(ChangeQosClass(qos="gold", limits=SLOW)).then(SLOWER)
    given(GOLD).when(ChangeQosClass(qos="gold", limits=FAST)).nothing()
    gone = QosClassDeleted(qos="gold", uid=OTHER)
    given(GOLD).when(DeleteQosClass(qos="gold")).then(gone)
    given(GOLD, gone).when(CreateQosClass(qos="gold", limits=FAST)).then(created)


def test_a_class_has_one_name_and_limits_something() -> None:
    no = Limits()
    given(GOLD).when(CreateQosClass(qos="gold", limits=SLOW)).refused(Refusal.QOS_EXISTS, "gold")
    given().when(CreateQosClass(qos="gold", limits=no)).refused(Refusal.QOS_LIMITS_NOTHING, "gold")
    given(GOLD).when(ChangeQosClass(qos="gold", limits=no)).refused(Refusal.QOS_LIMITS_NOTHING)


@pytest.mark.parametrize(
    "command",
    [
        ChangeQosClass(qos="gold", limits=SLOW),
        DeleteQosClass(qos="gold"),
        GIVE,
        ProvisionVolume(volume="new", size_bytes=GIB, qos="gold"),
    ],
)
def test_a_class_that_is_not_there_is_named(command: Message) -> None:
    given(*READY).when(command).refused(Refusal.UNKNOWN_QOS, "gold")


def test_a_class_that_volumes_have_is_not_deleted_and_they_are_named() -> None:
    delete = DeleteQosClass(qos="gold")
    given(*PAST, GIVEN).when(delete).refused(Refusal.QOS_IN_USE, "gold", "pg")
    given(*HELD, LIMITING).when(delete).refused(Refusal.QOS_IN_USE, "pg")
    failed = VolumeLimitingFailed(**BUSY, code=Refusal.DEADLINE, because="late")
    given(*HELD, LIMITING, failed).when(delete).then(QosClassDeleted(qos="gold", uid=OTHER))
    own = VolumeLimited(volume="pg", limits=SLOW)
    given(*PAST, GIVEN, own).when(delete).then(QosClassDeleted(qos="gold", uid=OTHER))


def test_a_volume_may_have_a_class_from_the_beginning() -> None:
    wish = ProvisionVolume(volume="new", size_bytes=GIB, qos="gold")
    decision = given(*pool_ready("n1"), GOLD).decide(wish)
    assert not isinstance(decision, Refused)
    (began,) = decision
    assert isinstance(began, VolumeProvisioningBegan)
    assert began.qos == "gold"
    past = (*pool_ready("n1"), GOLD, began)
    given(*past).when(DeleteQosClass(qos="gold")).refused(Refusal.QOS_IN_USE, "new")


def test_a_volume_has_a_class_or_limits_of_its_own_and_what_is_said_last_counts() -> None:
    both = replace(GIVE, limits=SLOW)
    given(*PAST).when(both).refused(Refusal.QOS_UNCLEAR, "pg", "gold")
    given(*PAST).when(GIVE).then(GIVEN)
    given(*PAST, GIVEN).when(GIVE).nothing()
    own = VolumeLimited(volume="pg", limits=SLOW)
    given(*PAST, GIVEN).when(LimitVolume(volume="pg", limits=SLOW)).then(own)
    none = VolumeLimited(volume="pg")
    given(*PAST, GIVEN).when(LimitVolume(volume="pg")).then(none)
    given(*PAST, own).when(GIVE).then(GIVEN)


def test_whoever_gets_a_volume_has_the_limits_that_its_class_has_then() -> None:
    began = VolumeAttachingBegan(
        **BUSY, deadline=DEADLINE, node="n1", attachment=replace(SPEC, limits=SLOW)
    )
    given(*PAST, GIVEN, SLOWER).when(ATTACH).then(began)
    given(*PAST, GIVEN).when(replace(ATTACH, cgroup=None)).refused(Refusal.NO_CGROUP)
    given(*PAST, GIVEN, SLOWER).when(FOLLOW).nothing()


def test_a_class_that_is_gone_after_all_never_means_without_limits() -> None:
    gone = QosClassDeleted(qos="gold", uid=OTHER)  # decided elsewhere, at the same moment
    given(*PAST, GIVEN, gone).when(ATTACH).refused(Refusal.UNKNOWN_QOS, "gold")


def test_an_attached_volume_gets_its_class_on_its_node() -> None:
    given(*HELD).when(GIVE).then(LIMITING)
    given(*HELD, LIMITING).when(DONE).then(LIMITED)
    failed = VolumeLimitingFailed(**BUSY, code=Refusal.DEADLINE, because="late")
    given(*HELD, LIMITING).when(LATE).then(failed)
    given(*HELD, LIMITING, failed).when(GIVE).then(LIMITING)
    loose = VolumeAttached(**BUSY, attachment=replace(SPEC, cgroup=None))
    given(*PAST, loose).when(GIVE).refused(Refusal.NO_CGROUP, "host/a")


def test_an_attached_volume_follows_its_class() -> None:
    past = (*HELD, LIMITED, SLOWER)
    following = replace(LIMITING, limits=SLOW, before=FAST)
    given(*past).when(FOLLOW).then(following)
    given(*past, following).when(DONE).then(replace(LIMITED, limits=SLOW))
    given(*past, following).when(FOLLOW).refused(Refusal.VOLUME_BUSY, OPERATION)
    given(*past, following, replace(LIMITED, limits=SLOW)).when(FOLLOW).nothing()
    given(*HELD, LIMITED).when(FOLLOW).nothing()
    given(*past).when(replace(FOLLOW, uid=OTHER)).nothing()
    own = VolumeLimited(volume="pg", limits=FAST)
    given(*past, own).when(FOLLOW).nothing()
    free = VolumeDetached(**BUSY, consumer="host/a")
    given(*past, free).when(FOLLOW).nothing()


def test_a_volume_that_is_behind_its_class_is_attached_as_before() -> None:
    given(*HELD, LIMITED, SLOWER).when(ATTACH).nothing()


def test_what_carries_the_limits_already_is_only_given_the_name() -> None:
    own = VolumeLimited(**BUSY, limits=FAST)
    given(*HELD, own).when(GIVE).then(GIVEN)
    given(*HELD, own, GIVEN).when(LimitVolume(volume="pg", limits=FAST)).then(
        VolumeLimited(volume="pg", limits=FAST)
    )


CLASSES = st.sampled_from(["gold", "iron"])
VOLUMES = st.sampled_from(["a", "b"])
SOME = st.sampled_from([FAST, SLOW, Limits(write_iops=7)])
WISHES = st.one_of(
    st.builds(CreateQosClass, qos=CLASSES, limits=SOME),
    st.builds(ChangeQosClass, qos=CLASSES, limits=SOME),
    st.builds(DeleteQosClass, qos=CLASSES),
    st.builds(LimitVolume, volume=VOLUMES, limits=SOME),
    st.builds(LimitVolume, volume=VOLUMES, qos=CLASSES),
    st.builds(LimitVolume, volume=VOLUMES),
    st.builds(AttachVolume, volume=VOLUMES, consumer=st.just("host/a"), cgroup=st.just("a")),
    st.builds(DetachVolume, volume=VOLUMES),
    st.builds(FollowQosClass, volume=VOLUMES, uid=st.just(UID)),
)


class Cluster:
    """Two volumes; ``wanted`` is what people were told that each has, in words of its own."""

    def __init__(self) -> None:
        self.world = World()
        for event in (*pool_ready("n1"), *volume_ready("n1", "a"), *volume_ready("n1", "b")):
            self.world.evolve(*place_of(event), [event])
        self.wanted: dict[str, str | Limits] = {"a": Limits(), "b": Limits()}
        self.classes: dict[str, Limits] = {}

    def say(self, command: Message, *, ends_well: bool = True) -> None:
        facts = Facts(at=NOON, operation=OPERATION, uid=OTHER, world=self.world)
        decision = self.world.decide(command, facts)
        if isinstance(decision, Refused):
            return
        self.world.evolve(*place_of(command), decision)
        work = any(getattr(event, "deadline", None) for event in decision)
        if work:
            code = None if ends_well else Refusal.NO_IO_CONTROLLER
            name = str(getattr(command, "volume"))  # noqa: B009
            self.say(ConcludeVolume(volume=name, operation=OPERATION, code=code))
        if not work or ends_well:
            self._note(command)

    def _note(self, command: Message) -> None:
        match command:
            case CreateQosClass() | ChangeQosClass():
                self.classes[command.qos] = command.limits
            case DeleteQosClass():
                del self.classes[command.qos]
            case LimitVolume():
                self.wanted[command.volume] = command.qos or command.limits
            case _:
                pass

    def limits(self, name: str) -> Limits:
        wanted = self.wanted[name]
        return wanted if isinstance(wanted, Limits) else self.classes[wanted]


@hypothesis.given(st.lists(st.tuples(WISHES, st.booleans()), max_size=40))
def test_in_the_end_every_volume_has_the_limits_of_its_class_or_its_own(
    story: list[tuple[Message, bool]],
) -> None:
    cluster = Cluster()
    for command, ends_well in story:
        cluster.say(command, ends_well=ends_well)
    for name in ("a", "b"):
        cluster.say(FollowQosClass(volume=name, uid=UID))
        use = cluster.world.volumes[name].use
        assert behind(cluster.world.volumes[name], cluster.world) is None
        if use.attachment is not None:
            assert use.attachment.limits == cluster.limits(name)
            continue
        cluster.say(AttachVolume(volume=name, consumer="host/a", cgroup="a"))
        now = cluster.world.volumes[name].use.attachment
        assert now is not None
        assert now.limits == cluster.limits(name)
