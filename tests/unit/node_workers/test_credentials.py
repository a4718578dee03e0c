"""Secrets by reference: had from where they are, and told to nobody."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from node_workers.credentials import NoCredentialsError, credentials
from node_workers.keys import (
    EnvironmentKeys,
    FileKeys,
    Keyring,
    KeySource,
    NoKeys,
    without_keys,
)
from schemas.keys import KeySourceKind
from tests.support.s3 import CREDENTIALS_JSON, KEY_ID, SECRET


def had(keys: KeySource, reference: str) -> bytes:
    return asyncio.run(credentials(keys, reference))


def sources(folder: Path, environment: Mapping[str, str]) -> Keyring:
    return Keyring(
        {
            KeySourceKind.FILE: FileKeys(folder),
            KeySourceKind.ENV: EnvironmentKeys(environment),
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    file = tmp_path / "s3"
    file.write_text(CREDENTIALS_JSON)
    file.chmod(0o600)
    return tmp_path


def test_they_are_had_from_a_file_or_a_variable(folder: Path) -> None:
    environment = {"HWBUS_KEY_S3": CREDENTIALS_JSON, "PATH": "/bin"}
    secrets = sources(folder, environment)
    for reference in ("file:s3", "env:S3"):
        assert SECRET.encode() in had(secrets, reference)
    assert without_keys(environment) == {"PATH": "/bin"}


@pytest.mark.parametrize(
    "reference", ["file:none", "file:../s3", "file:", "env:PATH", "vault:kv/s3#key", "s3"]
)
def test_what_is_not_there_is_told_by_its_reference_alone(folder: Path, reference: str) -> None:
    with pytest.raises(NoCredentialsError):
        had(sources(folder, {"PATH": "/bin"}), reference)
    with pytest.raises(NoCredentialsError):
        had(NoKeys(), reference)


def test_what_others_may_read_is_no_secret(folder: Path) -> None:
    (folder / "s3").chmod(0o644)
    with pytest.raises(NoCredentialsError, match="0644"):
        had(sources(folder, {}), "file:s3")


def test_no_link_leads_out_of_the_folder(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "s3"
    elsewhere.write_text(CREDENTIALS_JSON)
    (folder / "link").symlink_to(elsewhere)
    with pytest.raises(NoCredentialsError, match="leads out"):
        had(sources(folder, {}), "file:link")


def test_a_folder_or_a_pipe_is_no_secret(folder: Path) -> None:
    (folder / "folder").mkdir(mode=0o700)
    os.mkfifo(folder / "pipe", 0o600)
    for name in ("folder", "pipe"):
        with pytest.raises(NoCredentialsError):
            had(sources(folder, {}), f"file:{name}")


def test_what_makes_no_sense_is_not_shown(folder: Path) -> None:
    (folder / "s3").write_text(f"access={KEY_ID} secret={SECRET}")
    with pytest.raises(NoCredentialsError) as error:
        had(sources(folder, {}), "file:s3")
    assert SECRET not in str(error.value) + repr(error.value.__cause__)
    assert SECRET not in repr(asyncio.run(sources(folder, {}).key("file:s3")))
