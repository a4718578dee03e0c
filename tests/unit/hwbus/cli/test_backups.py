"""Looking what lies in a target, and restoring what was found there."""

import msgspec

from schemas.operation import OperationEnded, OperationKind, Outcome
from schemas.refusals import Refusal
from tests.support.cli import OPERATION, Stage, accepted
from tests.unit.hwbus.cli.rows import furnish

SEAL = "ab" * 32


def looks(stage: Stage, outcome: Outcome = Outcome.COMPLETED) -> None:
    """Let a node look what lies in the target, and tell how that ended."""
    stage.when("hwbus.cmd.target.list", accepted(operation=OPERATION))
    failed = outcome is Outcome.FAILED
    end = OperationEnded(
        operation=OPERATION,
        kind=OperationKind.BACKUP_LIST,
        object="target/s3",
        outcome=outcome,
        code=Refusal.TARGET_DENIED if failed else None,
        because="403 Forbidden" if failed else "",
    )
    stage.write(f"hwbus.evt.operation.-.{OPERATION}", end, correlation=OPERATION)


def test_a_volume_is_restored_from_what_is_known_of_the_backup(stage: Stage) -> None:
    furnish(stage)
    stage.when("hwbus.cmd.volume.restore-backup", accepted(operation=""))
    done = stage.run("backup", "restore", "s3", "pg-1", "new", "--size", "3GiB", "--pool", "fast")
    assert done.code == 0
    said = stage.said()
    assert said["volume"] == "new"
    assert (said["target"], said["backup"], said["manifest"]) == ("s3", "pg-1", SEAL)
    assert (said["backup_bytes"], said["size_bytes"]) == (2 << 30, 3 << 30)


def test_a_backup_that_nobody_knows_is_looked_for_first(stage: Stage) -> None:
    furnish(stage)
    stage.rows["backups"] = ()
    looks(stage)
    done = stage.run("backup", "restore", "s3", "pg-1", "new")
    assert done.code == 3
    assert "there is no backup 'pg-1' in 's3'" in done.err
    assert "hwbus.cmd.target.list" in [call.subject for call in stage.heard]


def test_a_backup_that_was_never_made_is_not_restored(stage: Stage) -> None:
    furnish(stage)
    (row,) = stage.rows["backups"]
    stage.rows["backups"] = (msgspec.structs.replace(row, manifest=""),)
    looks(stage)
    assert stage.run("backup", "restore", "s3", "pg-1", "new").code == 3


def test_what_lies_in_a_target_is_looked_at_before_it_is_listed(stage: Stage) -> None:
    furnish(stage)
    looks(stage)
    done = stage.run("backup", "ls", "s3")
    assert done.code == 0
    assert "pg-1" in done.out


def test_a_look_that_failed_is_told(stage: Stage) -> None:
    furnish(stage)
    looks(stage, Outcome.FAILED)
    done = stage.run("backup", "ls", "s3")
    assert done.code == 1
    assert "403 Forbidden" in done.err
