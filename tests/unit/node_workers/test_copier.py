"""The copier on files: what it copies it has read back, and it goes on where it was."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from node_workers import copier
from node_workers.copier import CHUNK_BYTES, DIFFERS, DONE, FAILED, TAKEN, TIME_OVER

SIZE = 2 * CHUNK_BYTES + (3 << 20)
Told = dict[str, Any]
Run = Callable[..., tuple[int, Told]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return how the copier is run on the files source and target: its status, what it printed."""
    (tmp_path / "source").write_bytes(os.urandom(SIZE))
    (tmp_path / "target").write_bytes(b"x" * (SIZE + 4096))

    def run(*more: str, journal: str = "j") -> tuple[int, Told]:
        paths = (str(tmp_path / "source"), str(tmp_path / "target"))
        status = copier.main(
            (*paths, "--bytes", str(SIZE), "--journal", str(tmp_path / "deep" / journal), *more)
        )
        out = capsys.readouterr().out
        return status, json.loads(out) if out else {}

    return run


def same(folder: Path) -> bool:
    return (folder / "target").read_bytes()[:SIZE] == (folder / "source").read_bytes()


def test_all_is_copied_and_nothing_beyond(run: Run, tmp_path: Path) -> None:
    status, told = run()
    assert (status, told["done_bytes"], told["of_bytes"]) == (DONE, SIZE, SIZE)
    assert told["digest"]
    assert same(tmp_path)
    assert (tmp_path / "target").read_bytes()[SIZE:] == b"x" * 4096
    assert run() == (status, told)


def test_a_turn_that_is_over_goes_on_in_the_next_with_the_same_digest(
    run: Run, tmp_path: Path
) -> None:
    turns = [run("--for", "0"), run("--for", "0"), run("--for", "0")]
    assert [status for status, _ in turns] == [TIME_OVER, TIME_OVER, DONE]
    assert [told["done_bytes"] for _, told in turns] == [CHUNK_BYTES, 2 * CHUNK_BYTES, SIZE]
    assert same(tmp_path)
    assert turns[2][1]["digest"] == run(journal="another")[1]["digest"]


def test_what_is_in_the_journal_is_not_copied_again(run: Run, tmp_path: Path) -> None:
    run("--for", "0")
    with (tmp_path / "target").open("r+b") as target:
        target.write(b"mark")
    run()
    assert (tmp_path / "target").read_bytes()[:4] == b"mark"


def test_half_a_line_and_the_journal_of_another_copy_count_for_nothing(
    run: Run, tmp_path: Path
) -> None:
    run("--for", "0")
    journal = tmp_path / "deep" / "j"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b"0123")
    assert run("--for", "0")[1]["done_bytes"] == 2 * CHUNK_BYTES
    journal.write_bytes(whole.replace(b"source", b"s0urce"))
    assert run("--for", "0")[1]["done_bytes"] == CHUNK_BYTES


def test_zeros_are_left_out_where_nothing_was_ever_written(run: Run, tmp_path: Path) -> None:
    os.truncate(tmp_path / "source", 0)
    os.truncate(tmp_path / "source", SIZE)
    (tmp_path / "target").write_bytes(b"")
    os.truncate(tmp_path / "target", SIZE)
    assert run("--sparse")[0] == DONE
    assert (tmp_path / "target").stat().st_blocks == 0
    assert same(tmp_path)


def test_a_device_that_gives_back_something_else_is_found(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[int] = []
    write = os.pwrite

    def lose(file: int, data: bytes | memoryview, position: int) -> int:
        if isinstance(data, bytes):
            return write(file, data, position)  # the journal
        lost.append(position)
        return len(data)

    monkeypatch.setattr("node_workers.copier.os.pwrite", lose)
    assert run() == (DIFFERS, {})
    assert lost.count(0) == 3
    assert not same(tmp_path)


def test_a_device_that_ends_too_early_is_said(run: Run, tmp_path: Path) -> None:
    os.truncate(tmp_path / "source", SIZE - 4096)
    assert run() == (FAILED, {})


def test_two_copiers_never_share_a_journal(run: Run, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    with copier.Journal(tmp_path / "deep" / "j", "another"):
        assert run() == (TAKEN, {})
    assert run()[0] == DONE


def test_no_more_is_copied_in_a_second_than_was_allowed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("node_workers.copier.time.monotonic", lambda: sum(slept))
    monkeypatch.setattr("node_workers.copier.time.sleep", slept.append)
    assert run("--rate", str(1 << 20))[0] == DONE
    assert sum(slept) == pytest.approx(SIZE / (1 << 20))
