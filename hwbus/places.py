"""Where archives lie: a folder or a bucket. What is put stays as it is, and is there whole."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from hwbus.bucket import (
    AlreadyThereError,
    Bucket,
    BucketError,
    Credentials,
    MissingError,
    Where,
)

S3 = "s3://"
_HIDDEN = "."
_PART = ".part-"
_READ_ONLY = 0o400


class PlaceError(Exception):
    """The place did not do it, or has it not; the text says what and why."""


class Place(Protocol):
    """Keeps whole, immutable bytes under names; names have folders, separated by ``/``.

    All methods block, may raise ``PlaceError``, and may be called from several threads.
    """

    def names(self, folder: str) -> list[str]:
        """Return what lies in *folder*, without it, in no order; what is not whole is not there."""
        ...

    def get(self, name: str) -> bytes:
        """Return what lies there."""
        ...

    def put(self, name: str, data: bytes) -> bool:
        """Have *data* there, durably. False: something is there already, and was left as it is."""
        ...


class FolderPlace:
    """Files below a folder. What is being written is hidden until it is whole."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __str__(self) -> str:
        """Return where it is."""
        return f"{self._root}/"

    def names(self, folder: str) -> list[str]:
        """As ``Place.names``."""
        try:
            with os.scandir(self._root / folder) as entries:
                return [one.name for one in entries if not one.name.startswith(_HIDDEN)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise PlaceError(f"{self._root / folder} cannot be listed: {error}") from error

    def get(self, name: str) -> bytes:
        """As ``Place.get``."""
        try:
            return (self._root / name).read_bytes()
        except OSError as error:
            raise PlaceError(f"{self._root / name} cannot be read: {error}") from error

    def put(self, name: str, data: bytes) -> bool:
        """As ``Place.put``. A link, unlike a renaming, never takes the place of another file."""
        path = self._root / name
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, part = tempfile.mkstemp(prefix=_PART, dir=path.parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fchmod(file.fileno(), _READ_ONLY)
                    os.fsync(file.fileno())
                os.link(part, path)
            finally:
                Path(part).unlink()
            _sync(path.parent)
        except FileExistsError:
            return False
        except OSError as error:
            raise PlaceError(f"{path} cannot be written: {error}") from error
        return True


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class BucketPlace:
    """Objects in a bucket, put on the condition that none of that name is there."""

    def __init__(self, bucket: Bucket, url: str) -> None:
        self._bucket = bucket
        self._url = url.rstrip("/")

    def __str__(self) -> str:
        """Return where it is."""
        return self._url

    def names(self, folder: str) -> list[str]:
        """As ``Place.names``."""
        try:
            return [one.path.removeprefix(f"{folder}/") for one in self._bucket.all(folder)]
        except BucketError as error:
            raise PlaceError(f"{self._url}: {error}") from error

    def get(self, name: str) -> bytes:
        """As ``Place.get``."""
        try:
            return self._bucket.get(name)
        except (BucketError, MissingError) as error:
            raise PlaceError(f"{self._url}: {error}") from error

    def put(self, name: str, data: bytes) -> bool:
        """As ``Place.put``."""
        try:
            self._bucket.put(name, data, new=True)
        except AlreadyThereError:
            return False
        except BucketError as error:
            raise PlaceError(f"{self._url}: {error}") from error
        return True


def place_of(where: str, endpoint: str, environment: Mapping[str, str]) -> Place:
    """Return the place at *where*: ``s3://BUCKET/PREFIX``, or a folder.

    What lets one into a bucket is in the variables of AWS: ``AWS_ACCESS_KEY_ID``,
    ``AWS_SECRET_ACCESS_KEY``, ``AWS_SESSION_TOKEN``; beside them ``AWS_REGION`` and, without an
    *endpoint*, ``AWS_ENDPOINT_URL``.

    Raises:
        PlaceError: there are no credentials, or the address is none.
    """
    if not where.startswith(S3):
        if endpoint:
            raise PlaceError(f"an endpoint is for s3://BUCKET/PREFIX, and {where} is a folder")
        return FolderPlace(Path(where))
    key_id = environment.get("AWS_ACCESS_KEY_ID", "")
    secret = environment.get("AWS_SECRET_ACCESS_KEY", "")
    if not key_id or not secret:
        raise PlaceError(
            f"{where} needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"
        )
    let_in = Credentials(
        access_key_id=key_id,
        secret_access_key=secret,
        session_token=environment.get("AWS_SESSION_TOKEN", ""),
    )
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1"
    there = Where(
        url=where, endpoint=endpoint or environment.get("AWS_ENDPOINT_URL", ""), region=region
    )
    try:
        return BucketPlace(Bucket.open(there, let_in), where)
    except ValueError as error:
        raise PlaceError(str(error)) from error
