"""The notary signs what the log holds, goes on where it was, and never vouches for another log."""

import asyncio
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from hwbus.controller import notary as notary_module
from hwbus.controller.notary import Notary, OtherLogError
from hwbus.controller.notary_key import PUBLIC, NotaryKey, NotaryKeyError
from hwbus.merkle import Tree
from hwbus.ports import LogFullError, NobodyThereError, OutcomeUnknownError
from hwbus.proof import check_head
from hwbus.streams import AUDIT
from hwbus.verifying import Verifier
from tests.support.clock import NOON, ManualClock
from tests.support.signing import STREAM, AuditLog, Signed, chained


def play(tale: Callable[[Signed], Awaitable[None]]) -> None:
    async def run() -> None:
        await tale(Signed())

    asyncio.run(run())


def another(here: Signed) -> Notary:
    """A notary with the same key that has just been started."""
    return Notary(here.log, here.audit, here.audit, ManualClock(NOON), here.key)


def test_nothing_is_signed_of_an_empty_log_nor_twice_of_the_same() -> None:
    async def tale(here: Signed) -> None:
        assert await here.notary.sign() == 0
        await here.grow(chained(3))
        for _ in range(2):
            assert await here.notary.sign() == here.notary.signed == 3
        [head] = await here.audit.heads()
        check_head(msgspec.to_builtins(head))
        assert (head.stream, head.seq, len(head.leaves)) == (STREAM, 3, 3 * 32)

    play(tale)


def test_of_the_audit_stream_heads_are_signed_but_are_no_news() -> None:
    async def tale(here: Signed) -> None:
        audit = here.audit
        there = Notary(audit, audit, audit, ManualClock(NOON), here.key, stream=AUDIT)
        await here.grow(chained(3))
        await here.notary.sign()
        assert await there.sign() == 0
        await audit.keep("hwbus.audit.refused.node", b'{"type":"refused"}', message_id="r")
        assert await there.sign() == 2
        assert await there.sign() == 2
        await here.grow(chained(5)[3:])
        await here.notary.sign()
        assert await there.sign() == 2
        await audit.keep("hwbus.audit.executed.n1", b'{"type":"executed"}', message_id="e")
        assert await there.sign() == 5
        verifier = Verifier(await audit.heads(), stream=AUDIT.name, chained=False)
        verifier.take([one for seq in range(1, 6) if (one := await audit.get(seq)) is not None])
        found = verifier.finish()
        assert (found.first_bad, found.heads, found.signed) == (None, 2, 5)

    play(tale)


def test_a_notary_that_starts_goes_on_where_its_last_head_ends() -> None:
    async def tale(here: Signed) -> None:
        past = chained(9)
        await here.grow(past[:4])
        await here.notary.sign()
        await here.grow(past[4:])
        assert await another(here).sign() == 9
        heads = await here.audit.heads()
        assert [len(head.leaves) // 32 for head in heads] == [4, 5]
        verifier = Verifier(heads, stream=STREAM)
        verifier.take(past)
        assert verifier.finish().first_bad is None

    play(tale)


def test_a_long_past_is_signed_in_heads_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notary_module, "LEAVES_MAX", 4)

    async def tale(here: Signed) -> None:
        await here.grow(chained(10))
        assert await here.notary.sign() == 10
        assert [head.seq for head in await here.audit.heads()] == [4, 8, 10]

    play(tale)


def test_a_log_that_is_not_the_one_that_was_signed_is_signed_no_more() -> None:
    async def tale(here: Signed) -> None:
        await here.grow(chained(5))
        await here.notary.sign()
        shorter, other = Signed(), Signed()
        await shorter.grow(chained(4))
        await other.grow([msgspec.structs.replace(o, data=o.data + b" ") for o in chained(6)])
        for log in (shorter.log, other.log):
            there = Notary(log, here.audit, here.audit, ManualClock(NOON), here.key)
            with pytest.raises(OtherLogError):
                await there.sign()
            await there.try_sign()
            assert there.trouble
        assert len(await here.audit.heads()) == 1

    play(tale)


def test_a_head_under_our_name_that_is_not_ours_is_not_gone_on_from() -> None:
    async def tale(here: Signed) -> None:
        await here.grow(chained(5))
        await here.notary.sign()
        [head] = await here.audit.heads()
        for lie in (
            msgspec.structs.replace(head, seq=4),
            msgspec.structs.replace(head, frontier=head.frontier[::-1]),
            msgspec.structs.replace(head, frontier=()),
        ):
            other = AuditLog(ManualClock(NOON))
            subject = f"hwbus.audit.head.{here.key.short}"
            await other.keep(subject, msgspec.json.encode(lie), message_id="lie")
            with pytest.raises(OtherLogError):
                await Notary(here.log, other, other, ManualClock(NOON), here.key).sign()

    play(tale)


async def pruned_audit(here: Signed, key: NotaryKey | None = None) -> Notary:
    """Sign the audit at 2, let it grow to 4, take out what is signed; return a new notary of it."""
    audit = here.audit

    def notary(by: NotaryKey) -> Notary:
        return Notary(audit, audit, audit, ManualClock(NOON), by, stream=AUDIT)

    for number in range(2):
        await audit.keep("hwbus.audit.executed.n1", b"{}", message_id=f"e{number}")
    assert await notary(here.key).sign() == 2
    await audit.keep("hwbus.audit.executed.n1", b"{}", message_id="e2")
    audit.purge(2)
    return notary(here.key if key is None else key)


@pytest.mark.parametrize("seed", [1, 7])
def test_what_is_left_of_a_stream_is_signed_from_the_head_before_it(seed: int) -> None:
    async def tale(here: Signed) -> None:
        there = await pruned_audit(here, NotaryKey(bytes([seed]) * 32))
        assert await there.sign() == 4
        heads = [head for head in await here.audit.heads() if head.stream == AUDIT.name]
        before, after = heads
        grown = Tree(before.seq, before.frontier)
        grown.extend(after.leaves)
        assert (grown.root().hex(), after.key) == (after.root, there.key.public)

    play(tale)


def test_without_a_head_of_what_was_before_nothing_is_signed() -> None:
    async def tale(here: Signed) -> None:
        there = await pruned_audit(here)
        here.audit.purge(3)  # nobody signed three
        with pytest.raises(OtherLogError, match="begins at 4"):
            await there.sign()

    play(tale)


def test_what_is_taken_out_before_it_was_signed_here_is_no_gap() -> None:
    async def tale(here: Signed) -> None:
        other = NotaryKey(bytes([7]) * 32)
        audit = here.audit
        slow = Notary(audit, audit, audit, ManualClock(NOON), other, stream=AUDIT)
        assert await slow.sign() == 0
        await pruned_audit(here)
        await slow.try_sign()
        assert "gone" in slow.trouble
        await slow.try_sign()
        assert (slow.trouble, slow.signed) == ("", 4)

    play(tale)


@pytest.mark.parametrize("error", [OutcomeUnknownError("silent"), LogFullError("full")])
def test_what_cannot_be_kept_now_is_told_and_signed_later(error: Exception) -> None:
    async def tale(here: Signed) -> None:
        await here.grow(chained(3))
        stubborn = AuditLog(ManualClock(NOON))
        stubborn.trouble = error
        there = Notary(here.log, here.audit, stubborn, ManualClock(NOON), here.key)
        await there.try_sign()
        assert (there.trouble, there.signed) == (str(error), 0)
        assert await here.notary.sign() == 3

    play(tale)


def test_it_signs_by_itself_while_the_log_grows_and_once_more_at_its_end() -> None:
    async def tale(here: Signed) -> None:
        past = chained(6)
        there = Notary(here.log, here.audit, here.audit, ManualClock(NOON), here.key, every_s=0.01)
        running = asyncio.create_task(there.run())
        await here.grow(past[:3])
        async with asyncio.timeout(10):
            while there.signed < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        running.cancel()
        await asyncio.wait({running})
        await here.grow(past[3:])
        await there.close()
        assert (await here.audit.heads())[-1].seq == 6

    play(tale)


def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    key = NotaryKey.at_home(tmp_path)
    secret = tmp_path / "notary.key"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert (tmp_path / PUBLIC).read_text() == f"{key.public}\n"
    assert NotaryKey.at_home(tmp_path).public == key.public
    assert secret.read_text().strip() not in repr(key)
    secret.chmod(0o644)
    NotaryKey.at_home(tmp_path)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_a_key_that_is_none_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "notary.key").write_text("half a k")
    with pytest.raises(NotaryKeyError):
        NotaryKey.at_home(tmp_path)
    assert (tmp_path / "notary.key").read_text() == "half a k"


@pytest.mark.parametrize(
    "trouble", [OutcomeUnknownError("nobody leads"), NobodyThereError("there is no stream")]
)
def test_a_log_that_cannot_be_asked_for_its_end_is_told_once_and_asked_again(
    trouble: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nobody() -> int:
        raise trouble

    async def tale(here: Signed) -> None:
        await here.grow(chained(3))
        with monkeypatch.context() as broken, capture_logs() as logs:
            broken.setattr(here.log, "head", nobody)
            for _ in range(3):
                await here.notary.try_sign()
        assert here.notary.trouble == str(trouble)
        assert [one["because"] for one in logs] == [str(trouble)]
        await here.notary.try_sign()
        assert (here.notary.trouble, here.notary.signed) == ("", 3)

    play(tale)
