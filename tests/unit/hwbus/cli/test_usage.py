"""Usage over a period, its top and its forecast: how they are put together, and printed."""

import asyncio
import csv
import io
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from hwbus.cli.accounting import Period, period
from hwbus.cli.charts import bar, sparkline
from hwbus.cli.paint import Pen, strip
from hwbus.client import Client
from hwbus.memory import MemoryBus
from projectors import past
from projectors.service import Views, endpoints
from schemas.account_view import AccountLevel, AccountRow
from tests.support.cli import Stage
from tests.support.clock import NOON
from tests.support.reckoning import reckon
from tests.unit.projectors.stories import GIB, Bench, Story, put
from tests.unit.projectors.test_accounts import deleted

Agreed = Callable[[str, str], None]
H, D = timedelta(hours=1), timedelta(days=1)


def account(level: AccountLevel, name: str, **more: object) -> AccountRow:
    given = {"since": NOON - 20 * D, "at": NOON - H, "seq": 3} | more
    return AccountRow(level=level, name=name, **given)  # type: ignore[arg-type]


def days(of: dict[int, int], **more: object) -> tuple[AccountRow, ...]:
    """Return the account of a pool on days that lie so far back, with so many GiB."""
    found = []
    for back, size in sorted(of.items(), reverse=True):
        at = NOON - back * D
        given = {"capacity_bytes": 20 * GIB, "allocated_bytes": size * GIB} | more
        when = {"at": at, "day": at.date().isoformat(), "since": NOON - max(of) * D}
        found.append(account(AccountLevel.POOL, "n1/fast", **when, **given))
    return tuple(found)


@pytest.fixture
def furnished(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setenv("TZ", "UTC")
    ended = {"volume-provision/completed": 2, "volume-provision/failed": 1}
    thin = {"thin_bytes": 10 * GIB, "thin_fill_percent": 55}
    fresh = {"since": NOON - D, "allocated_bytes": GIB, "capacity_bytes": 20 * GIB}
    pools = (
        account(
            AccountLevel.POOL,
            "n1/fast",
            allocated_bytes=5 * GIB,
            requested_bytes=4 * GIB,
            snapshot_bytes=GIB,
            capacity_bytes=20 * GIB,
            operations=ended,
            written_bytes=3 * GIB,
            read_bytes=GIB,
            **thin,
        ),
        account(AccountLevel.POOL, "n2/fast", **fresh),
    )
    volumes = (
        account(AccountLevel.VOLUME, "pg", uid="01", allocated_bytes=4 * GIB, snapshot_bytes=GIB),
        account(AccountLevel.VOLUME, "wal", uid="02", promised_bytes=2 * GIB),
    )
    stage.rows["accounts"] = (*pools, *volumes)
    begins = (NOON - 2 * H - timedelta(microseconds=1)).isoformat().replace("+00:00", "Z")
    stage.rows_then[begins] = {"accounts": ()}
    week = (NOON - 7 * D - timedelta(microseconds=1)).isoformat().replace("+00:00", "Z")
    earlier = account(AccountLevel.VOLUME, "pg", uid="01", allocated_bytes=3 * GIB, at=NOON - 9 * D)
    stage.rows_then[week] = {"accounts": (earlier,)}
    stage.rows["account-days"] = days({back: 5 - back // 2 for back in range(1, 10)}, **thin)
    return stage


COMMANDS = {
    "usage-period": ("usage", "--from", "2h"),
    "usage-top": ("usage", "top"),
    "usage-forecast": ("usage", "forecast"),
}


@pytest.mark.parametrize("form", ["table", "wide", "json", "csv"])
@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_printed_is_what_was_agreed(
    furnished: Stage, agreed: Agreed, name: str, form: str
) -> None:
    done = furnished.run(*COMMANDS[name], "-o", form)
    assert done.code == 0, done.err
    agreed(f"{name}.{form}", done.out)


@pytest.mark.parametrize("name", COMMANDS)
def test_csv_and_json_say_the_same(furnished: Stage, name: str) -> None:
    items = furnished.run(*COMMANDS[name], "-o", "json").json["items"]
    text = furnished.run(*COMMANDS[name], "-o", "csv").out
    for row, item in zip(csv.DictReader(io.StringIO(text)), items, strict=True):
        for field, value in row.items():
            if field.endswith(("_bytes", "_byte_us")):
                assert int(value) == item[field]
    names = furnished.run(*COMMANDS[name], "-o", "name").out.splitlines()
    assert names == [f"{item['level']}/{item['name']}" for item in items]


def test_a_chart_fits_into_the_terminal_and_has_no_colour_where_none_is_liked(
    furnished: Stage,
) -> None:
    env = {"COLUMNS": "60", "NO_COLOR": "1"}
    for argv in COMMANDS.values():
        plain = furnished.run(*argv, tty=True, env=env).out
        assert "\x1b" not in plain
        assert max(map(len, plain.splitlines())) <= 60
        assert "\x1b[36m" in furnished.run(*argv, tty=True, env={"COLUMNS": "200"}).out


def test_one_key_of_labels_is_told_value_by_value(furnished: Stage) -> None:
    begins = (NOON - 2 * H - timedelta(microseconds=1)).isoformat().replace("+00:00", "Z")
    furnished.rows_then[begins] = {"accounts": ()}
    names = ("team=bank", "team=shop", "teams=all", "tier=gold")
    furnished.rows["accounts"] = tuple(
        account(AccountLevel.LABEL, name, allocated_bytes=GIB) for name in names
    )
    asked = ("usage", "--from", "2h", "--level", "label", "-o", "name")
    assert furnished.run(*asked).out.split() == [f"label/{name}" for name in names]
    assert furnished.run(*asked, "--label", "team").out.split() == [
        "label/team=bank",
        "label/team=shop",
    ]


class Ascii(io.StringIO):
    encoding = "ascii"


def test_bars_are_as_long_as_their_value_and_in_ascii_where_nothing_else_can_be_shown(
    stage: Stage,
) -> None:
    stage.run("version")
    from hwbus.cli.world import world

    pen = Pen(world(), io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    assert [bar(n, 8, pen, columns=2) for n in (0, 1, 4, 8, 9)] == ["", "▎", "█", "██", "██"]
    assert bar(1, 10**9, pen) == "▏"
    assert sparkline([5, 5, 6, 12], pen) == "▁▁▂█"
    assert len(sparkline(range(1000), pen, columns=30)) == 30
    plain = Pen(world(), Ascii())
    assert (bar(8, 8, plain, columns=2), sparkline([0, 7], plain)) == ("##", "_@")
    assert strip(bar(1, 1, plain)).isascii()


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("--from", "1h", "--to", "2h"), "ends before it begins"),
        (("--to", "2h"), "has a beginning"),
        (("--from", "1h", "--at", "5"), "leave --at out"),
        (("--from", "1h", "--node", "n1"), "--level node"),
        (("--from", "1h", "--level", "snapshot"), "no accounts of snapshot"),
        (("--level", "namespace"), "--from 1h"),
        (("--level", "label"), "--from 1h"),
        (("--from", "1h", "--label", "team"), "--level label"),
        (("-o", "csv"), "say --from"),
        (("top", "--at", "5"), "that of now"),
        (("forecast", "--at", "5"), "made from now"),
    ],
)
def test_what_cannot_be_told_is_said_with_what_to_do(
    furnished: Stage, argv: tuple[str, ...], says: str
) -> None:
    done = furnished.run("usage", *argv)
    assert (done.code, done.out) == (2, "")
    assert says in done.err


def test_show_call_prints_what_would_be_asked(stage: Stage) -> None:
    calls = stage.run("usage", "--from", "5", "--level", "node", "--show-call").out.splitlines()
    assert len(calls) == 2
    assert '"at":5' in calls[0]
    assert stage.heard == []
    for verb, view in (("top", "accounts"), ("forecast", "account-days")):
        assert f"hwbus.q.{view}" in stage.run("usage", verb, "--show-call").out


def _lived() -> Story:
    """Tell of volumes that come, stay and go, one commit a second."""
    story = Story().node().pool(size=100 * GIB)
    for number in range(1, 6):
        story.volume(f"v{number}", number, number * GIB)
        if number % 2:
            deleted(story, number, f"v{number}")
    return story


def test_a_period_is_what_the_raw_log_says_whoever_asks_and_whenever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past, "EVERY", 7)
    told: dict[tuple[int, int | None], list[Period]] = {}
    ends = ((-5, 90), (0, 20), (13, 14), (20, 41), (30, None), (-5, None))

    async def run() -> None:
        bench, bus = Bench(tmp_path / "views"), MemoryBus()
        for stored in _lived().events:
            await put(bench.events, stored.subject, stored.data)
            bench.clock.move(1)
        bench.clock.move(60)
        async with asyncio.timeout(20), bench.running() as projector:
            await projector.caught_up.wait()
            async with bus.serve("views", "0", endpoints(), Views(projector)):
                client = Client(bus, bench.events, actor="ada", mint=str)
                for since, to in ends:
                    told[since, to] = [
                        await period(
                            client,
                            level.value,
                            _second(since),
                            None if to is None else _second(to),
                            bench.clock.now(),
                        )
                        for level in AccountLevel
                    ]

    asyncio.run(run())
    for (since, to), periods in told.items():
        end = max(p.until for p in periods) if to is None else _second(to)
        sums = {
            (line.level, f"{line.name}/{line.uid}" if line.uid else line.name, what): total
            for one in periods
            for line in one.lines
            for what, total in line.byte_us.items()
            if total
        }
        assert sums == reckon(_lived().events, _second(since), end), (since, to)


def _second(number: int) -> datetime:
    return NOON + timedelta(seconds=number)
