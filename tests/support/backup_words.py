"""Words about backups as tests need them, of the volume pg on n1."""

from datetime import timedelta
from typing import Any

from schemas.backups import Place
from schemas.errand import (
    BadChunk,
    Compare,
    Compared,
    Errand,
    EvenedOut,
    EvenOut,
    Found,
    ListAll,
    Listed,
    Probe,
    Probed,
    Put,
    PutAside,
    PutBack,
    Stored,
    Sweep,
    Swept,
    Upload,
    Uploaded,
    Verified,
    Verify,
)
from schemas.replica import Consistency
from schemas.target import AddTarget, BackupBegan, BackupMade, TargetAdded, TargetWorkBegan, Work
from schemas.volume import Filesystem, Layout
from tests.support.given import GIB, NOON, OPERATION, UID

PLACE = Place(url="s3://bucket/prefix", endpoint="http://127.0.0.1:1", credentials="file:s3")
ADD = AddTarget(
    target="s3", url=PLACE.url, endpoint=PLACE.endpoint, credentials="file:s3", cluster="home"
)
ADDED = TargetAdded(target="s3", place=PLACE, cluster="home")
SEAL = "ab" * 32
UPLOADED = Uploaded(
    manifest=SEAL, chunks=256, stored_chunks=10, read_bytes=GIB, uploaded_bytes=40 << 20
)
BAD = BadChunk(index=7, chunk="cd" * 32, why="missing")
SWEPT = Swept(chunks=3, freed_bytes=12 << 20)
STORED = Stored(
    backup="far",
    manifest=SEAL,
    cluster="elsewhere",
    volume="db",
    volume_uid=UID,
    size_bytes=GIB,
    layout=Layout.LINEAR,
    filesystem=Filesystem.XFS,
    consistency="crash",
    at=NOON,
    chunks=256,
    stored_chunks=9,
)


def backup_began(backup: str = "pg-1", **more: Any) -> BackupBegan:
    """Return that pg shall be backed up."""
    about: dict[str, Any] = {
        "target": "s3",
        "operation": OPERATION,
        "at": NOON,
        "deadline": NOON + timedelta(days=7),
        "backup": backup,
        "place": PLACE,
        "cluster": "home",
        "volume": "pg",
        "volume_uid": UID,
        "node": "n1",
        "pool": "fast",
        "size_bytes": GIB,
        "layout": Layout.LINEAR,
        "filesystem": Filesystem.NONE,
        "snapshot": "backup-00000002",
    }
    return BackupBegan(**{**about, **more})


def backup_made(backup: str = "pg-1", **more: Any) -> BackupMade:
    """Return that pg is backed up."""
    about: dict[str, Any] = {
        "target": "s3",
        "operation": OPERATION,
        "backup": backup,
        "cluster": "home",
        "volume": "pg",
        "volume_uid": UID,
        "size_bytes": GIB,
        "layout": Layout.LINEAR,
        "filesystem": Filesystem.NONE,
        "consistency": Consistency.FILESYSTEM,
        "at": NOON,
        "uploaded": UPLOADED,
    }
    return BackupMade(**{**about, **more})


def work_began(work: Work, **more: Any) -> TargetWorkBegan:
    """Return that something shall be done with the target."""
    about: dict[str, Any] = {"target": "s3", "operation": OPERATION, "node": "n1", "place": PLACE}
    return TargetWorkBegan(**{**about, "work": work, "deadline": NOON, **more})


def found(errand: Errand) -> Found:
    """Return what comes of an errand on a good day."""
    match errand:
        case Probe():
            return Probed()
        case ListAll():
            return Listed(backups=(STORED,))
        case Upload():
            return UPLOADED
        case Verify():
            return Verified(chunks=256)
        case Sweep():
            return SWEPT
        case PutAside() | PutBack():
            return Put()
        case Compare():
            return Compared(differing_bytes=0)
        case EvenOut():
            return EvenedOut()
