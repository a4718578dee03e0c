from msgspec.structs import replace

from projectors.tables import BACKUPS, TARGETS
from schemas.backup_view import BackupState
from schemas.errand import Listed, Swept
from schemas.grammar import Event
from schemas.refusals import Refusal
from schemas.target import (
    BackupFailed,
    BackupFoundDamaged,
    BackupsListed,
    BackupVerified,
    TargetProbed,
    TargetRemoved,
    TargetSwept,
    TargetWorkFailed,
    Work,
)
from tests.support.backup_words import (
    ADDED,
    BAD,
    SEAL,
    STORED,
    SWEPT,
    backup_began,
    backup_made,
)
from tests.support.given import OPERATION
from tests.unit.projectors.stories import Story

FAILED = BackupFailed(
    target="s3",
    operation=OPERATION,
    backup="pg-1",
    volume="pg",
    code=Refusal.NO_CREDENTIALS,
    because="there is no file /etc/hwbus/keys/s3",
)
DAMAGED = BackupFoundDamaged(
    target="s3",
    operation=OPERATION,
    backup="pg-1",
    code=Refusal.BACKUP_DAMAGED,
    because="chunk 7",
    bad_chunks=1,
    bad=(BAD,),
)


def told(*events: Event) -> Story:
    story = Story()
    for event in (ADDED, *events):
        story.say(event)
    return story


def listed(*names: str) -> BackupsListed:
    stored = tuple(replace(STORED, backup=name) for name in names)
    return BackupsListed(target="s3", operation=OPERATION, listed=Listed(backups=stored))


def test_a_target_shows_where_it_is_and_never_a_secret() -> None:
    row = told().row(TARGETS, "s3")
    assert row is not None
    assert (row.url, row.credentials, row.cluster) == (ADDED.place.url, "file:s3", "home")
    row = told(TargetProbed(target="s3", operation=OPERATION)).row(TARGETS, "s3")
    assert row is not None
    assert row.probed_at is not None


def test_a_backup_is_shown_from_its_beginning() -> None:
    row = told(backup_began()).row(BACKUPS, "s3/pg-1")
    assert row is not None
    assert (row.state, row.operation, row.manifest) == (BackupState.CREATING, OPERATION, "")
    row = told(backup_began(), backup_made(kept="k")).row(BACKUPS, "s3/pg-1")
    assert row is not None
    assert (row.state, row.operation, row.manifest) == (BackupState.READY, "", SEAL)
    assert (row.uploaded_bytes, row.kept) == (40 << 20, "k")


def test_a_failed_backup_is_an_alarm_until_somebody_looks() -> None:
    story = told(backup_began(), FAILED)
    row, target = story.row(BACKUPS, "s3/pg-1"), story.row(TARGETS, "s3")
    assert row is not None
    assert target is not None
    assert (row.state, row.code) == (BackupState.FAILED, Refusal.NO_CREDENTIALS)
    assert target.why == row.why == FAILED.because
    story.say(listed())
    assert story.row(BACKUPS, "s3/pg-1") is None
    target = story.row(TARGETS, "s3")
    assert target is not None
    assert (target.why, target.backups) == ("", ())


def test_a_look_shows_what_others_have_put_there_and_forgets_what_is_gone() -> None:
    story = told(backup_began(), backup_made(), listed("far"))
    assert story.row(BACKUPS, "s3/pg-1") is None
    row = story.row(BACKUPS, "s3/far")
    assert row is not None
    assert (row.cluster, row.volume, row.manifest) == ("elsewhere", "db", SEAL)
    target = story.row(TARGETS, "s3")
    assert target is not None
    assert target.backups == ("far",)


def test_a_look_leaves_alone_what_is_being_made_and_what_it_found_before() -> None:
    story = told(
        backup_began(),
        listed("far"),
        BackupVerified(target="s3", operation=OPERATION, backup="far", chunks=9),
        listed("far"),
    )
    row, making = story.row(BACKUPS, "s3/far"), story.row(BACKUPS, "s3/pg-1")
    assert row is not None
    assert row.verified_at is not None
    assert making is not None


def test_damage_is_named_until_it_is_found_whole() -> None:
    story = told(backup_began(), backup_made(), DAMAGED)
    row = story.row(BACKUPS, "s3/pg-1")
    assert row is not None
    assert (row.state, row.bad_chunks, row.bad) == (BackupState.DAMAGED, 1, (BAD,))
    story.say(BackupVerified(target="s3", operation=OPERATION, backup="pg-1", chunks=9))
    row = story.row(BACKUPS, "s3/pg-1")
    assert row is not None
    assert (row.state, row.bad_chunks, row.why) == (BackupState.READY, 0, "")


def test_what_is_removed_is_shown_no_more() -> None:
    swept = TargetSwept(target="s3", operation=OPERATION, backup="pg-1", swept=SWEPT)
    story = told(backup_began(), backup_made(), swept)
    assert story.row(BACKUPS, "s3/pg-1") is None
    target = story.row(TARGETS, "s3")
    assert target is not None
    assert (target.freed_bytes, target.backups) == (SWEPT.freed_bytes, ())
    story = told(backup_began(), backup_made(), TargetRemoved(target="s3"))
    assert story.row(TARGETS, "s3") is None
    assert story.row(BACKUPS, "s3/pg-1") is None


def test_a_sweep_that_met_a_writer_says_so() -> None:
    met = TargetSwept(target="s3", operation=OPERATION, swept=Swept(writers=2))
    target = told(met).row(TARGETS, "s3")
    assert target is not None
    assert "2 backups were being written" in target.why


def test_work_that_failed_is_told() -> None:
    failed = TargetWorkFailed(
        target="s3",
        operation=OPERATION,
        work=Work.LIST,
        code=Refusal.TARGET_DENIED,
        because="403 Forbidden",
    )
    row = told(failed).row(TARGETS, "s3")
    assert row is not None
    assert (row.why, row.code) == ("403 Forbidden", Refusal.TARGET_DENIED)
