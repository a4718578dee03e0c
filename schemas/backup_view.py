"""The rows of backups and their targets, as people ask about them."""

from enum import StrEnum

from schemas.errand import BadChunk
from schemas.refusals import Refusal
from schemas.units import Moment
from schemas.views import Tracked
from schemas.volume import Filesystem, Layout


class BackupState(StrEnum):
    """How it is with a backup, so far as is known.

    ``failed``: it was never made; ``damaged``: it cannot be restored whole.
    """

    CREATING = "creating"
    READY = "ready"
    FAILED = "failed"
    DAMAGED = "damaged"


class BackupRow(Tracked, frozen=True, kw_only=True):
    """One backup in one target, made here or found there by a look.

    ``uploaded_bytes`` and ``read_bytes`` are what it cost, known of those that were made here.
    ``bad`` names the first of ``bad_chunks``; ``kept`` is the snapshot that stays for the next one.
    """

    target: str
    name: str
    state: BackupState
    why: str = ""
    code: Refusal | None = None
    cluster: str = ""
    volume: str = ""
    volume_uid: str = ""
    size_bytes: int = 0
    layout: Layout = Layout.LINEAR
    filesystem: Filesystem = Filesystem.NONE
    consistency: str = ""
    at: Moment | None = None
    manifest: str = ""
    chunks: int = 0
    stored_chunks: int = 0
    parent: str = ""
    read_bytes: int = 0
    uploaded_bytes: int = 0
    verified_at: Moment | None = None
    bad_chunks: int = 0
    bad: tuple[BadChunk, ...] = ()
    kept: str = ""
    operation: str = ""


class TargetRow(Tracked, frozen=True, kw_only=True):
    """One place for backups. ``credentials`` is the reference to them.

    ``backups`` are the names that are known, ``more`` so many beyond what a look can tell;
    ``damaged`` have manifests that nobody can read; ``why`` is the last trouble that there was.
    """

    name: str
    url: str
    endpoint: str = ""
    region: str = ""
    credentials: str = ""
    cluster: str = ""
    why: str = ""
    code: Refusal | None = None
    probed_at: Moment | None = None
    listed_at: Moment | None = None
    swept_at: Moment | None = None
    freed_bytes: int = 0
    backups: tuple[str, ...] = ()
    more: int = 0
    damaged: tuple[str, ...] = ()
