"""A seeded bug, cut out and played elsewhere: the same failing transition, and the same hash."""

import asyncio
import base64
import json
import re
from pathlib import Path
from random import Random

import pytest

from hwbus.replaying.bundle import bundled
from hwbus.replaying.cutting import cut, redacted, save
from hwbus.replaying.player import Player
from hwbus.replaying.slicing import slice_around
from hwbus.replaying.tape import Record, Tape, archived
from projectors.reading import read_commit
from schemas.attaching import AttachVolume, DetachVolume
from schemas.audit import ExecutedRecord
from schemas.deleting import DeleteVolume
from schemas.grammar import Message, type_name
from schemas.trail import AUDIT_TRAIL, PruneTrail
from schemas.volume import GrowVolume, ProvisionVolume
from tests.support.clock import NOON
from tests.support.given import GIB
from tests.support.replaying import Lived, a_day, a_failure
from tests.support.stage import ScriptedNode, Stage
from tests.support.virtual_time import VirtualClock, run_virtually

SALT = b"a salt that nobody knows, 32 long"
PEOPLE_AND_MACHINES = {"tester", "n1", "n2", "n3", "n1-d0", "n2-d1"}
OBJECTS = {"v0", "v2", "v3", "v4", "v5", "f0", "f1"}  # and v1, which ends every word


def words_in(path: Path) -> set[str]:
    """Return all words that stand in a bundle, whatever they are wrapped in."""
    text = path.read_text()
    for line in text.splitlines():
        data = json.loads(line).get("data")
        text += base64.b64decode(data).decode() if data else ""
    found = set(re.findall(r"[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*", text))
    return found | {part for word in found for part in word.split("-")}


def operations(tape: Tape) -> list[str]:
    seen = [read_commit(tape.message(seq)) for seq in range(1, tape.last + 1)]
    began = [s.commit.correlation for s in seen if type_name(s.events[0]) == "operation.started.v1"]
    return list(dict.fromkeys(began))


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("hidden", ["plain", "people", "all"])
def test_whatever_is_cut_out_of_a_random_day_gives_elsewhere_what_it_gave_there(
    seed: int, hidden: str, tmp_path: Path
) -> None:
    with archived(a_day(seed).archive(tmp_path / "log")) as (tape, _):
        for operation in Random(seed).sample(operations(tape), 3):
            of = slice_around(tape, operation)
            assert of is not None
            what = cut(tape, of, operation, [], "test")
            path = tmp_path / operation
            if hidden != "plain":
                what, _table = redacted(what, tape, SALT, objects=hidden == "all")
            save(path, what)  # which compares every state and row
            elsewhere = Player(tape)
            elsewhere.go(of.last)
            with bundled(path) as bundle:
                player = Player(bundle.tape)
                assert player.hash() == bundle.begins
                steps = [player.latest for _ in player.steps(of.last)]
                assert player.hash() == bundle.ends
                assert (player.hash() == elsewhere.hash()) is (hidden == "plain")
                assert len(steps) == of.last - of.first + 1
            if hidden != "plain":
                gone = PEOPLE_AND_MACHINES | (OBJECTS if hidden == "all" else set())
                assert words_in(path) & gone == set()


def test_a_slice_holds_the_operation_its_cause_and_what_came_of_it(tmp_path: Path) -> None:
    with archived(a_failure().archive(tmp_path / "log")) as (tape, _):
        for operation in operations(tape):
            of = slice_around(tape, operation)
            assert of is not None
            inside = [read_commit(tape.message(seq)) for seq in range(of.first, of.last + 1)]
            assert {s.seq for s in inside if s.commit.correlation == operation} <= of.seqs
            assert inside[0].commit.actor in {"ada", "tester"}, "it begins with whoever wanted it"
            assert type_name(inside[-1].events[-1]) in {
                "operation.ended.v1",
                "pool.attached.v1",
            } or (inside[-1].commit.cause)
            assert of.lost == []
        assert slice_around(tape, "no-such") is None


def test_what_tools_said_is_redacted_as_everything_else(tmp_path: Path) -> None:
    with archived(a_failure().archive(tmp_path / "log")) as (tape, _):
        operation = operations(tape)[-2]
        of = slice_around(tape, operation)
        assert of is not None
        ran = ExecutedRecord(
            at=NOON,
            node="n2",
            argv=("ssh", "ada@n2.example.org", "/home/ada", "n2-d0", "10.1.2.3"),
            exit_status=5,
            duration_ms=1.5,
            cause=f"event:{of.first}",
            correlation=operation,
            stderr="n2: no way to fe80::1 from 52:54:00:12:34:56, ask me@example.org at 12:30:15",
        )
        assert of.takes(ran)
        of.lost.append("command:ada-and-n2-7")
        records: list[Record] = [(7, ran)]
        what, table = redacted(cut(tape, of, operation, records, "t"), tape, SALT, objects=False)
        save(tmp_path / "bundle", what)
        [(seq, told)] = what.records
    assert isinstance(told, ExecutedRecord)
    assert what.about.cut == (f"command:{table['ada']}-and-{table['n2']}-7",)
    assert what.about.operation == operation
    assert (seq, told.node, told.exit_status) == (7, table["n2"], 5)
    assert told.argv[0] == "ssh"
    assert told.argv[2:4] == (f"/home/{table['ada']}", table["n2-d0"])
    assert "12:30:15" in told.stderr
    assert what.about.redacted is not None
    assert what.about.redacted["stray address"] >= 4
    left = words_in(tmp_path / "bundle")
    assert left.isdisjoint({"ada", "n2", "52", "fe80"})
    assert "10.1.2.3" not in str(told)
    assert "example" not in str(told)


def test_another_salt_gives_other_names_and_the_same_end(tmp_path: Path) -> None:
    found = []
    with archived(a_failure().archive(tmp_path / "log")) as (tape, _):
        of = slice_around(tape, operation := operations(tape)[0])
        assert of is not None
        for salt in (SALT, SALT[::-1]):
            what, table = redacted(cut(tape, of, operation, [], "t"), tape, salt, objects=True)
            found.append(table)
            assert len(set(table.values())) == len(table)
            assert sorted(table[name] for name in ("n1", "n2")) == [table["n1"], table["n2"]]
            save(tmp_path / str(len(found)), what)
    assert found[0].keys() == found[1].keys()
    assert not set(found[0].values()) & set(found[1].values())


def lived(*wishes: Message) -> Lived:
    """Return the log of a cluster in which these came true, one after the other."""
    found: list[Lived] = []

    async def tale() -> None:
        stage = Stage(VirtualClock())
        node = ScriptedNode(stage, "n1", Random(1))
        async with stage.control_plane():
            await node.join()
            work = asyncio.create_task(node.work())
            await stage.accepted(node.form(2))
            await stage.settled()
            for wish in wishes:
                await stage.accepted(wish)
                await stage.settled()
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            log = [await stage.log.get(seq) for seq in range(1, await stage.log.head() + 1)]
            found.append(Lived([one for one in log if one is not None], (), stage.world))

    run_virtually(tale)
    return found[0]


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("namespace", ["acme-payroll", "backup", "volume"])
def test_whose_a_volume_was_and_where_the_audit_lies_is_not_in_it_either(
    namespace: str, hidden: bool, tmp_path: Path
) -> None:
    pruned = PruneTrail(
        trail=AUDIT_TRAIL,
        until=1,
        root="0" * 64,
        frontier=("0" * 64,),
        place="s3://acme-audit/berlin",
        newest=NOON,
    )
    log = lived(
        ProvisionVolume(volume="pg", size_bytes=GIB, node="n1"),
        AttachVolume(volume="pg", consumer=f"pod/{namespace}/web"),
        DetachVolume(volume="pg"),
        ProvisionVolume(volume="db", size_bytes=GIB, node="n1"),
        AttachVolume(volume="db", consumer="pod/acme-retail/web"),
        DetachVolume(volume="db"),
        DeleteVolume(volume="db"),
        pruned,
        GrowVolume(volume="pg", size_bytes=2 * GIB),
    )
    with archived(log.archive(tmp_path / "log")) as (tape, _):
        operation = operations(tape)[-1]
        of = slice_around(tape, operation)
        assert of is not None
        # With the commit before it, in which the place of the archive is.
        of.first -= 1
        plain = cut(tape, of, operation, [], "t")
        save(tmp_path / "plain", plain)
        what, table = redacted(plain, tape, SALT, objects=hidden)
        save(tmp_path / "bundle", what)  # which compares every state and row
        with bundled(tmp_path / "bundle") as bundle:
            player = Player(bundle.tape)
            player.go(of.last)
            assert player.hash() == bundle.ends
    acme = {"acme", "payroll", "retail", "audit", "berlin"}
    assert words_in(tmp_path / "plain") >= acme - {"payroll"}
    # What is pruned is called so, and a namespace that is called as a word of hwbus stays.
    assert words_in(tmp_path / "bundle") & acme == {"audit"}
    assert words_in(tmp_path / "bundle") & {"pg", "db"} == (set() if hidden else {"pg", "db"})
    assert (namespace in table) is (namespace == "acme-payroll")
