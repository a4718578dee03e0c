"""Keys by reference: had when they are needed, handed to one tool's input, and kept nowhere."""

import hmac
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from node_workers.ports import StorageError
from schemas.keys import KeySourceKind, Located, locate

KEY_BYTES_MIN = 32
KEY_BYTES_MAX = 4096
VARIABLES = "HWBUS_KEY_"

_DIFFERENT_BYTES_MIN = 8
_OTHERS = stat.S_IWGRP | stat.S_IRWXO


class NoKeyError(StorageError):
    """There is no key to be had.

    ``reason`` is bad-key-reference, key-source-unset, key-missing, key-denied, key-unfit or
    key-exposed; only key-source-silent may pass by itself.
    """


class Key:
    """A secret that is shown only to who asks for it by name; never as text."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def reveal(self) -> bytes:
        """Return the secret itself, for the standard input of a tool."""
        return self._secret

    def __repr__(self) -> str:
        """Tell its size."""
        return f"<a key of {len(self._secret)} bytes>"

    def __eq__(self, other: object) -> bool:
        """Whether it is the same secret."""
        return isinstance(other, Key) and hmac.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        """Raise: whoever keeps keys in a set keeps them too long."""
        raise TypeError("keys are not collected")


class KeySource(Protocol):
    """Gives keys by reference. The contract: ``tests/contract/test_key_source_contract.py``."""

    async def key(self, reference: str) -> Key:
        """Return the key under *reference*, byte by byte as it is there.

        Raises ``NoKeyError``; what it says names the reference and never the key.
        """
        ...


class Place(Protocol):
    """One place where keys are: a folder, the environment, a server."""

    async def secret(self, located: Located) -> bytes:
        """Return what is there, at most a byte more than a key may have. Raises ``NoKeyError``."""
        ...


class Keyring:
    """A ``KeySource`` of all the places that this worker was told of."""

    def __init__(self, places: Mapping[KeySourceKind, Place]) -> None:
        self._places = places

    async def key(self, reference: str) -> Key:
        """Return the key under *reference*, as ``KeySource.key`` promises."""
        located = locate(reference)
        if located is None:
            raise NoKeyError("bad-key-reference", "what should be a reference to a key is none")
        place = self._places.get(located.kind)
        if place is None:
            unset = f"this worker was started without a key source for {located.kind}: references"
            raise NoKeyError("key-source-unset", unset)
        return _fit(await place.secret(located), reference)


class FileKeys:
    """A key a file, in one folder; nothing leads out of it, and nobody else reads in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def secret(self, located: Located) -> bytes:
        """Return what is in the file, as ``Place.secret`` promises."""
        path = self._folder / located.name
        try:
            # Symbolic links within the folder are how a secret is mounted in a pod.
            real = path.resolve(strict=True)
            if not real.is_relative_to(self._folder.resolve()):
                raise NoKeyError("key-exposed", f"{path} leads out of its folder")
            return _read(path, real)
        except FileNotFoundError as error:
            raise NoKeyError("key-missing", f"there is no key file {path}") from error
        except (OSError, RuntimeError) as error:
            because = getattr(error, "strerror", None) or "its links lead nowhere"
            raise NoKeyError("key-denied", f"{path} cannot be read: {because}") from error


class EnvironmentKeys:
    """Keys in variables of the worker's own environment; a tool's has none of them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = {k: v for k, v in environment.items() if k.startswith(VARIABLES)}

    async def secret(self, located: Located) -> bytes:
        """Return the value of the variable, as ``Place.secret`` promises."""
        variable = f"{VARIABLES}{located.name}"
        if variable not in self._environment:
            raise NoKeyError("key-missing", f"the worker was started without {variable}")
        return os.fsencode(self._environment[variable])


class NoKeys:
    """A ``KeySource`` of a worker that was told of none."""

    async def key(self, reference: str) -> Key:
        """Raise, as ``KeySource.key`` promises."""
        return await Keyring({}).key(reference)


def without_keys(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what of *environment* may be handed on to a tool."""
    return {name: value for name, value in environment.items() if not name.startswith(VARIABLES)}


def _read(path: Path, real: Path) -> bytes:
    descriptor = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise NoKeyError("key-unfit", f"{path} is no regular file")
        if mode & _OTHERS:
            mode_text = f"{stat.S_IMODE(mode):04o}"
            raise NoKeyError("key-exposed", f"{path} is open to others: its mode is {mode_text}")
        return file.read(KEY_BYTES_MAX + 1)


def _fit(secret: bytes, reference: str) -> Key:
    """Return the key; only what has the strength of a key itself needs no slow derivation."""
    if not KEY_BYTES_MIN <= len(secret) <= KEY_BYTES_MAX:
        size = f"more than {KEY_BYTES_MAX}" if len(secret) > KEY_BYTES_MAX else str(len(secret))
        asked = f"{KEY_BYTES_MIN} to {KEY_BYTES_MAX}"
        raise NoKeyError("key-unfit", f"{reference} has {size} bytes, a key has {asked}")
    if len(set(secret)) < _DIFFERENT_BYTES_MIN:
        few = f"{reference} has hardly any different bytes: it was not made at random"
        raise NoKeyError("key-unfit", few)
    return Key(secret)
