"""Encryption by LUKS2: a header made once on a blank leg, opened with keys that nobody writes down.

Keys come in by the standard input of cryptsetup, so no list of processes and no record shows them.
They have the strength of a key themselves, so deriving slot keys from them costs next to nothing.
"""

import uuid
from collections.abc import Sequence

import msgspec

from node_workers.devices import INFO
from node_workers.filesystems import Filesystems
from node_workers.keys import Key, KeySource, NoKeyError
from node_workers.ports import (
    Execution,
    NotThereError,
    Refusal,
    RefusedToTouchError,
    Runner,
    ToolFailedError,
    UnsuitableError,
)
from node_workers.tools import Tools, meaning
from schemas.keys import HEADER_BYTES

MAPPED = "/dev/mapper/hwbus-crypt:"
SIGNATURE = "crypto_LUKS"

_NAME = "hwbus-crypt:"
_SECTOR_BYTES = 512
_MIB = 1 << 20
_TIMEOUT_S = 120.0
_NONE = 1  # what dmsetup answers for a device that does not exist
_DAMAGED, _WRONG_KEY, _NO_SUCH_TOOL = 1, 2, 127
_SLOTS_MAX = 32
_TEST = ("--test-passphrase",)
_SLOT = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
_HEADER = (
    *("--type", "luks2", "--cipher", "aes-xts-plain64", "--key-size", "512"),
    *("--offset", str(HEADER_BYTES // _SECTOR_BYTES)),
)


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """The plain side of an encrypted volume: its node, "254:7", how large it is, and on what."""

    node: str
    number: str
    size_bytes: int
    below: str


class Luks:
    """Formats, opens, resizes, closes, rekeys and erases."""

    def __init__(self, runner: Runner, keys: KeySource) -> None:
        self._tools = Tools(runner)
        self._filesystems = Filesystems(runner)
        self._keys = keys

    async def require_key(self, reference: str) -> None:
        """Raise ``NoKeyError`` if there is no such key, before anything is made."""
        await self._keys.key(reference)

    async def require_keys(self, references: Sequence[str]) -> None:
        """Raise ``NoKeyError`` unless all of them can be had here, and no two are the same."""
        _refuse_twins([await self._keys.key(one) for one in references], references)

    async def require_any_key(self, references: Sequence[str]) -> None:
        """Raise ``NoKeyError`` if none of them can be had."""
        missing: list[NoKeyError] = []
        for reference in references:
            try:
                await self._keys.key(reference)
            except NoKeyError as error:
                missing.append(error)
            else:
                return
        raise _worst(missing)

    async def ensure_formatted(self, path: str, uid: str, reference: str, *, cause: str) -> bool:
        """Have our header on *path*, of which nobody was ever told; returns whether it is new.

        Where there is nothing it is made. One of ours without a slot, or that cannot be read,
        was being made when we died: it is made again, since no key was ever in it.
        """
        found = await self._filesystems.signatures(path, cause=cause)
        if any((one.kind, one.uuid) != (SIGNATURE, luks_uuid(uid)) for one in found):
            raise _foreign(path, ", ".join(f"{one.kind} {one.uuid}".strip() for one in found))
        if found and await self._slots(path, cause=cause):
            return False
        key = await self._keys.key(reference)
        identity = ("--uuid", luks_uuid(uid), "--label", f"hwbus-{uid}")
        argv = ("cryptsetup", "luksFormat", "--batch-mode", *_HEADER, *identity, *_SLOT)
        await self._must(*argv, "--key-file", "-", path, stdin=key.reveal(), cause=cause)
        return True

    async def key_for(self, path: str, uid: str, references: Sequence[str], *, cause: str) -> Key:
        """Return the first key that opens *path*; nothing is changed.

        Raises ``NoKeyError`` if it may be one that cannot be had now, ``UnsuitableError`` if it is
        none of them, ``NotThereError`` and ``RefusedToTouchError`` if the header is not ours.
        """
        await self._require_header(path, uid, cause=cause)
        return await self._first(path, references, _TEST, cause=cause)

    async def _first(
        self, path: str, references: Sequence[str], how: Sequence[str], *, cause: str
    ) -> Key:
        """Open *path* with the first key that does, in the way of *how*; return that key."""
        missing: list[NoKeyError] = []
        for reference in references:
            try:
                key = await self._keys.key(reference)
            except NoKeyError as error:
                missing.append(error)
                continue
            if await self._opens(path, key, *how, cause=cause):
                return key
        if missing:
            raise _worst(missing)
        raise UnsuitableError("wrong-key", f"no key under {', '.join(references)} opens {path}")

    async def find(self, volume: str, uid: str, *, cause: str) -> Opened | None:
        """Return the plain side of the volume, if it is open.

        Raises ``RefusedToTouchError`` if what has its name is somebody else's.
        """
        execution = await self._tools.must(
            *INFO, _name(volume), cause=cause, accepted=frozenset({0, _NONE})
        )
        if execution.exit_status == _NONE:
            return None
        table = await self._tools.must("dmsetup", "table", _name(volume), cause=cause)
        try:
            identity, major, minor, *_ = execution.stdout.strip().split("|")
            _start, sectors, _crypt, _cipher, _key, _skipped, below, *_ = table.stdout.split()
            size_bytes = int(sectors) * _SECTOR_BYTES
        except ValueError as error:
            raise ToolFailedError(execution) from error
        if identity != f"CRYPT-LUKS2-{luks_uuid(uid).replace('-', '')}-{_name(volume)}":
            raise RefusedToTouchError(
                Refusal.FOREIGN_DEVICE, f"{MAPPED}{volume} is {identity or 'nobody'}'s device"
            )
        return Opened(
            node=f"{MAPPED}{volume}",
            number=f"{major}:{minor}",
            size_bytes=size_bytes,
            below=below,
        )

    async def open(
        self,
        volume: str,
        uid: str,
        path: str,
        references: Sequence[str],
        *,
        discards: bool,
        cause: str,
    ) -> tuple[Opened, Key]:
        """Open the plain side, which is not there; return it, and the key that did it.

        Raises as ``key_for`` does, and ``InUseError`` if somebody else has *path* open.
        """
        await self._require_header(path, uid, cause=cause)
        how = (*(("--allow-discards",) if discards else ()), _name(volume))
        key = await self._first(path, references, how, cause=cause)
        found = await self.find(volume, uid, cause=cause)
        if found is None:
            raise NotThereError("device-missing", f"{MAPPED}{volume} vanished when it was made")
        return found, key

    async def ensure_size(
        self, volume: str, opened: Opened, size_bytes: int, key: Key, *, cause: str
    ) -> None:
        """Have the plain side *size_bytes* large, in use or not. It never shrinks."""
        if opened.size_bytes < size_bytes:
            argv = ("cryptsetup", "resize", "--key-file", "-", _name(volume))
            await self._must(*argv, stdin=key.reveal(), cause=cause)

    async def ensure_blank(self, opened: Opened, *, made: bool, cause: str) -> None:
        """Have nothing on a plain side that nobody has used yet by which it could be recognised.

        What was never written decrypts to noise, in which somebody might see a filesystem. Unless
        it was *made* just now, what looks like one is left alone.
        """
        if made or not await self._filesystems.signatures(opened.node, cause=cause):
            await self._zero(opened.node, 0, _MIB, cause=cause)
            await self._zero(opened.node, opened.size_bytes - _MIB, _MIB, cause=cause)

    async def ensure_closed(self, volume: str, uid: str, *, cause: str) -> bool:
        """Have no plain side; returns whether there was one. Raises ``InUseError``."""
        if await self.find(volume, uid, cause=cause) is None:
            return False
        await self.close(volume, cause=cause)
        return True

    async def close(self, volume: str, *, cause: str) -> None:
        """Close the plain side that is known to be there. Raises ``InUseError``."""
        await self._must("cryptsetup", "close", _name(volume), cause=cause)

    async def ensure_taken_away(self, volume: str, uid: str, *, cause: str) -> None:
        """Have no plain side, also if what is below it can be read no more: so without cryptsetup.

        Raises ``InUseError`` if somebody has it open.
        """
        if await self.find(volume, uid, cause=cause) is not None:
            await self._tools.must("dmsetup", "remove", "--retry", _name(volume), cause=cause)

    async def ensure_keys(
        self, path: str, uid: str, keys: Sequence[str], dropped: Sequence[str], *, cause: str
    ) -> None:
        """Have each of *keys* open *path*, and none of *dropped*; in use or not.

        No key is taken away before all that shall stay were seen to open it. Slots of others are
        left alone; where there is none but those of *keys*, nothing is left to be taken away,
        whether or not the dropped keys can still be had.
        """
        staying = [await self._keys.key(reference) for reference in keys]
        _refuse_twins(staying, keys)
        authority = await self.key_for(path, uid, (*keys, *dropped), cause=cause)
        for key in staying:
            if not await self._opens(path, key, cause=cause):
                await self._add(path, authority, key, cause=cause)
        if not dropped or await self._slots(path, cause=cause) == len(keys):
            return
        for reference in dropped:
            key = await self._keys.key(reference)
            if key in staying:
                raise UnsuitableError(
                    "same-key", f"under {reference} there is now the key that shall stay"
                )
            await self._drop(path, key, cause=cause)

    async def erase(self, path: str, uid: str, *, cause: str) -> None:
        """Leave no slot of a header of ours on *path*: then no key opens what lies behind it."""
        found = await self._filesystems.signatures(path, cause=cause)
        if any((one.kind, one.uuid) != (SIGNATURE, luks_uuid(uid)) for one in found):
            return
        # One that is damaged has no slots to be found; where they were is overwritten all the same.
        erase = ("cryptsetup", "luksErase", "--batch-mode", path)
        if found:
            await self._must(*erase, accepted=frozenset({0, _DAMAGED}), cause=cause)
        await self._zero(path, 0, HEADER_BYTES, cause=cause)

    async def _add(self, path: str, authority: Key, key: Key, *, cause: str) -> None:
        both = (authority.reveal(), key.reveal())
        sizes = ("--keyfile-size", str(len(both[0])), "--new-keyfile-size", str(len(both[1])))
        execution = await self._must(
            *("cryptsetup", "luksAddKey", "--batch-mode", *_SLOT, "--key-file", "-", *sizes),
            *(path, "-"),
            stdin=b"".join(both),
            cause=cause,
        )
        if not await self._opens(path, key, cause=cause):
            raise ToolFailedError(execution)

    async def _drop(self, path: str, key: Key, *, cause: str) -> None:
        """Take *key* away, from each slot it is in; another key was just seen to open *path*."""
        remove = ("cryptsetup", "luksRemoveKey", "--batch-mode", "--key-file", "-", path)
        for _ in range(_SLOTS_MAX):
            if not await self._opens(path, key, cause=cause):
                return
            await self._must(*remove, stdin=key.reveal(), cause=cause)

    async def _opens(self, path: str, key: Key, *how: str, cause: str) -> bool:
        execution = await self._must(
            *("cryptsetup", "open", "--type", "luks2", "--key-file", "-", path, *(how or _TEST)),
            stdin=key.reveal(),
            accepted=frozenset({0, _WRONG_KEY}),
            cause=cause,
        )
        return execution.exit_status == 0

    async def _require_header(self, path: str, uid: str, *, cause: str) -> None:
        found = await self._filesystems.signatures(path, cause=cause)
        strange = [one for one in found if (one.kind, one.uuid) != (SIGNATURE, luks_uuid(uid))]
        if strange:
            raise _foreign(path, f"{strange[0].kind} {strange[0].uuid}".strip())
        if not found:  # one that is damaged says so itself when it is to be opened
            raise NotThereError("header-lost", f"{path} has no header of ours any more")

    async def _slots(self, path: str, *, cause: str) -> int | None:
        """Return how many keys the header has room taken for; None: it cannot be read."""
        execution = await self._must(
            *("cryptsetup", "luksDump", "--dump-json-metadata", path),
            accepted=frozenset({0, _DAMAGED}),
            cause=cause,
        )
        if execution.exit_status == _DAMAGED:
            return None
        try:
            return len(msgspec.json.decode(execution.stdout)["keyslots"])
        except (msgspec.DecodeError, KeyError, TypeError) as error:
            raise ToolFailedError(execution) from error

    async def _zero(self, path: str, offset: int, length: int, *, cause: str) -> None:
        span = ("--offset", str(offset), "--length", str(length))
        await self._tools.must("blkdiscard", "--zeroout", *span, path, cause=cause)

    async def _must(
        self,
        *argv: str,
        cause: str,
        stdin: bytes = b"",
        accepted: frozenset[int] = frozenset({0}),
    ) -> Execution:
        execution = await self._tools.runner.run(
            argv, cause=cause, timeout_s=_TIMEOUT_S, stdin=stdin
        )
        if execution.exit_status == _NO_SUCH_TOOL:
            raise UnsuitableError("cannot-encrypt", "there is no cryptsetup on this node")
        if execution.exit_status == _WRONG_KEY and _WRONG_KEY not in accepted:
            raise UnsuitableError("wrong-key", f"{argv[1]} was refused: the key does not open it")
        if execution.exit_status not in accepted:
            raise meaning(execution)
        return execution


def luks_uuid(volume: str) -> str:
    """Return the UUID that the header of the volume with that uid is made with."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"hwbus:luks:{volume}"))


def _refuse_twins(keys: Sequence[Key], references: Sequence[str]) -> None:
    if any(key in keys[:number] for number, key in enumerate(keys)):
        raise UnsuitableError("same-key", f"{' and '.join(references)} lead to the same key")


def _worst(missing: Sequence[NoKeyError]) -> NoKeyError:
    """Return the one to be told: that of a source that may be heard again comes first."""
    return next((one for one in missing if one.reason == "key-source-silent"), missing[0])


def _name(volume: str) -> str:
    return f"{_NAME}{volume}"


def _foreign(path: str, what: str) -> RefusedToTouchError:
    return RefusedToTouchError(
        Refusal.FOREIGN_SIGNATURE, f"{path} carries {what} instead of our header; it is left alone"
    )
