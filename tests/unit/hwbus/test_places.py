"""Where archives lie: a folder keeps what a bucket does, and what is in the way is said."""

import os
import stat
from pathlib import Path

import pytest

from hwbus.bucket import Bucket
from hwbus.places import BucketPlace, FolderPlace, PlaceError, place_of
from tests.support.archives import keep_a_promise

LET_IN = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "not-shown"}


def test_a_folder_and_a_bucket_keep_the_same_promise(tmp_path: Path) -> None:
    keep_a_promise(FolderPlace(tmp_path / "archive"))
    keep_a_promise(BucketPlace(Bucket.in_memory(), "s3://b/p"))


def test_what_is_not_whole_is_not_there(tmp_path: Path) -> None:
    place = FolderPlace(tmp_path)
    assert place.put("a/one", b"1")
    (tmp_path / "a" / ".part-x").write_bytes(b"half")
    assert place.names("a") == ["one"]
    path = tmp_path / "a" / "one"
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert path.stat().st_nlink == 1


def test_what_cannot_be_written_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(PlaceError, match="no room"):
        FolderPlace(tmp_path).put("a/one", b"1")
    assert list((tmp_path / "a").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(PlaceError, match="cannot be listed"):
        FolderPlace(tmp_path).names("file")


def test_an_address_leads_to_a_folder_or_to_a_bucket(tmp_path: Path) -> None:
    assert str(place_of(str(tmp_path), "", {})) == f"{tmp_path}/"
    assert str(place_of("s3://b/p/", "http://127.0.0.1:1", LET_IN)) == "s3://b/p"
    for where, endpoint, environment in (
        ("s3://b/p", "", {}),
        ("s3:///p", "", LET_IN),
        (str(tmp_path), "http://127.0.0.1:1", LET_IN),
    ):
        with pytest.raises(PlaceError) as error:
            place_of(where, endpoint, environment)
        assert "not-shown" not in str(error.value)
