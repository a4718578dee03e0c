"""What holds in every order of commands, reports and events."""

from collections.abc import Sequence
from typing import Any

import hypothesis
import msgspec
from hypothesis import strategies as st

from aggregates.decision import Facts
from aggregates.ledger import Ledger, Posting, room_bytes, rounded_bytes, thin_room_bytes
from aggregates.world import World
from schemas.answers import Refused
from schemas.attaching import AttachVolume, DetachVolume, FollowQosClass, LimitVolume
from schemas.attachment import (
    AttachmentSpec,
    KeepAttachment,
    LimitAttachment,
    Limits,
    RemoveAttachment,
    ReportAttachmentAbsent,
    ReportAttachmentPresent,
    ReportAttachmentTrouble,
    WantAttachment,
)
from schemas.counting import ReportVolumeIo
from schemas.deleting import DeleteVolume, PurgeVolume, UndeleteVolume
from schemas.disk import (
    ClaimDisk,
    Content,
    Health,
    ReportDiskGone,
    ReportDiskHealth,
    ReportDiskReleased,
    ReportDiskSeen,
    ReserveDisk,
    UnreserveDisk,
)
from schemas.errand import (
    Probe,
    Probed,
    ReportErrandDone,
    ReportErrandStopped,
    RunErrand,
    StopErrand,
)
from schemas.filling import ReportVolumeFill
from schemas.grammar import Message, Report
from schemas.growing import ExtendThinPool, GrowSnapshot, GrowThinPool
from schemas.labels import LabelVolume
from schemas.node import AttachPool, CordonNode, DetachPool, ReportNodeJoined, UncordonNode
from schemas.place import place_of
from schemas.policy import (
    PausePolicy,
    PolicyKind,
    PolicySpec,
    RemovePolicy,
    ReportPolicyAlarm,
    ReportPolicyAnswered,
    ReportPolicyCalm,
    ReportPolicyDue,
    ResumePolicy,
    SetPolicy,
)
from schemas.pool import (
    AbandonPool,
    BuildPool,
    ConcludePool,
    FormPool,
    GrowPool,
    PoolFacts,
    RemovePool,
    ReportPoolAbsent,
    ReportPoolBuilt,
    ReportReleased,
    ReportSettled,
    ReportThinFill,
    ReportUnreserved,
    Reserve,
)
from schemas.qos import ChangeQosClass, CreateQosClass, DeleteQosClass
from schemas.refusals import Refusal
from schemas.replica import (
    CreateReplica,
    HoldReplica,
    KeepReplica,
    MergeReplica,
    RemoveReplica,
    ReplicaSpec,
    ReportReplicaAbsent,
    ReportReplicaHeld,
    ReportReplicaPresent,
    ResizeReplica,
    SnapshotOf,
)
from schemas.snapshot import (
    ConcludeSnapshot,
    CreateSnapshot,
    DeleteSnapshot,
    ReportSnapshotFill,
    ReportSnapshotLegRemoved,
    RollBackSnapshot,
)
from schemas.target import (
    BackUpVolume,
    ConcludeTarget,
    ListBackups,
    RemoveTarget,
    SweepTarget,
    VerifyBackup,
)
from schemas.volume import (
    ConcludeVolume,
    GrowVolume,
    LockVolume,
    ProvisionVolume,
    ReportVolumeSnapshotGone,
)
from schemas.words import every_event
from tests.support.anything import anything
from tests.support.backup_words import ADD, PLACE, SWEPT, UPLOADED
from tests.support.given import GIB, MIB, NOON
from tests.support.words import sighting
from tests.unit.aggregates import group_commands

NODES = st.sampled_from(["n1", "n2"])
CLASSES = st.sampled_from(["gold", "iron"])
POOLS = st.sampled_from(["fast", "slow"])
DISKS = st.sampled_from(["d1", "d2", "d3"])
VOLUMES = st.sampled_from(["a", "b"])
SNAPSHOTS = st.sampled_from(["a", "s"])
IDS = st.sampled_from([f"{n:026d}" for n in range(1, 7)])
SIZES = st.integers(1, 12 * GIB)
CODES = st.sampled_from([Refusal.DEADLINE, Refusal.CANCELLED])
BACKUPS = st.sampled_from(["b0", "b1"])
CONSUMERS = st.sampled_from(["host/a", "host/b"])
CGROUPS = st.sampled_from([None, "c"])
LIMITS = st.sampled_from([Limits(), Limits(read_iops=2), Limits(write_iops=3)])


def facts_of_pool(disks: Sequence[str]) -> PoolFacts:
    return PoolFacts(
        size_bytes=10 * GIB * len(disks),
        extent_bytes=4 * MIB,
        metadata_bytes=4096,
        disks=tuple(disks),
    )


def facts_with_thin_pool(disks: Sequence[str]) -> PoolFacts:
    thin = {"thin_bytes": GIB, "thin_overhead_bytes": 16 * MIB}
    return msgspec.structs.replace(facts_of_pool(disks), **thin)


DISK_SETS = st.lists(DISKS, min_size=1, max_size=3, unique=True).map(tuple)
ABOUT_BACKUPS = (
    st.sampled_from([ADD, RemoveTarget(target="s3"), ListBackups(target="s3")]),
    st.builds(BackUpVolume, target=st.just("s3"), volume=VOLUMES, backup=BACKUPS),
    st.builds(VerifyBackup, target=st.just("s3"), backup=BACKUPS),
    st.builds(SweepTarget, target=st.just("s3"), backup=st.none() | BACKUPS),
    st.builds(
        ConcludeTarget,
        target=st.just("s3"),
        operation=IDS,
        found=st.sampled_from([None, UPLOADED, SWEPT, Probed()]),
        code=st.none() | CODES,
    ),
    st.builds(RunErrand, operation=IDS, node=NODES, errand=st.just(Probe(place=PLACE))),
    st.builds(StopErrand, operation=IDS, node=NODES),
    st.builds(ReportErrandDone, operation=IDS, node=NODES, found=st.just(Probed())),
    st.builds(ReportErrandStopped, operation=IDS, node=NODES),
)
COMMANDS = st.one_of(
    group_commands.COMMANDS,
    *ABOUT_BACKUPS,
    st.builds(ReportNodeJoined, node=NODES),
    st.builds(CordonNode, node=NODES),
    st.builds(UncordonNode, node=NODES),
    st.builds(AttachPool, node=NODES, pool=POOLS, operation=IDS),
    st.builds(DetachPool, node=NODES, pool=POOLS),
    st.builds(
        ReportDiskSeen,
        disk=DISKS,
        node=NODES,
        sighting=st.sampled_from([sighting(), sighting(Content.OURS)]),
    ),
    st.builds(ReportDiskGone, disk=DISKS, node=NODES),
    st.builds(ReportDiskHealth, disk=DISKS, node=NODES, health=st.sampled_from(Health)),
    st.builds(ReserveDisk, disk=DISKS),
    st.builds(UnreserveDisk, disk=DISKS),
    st.builds(ClaimDisk, disk=DISKS, node=NODES, pool=POOLS, operation=IDS),
    st.builds(ReportDiskReleased, disk=DISKS, node=NODES, pool=POOLS),
    st.builds(FormPool, pool=POOLS, node=NODES, disks=DISK_SETS, volumes_max=st.integers(1, 3)),
    st.builds(GrowPool, pool=POOLS, node=NODES, disks=DISK_SETS),
    st.builds(RemovePool, pool=POOLS, node=NODES),
    st.builds(BuildPool, pool=POOLS, node=NODES, operation=IDS),
    st.builds(
        AbandonPool, pool=POOLS, node=NODES, operation=IDS, code=CODES, because=st.just("so")
    ),
    st.builds(ConcludePool, pool=POOLS, node=NODES, operation=IDS),
    st.builds(ReportPoolBuilt, pool=POOLS, node=NODES, uid=IDS, facts=DISK_SETS.map(facts_of_pool)),
    st.builds(
        ReportPoolBuilt,
        pool=POOLS,
        node=NODES,
        uid=IDS,
        facts=DISK_SETS.map(facts_with_thin_pool),
    ),
    st.builds(ReportPoolAbsent, pool=POOLS, node=NODES, uid=IDS),
    st.builds(Reserve, pool=POOLS, node=NODES, claim=IDS, size_bytes=SIZES, operation=IDS),
    st.builds(ReportUnreserved, pool=POOLS, node=NODES, claim=IDS),
    st.builds(ReportReleased, pool=POOLS, node=NODES, claim=IDS),
    st.builds(ProvisionVolume, volume=VOLUMES, size_bytes=SIZES),
    st.builds(GrowVolume, volume=VOLUMES, size_bytes=SIZES),
    st.builds(DeleteVolume, volume=VOLUMES, hold_s=st.sampled_from([0, 60])),
    st.builds(UndeleteVolume, volume=VOLUMES),
    st.builds(PurgeVolume, volume=VOLUMES),
    st.builds(ConcludeVolume, volume=VOLUMES, operation=IDS, node=NODES, pool=POOLS),
    st.builds(
        CreateReplica,
        volume=VOLUMES,
        node=NODES,
        operation=IDS,
        spec=st.builds(
            ReplicaSpec,
            uid=IDS,
            pool=POOLS,
            size_bytes=SIZES,
            snapshot_of=st.none() | st.builds(SnapshotOf, volume=VOLUMES, uid=IDS),
        ),
    ),
    st.builds(MergeReplica, volume=VOLUMES, node=NODES, operation=IDS),
    st.builds(LockVolume, volume=VOLUMES, uid=IDS, operation=IDS, snapshot=SNAPSHOTS),
    st.builds(ReportVolumeSnapshotGone, volume=VOLUMES, uid=IDS, snapshot=SNAPSHOTS),
    st.builds(CreateSnapshot, snapshot=SNAPSHOTS, volume=VOLUMES),
    st.builds(DeleteSnapshot, snapshot=SNAPSHOTS),
    st.builds(RollBackSnapshot, snapshot=SNAPSHOTS),
    st.builds(
        ConcludeSnapshot,
        snapshot=SNAPSHOTS,
        operation=IDS,
        gone=st.booleans(),
        code=st.none() | CODES,
    ),
    st.builds(ReportSnapshotLegRemoved, snapshot=SNAPSHOTS, uid=IDS),
    st.builds(
        ReportSnapshotFill,
        snapshot=SNAPSHOTS,
        uid=IDS,
        data_percent=st.integers(0, 100),
        overflowed=st.booleans(),
    ),
    st.builds(ResizeReplica, volume=VOLUMES, node=NODES, operation=IDS, size_bytes=SIZES),
    st.builds(RemoveReplica, volume=VOLUMES, node=NODES, operation=IDS),
    st.builds(HoldReplica, volume=VOLUMES, node=NODES, operation=IDS),
    st.builds(ReportReplicaHeld, volume=VOLUMES, node=NODES, uid=IDS),
    st.builds(KeepReplica, volume=VOLUMES, node=NODES, operation=IDS),
    st.builds(
        ReportReplicaPresent,
        volume=VOLUMES,
        node=NODES,
        uid=IDS,
        size_bytes=SIZES,
        device=st.just("/dev/x"),
    ),
    st.builds(ReportReplicaAbsent, volume=VOLUMES, node=NODES, uid=IDS, merged=st.booleans()),
    st.builds(AttachVolume, volume=VOLUMES, consumer=CONSUMERS, cgroup=CGROUPS),
    st.builds(DetachVolume, volume=VOLUMES),
    st.builds(LimitVolume, volume=VOLUMES, limits=LIMITS),
    st.builds(LimitVolume, volume=VOLUMES, qos=CLASSES),
    st.builds(FollowQosClass, volume=VOLUMES, uid=IDS),
    st.builds(CreateQosClass, qos=CLASSES, limits=LIMITS),
    st.builds(ChangeQosClass, qos=CLASSES, limits=LIMITS),
    st.builds(DeleteQosClass, qos=CLASSES),
    st.builds(
        WantAttachment,
        volume=VOLUMES,
        node=NODES,
        operation=IDS,
        spec=st.builds(
            AttachmentSpec, uid=IDS, volume_uid=IDS, pool=POOLS, consumer=CONSUMERS, limits=LIMITS
        ),
    ),
    st.builds(LimitAttachment, volume=VOLUMES, node=NODES, operation=IDS, limits=LIMITS),
    st.builds(RemoveAttachment, volume=VOLUMES, node=NODES, operation=IDS),
    st.builds(KeepAttachment, volume=VOLUMES, node=NODES, operation=IDS),
    st.builds(
        ReportAttachmentPresent,
        volume=VOLUMES,
        node=NODES,
        uid=IDS,
        device=st.just("/dev/x"),
        limits=LIMITS,
    ),
    st.builds(ReportAttachmentAbsent, volume=VOLUMES, node=NODES, uid=IDS),
    st.builds(
        ReportAttachmentTrouble,
        volume=VOLUMES,
        node=NODES,
        uid=IDS,
        code=CODES,
        because=st.just("so"),
        permanent=st.booleans(),
    ),
)
CARE_KINDS = st.sampled_from(
    [
        PolicySpec(kind=PolicyKind.GROW_VOLUMES, threshold_percent=80, step_percent=20),
        PolicySpec(kind=PolicyKind.GROW_VOLUMES, threshold_percent=0, step_percent=20),
        PolicySpec(kind=PolicyKind.DRAIN_DISKS, cool_down_s=1),
    ]
)
OBJECTS = st.sampled_from(["volume/a", "disk/d1"])
POLICY_NAMES = st.sampled_from(["p", "q"])
CARE = st.one_of(
    st.builds(
        ReportVolumeFill,
        volume=VOLUMES,
        uid=IDS,
        data_percent=st.integers(0, 100),
        used_bytes=SIZES,
        filesystem_bytes=SIZES,
        size_bytes=SIZES,
    ),
    st.builds(
        LabelVolume,
        volume=VOLUMES,
        set=st.dictionaries(st.sampled_from(["a", "b", "-"]), st.sampled_from(["", "x"])),
        remove=st.sampled_from([(), ("a",)]),
    ),
    st.builds(
        ReportVolumeIo,
        volume=VOLUMES,
        uid=IDS,
        node=NODES,
        book=IDS,
        written_bytes=SIZES,
        read_bytes=SIZES,
    ),
    st.builds(ReportThinFill, pool=POOLS, node=NODES, data_percent=st.integers(0, 100)),
    st.builds(GrowSnapshot, snapshot=SNAPSHOTS, reserve_bytes=SIZES),
    st.builds(GrowThinPool, pool=POOLS, node=NODES, thin_bytes=SIZES, metadata_bytes=SIZES),
    st.builds(ExtendThinPool, pool=POOLS, node=NODES, operation=IDS),
    st.builds(SetPolicy, policy=POLICY_NAMES, spec=CARE_KINDS),
    st.builds(PausePolicy, policy=POLICY_NAMES),
    st.builds(ResumePolicy, policy=POLICY_NAMES),
    st.builds(RemovePolicy, policy=POLICY_NAMES),
    st.builds(
        ReportPolicyDue,
        policy=POLICY_NAMES,
        uid=IDS,
        object=OBJECTS,
        wish=st.builds(GrowVolume, volume=VOLUMES, size_bytes=SIZES),
    ),
    st.builds(
        ReportPolicyAnswered,
        policy=POLICY_NAMES,
        uid=IDS,
        number=st.integers(0, 3),
        object=OBJECTS,
        code=st.none() | CODES,
    ),
    st.builds(
        ReportPolicyAlarm,
        policy=POLICY_NAMES,
        uid=IDS,
        object=OBJECTS,
        code=CODES,
        because=st.just("so"),
    ),
    st.builds(ReportPolicyCalm, policy=POLICY_NAMES, uid=IDS, object=OBJECTS),
)
COMMANDS = COMMANDS | CARE
SETTLED = st.builds(ReportSettled, pool=POOLS, node=NODES, claim=IDS, size_bytes=SIZES)
STORIES = st.lists(st.one_of(COMMANDS, SETTLED), max_size=60)


class History:
    """A world that remembers what was recorded about whom."""

    def __init__(self) -> None:
        self.world = World()
        self.commits: list[tuple[str, str, str, tuple[Any, ...]]] = []

    def say(self, command: Message, number: int) -> tuple[Any, ...] | Refused:
        ids = f"{1 + number % 6:026d}"
        facts = Facts(at=NOON, operation=ids, uid=ids, world=self.world)
        decision = self.world.decide(command, facts)
        if not isinstance(decision, Refused) and decision:
            where = place_of(command)
            self.world.evolve(*where, decision)
            self.commits.append((*where, decision))
        return decision

    def tell(self, commands: Sequence[Message]) -> "History":
        for number, command in enumerate(commands):
            self.say(command, number)
        return self


def state(world: World) -> dict[str, object]:
    tables = (
        *("nodes", "disks", "pools", "volumes", "replicas", "attachments", "snapshots"),
        *("groups", "schedules", "operations", "policies", "targets", "errands", "qos"),
    )
    return {table: getattr(world, table).copy() for table in (*tables, "provisioning")}


@hypothesis.given(STORIES)
def test_folding_any_prefix_gives_the_state_that_was_live_then(story: list[Message]) -> None:
    history, live = History(), [state(World())]
    for number, command in enumerate(story):
        before = len(history.commits)
        history.say(command, number)
        if len(history.commits) > before:
            live.append(state(history.world))
    again = World()
    for commit, expected in zip(history.commits, live[1:], strict=True):
        again.evolve(*commit)
        assert state(again) == expected


@hypothesis.given(STORIES, COMMANDS)
def test_deciding_changes_nothing_and_is_the_same_every_time(
    story: list[Message], command: Message
) -> None:
    world = History().tell(story).world
    before = state(world)
    facts = Facts(at=NOON, operation="0" * 26, uid="1" * 26, world=world)
    assert world.decide(command, facts) == world.decide(command, facts)
    assert state(world) == before


@hypothesis.given(STORIES, st.one_of(COMMANDS, SETTLED))
def test_a_report_is_never_refused(story: list[Message], command: Message) -> None:
    history = History().tell(story)
    decision = history.say(command, 0)
    if isinstance(command, Report):
        assert not isinstance(decision, Refused)
    if isinstance(decision, Refused):
        assert decision.because
        assert decision.fix


@hypothesis.given(st.lists(COMMANDS, max_size=80))
def test_no_order_of_wishes_promises_more_than_there_is(story: list[Message]) -> None:
    history = History()
    for number, command in enumerate(story):
        decision = history.say(command, number)
        if not isinstance(command, Reserve) or isinstance(decision, Refused):
            continue
        pool = history.world.pools[command.node, command.pool]
        assert pool.facts is not None
        ledger = pool.ledger
        taken = ledger.thick_reserved_bytes + ledger.thick_settled_bytes
        taken += pool.facts.thin_bytes + pool.facts.thin_overhead_bytes
        if pool.thin_growth is not None:
            taken += pool.thin_growth.reserved_bytes
        assert taken <= pool.facts.size_bytes
        assert ledger.claims <= pool.volumes_max
        assert ledger.claims * 1024 <= pool.facts.metadata_bytes


@hypothesis.given(STORIES, COMMANDS, COMMANDS)
def test_independent_commands_commute(story: list[Message], one: Message, other: Message) -> None:
    """Commands about different aggregates that take no advice from one another."""
    growing = (GrowSnapshot, GrowThinPool, GrowVolume, GrowPool)
    advised = (FormPool, RemovePool, ProvisionVolume, DeleteVolume, SetPolicy, *growing)
    classes = (CreateQosClass, ChangeQosClass, DeleteQosClass, FollowQosClass)
    attaching = (AttachVolume, DetachVolume, LimitVolume, WantAttachment, *classes)
    hypothesis.assume(place_of(one) != place_of(other))
    hypothesis.assume(not isinstance(one, (*advised, *attaching, CreateReplica)))
    hypothesis.assume(not isinstance(other, (*advised, *attaching, CreateReplica)))
    there, back = History().tell(story), History().tell(story)
    there.say(one, 1)
    there.say(other, 2)
    back.say(other, 2)
    back.say(one, 1)
    assert state(there.world) == state(back.world)


EVENTS = st.one_of(*(anything(word) for word in every_event()))


@hypothesis.given(st.lists(EVENTS, max_size=12))
@hypothesis.settings(
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large]
)
def test_the_past_cannot_be_wrong(events: list[Any]) -> None:
    world = World()
    for event in events:
        world.evolve(*place_of(event), [event])
    again = World()
    for event in events:
        again.evolve(*place_of(event), [event])
    assert state(again) == state(world)


POSTINGS = st.builds(Posting, size_bytes=SIZES, thin=st.booleans())
ENTRIES = st.lists(
    st.tuples(st.sampled_from(["reserve", "unreserve", "settle", "release"]), IDS, POSTINGS),
    max_size=40,
)


@hypothesis.given(ENTRIES)
def test_the_sums_of_a_ledger_are_the_sums_of_its_postings(
    entries: list[tuple[str, str, Posting]],
) -> None:
    ledger = Ledger()
    for kind, claim, posting in entries:
        match kind:
            case "reserve":
                ledger = ledger.reserve(claim, posting)
            case "unreserve":
                ledger = ledger.unreserve(claim)
            case "settle":
                ledger = ledger.settle(claim, posting)
            case _:
                ledger = ledger.release(claim)
    both = [*ledger.reserved.values(), *ledger.settled.values()]
    assert ledger.thin_promised_bytes == sum(p.size_bytes for p in both if p.thin)
    thick = [
        sum(p.size_bytes for p in postings.values() if not p.thin)
        for postings in (ledger.reserved, ledger.settled)
    ]
    assert [ledger.thick_reserved_bytes, ledger.thick_settled_bytes] == thick
    assert ledger.claims == len({*ledger.reserved, *ledger.settled})
    facts = facts_of_pool(["d1"])
    assert room_bytes(ledger, facts) == max(0, facts.size_bytes - sum(thick))
    assert thin_room_bytes(ledger, facts, 200) == 0


@hypothesis.given(st.integers(1, 1 << 50), st.integers(1, 64))
def test_rounding_is_up_to_the_next_whole_stripe(size_bytes: int, stripes: int) -> None:
    unit = 4 * MIB * stripes
    rounded = rounded_bytes(size_bytes, 4 * MIB, stripes)
    assert rounded % unit == 0
    assert 0 <= rounded - size_bytes < unit


def test_states_can_be_told_apart() -> None:
    history = History().tell([ReportNodeJoined(node="n1")])
    assert state(history.world) != state(World())
    assert msgspec.json.encode(history.world.nodes["n1"])
