"""What our door asks of object stores, asked of a real S3 server; and the program as it is run."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hwbus.bucket import AlreadyThereError, Bucket, BucketError, MissingError, Where
from hwbus.chains import verify_segments
from hwbus.places import Place, PlaceError, place_of
from hwbus.streams import EVENTS
from node_workers import backing_up, backup_format
from node_workers.backup_upload import UploadSpec
from tests.support import archives, s3
from tests.support.backups import file_of
from tests.support.cli import Stage
from tests.support.signing import signed

MIB = 1 << 20


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Where]:
    with s3.serving(tmp_path_factory.mktemp("s3")) as place:
        # This server makes a bucket with the first object that is put there.
        s3.bucket(place).put("made", b"")
        yield place


def test_what_is_put_is_got_listed_and_deleted(where: Where) -> None:
    bucket = s3.bucket(where)
    bucket.put("x/one", b"1")
    bucket.put("x/two", b"22" * MIB)
    assert bucket.get("x/two") == b"22" * MIB
    assert {(one.path, one.size_bytes) for one in bucket.all("x")} == {
        ("x/one", 1),
        ("x/two", 2 * MIB),
    }
    bucket.delete(["x/one", "x/none"])
    assert bucket.look("x/one") is None
    with pytest.raises(MissingError):
        bucket.get("x/one")


def test_what_is_there_is_not_overwritten_if_that_was_asked(where: Where) -> None:
    bucket = s3.bucket(where)
    bucket.put("once", b"1", new=True)
    with pytest.raises(AlreadyThereError):
        bucket.put("once", b"2", new=True)
    assert bucket.get("once") == b"1"


def entered(where: Where, prefix: str, secret: str = s3.SECRET) -> Place:
    environment = {"AWS_ACCESS_KEY_ID": s3.KEY_ID, "AWS_SECRET_ACCESS_KEY": secret}
    return place_of(f"s3://backups/{prefix}", where.endpoint, environment)


def test_a_bucket_is_a_place_for_archives(where: Where) -> None:
    archives.keep_a_promise(entered(where, "place"))
    with pytest.raises(PlaceError, match="could not list") as error:
        entered(where, "place", "another-secret").names("a")
    assert "another-secret" not in str(error.value)


def test_an_archive_goes_on_in_a_bucket_and_is_one_chain_there(where: Where) -> None:
    async def tale() -> None:
        story, place = archives.Story(20), entered(where, "archive")
        for seq in (4, 9, 20):
            await story.sign(seq)
            done = await asyncio.gather(*(story.archive(place) for _ in range(2)))
            assert {one.until for one in done} == {seq}
        assert archives.spans(place.names(EVENTS.name)) == [(1, 4), (5, 9), (10, 20)]
        found = verify_segments(place, EVENTS.name)
        assert (found.verdict.first_bad, found.verdict.signed) == (None, 20)
        name = place.names(EVENTS.name)[1]
        bucket = s3.bucket(msgspec.structs.replace(where, url="s3://backups/archive"))
        bucket.put(f"{EVENTS.name}/{name}", place.get(f"{EVENTS.name}/{name}")[:-1])
        assert verify_segments(place, EVENTS.name).verdict.first_bad == 5

    asyncio.run(tale())


def test_the_command_line_archives_to_a_bucket_and_verifies_it_there(
    where: Where, tmp_path: Path
) -> None:
    stage, (past, heads) = Stage(tmp_path), signed(9, 4, 9)
    stage.past = [(one.subject, one.data) for one in past]
    subject = f"hwbus.audit.head.{heads[0].key[:16]}"
    place = ("s3://backups/cli", "--endpoint", where.endpoint)
    env = {"AWS_ACCESS_KEY_ID": s3.KEY_ID, "AWS_SECRET_ACCESS_KEY": s3.SECRET}
    for count in (1, 2):
        stage.kept = [(subject, msgspec.json.encode(head)) for head in heads[:count]]
        assert stage.run("audit", "archive", "--to", *place, env=env).code == 0
    verify = ("audit", "verify", "--from-archive", *place, "--key", heads[0].key)
    assert stage.run(*verify, env=env).out.startswith("HWBUS_EVENTS: all 9 messages are as")
    refused = stage.run(*verify, env=env | {"AWS_SECRET_ACCESS_KEY": "another-secret"})
    assert (refused.code, "another-secret" in refused.err) == (2, False)


def test_who_may_not_come_in_is_told_so_and_no_secret_is(where: Where) -> None:
    wrong = msgspec.structs.replace(s3.CREDENTIALS, secret_access_key="another-secret")
    with pytest.raises(BucketError) as error:
        Bucket.open(where, wrong).put("x", b"1")
    assert error.value.reason == "denied"
    assert "403" in str(error.value)
    for secret in (s3.KEY_ID, "another-secret", s3.SECRET):
        assert secret not in str(error.value) + repr(error.value) + repr(wrong)


def test_a_silent_store_may_speak_later(where: Where) -> None:
    nobody = msgspec.structs.replace(where, endpoint="http://127.0.0.1:9")
    with pytest.raises(BucketError) as error:
        s3.bucket(nobody).look("x")
    assert error.value.reason == "silent"


def run(verb: str, about: msgspec.Struct, secret: str = s3.CREDENTIALS_JSON) -> tuple[int, str]:
    argv = [sys.executable, *backing_up.PROGRAM, verb, msgspec.json.encode(about).decode()]
    done = subprocess.run(argv, input=secret, capture_output=True, text=True, check=False)
    assert s3.SECRET not in done.stdout + done.stderr + " ".join(argv)
    return done.returncode, done.stdout


def test_the_program_probes_backs_up_and_restores(where: Where, tmp_path: Path) -> None:
    assert run("probe", backing_up.ProbeSpec(where=where, probe="p"))[0] == backing_up.DONE
    device = file_of(tmp_path / "device", b"a", b"\0", b"b", rest=8192)
    upload = UploadSpec(
        writer="w",
        device=str(device),
        name="pg-1",
        cluster="home",
        volume="pg",
        volume_uid="uid-pg",
        size_bytes=device.stat().st_size,
        layout="linear",
        filesystem="none",
        snapshot="s",
        snapshot_uid="uid-s",
        consistency="crash",
        at="2026-11-26T12:00:00Z",
    )
    about = backing_up.PutSpec(where=where, journal=str(tmp_path / "j" / "up"), upload=upload)
    status, printed = run("upload", about)
    assert status == backing_up.DONE
    target = tmp_path / "target"
    target.write_bytes(b"\xff" * device.stat().st_size)
    back = backing_up.RestoreSpec(
        where=where,
        journal=str(tmp_path / "j" / "down"),
        name="pg-1",
        manifest=json.loads(printed)["manifest"],
        device=str(target),
    )
    assert run("restore", back)[0] == backing_up.DONE
    assert target.read_bytes() == device.read_bytes()
    sweep = backing_up.SweepSpec(
        where=where, journal=str(tmp_path / "j" / "s"), sweeper="s", name="pg-1", grace_s=0
    )
    status, printed = run("sweep", sweep)
    assert (status, json.loads(printed)["chunks"]) == (backing_up.DONE, 3)
    assert list(s3.bucket(where).all(backup_format.ROOT)) == []


def test_without_credentials_nothing_is_tried(where: Where) -> None:
    about = backing_up.ProbeSpec(where=where, probe="p")
    assert run("probe", about, secret="")[0] == backing_up.FAILED
