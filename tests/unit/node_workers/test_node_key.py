"""The key by which its peers know a node: made once, on disk first, for nobody else to read."""

import base64
import os
from pathlib import Path

import pytest

from node_workers.node_key import FILE, node_keys, readable
from node_workers.sealed import agreed, keys_of


def test_a_key_is_made_once_and_is_the_same_ever_after(tmp_path: Path) -> None:
    path = tmp_path / FILE
    first = node_keys(path)
    assert path.read_bytes() == first.secret
    assert node_keys(path) == first == keys_of(first.secret)
    assert [one.name for one in tmp_path.iterdir()] == [FILE]


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        node_keys(tmp_path / FILE)
    finally:
        os.umask(before)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_a_key_that_others_may_read_is_theirs_no_more(tmp_path: Path) -> None:
    path = tmp_path / FILE
    keys = node_keys(path)
    path.chmod(0o644)
    assert node_keys(path) == keys
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_file_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path, size: int) -> None:
    path = tmp_path / FILE
    path.write_bytes(b"x" * size)
    with pytest.raises(ValueError, match=f"{size} bytes"):
        node_keys(path)
    assert path.read_bytes() == b"x" * size


def test_what_a_life_that_was_cut_off_left_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "node.new").write_bytes(b"half a key")
    assert len(node_keys(tmp_path / FILE).secret) == 32
    assert [one.name for one in tmp_path.iterdir()] == [FILE]


def test_it_is_on_disk_before_it_has_its_name_and_its_name_before_anybody_hears_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / FILE
    synced: list[tuple[str, bool]] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append((str(Path(f"/proc/self/fd/{descriptor}").readlink()), path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    node_keys(path)
    assert synced == [(str(tmp_path / "node.new"), False), (str(tmp_path), True)]


def test_two_nodes_come_to_the_same_and_neither_is_told_by_whoever_prints_its_keys(
    tmp_path: Path,
) -> None:
    one, other = node_keys(tmp_path / "a.key"), node_keys(tmp_path / "b.key")
    assert agreed(one.secret, other.public) == agreed(other.secret, one.public)
    assert base64.b64decode(readable(one.public)) == one.public
    assert one.secret.hex() not in repr(one)
