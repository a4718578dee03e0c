"""The program that backs up, on files and a bucket in memory: what goes in comes out."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hwbus.bucket import Bucket, MissingError
from node_workers import backing_up, backup_format
from node_workers.backing_up import DONE, NEVER, TAKEN, TIME_OVER
from node_workers.backup_format import CHUNK_BYTES
from node_workers.backup_journal import Journal
from tests.support.backups import NEVER_S, WHERE, Tool, file_of

MIB = 1 << 20


@pytest.fixture
def tool(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Tool:
    return Tool(tmp_path / "journals", capsys.readouterr)


def blank(path: Path, size_bytes: int) -> Path:
    path.write_bytes(b"\xff" * size_bytes)
    return path


def test_what_went_in_comes_out_and_zeros_are_not_stored(tool: Tool, tmp_path: Path) -> None:
    device = file_of(tmp_path / "d", b"a", b"\0", b"b", b"a", rest=3 * MIB)
    status, told = tool.upload(device)
    assert status == DONE
    assert (told["chunks"], told["stored"], len(tool.chunks())) == (5, 4, 3)
    target = blank(tmp_path / "t", device.stat().st_size + MIB)
    status, there = tool.restore(target, "b1", told["manifest"])
    assert (status, there["whole"]) == (DONE, True)
    assert target.read_bytes() == device.read_bytes() + b"\xff" * MIB


def test_the_program_in_the_description_of_the_format_restores(tool: Tool, tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "backup-format.md").read_text()
    program = page.split("```python\n")[1].split("```")[0]
    device = file_of(tmp_path / "d", b"a", b"\0", b"b", rest=3 * MIB)
    tool.upload(device)
    for one in tool.bucket.all(backup_format.ROOT):
        path = tmp_path / one.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tool.bucket.get(one.path))
    target = blank(tmp_path / "t", device.stat().st_size)
    argv = [sys.executable, "-c", program, str(tmp_path / backup_format.ROOT), "b1", str(target)]
    subprocess.run(argv, check=True)
    assert target.read_bytes() == device.read_bytes()


def test_a_second_backup_stores_only_what_changed(tool: Tool, tmp_path: Path) -> None:
    device = file_of(tmp_path / "d", b"a", b"b", b"c", b"d")
    tool.upload(device)
    file_of(device, b"a", b"x", b"c", b"d")
    status, told = tool.upload(device, "b2", parent="b1")
    assert (status, told["uploaded_bytes"], told["read_bytes"]) == (
        DONE,
        CHUNK_BYTES,
        4 * CHUNK_BYTES,
    )


def test_what_is_known_not_to_have_changed_is_not_read(tool: Tool, tmp_path: Path) -> None:
    device = file_of(tmp_path / "d", b"a", b"b", b"\0", b"d")
    tool.upload(device)
    file_of(device, b"a", b"x", b"\0", b"d")
    changed = tmp_path / "changed"
    changed.write_bytes(bytes([0b0010]))
    status, told = tool.upload(device, "b2", parent="b1", changed=str(changed))
    assert (status, told["parent"]) == (DONE, "b1")
    assert (told["uploaded_bytes"], told["read_bytes"]) == (CHUNK_BYTES, CHUNK_BYTES)
    target = blank(tmp_path / "t", device.stat().st_size)
    assert tool.restore(target, "b2", told["manifest"])[0] == DONE
    assert target.read_bytes() == device.read_bytes()


@pytest.mark.parametrize("lost", ["manifest", "list", "chunk"])
def test_a_parent_that_is_not_whole_any_more_is_not_relied_on(
    tool: Tool, tmp_path: Path, lost: str
) -> None:
    device = file_of(tmp_path / "d", b"a", b"b")
    tool.upload(device)
    match lost:
        case "manifest":
            tool.bucket.delete([backup_format.manifest_path("b1")])
        case "list":
            tool.bucket.delete([one.path for one in tool.bucket.all(backup_format.LISTS)])
        case _:
            tool.bucket.delete([backup_format.chunk_path(backup_format.digest(b"b" * CHUNK_BYTES))])
    changed = tmp_path / "changed"
    changed.write_bytes(b"\0")
    _, told = tool.upload(device, "b2", parent="b1", changed=str(changed))
    target = blank(tmp_path / "t", device.stat().st_size)
    assert tool.restore(target, "b2", told["manifest"])[0] == DONE
    assert target.read_bytes() == device.read_bytes()


def test_it_goes_on_where_it_was_cut_off(tool: Tool, tmp_path: Path) -> None:
    device = file_of(tmp_path / "d", *(bytes([n]) for n in range(1, 8)))
    turns = 0
    while True:
        turns += 1
        status, told = tool.upload(device, seconds=0.001)
        if status == DONE:
            break
        assert status == TIME_OVER
        assert turns < 20
        assert list(tool.bucket.all(backup_format.MANIFESTS)) == []
    assert told["uploaded_bytes"] == 7 * CHUNK_BYTES
    assert list(tool.bucket.all(backup_format.WRITERS)) == []
    assert tool.upload(device)[1]["manifest"] == told["manifest"], "said again, it is the same"


def test_nothing_is_listed_before_all_of_it_is_there(tool: Tool, tmp_path: Path) -> None:
    device = file_of(tmp_path / "d", *(bytes([n]) for n in range(1, 8)))
    tool.upload(device, seconds=NEVER_S)
    assert tool.run("list", backing_up.ListSpec(where=WHERE))[1]["manifests"] == []
    _, told = tool.upload(device)
    _, listed = tool.run("list", backing_up.ListSpec(where=WHERE))
    ((seal, manifest),) = listed["manifests"]
    assert (seal, manifest["name"], manifest["cluster"]) == (told["manifest"], "b1", "home")


def test_more_is_listed_than_a_report_can_hold_only_when_it_is_asked_for(
    tool: Tool, tmp_path: Path
) -> None:
    device = file_of(tmp_path / "d", b"a")
    most = backing_up.LISTED_MAX
    _, told = tool.upload(device, "old", volume="other")
    stored = tool.bucket.get(backup_format.manifest_path("old"))
    manifest = replace(backup_format.read(stored), volume="pg")
    for number in range(most):
        path = backup_format.manifest_path(f"b{number:03}")
        tool.bucket.put(path, backup_format.write(replace(manifest, name=f"b{number:03}")))
    tool.bucket.put(backup_format.manifest_path("bad"), b"nonsense")
    _, listed = tool.run("list", backing_up.ListSpec(where=WHERE))
    assert len(listed["manifests"]) == most
    assert (len(listed["damaged"]), listed["more"]) == (1, 1)
    for about in ({"name": "old"}, {"volume": "other"}):
        _, listed = tool.run("list", backing_up.ListSpec(where=WHERE, **about))
        assert [seal for seal, _ in listed["manifests"]] == [told["manifest"]]


def test_a_name_is_given_once(tool: Tool, tmp_path: Path) -> None:
    tool.upload(file_of(tmp_path / "d", b"a"))
    status, told = tool.upload(file_of(tmp_path / "e", b"b"), snapshot_uid="another")
    assert (status, told["code"]) == (NEVER, "backup-exists")


def test_bad_chunks_are_named_and_never_restored(tool: Tool, tmp_path: Path) -> None:
    device = file_of(tmp_path / "d", b"a", b"b", b"c")
    _, told = tool.upload(device)
    a, b = (backup_format.digest(x * CHUNK_BYTES) for x in (b"a", b"b"))
    tool.bucket.put(backup_format.chunk_path(a), b"a" * (CHUNK_BYTES - 1) + b"!")
    tool.bucket.delete([backup_format.chunk_path(b)])
    status, found = tool.verify()
    assert (status, found["bad_chunks"]) == (DONE, 2)
    assert found["bad"] == [
        {"index": 0, "chunk": a.hex(), "why": "damaged"},
        {"index": 1, "chunk": b.hex(), "why": "missing"},
    ]
    target = blank(tmp_path / "t", device.stat().st_size)
    status, said = tool.restore(target, "b1", told["manifest"])
    assert (status, said["code"]) == (NEVER, "backup-damaged")
    assert a.hex() in said["because"]
    assert target.read_bytes() == b"\xff" * device.stat().st_size


def test_a_backup_that_is_whole_is_found_whole(tool: Tool, tmp_path: Path) -> None:
    tool.upload(file_of(tmp_path / "d", b"a", b"\0"))
    assert tool.verify()[1]["bad_chunks"] == 0
    status, said = tool.verify("other", "v2")
    assert (status, said["code"]) == (NEVER, "backup-missing")


def test_another_backup_under_the_name_is_not_restored(tool: Tool, tmp_path: Path) -> None:
    device = file_of(tmp_path / "d", b"a")
    tool.upload(device)
    status, said = tool.restore(blank(tmp_path / "t", CHUNK_BYTES), "b1", "00" * 32)
    assert (status, said["code"]) == (NEVER, "backup-changed")


def test_what_a_removed_backup_alone_needed_goes(tool: Tool, tmp_path: Path) -> None:
    tool.upload(file_of(tmp_path / "d", b"a", b"b"))
    tool.upload(file_of(tmp_path / "d", b"b", b"c"), "b2")
    status, swept = tool.sweep("b1", grace_s=3600)
    assert (status, swept["chunks"]) == (DONE, 0), "too young"
    status, swept = tool.sweep("", sweeper="sw2")
    assert (status, swept["chunks"], swept["freed_bytes"]) == (DONE, 1, CHUNK_BYTES)
    assert tool.verify("b2")[1]["bad_chunks"] == 0
    assert len(list(tool.bucket.all(backup_format.LISTS))) == 1
    status, said = tool.sweep("b1", sweeper="sw3")
    assert (status, said["code"]) == (NEVER, "backup-missing")


def test_nobody_sweeps_beside_a_writer_nor_writes_beside_a_sweeper(
    tool: Tool, tmp_path: Path
) -> None:
    device = file_of(tmp_path / "d", *(bytes([n]) for n in range(1, 8)))
    tool.upload(device, seconds=0.001)
    before = tool.chunks()
    status, swept = tool.sweep()
    assert (status, swept["writers"], tool.chunks()) == (DONE, 1, before)
    tool.bucket.put(backup_format.SWEEPER, b"another")
    status, _ = tool.upload(device, seconds=NEVER_S)
    assert (status, tool.chunks()) == (TIME_OVER, before)
    assert tool.sweep(sweeper="sw4")[0] == TAKEN


def test_what_a_writer_that_was_forgotten_knew_counts_for_nothing(
    tool: Tool, tmp_path: Path
) -> None:
    device = file_of(tmp_path / "d", *(bytes([n]) for n in range(1, 8)))
    tool.upload(device, seconds=0.001)
    tool.bucket.delete([one.path for one in tool.bucket.all(backup_format.WRITERS)])
    assert tool.sweep()[1]["chunks"] > 0
    assert tool.upload(device)[0] == DONE
    assert tool.verify()[1]["bad_chunks"] == 0


def test_nothing_is_swept_while_a_manifest_cannot_be_read(tool: Tool, tmp_path: Path) -> None:
    tool.upload(file_of(tmp_path / "d", b"a"))
    tool.upload(file_of(tmp_path / "d", b"b"), "b2")
    tool.bucket.put(backup_format.manifest_path("b1"), b"{}\nnonsense\n")
    status, said = tool.sweep("b2")
    assert (status, said["code"]) == (NEVER, "backup-damaged")
    assert "b1" in said["because"]
    assert len(tool.chunks()) == 2


def test_a_probe_leaves_nothing(tool: Tool) -> None:
    assert tool.run("probe", backing_up.ProbeSpec(where=WHERE, probe="p"))[0] == DONE
    assert list(tool.bucket.all(backup_format.ROOT)) == []


def test_a_journal_forgets_half_a_record_and_other_work(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    for about, torn, done in (("a", b"", 0), ("a", b"half", 2), ("b", b"", 0), ("b", b"", 2)):
        with path.open("ab") as file:
            file.write(torn)
        with Journal(path, about) as journal:
            assert journal.done == done
            journal.add([(b"p", b"1" * 32), (b"z", b"2" * 32)] if not done else [])
            assert journal.letters() == b"pz"
            assert journal.digests() == b"1" * 32 + b"2" * 32


def test_two_cannot_work_on_one_journal(tool: Tool, tmp_path: Path) -> None:
    tool.upload(file_of(tmp_path / "d", b"a"))
    with Journal(tmp_path / "journals" / "verify", "mine"):
        assert tool.verify()[0] == TAKEN
    assert tool.verify()[0] == DONE


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_only_what_cannot_change_is_stored(kind: type) -> None:
    with pytest.raises(TypeError, match="only bytes"):
        Bucket.in_memory().put("x", kind(b"abc"))


@given(st.lists(st.binary(min_size=1, max_size=64), min_size=1, max_size=8))
def test_a_buffer_that_is_used_again_changes_nothing_stored(pieces: list[bytes]) -> None:
    bucket, buffer = Bucket.in_memory(), bytearray(64)
    for number, piece in enumerate(pieces):
        buffer[: len(piece)] = piece
        bucket.put(f"p/{number}", bytes(buffer[: len(piece)]))
    buffer[:] = b"\xee" * 64
    assert [bucket.get(f"p/{number}") for number in range(len(pieces))] == pieces
    with pytest.raises(MissingError):
        bucket.get("p/none")


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    first=st.lists(st.sampled_from([0, 1, 2]), min_size=1, max_size=5),
    then=st.lists(st.sampled_from([0, 1, 2, 3]), min_size=1, max_size=5),
    rest=st.integers(0, 2),
)
def test_whatever_changes_the_second_backup_is_the_second_state(
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
    first: list[int],
    then: list[int],
    rest: int,
) -> None:
    folder = tmp_path_factory.mktemp("law")
    tool = Tool(folder / "journals", capsys.readouterr)
    device = file_of(folder / "d", *(bytes([n]) for n in first), rest=rest * 4096)
    tool.upload(device)
    was = device.read_bytes()
    file_of(device, *(bytes([n]) for n in then), rest=rest * 4096)
    now = device.read_bytes()
    bits = 0
    for chunk in range(backup_format.chunks_of(len(now))):
        at = slice(chunk * CHUNK_BYTES, (chunk + 1) * CHUNK_BYTES)
        bits |= (was[at] != now[at]) << chunk
    changed = folder / "changed"
    changed.write_bytes(bits.to_bytes(2, "little"))
    told = tool.upload(device, "b2", parent="b1", changed=str(changed))[1]
    target = blank(folder / "t", len(now))
    assert tool.restore(target, "b2", told["manifest"])[0] == DONE
    assert target.read_bytes() == now
