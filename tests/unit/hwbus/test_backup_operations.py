"""Backups from their first commit to their last, on a control plane in memory."""

from typing import Any

import pytest
from msgspec.structs import replace

from schemas.copying import RestoreBackup
from schemas.errand import ErrandWanted, Upload, Verified
from schemas.grammar import Event
from schemas.operation import CancelOperation, Outcome
from schemas.refusals import Refusal
from schemas.replica import ReplicaWanted
from schemas.target import (
    BackupFailed,
    BackupFoundDamaged,
    BackupMade,
    BackUpVolume,
    ListBackups,
    SweepTarget,
    VerifyBackup,
)
from schemas.volume import Layout, ProvisionVolume
from tests.support import stage
from tests.support.backup_words import ADD, BAD, SEAL
from tests.support.given import GIB
from tests.support.virtual_time import run_virtually
from tests.unit.hwbus.test_driver import Play, play

BACK_UP = BackUpVolume(target="s3", volume="pg", backup="b1", deadline_s=600)


async def volume(here: Play, layout: Layout = Layout.LINEAR) -> None:
    facts = here.node._facts
    here.node._facts = lambda pool: replace(facts(pool), thin_bytes=8 * GIB)  # type: ignore[method-assign]
    await here.stage.accepted(here.node.form(disks=2, thin_bytes=8 * GIB))
    await here.stage.settled()
    wish = ProvisionVolume(volume="pg", size_bytes=GIB, layout=layout, deadline_s=60)
    await here.stage.accepted(wish)
    await here.stage.settled()
    await here.stage.accepted(ADD)


async def nothing_is_left(here: Play, *snapshots: str) -> None:
    world = here.stage.world
    await here.stage.settled(within_s=600)
    assert set(world.snapshots) == set(snapshots)
    assert not world.errands
    assert not world.targets["s3"].running
    await here.stage.until(
        lambda _: world.pools["n1", "fast"].ledger.claims == 1 + len(snapshots), within_s=600
    )


async def told(here: Play, word: type[Event]) -> list[Any]:
    return [event for event in await here.stage.events() if isinstance(event, word)]


def test_a_backup_is_made_by_way_of_a_snapshot_that_goes_again() -> None:
    async def tale() -> None:
        async with play() as here:
            await volume(here)
            began = await here.stage.accepted(BACK_UP)
            assert await here.outcome(began.operation) == (Outcome.COMPLETED, None, 0)
            await nothing_is_left(here)
            (made,) = await told(here, BackupMade)
            assert (made.backup, made.kept, made.uploaded.manifest) == ("b1", None, SEAL)
            (wanted,) = await told(here, ErrandWanted)
            assert isinstance(wanted.errand, Upload)
            assert wanted.errand.size_bytes == GIB

    run_virtually(tale)


def test_a_kept_snapshot_stays_until_the_next_backup_was_made_with_it() -> None:
    async def tale() -> None:
        async with play() as here:
            await volume(here, Layout.THIN)
            kept = []
            for number in range(2):
                word = BackUpVolume(
                    target="s3", volume="pg", backup=f"b{number}", keep=True, deadline_s=600
                )
                began = await here.stage.accepted(word)
                assert await here.outcome(began.operation) == (Outcome.COMPLETED, None, 0)
                kept.append((await told(here, BackupMade))[-1].kept)
                await nothing_is_left(here, kept[-1])
            first, second = await told(here, ErrandWanted)
            assert first.errand.parent is None
            assert (second.errand.parent, second.errand.parent_snapshot) == ("b0", kept[0])
            assert kept[0] != kept[1]

    run_virtually(tale)


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_backup_that_fails_or_is_cancelled_leaves_nothing_but_an_alarm(
    monkeypatch: pytest.MonkeyPatch, *, cancelled: bool
) -> None:
    async def tale() -> None:
        async with play() as here:
            await volume(here)
            denied = Refusal.TARGET_DENIED

            def trouble(event: Event) -> Refusal | None:
                return denied if isinstance(event, ErrandWanted) and not cancelled else None

            monkeypatch.setattr(here.node, "_troubles", trouble)
            here.node.slow_s = 30.0 if cancelled else 0.01
            began = await here.stage.accepted(BACK_UP)
            if cancelled:
                await here.stage.until(lambda world: bool(world.snapshots))
                await here.stage.accepted(CancelOperation(operation=began.operation))
            outcome, code, left = await here.outcome(began.operation)
            assert (outcome, left) == (
                Outcome.CANCELLED if cancelled else Outcome.FAILED,
                0,
            )
            assert code is (Refusal.CANCELLED if cancelled else denied)
            await nothing_is_left(here)
            (failed,) = await told(here, BackupFailed)
            assert (failed.backup, failed.volume) == ("b1", "pg")

    run_virtually(tale)


def test_a_backup_that_is_found_damaged_fails_whoever_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def tale() -> None:
        async with play() as here:
            await volume(here)
            fine = await here.stage.accepted(VerifyBackup(target="s3", backup="b1"))
            assert await here.outcome(fine.operation) == (Outcome.COMPLETED, None, 0)
            bad = Verified(chunks=9, bad_chunks=5, bad=(BAD,))
            monkeypatch.setattr(stage, "found", lambda _: bad)
            began = await here.stage.accepted(VerifyBackup(target="s3", backup="b1"))
            ended = await here.outcome(began.operation)
            assert ended == (Outcome.FAILED, Refusal.BACKUP_DAMAGED, 0)
            (event,) = await told(here, BackupFoundDamaged)
            assert event.bad == (BAD,)
            assert BAD.chunk in event.because
            assert "4 more" in event.because
            await nothing_is_left(here)

    run_virtually(tale)


def test_targets_are_listed_and_swept() -> None:
    async def tale() -> None:
        async with play() as here:
            await volume(here)
            for word in (ListBackups(target="s3"), SweepTarget(target="s3", backup="b1")):
                began = await here.stage.accepted(word)
                assert await here.outcome(began.operation) == (Outcome.COMPLETED, None, 0)
            await nothing_is_left(here)

    run_virtually(tale)


def test_a_volume_is_made_out_of_a_backup() -> None:
    async def tale() -> None:
        async with play() as here:
            await volume(here)
            word = RestoreBackup(
                volume="new", target="s3", backup="b1", manifest=SEAL, backup_bytes=GIB
            )
            began = await here.stage.accepted(word)
            assert await here.outcome(began.operation) == (Outcome.COMPLETED, None, 0)
            (spec,) = [e.spec for e in await told(here, ReplicaWanted) if e.volume == "new"]
            assert spec.from_backup is not None
            assert spec.from_backup.manifest == SEAL

    run_virtually(tale)
