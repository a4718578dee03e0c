"""The one door to object stores: whole, immutable bytes go in and come out, and nothing else.

obstore keeps a reference to the buffer that it was handed after the call has returned, so a buffer
that is used again would be stored as what it has become. Hence nothing but ``bytes`` passes here,
and no writer that would take pieces. Nobody else imports obstore.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import msgspec
import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import MemoryStore, S3Store

if TYPE_CHECKING:
    from obstore.store import S3Config

DELETED_AT_ONCE = 500
_TIMEOUT = timedelta(seconds=60)
_CONNECT_TIMEOUT = timedelta(seconds=10)
_RETRIES = 3
_RETRY_TIMEOUT = timedelta(seconds=30)
_STATUS = re.compile(r"status code: (\d{3}[^:\n]*)")
_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,60})</Code>")
_GONE_CODES = frozenset({"NoSuchBucket"})
_WORDS_MAX = 200


class BucketError(Exception):
    """The store did not do it; *reason* is ``denied``, ``no-bucket`` or ``silent``."""

    def __init__(self, reason: Literal["denied", "no-bucket", "silent"], sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class MissingError(Exception):
    """There is no object of that name."""


class AlreadyThereError(Exception):
    """There is an object of that name already, and it was left as it is."""


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """A place in an object store; ``endpoint`` empty: that of AWS in ``region``."""

    url: str
    endpoint: str = ""
    region: str = "us-east-1"


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What lets somebody in. Never shown: not in a log, an argument or an error."""

    access_key_id: str
    secret_access_key: str
    session_token: str = ""

    def __repr__(self) -> str:
        """Tell nothing."""
        return "<credentials>"


class Object(msgspec.Struct, frozen=True, kw_only=True):
    """What a store knows of an object without giving it out; ``at`` is by the store's clock."""

    path: str
    size_bytes: int
    at: datetime


class Bucket:
    """Objects under one prefix. Paths are relative to it.

    All methods may raise ``BucketError``; they may be called from several threads.
    """

    def __init__(self, store: S3Store | MemoryStore) -> None:
        self._store = store

    @classmethod
    def open(cls, where: Where, credentials: Credentials) -> "Bucket":
        """Return the bucket; nothing is asked of the store yet. Raises ``ValueError``."""
        bucket, prefix = taken_apart(where.url)
        config: S3Config = {
            "region": where.region,
            "access_key_id": credentials.access_key_id,
            "secret_access_key": credentials.secret_access_key,
            "virtual_hosted_style_request": not where.endpoint,
        }
        if credentials.session_token:
            config["session_token"] = credentials.session_token
        if where.endpoint:
            config["endpoint"] = where.endpoint
        store = S3Store(
            bucket,
            prefix=prefix or None,
            config=config,
            client_options={
                "allow_http": where.endpoint.startswith("http://"),
                "timeout": _TIMEOUT,
                "connect_timeout": _CONNECT_TIMEOUT,
            },
            retry_config={"max_retries": _RETRIES, "retry_timeout": _RETRY_TIMEOUT},
        )
        return cls(store)

    @classmethod
    def in_memory(cls) -> "Bucket":
        """Return an empty bucket that nobody else has."""
        return cls(MemoryStore())

    def put(self, path: str, data: bytes, *, new: bool = False) -> None:
        """Store *data* under *path*, durably, before this returns.

        Raises:
            TypeError: *data* is not ``bytes``: whatever can change would be stored changed.
            AlreadyThereError: with *new*, and there is an object already.
        """
        if type(data) is not bytes:
            raise TypeError(f"only bytes are stored, not {type(data).__name__}: they cannot change")
        try:
            # In one piece: only so is *new* one decision of the store.
            mode: Literal["create", "overwrite"] = "create" if new else "overwrite"
            obstore.put(self._store, path, data, mode=mode, use_multipart=False)
        except AlreadyExistsError as error:
            raise AlreadyThereError(f"there is an object {path} already") from error
        except (FileNotFoundError, BaseError) as error:
            raise _told(f"put {path}", error) from None

    def get(self, path: str) -> bytes:
        """Return the object. Raises ``MissingError``."""
        try:
            return bytes(obstore.get(self._store, path).bytes())
        except FileNotFoundError as error:
            raise _missing(path, error) from None
        except BaseError as error:
            raise _told(f"get {path}", error) from None

    def look(self, path: str) -> Object | None:
        """Return what is known of the object, or None if there is none."""
        try:
            found = obstore.head(self._store, path)
        except FileNotFoundError:
            return None
        except BaseError as error:
            raise _told(f"look at {path}", error) from None
        return Object(path=path, size_bytes=found["size"], at=found["last_modified"])

    def all(self, folder: str) -> Iterator[Object]:
        """Return all that lies in *folder*, at most a thousand in memory at once."""
        try:
            for some in obstore.list(self._store, folder, chunk_size=1000):
                for one in some:
                    path, size = one["path"], one["size"]
                    yield Object(path=path, size_bytes=size, at=one["last_modified"])
        except (FileNotFoundError, BaseError) as error:
            raise _told(f"list {folder}", error) from None

    def delete(self, paths: Sequence[str]) -> None:
        """Have no objects of these names; those that are not there are fine."""
        for first in range(0, len(paths), DELETED_AT_ONCE):
            try:
                obstore.delete(self._store, list(paths[first : first + DELETED_AT_ONCE]))
            except FileNotFoundError:  # some stores say so of what is not there
                for path in paths[first : first + DELETED_AT_ONCE]:
                    self._delete_one(path)
            except BaseError as error:
                raise _told(f"delete {paths[first]} and others", error) from None

    def _delete_one(self, path: str) -> None:
        try:
            obstore.delete(self._store, path)
        except FileNotFoundError:
            return
        except BaseError as error:
            raise _told(f"delete {path}", error) from None


def taken_apart(url: str) -> tuple[str, str]:
    """Return (bucket, prefix) of ``s3://bucket/prefix``. Raises ``ValueError``."""
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"{url[:200]!r} is not s3://BUCKET/PREFIX")
    return parts.netloc, parts.path.strip("/")


def _missing(path: str, error: FileNotFoundError) -> Exception:
    code = _CODE.search(str(error))
    if code is not None and code[1] in _GONE_CODES:
        return BucketError("no-bucket", "there is no such bucket")
    return MissingError(f"there is no object {path}")


def _told(doing: str, error: Exception) -> BucketError:
    """Return what went wrong in few words: the rest may hold more than anybody should read."""
    text = str(error)
    status, code = _STATUS.search(text), _CODE.search(text)
    words = " ".join(found[1].strip() for found in (status, code) if found is not None)
    sentence = f"could not {doing}: {words or text.splitlines()[0][:_WORDS_MAX]}"
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return BucketError("denied", sentence)
    if isinstance(error, FileNotFoundError) or (code is not None and code[1] in _GONE_CODES):
        return BucketError("no-bucket", f"{sentence}: there is no such bucket")
    return BucketError("silent", sentence)
