"""The program that speaks with an object store: probes it, fills it, reads it, tidies it up.

Run as a program of its own, so that each stretch of the work is on the audit like any other tool:
``python -m node_workers.backing_up VERB ABOUT [--for S]``, where VERB is probe, list, upload,
withdraw, restore, verify or sweep, and ABOUT is what it is about, in JSON. Credentials come on
standard input, in JSON, and go nowhere else. It prints JSON: what came of it.

Exit status: 0 done; 3 its time was over before; 5 another process works on the same journal; 6 it
can never be done so, and what it printed says why: ``{"code": …, "because": …}``; 1 anything else,
such as a store that does not answer: trying again may help.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from hwbus.bucket import (
    AlreadyThereError,
    Bucket,
    BucketError,
    Credentials,
    MissingError,
    Where,
)
from node_workers import backup_download, backup_format
from node_workers.backup_device import Device
from node_workers.backup_download import Backup, BadChunkError, ChangedError, Downloaded
from node_workers.backup_format import DamagedError, ForeignError
from node_workers.backup_journal import Journal, TakenError
from node_workers.backup_sweep import Sweep, Swept, SweptByOthersError
from node_workers.backup_upload import NameTakenError, Upload, Uploaded, UploadSpec
from node_workers.copier import DiffersError, Pace, die_with_parent

DONE, FAILED, TIME_OVER, TAKEN, NEVER = 0, 1, 3, 5, 6
PROGRAM = ("-m", "node_workers.backing_up")
LISTED_MAX = 100  # what a report may hold is bounded
OWN_FILES = "errand-"
_OLD_S = 31 * 86_400
_LOADERS = 8
_DAMAGED_MAX = 20
_SAID_MAX = 200
T = TypeVar("T")

_CODES: tuple[tuple[type[Exception], str], ...] = (
    (NameTakenError, "backup-exists"),
    (MissingError, "backup-missing"),
    (ForeignError, "backup-foreign"),
    (ChangedError, "backup-changed"),
    (BadChunkError, "backup-damaged"),
    (DamagedError, "backup-damaged"),
    (DiffersError, "copy-differs"),
)


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """Why it can never be done as asked."""

    code: str
    because: str


class NoConditionError(Exception):
    """The store overwrites what it was asked to leave."""


class ProbeSpec(msgspec.Struct, frozen=True, kw_only=True):
    """An object to be written, read and deleted again, named after *probe*."""

    where: Where
    probe: str


class ListSpec(msgspec.Struct, frozen=True, kw_only=True):
    """All backups that lie somewhere, or that of one name, or those of one volume."""

    where: Where
    name: str = ""
    volume: str = ""


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """The manifests with their digests, the newest first; ``damaged`` cannot be read.

    ``more`` were not looked at, since there were enough.
    """

    manifests: tuple[tuple[str, backup_format.Manifest], ...]
    damaged: tuple[str, ...] = ()
    more: int = 0


class PutSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A device to be backed up."""

    where: Where
    journal: str
    upload: UploadSpec


class WithdrawSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A backup that was given up: its writer writes no more."""

    where: Where
    writer: str


class RestoreSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A backup, by its name and the digest of its manifest, to be written to a device."""

    where: Where
    journal: str
    name: str
    manifest: str
    device: str
    sparse: bool = False
    rate_bytes_per_s: int = 0


class VerifySpec(msgspec.Struct, frozen=True, kw_only=True):
    """A backup to be read."""

    where: Where
    journal: str
    name: str
    rate_bytes_per_s: int = 0


class SweepSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What no backup needs, older than ``grace_s``, and the backup ``name`` if it is given."""

    where: Where
    journal: str
    sweeper: str
    name: str = ""
    grace_s: int


def main(argv: Sequence[str] | None = None) -> int:
    """Do as the arguments say; return the exit status."""
    given = _arguments(argv)
    die_with_parent()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]  # obstore would take what it is not told from there
    try:
        credentials = msgspec.json.decode(sys.stdin.buffer.read(), type=Credentials)
    except msgspec.MsgspecError:
        sys.stderr.write("no credentials came on standard input\n")
        return FAILED
    return run(given.verb, given.about, given.seconds, lambda w: Bucket.open(w, credentials))


def run(verb: str, about: str, seconds: float, open_: Callable[[Where], Bucket]) -> int:
    """Do *verb*, print what came of it, and return the exit status."""
    try:
        found, done = _VERBS[verb](about.encode(), seconds, open_)
    except (TakenError, SweptByOthersError) as error:
        sys.stderr.write(f"{error}\n")
        return TAKEN
    except BucketError as error:
        if error.reason == "silent":
            sys.stderr.write(f"{error}\n")
            return FAILED
        return _never(f"target-{error.reason}", str(error))
    except NoConditionError as error:
        return _never("target-unfit", str(error))
    except tuple(kind for kind, _ in _CODES) as error:
        code = next(code for kind, code in _CODES if isinstance(error, kind))
        return _never(code, str(error))
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return FAILED
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    return DONE if done else TIME_OVER


def _never(code: str, because: str) -> int:
    sys.stderr.write(f"{because}\n")
    sys.stdout.write(msgspec.json.encode(Said(code=code, because=because)).decode() + "\n")
    return NEVER


def _probe(about: bytes, _: float, open_: Callable[[Where], Bucket]) -> tuple[Any, bool]:
    spec = msgspec.json.decode(about, type=ProbeSpec)
    bucket, path = open_(spec.where), f"{backup_format.PROBES}/{spec.probe}"
    bucket.delete([path])
    bucket.put(path, spec.probe.encode(), new=True)
    try:
        bucket.put(path, b"overwritten", new=True)
    except AlreadyThereError:
        pass
    else:
        bucket.delete([path])
        raise NoConditionError("the store overwrote an object that it was asked to leave alone")
    if bucket.get(path) != spec.probe.encode():
        raise OSError("what was written reads back otherwise")
    bucket.delete([path])
    if bucket.look(path) is not None:
        raise OSError("what was deleted is still there")
    return {}, True


def _list(about: bytes, _: float, open_: Callable[[Where], Bucket]) -> tuple[Listed, bool]:
    spec = msgspec.json.decode(about, type=ListSpec)
    bucket = open_(spec.where)
    there = bucket.all(backup_format.MANIFESTS)
    if spec.name:
        alone = bucket.look(backup_format.manifest_path(spec.name))
        there = iter(() if alone is None else (alone,))
    found = [one.path for one in sorted(there, key=lambda one: one.at, reverse=True)]

    def load(path: str) -> tuple[str, backup_format.Manifest] | str | None:
        try:
            stored = bucket.get(path)
            return backup_format.seal(stored), backup_format.read(stored)
        except MissingError:
            return None  # removed meanwhile
        except (DamagedError, ForeignError) as error:
            return f"{path.rpartition('/')[2]}: {error}"

    manifests: list[tuple[str, backup_format.Manifest]] = []
    damaged: list[str] = []
    with ThreadPoolExecutor(_LOADERS) as pool:
        while found and len(manifests) < LISTED_MAX:
            some, found = found[:LISTED_MAX], found[LISTED_MAX:]
            for one in pool.map(load, some):
                if isinstance(one, str):
                    damaged.append(one[:_SAID_MAX])
                elif one is not None and spec.volume in {"", one[1].volume}:
                    manifests.append(one)
    more = len(found) + max(0, len(manifests) - LISTED_MAX) + max(0, len(damaged) - _DAMAGED_MAX)
    listed = Listed(
        manifests=tuple(manifests[:LISTED_MAX]), damaged=tuple(damaged[:_DAMAGED_MAX]), more=more
    )
    return listed, True


def _upload(about: bytes, seconds: float, open_: Callable[[Where], Bucket]) -> tuple[Any, bool]:
    spec = msgspec.json.decode(about, type=PutSpec)
    upload = spec.upload
    identity = [spec.where.url, upload.name, upload.snapshot_uid, upload.size_bytes]
    pace = Pace(upload.rate_bytes_per_s)
    with _journal(spec.journal, identity) as journal:
        job = Upload(open_(spec.where), upload, journal, lambda: Device(upload.device, pace=pace))
        told: Uploaded = job.turn(seconds)
    return told, bool(told.manifest)


def _withdraw(about: bytes, _: float, open_: Callable[[Where], Bucket]) -> tuple[Any, bool]:
    spec = msgspec.json.decode(about, type=WithdrawSpec)
    open_(spec.where).delete([f"{backup_format.WRITERS}/{spec.writer}"])
    return {}, True


def _restore(about: bytes, seconds: float, open_: Callable[[Where], Bucket]) -> tuple[Any, bool]:
    spec = msgspec.json.decode(about, type=RestoreSpec)
    backup = Backup(open_(spec.where), spec.name, spec.manifest)
    identity = [spec.where.url, spec.name, spec.manifest, spec.device]
    pace = Pace(spec.rate_bytes_per_s)
    with _journal(spec.journal, identity) as journal:
        told: Downloaded = backup_download.restore(
            backup,
            journal,
            lambda: Device(spec.device, write=True, pace=pace),
            sparse=spec.sparse,
            seconds=seconds,
        )
    return told, told.whole


def _verify(about: bytes, seconds: float, open_: Callable[[Where], Bucket]) -> tuple[Any, bool]:
    spec = msgspec.json.decode(about, type=VerifySpec)
    backup = Backup(open_(spec.where), spec.name)
    identity = [spec.where.url, spec.name, backup.manifest.snapshot_uid]
    with _journal(spec.journal, identity) as journal:
        pace = Pace(spec.rate_bytes_per_s)
        told = backup_download.verify(backup, journal, pace, seconds=seconds)
    return told, told.whole


def _sweep(about: bytes, seconds: float, open_: Callable[[Where], Bucket]) -> tuple[Any, bool]:
    spec = msgspec.json.decode(about, type=SweepSpec)
    bucket = open_(spec.where)
    removed = Path(f"{spec.journal}-removed")
    if spec.name and not removed.exists():
        path = backup_format.manifest_path(spec.name)
        if bucket.look(path) is None:
            raise MissingError(f"there is no backup {spec.name}")
        removed.parent.mkdir(parents=True, exist_ok=True)
        removed.touch()  # before, so that the next turn does not miss what this one removed
        bucket.delete([path])
    elif spec.name:
        bucket.delete([backup_format.manifest_path(spec.name)])
    grace = timedelta(seconds=spec.grace_s)
    with _journal(spec.journal, [spec.where.url, spec.sweeper]) as journal:
        told: Swept = Sweep(bucket, spec.sweeper, grace, journal).turn(seconds)
    return told, told.done


_VERBS: dict[str, Callable[[bytes, float, Callable[[Where], Bucket]], tuple[Any, bool]]] = {
    "probe": _probe,
    "list": _list,
    "upload": _upload,
    "withdraw": _withdraw,
    "restore": _restore,
    "verify": _verify,
    "sweep": _sweep,
}


def _journal(path: str, identity: Sequence[object]) -> Journal:
    journal = Journal(Path(path), msgspec.json.encode(identity).decode())
    now_s = Path(path).stat().st_mtime
    for other in Path(path).parent.glob(f"{OWN_FILES}*"):
        # No operation lasts so long: whoever left it behind was killed before it could tidy up.
        if now_s - other.stat().st_mtime > _OLD_S:
            other.unlink(missing_ok=True)
    return journal


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="node_workers.backing_up", description=__doc__)
    parser.add_argument("verb", choices=sorted(_VERBS))
    parser.add_argument("about")
    parser.add_argument("--for", type=float, default=float("inf"), dest="seconds")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
