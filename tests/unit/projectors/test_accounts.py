"""Accounts: bytes times microseconds, so that any period is one running total less another."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hwbus.cli.accounting import Line, lines
from projectors.holdings import namespace_of
from projectors.tables import ACCOUNT_DAYS, ACCOUNTS, CLOSED_ACCOUNTS, HOLDINGS, USAGE, VOLUMES
from schemas.account_view import COUNTED, AccountLevel, AccountRow
from schemas.attaching import VolumeAttached
from schemas.attachment import AttachmentSpec
from schemas.counting import VolumeIoCounted
from schemas.deleting import VolumeDeleted, VolumeDeletionBegan, VolumeHeld, VolumeUndeleted
from schemas.grammar import Event
from schemas.labels import VolumeLabelled
from schemas.operation import OperationEnded, OperationKind, Outcome
from schemas.pool import RoomReleased, RoomSettled
from schemas.refusals import Refusal
from schemas.replication import ReplicaForgotten
from schemas.settling import VolumeSettled
from schemas.volume import (
    Layout,
    VolumeGrown,
    VolumeGrowthBegan,
    VolumeGrowthFailed,
    VolumeProvisioningFailed,
)
from tests.support.backup_words import ADDED, backup_began, backup_made
from tests.support.reckoning import operations, reckon
from tests.unit.projectors.stories import GIB, MIB, Story, any_story, uid

S = timedelta(seconds=1)
SECOND_US = 1_000_000


def _lines(story: Story, since: float = 0, until: float | None = None) -> dict[str, Line]:
    """Return the lines of a period, in seconds after the first commit, by level and name."""
    begin = story.events[0].at
    first, last = begin + since * S, story.at if until is None else begin + until * S
    before, after = _accounts(story, first), _accounts(story, last)
    after += [row for row in story.all(CLOSED_ACCOUNTS) if first <= row.at < last]
    found: dict[str, Line] = {}
    for level in AccountLevel:
        was, now = ([row for row in rows if row.level is level] for rows in (before, after))
        for line in lines(was, now, first, last):
            found[f"{level.value}/{line.name}/{line.uid[-1:]}".rstrip("/")] = line
    return found


def _accounts(story: Story, before: datetime) -> list[AccountRow]:
    past = Story()
    past.events = [stored for stored in story.events if stored.at < before]
    return past.all(ACCOUNTS)


def _of(line: Line) -> dict[str, int]:
    return {what: total // SECOND_US for what, total in line.byte_us.items() if total}


def _wait(story: Story, seconds: int) -> None:
    for _ in range(seconds):
        story.note("hwbus.audit.executed.n1", b"{}")


def _made(layout: Layout = Layout.LINEAR, thin: int = 0) -> Story:
    story = Story().node().pool(thin=thin)
    return story.volume("pg", 1, layout=layout)


def test_bytes_count_for_as_long_as_they_are_taken_to_the_microsecond() -> None:
    story = _made()
    settled = next(n for n, s in enumerate(story.events) if b"room-settled" in s.data)
    there = next(n for n, s in enumerate(story.events) if b"volume.provisioned" in s.data)
    end = len(story.events) + 0.25
    pg = _lines(story, until=end)["volume/pg/1"]
    assert pg.byte_us["allocated"] == int((end - settled) * SECOND_US) * GIB
    assert pg.byte_us["requested"] == int((end - there) * SECOND_US) * GIB
    cluster = _lines(story, until=end)["cluster/cluster"]
    assert cluster.byte_us["allocated"] == pg.byte_us["allocated"]


def test_a_period_after_the_last_commit_is_bytes_times_its_length() -> None:
    story = _made()
    hour = _lines(story, since=1000, until=4600)
    for name in ("cluster/cluster", "node/n1", "pool/n1/fast", "volume/pg/1", "namespace"):
        assert _of(hour[name]) == {"requested": 3600 * GIB, "allocated": 3600 * GIB}


def test_a_thin_volume_is_promised_and_its_thin_pool_is_allocated() -> None:
    hour = _lines(_made(Layout.THIN, 4 * GIB), since=1000, until=4600)
    taken = 4 * GIB + 8 * MIB
    pool = {"requested": 3600 * GIB, "promised": 3600 * GIB, "allocated": 3600 * taken}
    assert _of(hour["pool/n1/fast"]) == _of(hour["cluster/cluster"]) == pool
    assert _of(hour["volume/pg/1"]) == {"requested": 3600 * GIB, "promised": 3600 * GIB}


def test_a_held_volume_is_taken_and_held_and_not_requested_until_it_is_back() -> None:
    story = _made()
    until = story.at + 60 * S
    story.say(VolumeHeld(volume="pg", uid=uid(1), operation=uid(7), until=until))
    held = _lines(story, since=100, until=110)
    assert _of(held["volume/pg/1"]) == {"allocated": 10 * GIB, "held": 10 * GIB}
    assert _of(held["pool/n1/fast"]) == _of(held["volume/pg/1"])
    story.say(VolumeUndeleted(volume="pg", uid=uid(1), operation=uid(8)))
    back = _lines(story, since=100, until=110)
    assert _of(back["volume/pg/1"]) == {"allocated": 10 * GIB, "requested": 10 * GIB}


def test_growing_counts_from_when_it_is_there_and_as_it_was_asked_for() -> None:
    story = _made()
    about: dict[str, Any] = {"volume": "pg", "operation": uid(7)}
    began = VolumeGrowthBegan(
        **about,
        uid=uid(1),
        deadline=story.at,
        node="n1",
        pool="fast",
        from_bytes=GIB,
        size_bytes=2 * GIB - 1,
    )
    story.say(began)
    assert _of(_lines(story, since=100, until=101)["volume/pg/1"])["requested"] == GIB
    story.say(RoomSettled(pool="fast", node="n1", claim=uid(1), size_bytes=2 * GIB))
    story.say(VolumeGrown(**about, size_bytes=2 * GIB))
    grown = _lines(story, since=100, until=101)["volume/pg/1"]
    assert _of(grown) == {"requested": 2 * GIB - 1, "allocated": 2 * GIB}
    story.say(began)
    no = Refusal.TOOL_FAILED
    story.say(VolumeGrowthFailed(**about, size_bytes=2 * GIB, code=no, because="no"))
    assert _of(_lines(story, since=100, until=101)["volume/pg/1"])["requested"] == 2 * GIB - 1


def test_a_size_that_was_made_by_hand_and_accepted_is_what_is_asked_for_now() -> None:
    story = _made()
    story.say(VolumeSettled(volume="pg", operation=uid(7), size_bytes=GIB))
    assert _of(_lines(story, since=100, until=101)["volume/pg/1"])["requested"] == GIB
    story.say(VolumeSettled(volume="pg", operation=uid(7), size_bytes=3 * GIB))
    assert _of(_lines(story, since=100, until=101)["volume/pg/1"])["requested"] == 3 * GIB


def test_a_snapshot_counts_for_its_volume() -> None:
    story = _made().snapshot("monday", 5, "pg", 1)
    hour = _lines(story, since=100, until=101)
    room = {"requested": GIB, "allocated": GIB + 200 * MIB, "snapshot": 200 * MIB}
    for name in ("volume/pg/1", "namespace", "pool/n1/fast", "node/n1", "cluster/cluster"):
        assert _of(hour[name]) == room


def test_a_leg_that_is_given_up_with_its_node_counts_no_more_for_its_volume() -> None:
    story = _made()
    story.say(ReplicaForgotten(volume="pg", node="n1", operation=uid(7), uid=uid(1), pool="fast"))
    later = _lines(story, since=100, until=101)
    assert _of(later["volume/pg/1"]) == {"requested": GIB}
    assert _of(later["node/n1"]) == {"allocated": GIB}  # until its ledger says that it is released


def deleted(story: Story, number: int = 1, volume: str = "pg") -> Story:
    """Have a volume go, from its beginning to its end."""
    operation = uid(70 + number)
    began: Event = VolumeDeletionBegan(
        volume=volume,
        uid=uid(number),
        operation=operation,
        deadline=story.at,
        node="n1",
        pool="fast",
    )
    for event in (
        began,
        RoomReleased(pool="fast", node="n1", claim=uid(number)),
        VolumeDeleted(volume=volume, uid=uid(number), operation=operation),
        OperationEnded(
            operation=operation,
            kind=OperationKind.VOLUME_DELETE,
            object=f"volume/{volume}",
            outcome=Outcome.COMPLETED,
        ),
    ):
        story.say(event, correlation=operation)
    return story


def test_a_deleted_volume_has_an_account_that_is_closed_and_the_next_of_its_name_another() -> None:
    story = deleted(_made())
    gone = len(story.events)
    story.volume("pg", 2, 2 * GIB)
    whole = _lines(story)
    assert (whole["volume/pg/1"].closed, whole["volume/pg/2"].closed) == (True, False)
    assert whole["volume/pg/1"].operations == {
        "volume-provision/completed": 1,
        "volume-delete/completed": 1,
    }
    assert set(whole["volume/pg/1"].bytes.values()) == {0}
    later = _lines(story, since=gone)
    assert {name for name in later if name.startswith("volume/")} == {"volume/pg/2"}
    assert story.row(HOLDINGS, "pg") is not None
    assert deleted(story, 2).all(HOLDINGS) == []


def test_a_volume_that_failed_to_be_took_nothing_and_its_operation_is_counted() -> None:
    story = Story().node().pool()
    operation = story.begin("pg", 1, GIB)
    failed = VolumeProvisioningFailed(
        volume="pg", uid=uid(1), operation=operation, code=Refusal.CAPACITY, because="no"
    )
    story.say(failed)
    story.say(
        OperationEnded(
            operation=operation,
            kind=OperationKind.VOLUME_PROVISION,
            object="volume/pg",
            outcome=Outcome.FAILED,
        )
    )
    pg = _lines(story)["volume/pg/1"]
    assert (_of(pg), pg.operations, pg.closed) == ({}, {"volume-provision/failed": 1}, True)


def _label(story: Story, *gone: str, **labels: str) -> None:
    story.say(VolumeLabelled(volume="pg", uid=uid(1), set=labels, removed=gone))


def test_a_volume_counts_in_each_of_its_labels_from_the_moment_it_has_it() -> None:
    story = _made()
    begin = len(story.events)
    _label(story, team="shop", tier="gold")
    _wait(story, 4)
    _label(story, "tier", team="bank")
    _wait(story, 5)
    told = _lines(story, until=begin + 11)
    whole = _of(told["volume/pg/1"])["allocated"]
    assert _of(told["label/team=shop"])["allocated"] == 5 * GIB
    assert _of(told["label/tier=gold"])["allocated"] == 5 * GIB
    assert _of(told["label/team=bank"])["allocated"] == 6 * GIB
    assert whole == _of(told["namespace"])["allocated"] > 11 * GIB
    assert told["label/team=shop"].bytes["allocated"] == 0


def test_a_snapshot_and_what_goes_to_backups_count_for_the_labels_of_the_volume() -> None:
    story = _made()
    _label(story, team="shop")
    story.snapshot("monday", 5, "pg", 1)
    later = _lines(story, since=100, until=101)
    assert _of(later["label/team=shop"]) == _of(later["volume/pg/1"])
    assert _of(later["label/team=shop"])["snapshot"] == 200 * MIB


def test_a_volume_that_is_gone_counts_in_no_label_and_the_next_of_its_name_has_its_own() -> None:
    story = _made()
    _label(story, team="shop")
    deleted(story, 1, "pg")
    story.volume("pg", 2)
    assert "label/team=shop" not in _lines(story, since=100, until=101)


def test_written_bytes_count_where_they_were_written_and_for_whose_the_volume_is() -> None:
    story = _made()
    _label(story, team="shop")
    more: dict[str, Any] = {"more_written_bytes": 5, "more_read_bytes": 2}
    about: dict[str, Any] = {"volume": "pg", "uid": uid(1), "book": uid(3)}
    told: dict[str, Any] = {"written_bytes": 5, "read_bytes": 2}
    story.say(VolumeIoCounted(**about, **told, node="n1", pool="fast", **more))
    begin = len(story.events)
    _label(story, team="bank")
    story.say(VolumeIoCounted(**about, **told, node="n2", **more))
    lines = _lines(story)
    for name, times in {
        "cluster/cluster": 2,
        "node/n1": 1,
        "pool/n1/fast": 1,
        "node/n2": 1,
        "volume/pg/1": 2,
        "namespace": 2,
        "label/team=shop": 1,
        "label/team=bank": 1,
    }.items():
        assert (lines[name].written_bytes, lines[name].read_bytes) == (5 * times, 2 * times), name
    assert _lines(story, since=begin)["volume/pg/1"].written_bytes == 5
    (row,) = story.all(VOLUMES)
    assert (row.written_bytes, row.read_bytes) == (10, 4)


@pytest.mark.parametrize(
    ("consumer", "namespace"), [("pod/shop/pg-0", "shop"), ("host/backup", ""), ("host", "")]
)
def test_a_consumer_of_three_parts_is_in_a_namespace(consumer: str, namespace: str) -> None:
    assert namespace_of(consumer) == namespace


def _attached(story: Story, consumer: str) -> None:
    spec = AttachmentSpec(uid=uid(40), volume_uid=uid(1), pool="fast", consumer=consumer)
    story.say(VolumeAttached(volume="pg", operation=uid(7), attachment=spec))


def test_a_volume_counts_in_the_namespace_of_whoever_had_it_last() -> None:
    story = _made()
    _attached(story, "pod/shop/pg-0")
    moved = len(story.events)
    _wait(story, 9)
    _attached(story, "pod/bank/pg-0")
    told = _lines(story, since=moved, until=moved + 20)
    assert _of(told["namespace/shop"])["allocated"] == 9 * GIB
    assert _of(told["namespace/bank"])["allocated"] == 11 * GIB
    assert "namespace" not in told or _of(told["namespace"]) == {}


def test_a_backup_counts_at_its_target_and_while_its_volume_is_there_for_that() -> None:
    story = _made()
    story.say(ADDED)
    made = replace(backup_made(), volume="pg", volume_uid=uid(1))
    story.say(replace(backup_began(), volume="pg", volume_uid=uid(1)))
    story.say(made)
    for name in ("target/s3", "cluster/cluster", "volume/pg/1", "namespace"):
        sent = _lines(story, since=0, until=1000)[name].uploaded_bytes
        assert sent == made.uploaded.uploaded_bytes
        assert _of(_lines(story, since=100, until=101)[name])["backup"] == made.size_bytes
    deleted(story)
    later = _lines(story, since=100, until=101)
    assert _of(later["target/s3"]) == {"backup": made.size_bytes}
    assert "volume/pg/1" not in later


def test_where_the_clock_of_the_broker_is_set_back_time_stands_still() -> None:
    story = _made()
    late = story.events[-1].at - 3 * S
    story.events[-1] = replace(story.events[-1], at=late)
    story.events.append(replace(story.events[-1], seq=story.events[-1].seq + 1, at=late))
    _attached(story, "pod/shop/pg-0")
    story.events[-1] = replace(story.events[-1], at=late)
    begin = story.events[0].at
    latest = max(stored.at for stored in story.events)
    accounts = {row.level: row for row in story.all(ACCOUNTS)}
    shop = next(row for row in story.all(ACCOUNTS) if row.name == "shop")
    assert shop.since == shop.at == latest
    settled = next(s.at for s in story.events if b"room-settled" in s.data)
    none = next(
        row for row in story.all(ACCOUNTS) if row.level is AccountLevel.NAMESPACE and not row.name
    )
    assert none.allocated_byte_us == ((latest - settled) // (S / SECOND_US)) * GIB
    assert all(row.at >= begin for row in accounts.values())


def test_of_each_day_that_is_over_the_last_entry_is_kept_for_all_but_volumes() -> None:
    story = _made()
    first = story.all(ACCOUNTS)
    assert story.all(ACCOUNT_DAYS) == []
    story.snapshot("monday", 5, "pg", 1)
    known = len(_made().events)
    later = [replace(one, at=one.at + timedelta(days=1)) for one in story.events[known:]]
    story.events[known:] = later
    days = {(row.level, row.name): row for row in story.all(ACCOUNT_DAYS)}
    for row in first:
        if row.level is not AccountLevel.VOLUME:
            assert days[row.level, row.name] == replace(row, day=row.at.date().isoformat())
    assert AccountLevel.VOLUME not in {level for level, _ in days}


@settings(deadline=None)
@given(any_story())
def test_accounts_stand_as_the_ledgers_do_and_the_cluster_is_the_sum_of_its_nodes(
    story: Story,
) -> None:
    now = {(row.level.value, row.name): row for row in story.all(ACCOUNTS)}
    for row in story.all(USAGE):
        account = now.get((row.level.value, row.name))
        if row.level.value in {"cluster", "node", "pool"} and account is not None:
            told = (account.allocated_bytes, account.promised_bytes, account.capacity_bytes)
            assert told == (row.allocated_bytes, row.thin_committed_bytes, row.capacity_bytes)
    whole = now.get(("cluster", "cluster"))
    for field in ("allocated_bytes", "promised_bytes"):
        of_nodes = sum(getattr(row, field) for (level, _), row in now.items() if level == "node")
        assert of_nodes == (0 if whole is None else getattr(whole, field))


@settings(deadline=None)
@given(any_story(), st.floats(0, 60), st.floats(0, 60), st.floats(0, 60))
def test_the_parts_of_a_period_are_the_whole(story: Story, a: float, b: float, c: float) -> None:
    if not story.events:
        return
    one, two, three = sorted((a, b, c))
    first, second, whole = (
        _lines(story, *ends) for ends in ((one, two), (two, three), (one, three))
    )
    for name, line in whole.items():
        parts = [part[name] for part in (first, second) if name in part]
        for what in COUNTED:
            assert line.byte_us[what] == sum(part.byte_us[what] for part in parts)


@settings(deadline=None)
@given(any_story(), st.integers(0, 80), st.integers(0, 80))
def test_whatever_happens_accounts_say_what_the_raw_log_says(story: Story, a: int, b: int) -> None:
    if not story.events:
        return
    since, until = sorted((a, b))
    begin = story.events[0].at
    told = _lines(story, since, until)
    sums = {
        (line.level, f"{line.name}/{line.uid}" if line.uid else line.name, what): total
        for line in told.values()
        for what, total in line.byte_us.items()
        if total
    }
    assert sums == reckon(story.events, begin + since * S, begin + until * S)
    whole = told.get("cluster/cluster")
    ended = operations(story.events, begin + since * S, begin + until * S)
    of_all = {what: n for (kind, _, what), n in ended.items() if kind == "cluster"}
    of_all.pop("uploaded", 0)
    assert (whole.operations if whole else {}) == of_all
