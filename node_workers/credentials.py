"""Secrets by reference: had when they are needed, handed to one tool's input, and kept nowhere."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from node_workers.bucket import Credentials
from node_workers.ports import StorageError

SECRET_BYTES_MAX = 4096
VARIABLES = "HWBUS_KEY_"

_OTHERS = stat.S_IWGRP | stat.S_IRWXO


class NoCredentialsError(StorageError):
    """There are none to be had; what it says names the reference and never the secret."""

    def __init__(self, sentence: str) -> None:
        super().__init__("no-credentials", sentence)


class Secret(Protocol):
    """What is shown only to who asks for it by name."""

    def reveal(self) -> bytes:
        """Return the secret itself, for the standard input of a tool."""
        ...


class Secrets(Protocol):
    """Gives secrets by reference: ``file:NAME``, ``env:NAME``."""

    async def key(self, reference: str) -> Secret:
        """Return what is there, byte by byte. Raises ``StorageError``."""
        ...


class Hidden:
    """A secret that never shows as text."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def reveal(self) -> bytes:
        """Return the secret itself."""
        return self._secret

    def __repr__(self) -> str:
        """Tell its size."""
        return f"<a secret of {len(self._secret)} bytes>"


class LocalSecrets:
    """A file each in one folder, where nobody else reads, or a variable of the worker's own."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = {k: v for k, v in environment.items() if k.startswith(VARIABLES)}

    async def key(self, reference: str) -> Secret:
        """Return the secret, as ``Secrets.key`` promises. Raises ``NoCredentialsError``."""
        scheme, _, name = reference.partition(":")
        if scheme == "env":
            if f"{VARIABLES}{name}" not in self._environment:
                unset = f"the worker was started without {VARIABLES}{name}"
                raise NoCredentialsError(unset)
            return Hidden(os.fsencode(self._environment[f"{VARIABLES}{name}"]))
        if scheme != "file" or "/" in name or not name:
            raise NoCredentialsError(f"this worker has no source for {scheme}: references")
        return Hidden(self._read(self._folder / name))

    def _read(self, path: Path) -> bytes:
        try:
            # Symbolic links within the folder are how a secret is mounted in a pod.
            real = path.resolve(strict=True)
            if not real.is_relative_to(self._folder.resolve()):
                raise NoCredentialsError(f"{path} leads out of its folder")
            with os.fdopen(os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                if not stat.S_ISREG(mode):
                    raise NoCredentialsError(f"{path} is no regular file")
                if mode & _OTHERS:
                    shown = f"{stat.S_IMODE(mode):04o}"
                    raise NoCredentialsError(f"{path} is open to others: its mode is {shown}")
                return file.read(SECRET_BYTES_MAX + 1)
        except FileNotFoundError as error:
            raise NoCredentialsError(f"there is no file {path}") from error
        except (OSError, RuntimeError) as error:
            because = getattr(error, "strerror", None) or "its links lead nowhere"
            raise NoCredentialsError(f"{path} cannot be read: {because}") from error


class NoSecrets:
    """The secrets of a worker that was told of none."""

    async def key(self, reference: str) -> Secret:
        """Raise ``NoCredentialsError``."""
        raise NoCredentialsError(f"this worker has no source for {reference.partition(':')[0]}:")


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what of *environment* may be handed on to a tool."""
    return {name: value for name, value in environment.items() if not name.startswith(VARIABLES)}


async def credentials(secrets: Secrets, reference: str) -> bytes:
    """Return the credentials under *reference*, as JSON for a tool's input.

    Raises ``StorageError``; what it says names the reference and never what is there.
    """
    secret = (await secrets.key(reference)).reveal()
    try:
        return msgspec.json.encode(msgspec.json.decode(secret, type=Credentials))
    except msgspec.MsgspecError:
        unfit = f'{reference} is not {{"access_key_id": "...", "secret_access_key": "..."}}'
        raise NoCredentialsError(unfit) from None
