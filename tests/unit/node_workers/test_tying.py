"""What the hands of a replicated leg ask of storage, for each kind of step, and what they tell."""

import asyncio
from typing import Any, cast

import pytest
from msgspec.structs import replace

from node_workers import tying as tying_module
from node_workers.asked import bare, replication_spec, volume_spec
from node_workers.counting import Counting
from node_workers.hands import Hands
from node_workers.ports import (
    Attachment,
    InUseError,
    NotThereError,
    SnapshotSpec,
    SnapshotState,
    UnsuitableError,
    VolumeSpec,
    VolumeState,
)
from node_workers.ports import Consistency as Caught
from node_workers.ports import Filesystem as Kind
from node_workers.replication import Comparison
from node_workers.replication import Start as Began
from node_workers.reports import trouble_of
from node_workers.steps import (
    HaveErrand,
    HaveKeys,
    HaveMerged,
    HaveNoAttachment,
    HaveNoErrand,
    HaveNoReplica,
    HaveReplica,
    HaveReplicaAwake,
    HaveReplicaHeld,
    HaveSplitSettled,
    Step,
)
from node_workers.storage import Storage
from node_workers.turns import Leader
from node_workers.tying import TyingHands
from node_workers.wanted import Origin
from schemas.attachment import AttachmentSpec
from schemas.errand import (
    Compare,
    Compared,
    EvenedOut,
    EvenOut,
    ReportErrandDone,
    ReportErrandStopped,
)
from schemas.grammar import Report
from schemas.keys import Encryption
from schemas.operation import ReportProgressed
from schemas.refusals import Refusal
from schemas.replica import (
    ReplicaSpec,
    ReportReplicaAbsent,
    ReportReplicaHeld,
    ReportReplicaPresent,
    ReportReplicaRekeyed,
    SnapshotOf,
)
from schemas.replication import Replication, Start, tie_of
from schemas.volume import Filesystem
from tests.support.legs_words import members
from tests.support.replicated import NotingReplication

UID, POOL_UID, OTHER = "1" * 26, "2" * 26, "3" * 26
LEG_BYTES, DEVICE_BYTES = 108, 100
TIED = Replication(members=members("n1", "n2"), size_bytes=DEVICE_BYTES)
SPEC = ReplicaSpec(
    uid=UID, pool="fast", size_bytes=LEG_BYTES, filesystem=Filesystem.XFS, replication=TIED
)
PLAIN = replace(SPEC, replication=None)
ABOUT: dict[str, Any] = {
    "key": "replica/pg",
    "group": "fast",
    "uid": UID,
    "origin": Origin(seq=7),
    "volume": "pg",
}
IN_POOL: dict[str, Any] = ABOUT | {"pool_uid": POOL_UID}
LEG = volume_spec("pg", SPEC)
TO = replication_spec("pg", UID, "fast", TIED)
GONE = NotThereError("volume-missing", "no such volume")


class NotingStorage(NotingReplication):
    """The part of ``Storage`` that legs need, which notes in the same order."""

    merged = False

    def _state(self, spec: VolumeSpec) -> VolumeState:
        path = f"/dev/{spec.pool}/{spec.name}"
        return VolumeState(
            uid=spec.uid,
            name=spec.name,
            pool=spec.pool,
            size_bytes=spec.size_bytes,
            path=path,
            changed=False,
        )

    async def ensure_volume(self, pool_uid: str, spec: VolumeSpec, *, cause: str) -> VolumeState:  # noqa: ARG002
        self._note("volume", pool_uid, spec)
        return self._state(spec)

    async def ensure_volume_awake(
        self,
        pool_uid: str,
        spec: VolumeSpec,
        *,
        cause: str,  # noqa: ARG002
    ) -> VolumeState:
        self._note("awake", pool_uid, spec)
        return self._state(spec)

    async def ensure_volume_unused(self, pool_uid: str, spec: VolumeSpec, *, cause: str) -> None:  # noqa: ARG002
        self._note("unused", pool_uid, spec)

    async def ensure_rolled_back(self, pool_uid: str, spec: SnapshotSpec, *, cause: str) -> None:  # noqa: ARG002
        self._note("rolled back", pool_uid, spec)

    async def ensure_snapshot_kept(
        self,
        pool_uid: str,
        spec: SnapshotSpec,
        *,
        cause: str,  # noqa: ARG002
    ) -> SnapshotState | None:
        self._note("kept", pool_uid, spec)
        if self.merged:
            return None
        caught = Caught.FILESYSTEM
        return SnapshotState(size_bytes=8, path="/dev/fast/s", consistency=caught, changed=False)

    async def ensure_volume_removed(self, *about: str, cause: str) -> None:  # noqa: ARG002
        self._note("removed", *about)

    async def ensure_detached(self, attachment: Attachment, *, cause: str, parting: object) -> None:  # noqa: ARG002
        self._note("detached", attachment)


class Uncounted:
    """The part of ``Counting`` that hands need; nobody wrote anything."""

    async def note(self, volume: str, uid: str, number: str) -> None:
        """Note nothing."""

    async def close(self, volume: str, uid: str, cause: str) -> None:
        """Tell nothing."""

    def parting(self, _volume: str, _uid: str) -> None:
        """Have nothing noted."""


def ensured(storage: NotingStorage, step: Step) -> Report | None:
    async def nothing(_: str) -> None:
        return

    port = cast("Storage", storage)
    tying = TyingHands(port, storage, "n1")
    counting = cast("Counting", Uncounted())
    hands = Hands(port, "n1", dict, nothing, tying, Leader("n1"), counting)
    return asyncio.run(hands.ensure(step, "event:7"))


def there(
    size_bytes: int = LEG_BYTES, *, withdrawn: bool = False, spec: ReplicaSpec = SPEC
) -> ReportReplicaPresent:
    return ReportReplicaPresent(
        volume="pg",
        node="n1",
        uid=UID,
        size_bytes=size_bytes,
        device="/dev/fast/pg",
        withdrawn=withdrawn,
        tie=tie_of(spec.replication, "n1"),
    )


ABSENT = ReportReplicaAbsent(volume="pg", node="n1", uid=UID)


def test_a_new_leg_is_made_with_nothing_on_it_and_tied() -> None:
    storage = NotingStorage()
    assert ensured(storage, HaveReplica(**IN_POOL, spec=SPEC, may_create=True)) == there()
    assert storage.asked == [
        ("volume", POOL_UID, bare(LEG)),
        ("replicated", POOL_UID, bare(LEG), TO, Began.DATA, True),
        ("awake", POOL_UID, bare(LEG)),
    ]


def test_a_leg_that_is_to_be_filled_says_that_it_holds_nothing() -> None:
    storage = NotingStorage()
    spec = replace(SPEC, replication=replace(TIED, start=Start.NOTHING))
    ensured(storage, HaveReplica(**IN_POOL, spec=spec, may_create=True))
    assert storage.asked[1][-2:] == (Began.NOTHING, True)


def test_a_leg_that_is_tied_first_gets_its_filesystem_on_what_is_replicated() -> None:
    storage = NotingStorage()
    spec = replace(SPEC, replication=replace(TIED, filesystem=Filesystem.EXT4))
    assert ensured(storage, HaveReplica(**IN_POOL, spec=spec, may_create=False)) == there()
    assert storage.asked == [
        ("replicated", POOL_UID, bare(LEG), TO, Began.DATA, True),
        ("filesystem", replace(LEG, filesystem=Kind.EXT4), TO),
        ("awake", POOL_UID, bare(LEG)),
    ]


def test_what_a_volume_holds_stays_when_it_is_tied_first() -> None:
    storage = NotingStorage()
    ensured(storage, HaveReplica(**IN_POOL, spec=SPEC, may_create=False))
    assert storage.names() == ["replicated", "awake"]


def test_a_leg_that_was_tied_gets_no_metadata_and_no_filesystem_anew() -> None:
    storage = NotingStorage()
    spec = replace(SPEC, replication=replace(TIED, filesystem=Filesystem.EXT4))
    assert ensured(storage, HaveReplica(**IN_POOL, spec=spec, may_create=False, tied=True))
    assert storage.asked == [
        ("replicated", POOL_UID, bare(LEG), TO, Began.DATA, False),
        ("awake", POOL_UID, bare(LEG)),
        ("size", POOL_UID, LEG, TO),
    ]


def test_what_is_on_a_volume_that_was_born_replicated_grows_with_it() -> None:
    storage = NotingStorage()
    tied = replace(TIED, filesystem=Filesystem.EXT4)
    spec = replace(SPEC, filesystem=Filesystem.NONE, replication=tied)
    ensured(storage, HaveReplica(**IN_POOL, spec=spec, may_create=False, tied=True))
    assert storage.asked[-1] == ("size", POOL_UID, replace(LEG, filesystem=Kind.EXT4), TO)


def test_a_leg_is_not_there_in_its_new_size_before_its_peer_is() -> None:
    storage = NotingStorage()
    step = HaveReplica(**IN_POOL, spec=SPEC, may_create=False, tied=True)
    storage.device_bytes = DEVICE_BYTES - 1
    with pytest.raises(NotThereError, match="another replica") as caught:
        ensured(storage, step)
    trouble = trouble_of(caught.value)
    assert (trouble.code, trouble.permanent) == (Refusal.PEER_UNREACHABLE, False)
    storage.device_bytes = DEVICE_BYTES
    assert ensured(storage, step) == there()


def test_a_leg_that_is_untied_has_nothing_of_drbd_and_keeps_its_filesystem() -> None:
    storage = NotingStorage()
    step = HaveReplica(**IN_POOL, spec=PLAIN, may_create=False, tied=True, untie=True)
    assert ensured(storage, step) == there(spec=PLAIN)
    plain = volume_spec("pg", PLAIN)
    assert storage.asked == [("plain", POOL_UID, plain, UID), ("awake", POOL_UID, plain)]


def test_metadata_that_is_lost_is_told_for_good() -> None:
    storage = NotingStorage()
    storage.fails["replicated"] = NotThereError("metadata-missing", "none left")
    with pytest.raises(NotThereError) as caught:
        ensured(storage, HaveReplica(**IN_POOL, spec=SPEC, may_create=False, tied=True))
    assert trouble_of(caught.value).permanent


NOT_RUNNING = NotThereError("volume-missing", "pg is not running in DRBD")


@pytest.mark.parametrize("spec", [SPEC, PLAIN], ids=["tied", "untied"])
def test_a_leg_that_was_to_go_and_is_gone_is_told_to_be_gone(spec: ReplicaSpec) -> None:
    step = HaveReplica(**IN_POOL, spec=spec, may_create=False, tied=True, untie=spec is PLAIN)
    storage = NotingStorage()
    storage.fails["awake"] = GONE
    assert ensured(storage, replace(step, withdrawn=True)) == ABSENT
    assert storage.names() == ["awake"]
    with pytest.raises(NotThereError):
        ensured(storage, step)
    storage.fails["awake"] = NotThereError("pool-missing", "away")
    with pytest.raises(NotThereError):
        ensured(storage, replace(step, withdrawn=True))


@pytest.mark.parametrize(
    "step",
    [
        HaveReplica(**IN_POOL, spec=SPEC, may_create=False, tied=True, withdrawn=True),
        HaveReplicaAwake(**IN_POOL, spec=SPEC),
    ],
    ids=["was to go", "was held"],
)
def test_a_leg_that_does_not_run_is_not_told_to_be_gone(step: Step) -> None:
    storage = NotingStorage()
    storage.fails["replicated"] = NOT_RUNNING
    with pytest.raises(NotThereError, match="not running"):
        ensured(storage, step)
    storage.fails.clear()
    assert ensured(storage, step) == there(withdrawn=True)


KEYED = replace(SPEC, encryption=Encryption(keys=("file:new",), dropped=("file:old",)))


def test_header_and_filesystem_come_with_the_first_tie_and_never_again() -> None:
    storage = NotingStorage()
    tied = replace(TIED, header=True)
    step = HaveReplica(**IN_POOL, spec=replace(KEYED, replication=tied), may_create=False)
    ensured(storage, step)
    leg = volume_spec("pg", replace(KEYED, filesystem=Filesystem.NONE))
    assert leg.keys == ("file:new", "file:old")
    assert ("filesystem", leg, TO) in storage.asked
    assert ("replicated", POOL_UID, bare(leg), TO, Began.DATA, True) in storage.asked
    again = NotingStorage()
    ensured(again, replace(step, tied=True))
    assert again.names() == ["replicated", "awake", "size"]
    other = NotingStorage()
    ensured(other, replace(step, spec=KEYED))
    assert other.names() == ["replicated", "awake"]


def test_a_leg_that_is_to_be_tied_is_made_with_nothing_on_it() -> None:
    spec = replace(KEYED, replication=None, bare=True)
    storage = NotingStorage()
    ensured(storage, HaveReplica(**IN_POOL, spec=spec, may_create=True))
    ((_, _, made),) = storage.asked
    assert made.leg
    assert made.keys == ("file:new", "file:old")


@pytest.mark.parametrize("elsewhere", [True, False])
def test_the_keys_of_a_replicated_volume_are_those_of_the_replicated_device(
    *, elsewhere: bool
) -> None:
    storage, now = NotingStorage(), Encryption(keys=("file:new",), dropped=("file:old",))
    step = HaveKeys(**IN_POOL, spec=KEYED, encryption=now, elsewhere=elsewhere)
    told = ReportReplicaRekeyed(volume="pg", node="n1", uid=UID, generation=1)
    assert ensured(storage, step) == told
    leg = replace(volume_spec("pg", KEYED), keys=("file:new",))
    assert storage.asked == [("keys", leg, TO, ("file:old",), elsewhere)]


def test_a_held_leg_runs_no_more_before_it_is_put_aside() -> None:
    storage = NotingStorage()
    held = ReportReplicaHeld(volume="pg", node="n1", uid=UID)
    assert ensured(storage, HaveReplicaHeld(**IN_POOL, spec=SPEC)) == held
    assert storage.asked == [("down", "pg", UID, False), ("unused", POOL_UID, LEG)]


def test_a_leg_that_goes_runs_no_more_before_it_is_removed() -> None:
    storage = NotingStorage()
    assert ensured(storage, HaveNoReplica(**IN_POOL, spec=SPEC)) == ABSENT
    assert storage.asked == [
        ("down", "pg", UID, False),
        ("removed", POOL_UID, "fast", UID, "pg"),
    ]


@pytest.mark.parametrize("word", [HaveReplicaHeld, HaveNoReplica])
def test_a_leg_that_may_be_tied_still_is_taken_down_and_another_is_not(
    word: type[HaveReplicaHeld | HaveNoReplica],
) -> None:
    for tied in (True, False):
        storage = NotingStorage()
        ensured(storage, word(**IN_POOL, spec=PLAIN, tied=tied))
        assert ("down" in storage.names()) is tied


def test_a_leg_comes_back_into_use_tied_as_it_was() -> None:
    storage = NotingStorage()
    assert ensured(storage, HaveReplicaAwake(**IN_POOL, spec=SPEC)) == there(withdrawn=True)
    assert storage.asked == [
        ("awake", POOL_UID, LEG),
        ("replicated", POOL_UID, bare(LEG), TO, Began.DATA, False),
    ]
    plain = NotingStorage()
    ensured(plain, HaveReplicaAwake(**IN_POOL, spec=PLAIN))
    assert plain.names() == ["awake"]


@pytest.mark.parametrize("loses", [True, False])
def test_a_split_is_settled_as_somebody_has_decided(loses: bool) -> None:
    storage = NotingStorage()
    assert ensured(storage, HaveSplitSettled(**IN_POOL, spec=SPEC, loses=loses)) == there()
    assert storage.asked == [("settle", TO, loses), ("awake", POOL_UID, bare(LEG))]


SNAPSHOT = ReplicaSpec(
    uid=OTHER, pool="fast", size_bytes=8, snapshot_of=SnapshotOf(volume="pg", uid=UID)
)
OF_SNAPSHOT: dict[str, Any] = IN_POOL | {
    "key": "replica/s",
    "volume": "s",
    "uid": OTHER,
    "spec": SNAPSHOT,
}
KEEP: dict[str, Any] = OF_SNAPSHOT | {"may_create": False, "withdrawn": True}


@pytest.mark.parametrize("tied", [True, False])
def test_a_leg_runs_no_more_by_what_it_says_before_it_is_rolled_back(*, tied: bool) -> None:
    storage = NotingStorage()
    merged = ReportReplicaAbsent(volume="s", node="n1", uid=OTHER, merged=True)
    assert ensured(storage, HaveMerged(**OF_SNAPSHOT, of_tied=tied)) == merged
    assert storage.names() == ["spent", "rolled back"] if tied else ["rolled back"]


def test_a_leg_that_is_in_use_is_not_rolled_back() -> None:
    storage = NotingStorage()
    storage.fails["spent"] = InUseError("it is attached")
    with pytest.raises(InUseError):
        ensured(storage, HaveMerged(**OF_SNAPSHOT, of_tied=True))
    assert storage.names() == ["spent"]


@pytest.mark.parametrize("gone", [True, False])
def test_a_leg_that_was_not_rolled_back_counts_again(*, gone: bool) -> None:
    storage = NotingStorage()
    if gone:
        storage.fails["kept"] = GONE
    told = ensured(storage, HaveReplica(**KEEP, of_tied=True))
    assert isinstance(told, ReportReplicaAbsent if gone else ReportReplicaPresent)
    assert storage.names() == ["kept", "valid"]


def test_a_leg_that_was_rolled_back_after_all_does_not_count_again() -> None:
    storage = NotingStorage()
    storage.merged = True
    told = ensured(storage, HaveReplica(**KEEP, of_tied=True))
    assert told == ReportReplicaAbsent(volume="s", node="n1", uid=OTHER, merged=True)
    assert storage.names() == ["kept"]


def test_a_leg_that_was_rolled_back_is_tied_as_what_counts() -> None:
    storage = NotingStorage()
    spec = replace(SPEC, replication=replace(TIED, start=Start.ROLLED_BACK))
    assert ensured(storage, HaveReplica(**IN_POOL, spec=spec, may_create=False)) == there()
    assert storage.asked[0][-2:] == (Began.ROLLED_BACK, True)


def test_a_leg_of_its_own_has_no_split() -> None:
    storage = NotingStorage()
    with pytest.raises(NotThereError):
        ensured(storage, HaveSplitSettled(**IN_POOL, spec=PLAIN, loses=True))
    assert storage.asked == []


@pytest.mark.parametrize(
    ("forced", "tied", "asked"),
    [
        (True, TIED, ["secondary", "detached"]),
        (False, TIED, ["detached"]),
        (True, None, ["detached"]),
    ],
)
def test_only_what_is_forced_and_replicated_is_taken_from_whoever_uses_it(
    forced: bool, tied: Replication | None, asked: list[str]
) -> None:
    storage = NotingStorage()
    use = AttachmentSpec(uid=POOL_UID, volume_uid=UID, pool="fast", consumer="host/a")
    gone = HaveNoAttachment(**ABOUT | {"uid": POOL_UID}, spec=use, replication=tied, forced=forced)
    ensured(storage, gone)
    assert storage.names() == asked
    if "secondary" in asked:
        assert storage.asked[0] == ("secondary", "pg", UID, True)


OPERATION = "3" * 26
COMPARING = HaveErrand(
    key=f"errand/{OPERATION}",
    group="",
    uid=OPERATION,
    origin=Origin(seq=7),
    pool_uid="",
    errand=Compare(volume="pg", uid=UID),
)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tying_module, "LOOK_EVERY_S", 0.0)


def test_legs_are_compared_turn_by_turn_and_what_was_found_is_told_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage = NotingStorage()
    half = Comparison(size_bytes=100, done_bytes=50)
    storage.comparisons = [half, Comparison(size_bytes=100, differing_bytes=4, done=True)]
    found = ReportErrandDone(operation=OPERATION, node="n1", found=Compared(differing_bytes=4))
    assert ensured(storage, COMPARING) == found
    assert storage.asked == [("compare", "pg", UID, OPERATION)] * 2
    monkeypatch.setattr(tying_module, "TURN_S", 0.0)
    storage.comparisons = [half]
    progress = ReportProgressed(operation=OPERATION, done_bytes=50, of_bytes=100)
    assert ensured(storage, COMPARING) == progress


def test_what_differs_is_copied_turn_by_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    storage, step = NotingStorage(), replace(COMPARING, errand=EvenOut(volume="pg", uid=UID))
    storage.comparisons = [Comparison(differing_bytes=4), Comparison(done=True)]
    done = ReportErrandDone(operation=OPERATION, node="n1", found=EvenedOut())
    assert ensured(storage, step) == done
    assert storage.asked == [("even-out", "pg", UID)] * 2
    monkeypatch.setattr(tying_module, "TURN_S", 0.0)
    storage.comparisons = [Comparison(differing_bytes=4)]
    assert ensured(storage, step) is None


def test_who_leaves_off_says_so() -> None:
    storage = NotingStorage()
    step = HaveNoErrand(
        key=COMPARING.key,
        group="",
        uid=OPERATION,
        origin=Origin(seq=8),
        pool_uid="",
        errand=COMPARING.errand,
    )
    assert ensured(storage, step) == ReportErrandStopped(operation=OPERATION, node="n1")
    assert storage.asked == [("stop-comparing", "pg", UID, OPERATION)]


def test_a_comparison_that_was_broken_off_is_not_tried_again() -> None:
    trouble = trouble_of(UnsuitableError("verify-broken", "the peer is away"))
    assert (trouble.code, trouble.permanent) == (Refusal.VERIFY_BROKEN, True)
