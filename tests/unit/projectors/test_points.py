"""A point in the past is a sequence or a moment; what cannot be shown is refused with a code."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hwbus.ports import Call
from projectors import past
from projectors.service import Views
from schemas.answers import Refused
from schemas.attachment import Limits
from schemas.qos import QosClassCreated
from schemas.queries import COLUMNS, Behind, Page, QueryAnswer
from schemas.refusals import Refusal
from tests.support.clock import NOON
from tests.unit.projectors.stories import Bench, Story, put, uid

ANSWER: msgspec.json.Decoder[Page[msgspec.Raw] | Refused | Behind] = msgspec.json.Decoder(
    QueryAnswer
)
Ask = Callable[..., Awaitable[Any]]


def _story() -> Story:
    """Tell of a node, a pool and three volumes in 28 commits, one a second from noon."""
    story = Story().node().pool()
    for number, name in enumerate("abc", 1):
        story.volume(name, number)
    return story


async def _tell(bench: Bench, story: Story) -> None:
    for stored in story.events:
        await put(bench.events, stored.subject, stored.data)
        bench.clock.move(1)


def on(path: Path, scene: Callable[[Bench, Ask], Awaitable[None]]) -> None:
    async def run() -> None:
        bench = Bench(path)
        await _tell(bench, _story())
        async with asyncio.timeout(20), bench.running() as projector:
            await projector.caught_up.wait()
            views = Views(projector)

            async def ask(view: str, **asked: Any) -> Any:
                answer = await views(Call(f"hwbus.q.{view}", msgspec.json.encode(asked), {}))
                return ANSWER.decode(answer)

            await scene(bench, ask)

    asyncio.run(run())


def _names(page: Page[msgspec.Raw]) -> list[str]:
    return [msgspec.json.decode(item)["name"] for item in page.items]


def _second(number: float) -> str:
    return (NOON + timedelta(seconds=number)).isoformat()


@pytest.mark.parametrize("every", [1000, 5])
def test_a_sequence_and_the_moment_of_its_commit_show_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    monkeypatch.setattr(past, "EVERY", every)

    async def scene(_: Bench, ask: Ask) -> None:
        for seq, names in ((4, []), (5, ["a"]), (12, ["a"]), (13, ["a", "b"]), (28, list("abc"))):
            # The commit `seq` was stored `seq - 1` seconds after noon, and stood for a second.
            for at in (seq, _second(seq - 1), _second(seq - 0.5)):
                page = await ask("volumes", at=at)
                assert (_names(page), page.seq) == (names, seq), at
            assert (await ask("volumes", at=seq)).at == NOON + timedelta(seconds=seq - 1)
            halfway = await ask("volumes", at=_second(seq - 0.5))
            assert halfway.at == NOON + timedelta(seconds=seq - 0.5)

    on(tmp_path / "views", scene)


def test_every_view_can_be_asked_as_it_was_but_for_the_one_about_the_views(tmp_path: Path) -> None:
    async def scene(_: Bench, ask: Ask) -> None:
        where = {"volume": {"name": "a"}, "operation": {"id": uid(500_001)}}
        for view in COLUMNS:
            now = await ask(view, where=where.get(view, {}))
            then = await ask(view, where=where.get(view, {}), at=28)
            if view in {"status", "views"}:
                assert then.code is Refusal.NO_PAST
            else:
                assert [bytes(item) for item in then.items] == [bytes(item) for item in now.items]
                assert then.seq == now.seq == 28

    on(tmp_path / "views", scene)


def test_one_operation_is_shown_with_the_steps_it_had_by_then(tmp_path: Path) -> None:
    async def scene(_: Bench, ask: Ask) -> None:
        (item,) = (await ask("operation", where={"id": uid(500_001)}, at=8)).items
        told = msgspec.json.decode(item)
        assert (told["state"], [step["seq"] for step in told["steps"]]) == ("running", [5, 6, 7, 8])

    on(tmp_path / "views", scene)


def test_pages_of_the_past_hold_every_row_once(tmp_path: Path) -> None:
    async def scene(_: Bench, ask: Ask) -> None:
        for view, field, order in (
            ("volumes", "name", ["a", "b"]),
            ("operations", "object", ["volume/b", "volume/a"]),
        ):
            found: list[str] = []
            cursor: str | None = ""
            while cursor is not None:
                page = await ask(view, limit=1, cursor=cursor, at=20)
                found += [msgspec.json.decode(item)[field] for item in page.items]
                cursor = page.next
            assert found == order

    on(tmp_path / "views", scene)


def test_what_is_no_point_is_refused_with_its_code(tmp_path: Path) -> None:
    async def scene(_: Bench, ask: Ask) -> None:
        for at, code in (
            (29, Refusal.NOT_YET),
            (_second(29), Refusal.NOT_YET),
            (0, Refusal.BEFORE_THE_LOG),
            (_second(-1), Refusal.BEFORE_THE_LOG),
            ("yesterday", Refusal.NO_POINT),
            ("2026-01-01T12:00:00", Refusal.NO_POINT),
            ("28", Refusal.NO_POINT),
        ):
            answer = await ask("volumes", at=at)
            assert isinstance(answer, Refused), at
            assert (answer.code, bool(answer.fix)) == (code, True)
        assert (await ask("volumes", at=-1)).code is Refusal.MALFORMED
        assert (await ask("volumes", at=True)).code is Refusal.MALFORMED

    on(tmp_path / "views", scene)


def test_what_the_log_has_lost_is_refused_and_what_does_not_need_it_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past, "EVERY", 10)

    async def scene(bench: Bench, ask: Ask) -> None:
        kept = bench.events.follow

        def follow(**asked: Any) -> Any:
            # As if everything up to 14 had been purged.
            return kept(**{**asked, "after": max(14, asked["after"])})

        monkeypatch.setattr(bench.events, "follow", follow)
        answer = await ask("volumes", at=19)
        assert (answer.code, answer.because) == (
            Refusal.PAST_IS_GONE,
            "the log has lost 11 to 14",
        )
        assert _names(await ask("volumes", at=25)) == ["a", "b", "c"]

    on(tmp_path / "views", scene)


def test_a_point_that_the_views_have_not_reached_is_waited_for_or_told_as_behind(
    tmp_path: Path,
) -> None:
    async def scene(bench: Bench, ask: Ask) -> None:
        held = asyncio.Event()
        (projector,) = bench.made

        async def hold() -> None:
            async with projector._turn:
                await held.wait()

        holding = asyncio.create_task(hold())
        await asyncio.sleep(0)
        more = Story()
        more.say(QosClassCreated(qos="gold", uid=uid(9), at=NOON, limits=Limits(read_iops=5)))
        await _tell(bench, more)
        late = await ask("qos", at=29, wait_ms=10)
        assert isinstance(late, Behind)
        assert (late.seq, late.min_seq) == (28, 29)
        held.set()
        await holding
        assert _names(await ask("qos", at=29, wait_ms=9000)) == ["gold"]

    on(tmp_path / "views", scene)


def test_an_empty_log_has_no_past(tmp_path: Path) -> None:
    async def run() -> None:
        bench = Bench(tmp_path / "views")
        async with bench.running() as projector:
            views = Views(projector)
            for at, code in ((1, Refusal.NOT_YET), (_second(0), Refusal.BEFORE_THE_LOG)):
                call = Call("hwbus.q.nodes", msgspec.json.encode({"at": at}), {})
                answer = ANSWER.decode(await views(call))
                assert isinstance(answer, Refused)
                assert answer.code is code

    asyncio.run(run())


@pytest.mark.parametrize("every", [1000, 4])
def test_where_the_brokers_clock_is_set_back_a_moment_is_before_all_that_came_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    monkeypatch.setattr(past, "EVERY", every)
    story = _story()

    async def run() -> None:
        bench = Bench(tmp_path / "views")
        for stored in story.events:
            if stored.seq == 11:
                bench.clock.move(-8)  # after ten seconds it is as it was after two
            await put(bench.events, stored.subject, stored.data)
            bench.clock.move(1)
        async with asyncio.timeout(20), bench.running() as projector:
            await projector.caught_up.wait()
            views = Views(projector)
            for second, seq in ((1.5, 2), (5.5, 6), (8.5, 9), (9.5, 18), (10.5, 19), (11.5, 20)):
                asked = msgspec.json.encode({"at": _second(second)})
                page = ANSWER.decode(await views(Call("hwbus.q.volumes", asked, {})))
                assert isinstance(page, Page)
                assert page.seq == seq, second

    asyncio.run(run())
