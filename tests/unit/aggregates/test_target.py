from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from schemas.backups import FromBackup
from schemas.copying import RestoreBackup
from schemas.errand import (
    ErrandDone,
    ErrandStopped,
    ErrandStopWanted,
    ErrandTroubled,
    ErrandWanted,
    Listed,
    Probe,
    Probed,
    Put,
    PutAside,
    PutBack,
    ReportErrandDone,
    ReportErrandStopped,
    ReportErrandTrouble,
    RunErrand,
    StopErrand,
    Verified,
)
from schemas.grammar import Event, Message
from schemas.mending import SeenVolume
from schemas.node import NodeFellSilent
from schemas.refusals import Refusal
from schemas.replica import Consistency
from schemas.snapshot import SnapshotCreationBegan
from schemas.target import (
    BackupFailed,
    BackupFoundDamaged,
    BackupsListed,
    BackupVerified,
    BackUpVolume,
    ConcludeTarget,
    ListBackups,
    ProbeTarget,
    RemoveTarget,
    SweepTarget,
    TargetProbed,
    TargetRemoved,
    TargetSwept,
    TargetWorkBegan,
    TargetWorkFailed,
    VerifyBackup,
    Work,
)
from schemas.volume import Filesystem, Layout, VolumeProvisioningBegan
from tests.support.backup_words import (
    ADD,
    ADDED,
    BAD,
    PLACE,
    SEAL,
    SWEPT,
    UPLOADED,
    backup_began,
    backup_made,
    work_began,
)
from tests.support.given import GIB, MIB, NOON, OPERATION, OTHER, UID, given
from tests.support.words import pool_ready, volume_ready

KEPT_UID = "0" * 25 + "5"
BACK_UP = BackUpVolume(target="s3", volume="pg")
RESTORE = RestoreBackup(volume="new", target="s3", backup="far", manifest=SEAL, backup_bytes=GIB)


def past(*more: Event, layout: Layout = Layout.LINEAR) -> tuple[Event, ...]:
    pool = pool_ready("n1", thin_bytes=8 * GIB if layout is Layout.THIN else 0)
    volume = tuple(
        replace(event, layout=layout) if isinstance(event, VolumeProvisioningBegan) else event
        for event in volume_ready("n1")
    )
    return (*pool, *volume, ADDED, *more)


def decided(command: Message, *before: Event, operation: str = OTHER) -> Any:
    decision = given(*before).decide(command, operation=operation)
    assert isinstance(decision, tuple), decision
    (event,) = decision
    return event


def conclude(**more: Any) -> ConcludeTarget:
    return ConcludeTarget(target="s3", operation=OPERATION, **more)


def test_a_target_is_known_by_where_it_is_and_a_reference_to_credentials() -> None:
    given().when(ADD).then(ADDED)
    given(ADDED).when(ADD).refused(Refusal.TARGET_EXISTS, "s3://bucket/prefix")
    given(ADDED).when(RemoveTarget(target="s3")).then(TargetRemoved(target="s3"))


@pytest.mark.parametrize(
    "word", [BACK_UP, RemoveTarget(target="s3"), ProbeTarget(target="s3"), RESTORE]
)
def test_nothing_is_done_with_a_target_that_nobody_knows(word: Message) -> None:
    given(*past()[:-1]).when(word).refused(Refusal.UNKNOWN_TARGET, "s3")


def test_a_target_on_which_something_runs_stays() -> None:
    given(*past(backup_began())).when(RemoveTarget(target="s3")).refused(
        Refusal.TARGET_BUSY, OPERATION
    )


def test_a_backup_is_named_after_its_volume_and_the_hour() -> None:
    event = decided(BACK_UP, *past())
    assert event == backup_began(event.backup, operation=OTHER, deadline=NOON + timedelta(days=7))
    assert event.backup.startswith("pg-20261123-120000-")
    assert decided(replace(BACK_UP, backup="mine"), *past()).backup == "mine"


@pytest.mark.parametrize(
    ("word", "code"),
    [
        (replace(BACK_UP, volume="no"), Refusal.UNKNOWN_VOLUME),
        (replace(BACK_UP, keep=True), Refusal.KEEP_IS_THIN),
        (replace(BACK_UP, backup="pg-1"), Refusal.TARGET_BUSY),
        (SweepTarget(target="s3", backup="pg-1"), Refusal.TARGET_BUSY),
    ],
)
def test_what_cannot_be_backed_up_is_refused(word: Message, code: Refusal) -> None:
    given(*past(backup_began())).when(word).refused(code)


def test_a_thin_volume_has_no_reserve() -> None:
    word = replace(BACK_UP, reserve_bytes=MIB)
    given(*past(layout=Layout.THIN)).when(word).refused(Refusal.NO_RESERVE)


def test_a_name_is_given_once() -> None:
    word = replace(BACK_UP, backup="pg-1")
    given(*past(backup_began(), backup_made())).when(word).refused(Refusal.BACKUP_EXISTS, "pg-1")


def test_the_next_backup_is_compared_with_the_last_one() -> None:
    made = past(backup_began(), backup_made())
    assert decided(BACK_UP, *made).parent == "pg-1"
    assert decided(replace(BACK_UP, full=True), *made).parent is None
    swept = TargetSwept(target="s3", operation=OTHER, backup="pg-1", swept=SWEPT)
    assert decided(BACK_UP, *made, swept).parent is None


def test_what_was_kept_is_compared_with_while_it_is_there() -> None:
    kept = SnapshotCreationBegan(
        snapshot="k",
        uid=KEPT_UID,
        operation=OPERATION,
        deadline=NOON,
        volume="pg",
        volume_uid=UID,
        node="n1",
        pool="fast",
        size_bytes=GIB,
        reserve_bytes=0,
        layout=Layout.THIN,
    )
    made = past(
        backup_began(keep=True), backup_made(kept="k", kept_uid=KEPT_UID), layout=Layout.THIN
    )
    event = decided(BACK_UP, *made, kept)
    assert (event.parent, event.parent_snapshot, event.parent_snapshot_uid) == (
        "pg-1",
        "k",
        KEPT_UID,
    )
    assert decided(BACK_UP, *made).parent_snapshot is None
    other = replace(kept, uid=OTHER)
    assert decided(BACK_UP, *made, other).parent_snapshot is None, "one of the same name"


def test_it_is_made_or_failed_and_then_over() -> None:
    running = given(*past(backup_began(keep=True)))
    caught, size_bytes = Consistency.FILESYSTEM, GIB
    done = conclude(
        found=UPLOADED, snapshot_uid=KEPT_UID, size_bytes=size_bytes, consistency=caught
    )
    running.when(done).then(backup_made(kept="backup-00000002", kept_uid=KEPT_UID))
    failed = conclude(code=Refusal.NO_CREDENTIALS, because="none")
    running.when(failed).then(
        BackupFailed(
            target="s3",
            operation=OPERATION,
            backup="pg-1",
            volume="pg",
            code=Refusal.NO_CREDENTIALS,
            because="none",
        )
    )
    given(*past(backup_began(), backup_made())).when(failed).nothing()


def test_work_is_given_to_the_first_node_that_is_heard() -> None:
    event = decided(ListBackups(target="s3"), *past())
    assert isinstance(event, TargetWorkBegan)
    assert (event.work, event.node, event.place) == (Work.LIST, "n1", PLACE)
    silent = NodeFellSilent(node="n1", last_heard=NOON)
    given(*past(silent)).when(ListBackups(target="s3")).refused(Refusal.NO_NODE_HEARD)
    named = ListBackups(target="s3", node="n1")
    given(*past(silent)).when(named).refused(Refusal.NODE_SILENT)


def test_two_do_not_sweep_at_once() -> None:
    sweep = SweepTarget(target="s3")
    assert decided(sweep, *past()).grace_s == 86_400
    given(*past(work_began(Work.SWEEP))).when(sweep).refused(Refusal.TARGET_BUSY)


_ABOUT: dict[str, Any] = {"target": "s3", "operation": OPERATION}


@pytest.mark.parametrize(
    ("work", "found", "event"),
    [
        (Work.PROBE, Probed(), TargetProbed(**_ABOUT)),
        (Work.LIST, Listed(), BackupsListed(**_ABOUT, listed=Listed())),
        (Work.VERIFY, Verified(chunks=4), BackupVerified(**_ABOUT, backup="b", chunks=4)),
        (
            Work.VERIFY,
            Verified(chunks=4, bad_chunks=1, bad=(BAD,)),
            BackupFoundDamaged(
                **_ABOUT,
                backup="b",
                code=Refusal.BACKUP_DAMAGED,
                because="chunk 7",
                bad_chunks=1,
                bad=(BAD,),
            ),
        ),
        (Work.SWEEP, SWEPT, TargetSwept(**_ABOUT, backup="b", swept=SWEPT)),
    ],
)
def test_what_was_found_is_recorded(work: Work, found: Any, event: Event) -> None:
    began = work_began(work, backup="b" if work in {Work.VERIFY, Work.SWEEP} else None)
    bad = isinstance(event, BackupFoundDamaged)
    because = "chunk 7" if bad else ""
    report = conclude(found=found, because=because)
    given(ADDED, began).when(report).then(event)
    given(ADDED, began, event).when(report).nothing()


def test_work_that_fails_is_recorded_and_a_broken_manifest_is_an_alarm() -> None:
    failed = conclude(code=Refusal.BACKUP_DAMAGED, because="the manifest")
    given(ADDED, work_began(Work.VERIFY, backup="b")).when(failed).then(
        BackupFoundDamaged(
            **_ABOUT, backup="b", code=Refusal.BACKUP_DAMAGED, because="the manifest"
        )
    )
    given(ADDED, work_began(Work.LIST)).when(failed).then(
        TargetWorkFailed(
            **_ABOUT, work=Work.LIST, code=Refusal.BACKUP_DAMAGED, because="the manifest"
        )
    )


def test_a_restored_volume_holds_one_backup_and_no_other() -> None:
    wish = replace(RESTORE, size_bytes=2 * GIB, filesystem=Filesystem.XFS, pool="fast")
    event = decided(wish, *past())
    assert isinstance(event, VolumeProvisioningBegan)
    assert (event.size_bytes, event.filesystem) == (2 * GIB, Filesystem.XFS)
    assert event.backup == FromBackup(
        place=PLACE, target="s3", backup="far", manifest=SEAL, size_bytes=GIB
    )
    assert decided(RESTORE, *past()).size_bytes == GIB


@pytest.mark.parametrize(
    ("word", "code"),
    [
        (replace(RESTORE, volume="pg"), Refusal.VOLUME_EXISTS),
        (replace(RESTORE, size_bytes=GIB - 1), Refusal.SMALLER_THAN_SOURCE),
        (replace(RESTORE, stripes=2), Refusal.BAD_LAYOUT),
        (replace(RESTORE, pool="none"), Refusal.NO_PLACE),
    ],
)
def test_what_cannot_be_restored_is_refused(word: Message, code: Refusal) -> None:
    given(*past()).when(word).refused(code)


_HERE: dict[str, Any] = {"operation": OPERATION, "node": "n1"}
WANTED = ErrandWanted(**_HERE, errand=Probe(place=PLACE))
TROUBLE = ErrandTroubled(**_HERE, code=Refusal.TOOL_FAILED, because="silent")


def test_an_errand_is_wanted_once_and_over_when_it_is_done_or_stopped() -> None:
    run, stop = RunErrand(**_HERE, errand=Probe(place=PLACE)), StopErrand(**_HERE)
    done, stopped = ReportErrandDone(**_HERE, found=Probed()), ReportErrandStopped(**_HERE)
    given(*past()).when(run).then(WANTED)
    given(*past(WANTED)).when(run).nothing()
    given(*past(WANTED)).when(done).then(ErrandDone(**_HERE, found=Probed()))
    given(*past(WANTED)).when(stopped).nothing()
    given(*past(WANTED)).when(stop).then(ErrandStopWanted(**_HERE))
    stopping = past(WANTED, ErrandStopWanted(**_HERE))
    given(*stopping).when(stop).nothing()
    given(*stopping).when(done).then(ErrandDone(**_HERE, found=Probed()))
    given(*stopping).when(stopped).then(ErrandStopped(**_HERE))
    given(*past()).when(stop).refused(Refusal.NOT_YOURS)
    given(*past()).when(done).nothing()


def test_what_a_node_takes_back_when_it_stops_is_not_done() -> None:
    done, stopped = ReportErrandDone(**_HERE, found=Put()), ReportErrandStopped(**_HERE)
    seen = SeenVolume(pool="fast", name="theirs", lv="abc", size_bytes=GIB)
    aside = ErrandWanted(**_HERE, errand=PutAside(seen=seen, claim="c"))
    given(*past(aside)).when(done).then(ErrandDone(**_HERE, found=Put()))
    stopping = past(aside, ErrandStopWanted(**_HERE))
    given(*stopping).when(done).nothing()
    given(*stopping).when(stopped).then(ErrandStopped(**_HERE))
    back = ErrandWanted(**_HERE, errand=PutBack(seen=seen, claim="c"))
    put_back = past(back, ErrandStopWanted(**_HERE))
    given(*put_back).when(done).then(ErrandDone(**_HERE, found=Put()))


def test_trouble_with_an_errand_is_told_once() -> None:
    said = ReportErrandTrouble(**_HERE, code=Refusal.TOOL_FAILED, because="silent")
    given(*past(WANTED)).when(said).then(TROUBLE)
    given(*past(WANTED, TROUBLE)).when(said).nothing()
    final = replace(said, permanent=True)
    given(*past(WANTED, TROUBLE)).when(final).then(replace(TROUBLE, permanent=True))


def test_nothing_is_verified_for_a_node_that_is_silent() -> None:
    silent = NodeFellSilent(node="n1", last_heard=NOON)
    word = VerifyBackup(target="s3", backup="b", node="n1")
    given(*past(silent)).when(word).refused(Refusal.NODE_SILENT)
    run = RunErrand(**_HERE, errand=Probe(place=PLACE))
    given(*past(silent)).when(run).refused(Refusal.NODE_SILENT)
