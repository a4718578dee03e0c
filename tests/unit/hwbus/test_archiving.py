"""Archives go on: one chain of segments, whoever writes them, and wherever one of them dies."""

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256

import msgspec
import pytest

from hwbus import archiving
from hwbus.archiving import ArchiveError, Archiver
from hwbus.bucket import Bucket
from hwbus.chains import verify_segments
from hwbus.controller.notary import Notary
from hwbus.places import BucketPlace, Place, PlaceError
from hwbus.streams import AUDIT, EVENTS
from tests.support.archives import KilledError, Shelf, Story, archived, spans
from tests.support.clock import NOON, ManualClock
from tests.support.signing import AuditLog

WHOLE = archived(4, 9, 15, 20)


def play(tale: Callable[[Story, Shelf], Awaitable[None]], count: int = 20) -> None:
    async def run() -> None:
        await tale(Story(count), Shelf())

    asyncio.run(run())


def well(place: Place, until: int, stream: str = EVENTS.name) -> bool:
    verdict = verify_segments(place, stream).verdict
    return (verdict.first_bad, verdict.seq, verdict.signed) == (None, until, until)


def test_each_segment_goes_from_behind_the_last_to_the_newest_head() -> None:
    assert spans(Shelf(WHOLE).segments()) == [(1, 4), (5, 9), (10, 15), (16, 20)]
    assert well(Shelf(WHOLE), 20)


def test_archiving_again_adds_nothing() -> None:
    async def tale(story: Story, shelf: Shelf) -> None:
        assert (await story.archive(shelf)).until == 0
        await story.sign(9)
        done = await story.archive(shelf)
        assert (done.until, done.messages, len(done.segments)) == (9, 9, 1)
        before = dict(shelf.kept)
        again = await story.archive(shelf)
        assert (again.until, again.messages, again.segments) == (9, 0, ())
        assert shelf.kept == before

    play(tale)


def test_a_log_whose_beginning_is_gone_goes_on_where_it_is_archived_and_nowhere_else() -> None:
    async def tale(story: Story, shelf: Shelf) -> None:
        audit = story.signed.audit
        signs = Notary(audit, audit, audit, ManualClock(NOON), story.signed.key, stream=AUDIT)
        for seq in (1, 2, 4):
            await audit.keep("hwbus.audit.executed.n1", b"{}", message_id=str(seq))
            await signs.sign()
            if seq == 2:
                await Archiver(audit, audit, shelf, AUDIT).archive()
                audit.purge(2)
        assert (await Archiver(audit, audit, shelf, AUDIT).archive()).until > 2
        assert verify_segments(shelf, AUDIT.name).verdict.first_bad is None
        with pytest.raises(ArchiveError, match="messages 1 to 2 of HWBUS_AUDIT are no more"):
            await Archiver(audit, audit, Shelf(), AUDIT).archive()

    play(tale)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("put", range(1, 9))
def test_killed_at_any_put_it_leaves_a_valid_set_and_the_next_makes_the_same(
    put: int, *, before: bool
) -> None:
    async def tale(story: Story, shelf: Shelf) -> None:
        shelf.dies_at, shelf.dies_before = put, before
        deaths = 0
        for seq in (4, 9, 15, 20):
            await story.sign(seq)
            try:
                await story.archive(shelf)
            except KilledError:
                deaths += 1
                if shelf.segments():
                    assert well(shelf, spans(shelf.segments())[-1][1])
                await story.archive(shelf)
        assert deaths == 1
        assert shelf.kept == WHOLE

    play(tale)


def test_who_comes_later_ends_a_segment_where_who_died_began_it() -> None:
    async def tale(story: Story, shelf: Shelf) -> None:
        await story.sign(4)
        shelf.dies_at, shelf.dies_before = 1, False
        with pytest.raises(KilledError):
            await story.archive(shelf)
        await story.sign(9)
        assert (await story.archive(shelf)).until == 9
        assert spans(shelf.segments()) == [(1, 4), (5, 9)]

    play(tale)


@pytest.mark.parametrize("put", [1, 2])
def test_two_that_archive_at_once_make_one_chain(put: int) -> None:
    """The other one comes before any step of the first, and knows of a newer head."""

    async def tale(story: Story, shelf: Shelf) -> None:
        await story.sign(4)

        async def grow_and_archive() -> None:
            await story.sign(9)
            assert (await story.archive(shelf)).until == 9

        shelf.meanwhile = lambda: asyncio.run(grow_and_archive())
        shelf.meanwhile_at = put
        done = await story.archive(shelf)
        # What the other one had claimed before is written by both, and goes up to its head; else
        # each goes as far as it knew.
        assert (done.until, done.segments) == (9 if put == 1 else 4, ())
        assert spans(shelf.segments()) == ([(1, 9)] if put == 1 else [(1, 4), (5, 9)])
        assert well(shelf, 9)

    play(tale)


def test_many_at_once_in_a_bucket_make_one_chain() -> None:
    async def tale(story: Story, _: Shelf) -> None:
        place = BucketPlace(Bucket.in_memory(), "s3://b/p")
        for seq in (4, 9, 15):
            await story.sign(seq)
            done = await asyncio.gather(*(story.archive(place) for _ in range(4)))
            assert {one.until for one in done} == {seq}
            assert sum(len(one.segments) for one in done) == 1
        assert spans(place.names(EVENTS.name)) == [(1, 4), (5, 9), (10, 15)]
        assert well(place, 15)

    play(tale)


def test_the_audit_is_archived_with_the_heads_that_lie_on_it() -> None:
    async def tale(story: Story, shelf: Shelf) -> None:
        audit: AuditLog = story.signed.audit
        notary = Notary(audit, audit, audit, ManualClock(NOON), story.signed.key, stream=AUDIT)
        await story.sign(4)
        await audit.keep("hwbus.audit.refused.node", b'{"type":"refused"}', message_id="r")
        assert await notary.sign() == 2
        done = await Archiver(audit, audit, shelf, AUDIT).archive()
        assert (done.until, done.messages) == (2, 2)
        assert well(shelf, 2, AUDIT.name)

    play(tale)


def test_what_has_waited_long_becomes_segments_of_bounded_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(archiving, "MESSAGES_MAX", 8)

    async def tale(story: Story, shelf: Shelf) -> None:
        for seq in range(2, 41, 2):
            await story.sign(seq)
        await story.archive(shelf)
        assert spans(shelf.segments()) == [(1, 8), (9, 16), (17, 24), (25, 32), (33, 40)]
        assert well(shelf, 40)

    play(tale, 40)


def test_a_head_that_nobody_signed_right_is_no_end_of_a_segment() -> None:
    async def tale(story: Story, shelf: Shelf) -> None:
        await story.sign(4)
        [head] = await story.signed.audit.heads()
        forged = msgspec.structs.replace(head, seq=9)
        subject = f"hwbus.audit.head.{head.key[:16]}"
        await story.signed.audit.keep(subject, msgspec.json.encode(forged), message_id="x")
        await story.signed.audit.keep(subject, b"no head", message_id="y")
        assert (await story.archive(shelf)).until == 4

    play(tale)


def test_a_log_that_is_not_the_one_that_was_archived_is_not_archived_behind_it() -> None:
    async def tale(story: Story, shelf: Shelf) -> None:
        await story.sign(4)
        await story.archive(shelf)
        other = Story(20)
        other._past[1] = msgspec.structs.replace(other._past[1], data=b"{}")
        await other.sign(9)
        with pytest.raises(ArchiveError, match="messages 5 to 9 of HWBUS_EVENTS are not what"):
            await other.archive(shelf)
        assert spans(shelf.segments()) == [(1, 4)]

    play(tale)


def test_what_comes_back_otherwise_than_it_was_put_is_said() -> None:
    async def tale(story: Story, shelf: Shelf) -> None:
        await story.sign(4)
        shelf.garbles = True
        # The claim is garbled as well, and only looked at by who finds it there.
        with pytest.raises(PlaceError, match="something else came back"):
            await story.archive(shelf)
        with pytest.raises(ArchiveError, match="cannot be continued"):
            await story.archive(shelf)

    play(tale)


@pytest.mark.parametrize("node", [b"", b"AAAA"])
def test_what_does_not_lead_to_its_root_is_not_continued(node: bytes) -> None:
    async def tale(story: Story, shelf: Shelf) -> None:
        await story.sign(4)
        await story.archive(shelf)
        name = shelf.name_of(1)
        above, _, _ = shelf.kept[name].removesuffix(b"\n").rpartition(b"\n")
        head, begins, rest = above.partition(b'"frontier":["')
        changed = head + begins + (node + rest[4:] if node else rest[4:]) + b"\n"
        digest = sha256(changed).hexdigest().encode()
        shelf.kept[name] = changed + b'{"line":"end","digest":"' + digest + b'"}\n'
        with pytest.raises(ArchiveError, match="cannot be continued"):
            await story.archive(shelf)

    play(tale)


def test_a_claim_that_is_none_is_named() -> None:
    async def tale(story: Story, shelf: Shelf) -> None:
        await story.sign(4)
        name = f"claims/{EVENTS.name}/{1:020}.json"
        shelf.kept[name] = b"{"
        with pytest.raises(ArchiveError, match=f"{name} is no claim"):
            await story.archive(shelf)

    play(tale)


def test_a_segment_that_was_dropped_is_written_again_just_as_it_was() -> None:
    async def tale(story: Story, shelf: Shelf) -> None:
        shelf.kept = dict(WHOLE)
        for seq in (4, 9, 15, 20):
            await story.sign(seq)
        del shelf.kept[shelf.name_of(7)]
        assert len((await story.archive(shelf)).segments) == 1
        assert shelf.kept == WHOLE
        del shelf.kept[shelf.name_of(7)], shelf.kept[f"claims/{EVENTS.name}/{5:020}.json"]
        with pytest.raises(ArchiveError, match="the segment of HWBUS_EVENTS from 5 on is missing"):
            await story.archive(shelf)

    play(tale)
