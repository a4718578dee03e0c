"""A log that is played again from a file gives what was, at every commit, forward and back."""

import asyncio
import sqlite3
from pathlib import Path
from random import Random

import msgspec
import pytest

from hwbus.replaying.canon import digest
from hwbus.replaying.player import Player, Where
from hwbus.replaying.tape import archived
from projectors import tables
from projectors.sqlite import EVENTS, Store
from projectors.tables import WRITTEN_ONCE
from tests.support.replaying import Lived, a_day

SEEDS = (1, 2, 3)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_state_is_as_the_desk_had_it(seed: int, tmp_path: Path) -> None:
    lived = a_day(seed)
    with archived(lived.archive(tmp_path / "log")) as (tape, _):
        player = Player(tape)
        player.go(tape.last)
        states = {where[1:]: of for where, of in player.digests().items() if where[0] == "state"}
    live = {(kind, place, id_): held for kind, place, id_, held in lived.world.all_held()}
    assert states == {where: digest(held.state) for where, held in live.items()}
    assert player.world.provisioning == lived.world.provisioning
    assert len(states) > 20


@pytest.mark.parametrize("seed", SEEDS)
def test_every_row_is_as_the_projectors_keep_it(seed: int, tmp_path: Path) -> None:
    lived = a_day(seed)
    with archived(lived.archive(tmp_path / "log")) as (tape, _):
        player = Player(tape)
        for until in (len(lived.log) // 2, len(lived.log)):
            player.go(until)
            rows = {where: of for where, of in player.digests().items() if where[0] == "row"}
            assert rows == asyncio.run(_kept(lived, until, tmp_path / f"views{until}"))


async def _kept(lived: Lived, until: int, path: Path) -> dict[Where, str]:
    store = await Store.open(path)
    try:
        await store.apply(EVENTS, lived.log[:until])
    finally:
        await store.close()
    found: dict[Where, str] = {}
    with sqlite3.connect(path) as db:
        for table in tables.TABLES:
            if table.name in WRITTEN_ONCE:
                continue
            for key, body in db.execute(f"SELECT key, body FROM {table.name}"):  # noqa: S608
                found["row", table.name, key] = digest(table.decode(body))
    db.close()
    return found


@pytest.mark.parametrize(("seed", "every", "marks"), [(1, 500, 256), (2, 7, 4), (3, 1, 8)])
def test_whoever_goes_back_finds_what_was(
    seed: int, every: int, marks: int, tmp_path: Path
) -> None:
    chance = Random(seed)
    with archived(a_day(seed).archive(tmp_path / "log")) as (tape, _):
        player = Player(tape, every=every, marks_max=marks)
        there = {0: player.hash()}
        for _ in player.steps(tape.last):
            there[player.seq] = player.hash()
        assert len(set(there.values())) == tape.last + 1
        for _ in range(60):
            before = {where: msgspec.json.encode(one) for where, one in player.everything()}
            seq = chance.randrange(tape.last + 1)
            changed = player.go(seq)
            assert (player.seq, player.hash()) == (seq, there[seq])
            after = {where: msgspec.json.encode(one) for where, one in player.everything()}
            differing = {w for w in before.keys() | after.keys() if before.get(w) != after.get(w)}
            assert {one.where for one in changed} == differing
            latest = player.latest
            assert getattr(latest, "seq", 0) == seq
