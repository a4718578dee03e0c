"""Secrets by reference: had from where they are, and told to nobody."""

import asyncio
import os
from pathlib import Path

import pytest

from node_workers.credentials import (
    LocalSecrets,
    NoCredentialsError,
    NoSecrets,
    credentials,
    without_secrets,
)
from tests.support.s3 import CREDENTIALS_JSON, KEY_ID, SECRET


def had(secrets: LocalSecrets | NoSecrets, reference: str) -> bytes:
    return asyncio.run(credentials(secrets, reference))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    file = tmp_path / "s3"
    file.write_text(CREDENTIALS_JSON)
    file.chmod(0o600)
    return tmp_path


def test_they_are_had_from_a_file_or_a_variable(folder: Path) -> None:
    environment = {"HWBUS_KEY_S3": CREDENTIALS_JSON, "PATH": "/bin"}
    secrets = LocalSecrets(folder, environment)
    for reference in ("file:s3", "env:S3"):
        assert SECRET.encode() in had(secrets, reference)
    assert without_secrets(environment) == {"PATH": "/bin"}


@pytest.mark.parametrize(
    "reference", ["file:none", "file:../s3", "file:", "env:PATH", "vault:kv/s3#key", "s3"]
)
def test_what_is_not_there_is_told_by_its_reference_alone(folder: Path, reference: str) -> None:
    with pytest.raises(NoCredentialsError):
        had(LocalSecrets(folder, {"PATH": "/bin"}), reference)
    with pytest.raises(NoCredentialsError):
        had(NoSecrets(), reference)


def test_what_others_may_read_is_no_secret(folder: Path) -> None:
    (folder / "s3").chmod(0o644)
    with pytest.raises(NoCredentialsError, match="0644"):
        had(LocalSecrets(folder, {}), "file:s3")


def test_no_link_leads_out_of_the_folder(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "s3"
    elsewhere.write_text(CREDENTIALS_JSON)
    (folder / "link").symlink_to(elsewhere)
    with pytest.raises(NoCredentialsError, match="leads out"):
        had(LocalSecrets(folder, {}), "file:link")


def test_a_folder_or_a_pipe_is_no_secret(folder: Path) -> None:
    (folder / "folder").mkdir(mode=0o700)
    os.mkfifo(folder / "pipe", 0o600)
    for name in ("folder", "pipe"):
        with pytest.raises(NoCredentialsError):
            had(LocalSecrets(folder, {}), f"file:{name}")


def test_what_makes_no_sense_is_not_shown(folder: Path) -> None:
    (folder / "s3").write_text(f"access={KEY_ID} secret={SECRET}")
    with pytest.raises(NoCredentialsError) as error:
        had(LocalSecrets(folder, {}), "file:s3")
    assert SECRET not in str(error.value) + repr(error.value.__cause__)
    assert SECRET not in repr(asyncio.run(LocalSecrets(folder, {}).key("file:s3")))
