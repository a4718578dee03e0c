"""``hwbus rehearse``: a wrong change is named, and a right one is nothing to speak of."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from aggregates import legs, legs_past
from aggregates.decision import Facts
from hwbus.cli.difference import VIEWS
from hwbus.cli.exits import Exit
from hwbus.replaying import recorded
from hwbus.replaying.player import TABLES, Player
from hwbus.replaying.tape import archived
from projectors import fold
from projectors.rows import Changes, Rows, put
from projectors.volumes import volumes
from schemas.answers import refuse
from schemas.grammar import Event
from schemas.refusals import Refusal
from schemas.views import PoolRow, VolumeRow
from schemas.volume import ProvisionVolume
from tests.support.cli import Stage
from tests.support.replaying import a_day, a_failure


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return a_failure().archive(tmp_path / "log")


@pytest.fixture
def rows(tmp_path: Path, log: Path) -> str:
    return written(log, tmp_path / "rows", len(a_failure().log) - 5)


def written(log: Path, path: Path, seq: int) -> str:
    """Write the rows as this version makes them, before somebody changes it."""

    async def pages(player: Player) -> AsyncIterator[tuple[str, Sequence[dict[str, Any]]]]:
        for view in views:
            made = player.rows.tables[TABLES[view].name].values()
            yield view, [msgspec.json.decode(msgspec.json.encode(row)) for row in made]

    views = [view for view in VIEWS.values() if view != "qos"]
    with archived(log) as (tape, _), path.open("xb") as file:
        player = Player(tape)
        player.go(seq)
        about = recorded.About(version="old", seq=seq, views=tuple(views))
        asyncio.run(recorded.write(file, about, pages(player)))
    return str(path)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_what_nobody_changed_gives_what_was_on_random_days(
    stage: Stage, tmp_path: Path, seed: int
) -> None:
    log = a_day(seed).archive(tmp_path / "log")
    rows = written(log, tmp_path / "rows", len(a_day(seed).log) * 2 // 3)
    done = stage.run("rehearse", str(log), "--views", rows)
    assert (done.code, done.out) == (Exit.OK, ""), done.err
    assert f"{len(a_day(seed).log)} commits read and folded" in done.err
    assert "all is as it was" in done.err


def test_a_view_that_was_changed_wrongly_is_named(
    stage: Stage, log: Path, rows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(rows: Rows, seen: Any, event: Event) -> Changes:
        for change in volumes(rows, seen, event):
            row = change.row
            if isinstance(row, VolumeRow) and row.name == "before":
                yield put(change.table, change.key, replace(row, size_bytes=row.size_bytes + 1))
            else:
                yield change

    wronged = tuple(wrong if view is volumes else view for view in fold._VIEWS["volume"])
    monkeypatch.setitem(fold._VIEWS, "volume", wronged)
    done = stage.run("rehearse", str(log), "--views", rows, "-o", "json")
    assert done.code == Exit.FAILED
    [one] = [one for one in done.json["items"] if one["object"] == "volume/before"]
    assert (one["what"], one["field"]) == ("row", "size_bytes")
    assert int(one["now"]) == int(one["then"]) + 1
    assert "volume/before" in stage.run("rehearse", str(log), "--views", rows).out
    assert "volume/before\n" in stage.run("rehearse", str(log), "--views", rows, "-o", "name").out


def test_a_view_that_was_changed_rightly_is_nothing_to_speak_of(
    stage: Stage, log: Path, rows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def otherwise(rows: Rows, seen: Any, event: Event) -> Changes:
        yield from list(volumes(rows, seen, event))

    monkeypatch.setitem(fold._VIEWS, "volume", (otherwise, *fold._VIEWS["volume"][1:]))
    done = stage.run("rehearse", str(log), "--views", rows)
    assert (done.code, done.out) == (Exit.OK, ""), done.err


def test_a_row_that_is_no_more_or_too_many_is_named(
    stage: Stage, log: Path, rows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(rows)
    lines = path.read_bytes().splitlines(keepends=True)
    gone = next(n for n, line in enumerate(lines) if b'"view":"pools"' in line)
    path.write_bytes(b"".join([*lines[:gone], *lines[gone + 1 :]]))
    assert "its end is missing" in stage.run("rehearse", str(log), "--views", rows).err
    ending = msgspec.json.encode(recorded.Ending(len(lines) - 3)) + b"\n"
    path.write_bytes(b"".join([*lines[:gone], *lines[gone + 1 : -1], ending]))
    done = stage.run("rehearse", str(log), "--views", rows, "-o", "json")
    [one] = done.json["items"]
    assert (one["object"].partition("/")[0], one["then"]) == ("pool", "nothing")


def test_a_rule_that_decides_otherwise_now_is_named(
    stage: Stage, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strict(state: Any, command: Any, facts: Facts) -> Any:
        if isinstance(command, ProvisionVolume) and command.volume == "after":
            return refuse(Refusal.CAPACITY, "as nobody likes it")
        return legs_decide(state, command, facts)

    legs_decide: Any = legs.decide
    monkeypatch.setattr(legs, "decide", strict)
    done = stage.run("rehearse", str(log), "-o", "json")
    assert done.code == Exit.FAILED
    [one] = done.json["items"]
    assert (one["what"], one["object"], one["then"]) == (
        "refused",
        "volume/after",
        "volume.provisioning-began.v1",
    )
    assert one["now"].startswith("HW-P003 as nobody likes it")


def test_a_decision_with_another_figure_is_told_field_by_field(
    stage: Stage, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def generous(state: Any, command: Any, facts: Facts) -> Any:
        decided = legs_decide(state, command, facts)
        if isinstance(command, ProvisionVolume):
            return tuple(replace(one, size_bytes=one.size_bytes * 2) for one in decided)
        return decided

    legs_decide: Any = legs.decide
    monkeypatch.setattr(legs, "decide", generous)
    done = stage.run("rehearse", str(log), "-o", "json")
    told = {(one["object"], one["field"]) for one in done.json["items"]}
    assert told == {
        (f"volume/{name}", "volume.provisioning-began.v1: size_bytes")
        for name in ("before", "pg", "after")
    }


def test_a_fold_that_fails_is_named_and_the_rest_goes_on(
    stage: Stage, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(volume: Any, event: Any) -> Any:
        if event.volume == "after":
            raise KeyError("of a version that was not tried out")
        return evolve(volume, event)

    evolve: Any = legs_past.evolve
    monkeypatch.setattr(legs_past, "evolve", broken)
    done = stage.run("rehearse", str(log), "-o", "json")
    folds = [one for one in done.json["items"] if one["what"] == "fold"]
    assert {one["object"] for one in folds} == {"volume/after"}
    assert "KeyError" in folds[0]["now"]
    assert done.json["commits"] == len(a_failure().log)


def test_a_log_with_words_that_are_not_known_is_not_as_it_was(stage: Stage, tmp_path: Path) -> None:
    messages = list(a_failure().log)
    strange = messages[-1].data.replace(b"operation.ended.v1", b"operation.vanished.v1")
    messages[-1] = replace(messages[-1], data=strange)
    log = replace(a_failure(), log=messages).archive(tmp_path / "strange")
    done = stage.run("rehearse", str(log), "-o", "json")
    [one] = done.json["items"]
    assert (done.code, one["what"], one["then"]) == (1, "unknown", "operation.vanished.v1")


def test_a_bundle_can_be_rehearsed_and_is_held_to_the_hash_of_its_writer(
    stage: Stage, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("replay", str(log), "--until-event", "volume.provisioning-failed", "--steps")
    operation = stage.run(*given, "-o", "json").json["steps"][-1]["correlation"]
    bundle = str(tmp_path / "bundle")
    cut = ("support-bundle", "--around", operation, "--from-archive", str(log), "--to", bundle)
    assert stage.run(*cut).code == Exit.OK
    assert stage.run("rehearse", bundle).code == Exit.OK

    def wrong(rows: Rows, seen: Any, event: Event) -> Iterator[Any]:
        for change in pools(rows, seen, event):
            row = change.row
            wronged = replace(row, size_bytes=1) if isinstance(row, PoolRow) else row
            yield change._replace(row=wronged)

    pools = fold._VIEWS["pool"][0]
    monkeypatch.setitem(fold._VIEWS, "pool", (wrong, *fold._VIEWS["pool"][1:]))
    done = stage.run("rehearse", bundle, "-o", "json")
    assert [one["what"] for one in done.json["items"]] == ["hash"]


def test_what_cannot_be_rehearsed_is_said(stage: Stage, log: Path, tmp_path: Path) -> None:
    assert stage.run("rehearse", str(tmp_path / "none")).code == Exit.USAGE
    done = stage.run("rehearse", str(log), "--views", str(log))
    assert (done.code, "is no hwbus-views.v1" in done.err) == (Exit.USAGE, True)
    short = a_failure().archive(tmp_path / "short", until=10)
    rows = written(log, tmp_path / "later", 20)
    done = stage.run("rehearse", str(short), "--views", rows)
    assert (done.code, "the log goes up to 10" in done.err) == (Exit.USAGE, True)
