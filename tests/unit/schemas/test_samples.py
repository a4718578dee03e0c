"""What was ever written can still be read, and is never written differently."""

import functools
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hwbus.codec import renewed
from schemas.grammar import Message
from schemas.sampling import SAMPLES, sample_of, samples
from schemas.upcasts import UPCASTS

ROOT = SAMPLES.parents[1]
HOW = "\nhow to go on: schemas/samples/FROZEN"

every_sample = pytest.mark.parametrize(
    "path", sorted(SAMPLES.glob("*.json")), ids=lambda path: path.stem
)


@functools.cache
def git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", str(ROOT), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_there_is_a_sample_of_everything_and_of_nothing_else() -> None:
    there = {path.stem for path in SAMPLES.glob("*.json")}
    assert there == samples().keys(), "make derive writes what is missing" + HOW


@every_sample
def test_what_was_ever_written_can_still_be_read_and_is_written_the_same(path: Path) -> None:
    written = path.read_bytes()
    type_: Any = samples()[path.stem]
    assert msgspec.json.encode(msgspec.json.decode(written, type=type_)) + b"\n" == written, HOW


def test_no_sample_has_changed_since_the_samples_were_frozen() -> None:
    freeze = git("log", "-1", "--format=%H", "--", "schemas/samples/FROZEN")
    assert freeze, "schemas/samples/FROZEN is not committed"
    changed = git("diff", "--diff-filter=a", "--name-only", freeze, "--", "schemas/samples/*.json")
    assert not changed, f"samples are only ever added, never changed or removed:\n{changed}{HOW}"


def test_every_retired_word_becomes_a_word_of_today() -> None:
    for word in UPCASTS:
        old: Message = msgspec.json.decode(sample_of(word), type=word)
        assert type(renewed(old, upcasts=UPCASTS)) not in UPCASTS
