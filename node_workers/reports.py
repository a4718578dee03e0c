"""What the hands say of what they saw: reports as letters, each with an id of its own for ever."""

import hashlib

import msgspec

from hwbus import subjects
from node_workers.keys import NoKeyError
from node_workers.observation import ContentKind, DiskContent, ObservedDisk
from node_workers.ports import (
    InUseError,
    LimitsError,
    LoanError,
    NoSpaceError,
    NotThereError,
    PoolState,
    RefusedToTouchError,
    StorageError,
    ThinPoolState,
    ToolTimedOutError,
    UnsuitableError,
    VolumeState,
)
from node_workers.ports import Refusal as Untouched
from node_workers.steps import (
    HaveAttachment,
    HaveErrand,
    HaveLeft,
    HaveMended,
    HaveNoAttachment,
    HaveNoErrand,
    HaveNoPool,
    HavePool,
    HaveReplica,
    HaveReplicaAwake,
    HaveSplitSettled,
    Step,
)
from schemas.attachment import ReportAttachmentTrouble
from schemas.disk import Content, DiskClass, Sighting
from schemas.errand import ReportErrandTrouble
from schemas.grammar import Report, kind_and_verb
from schemas.pool import PoolFacts, ReportPoolTrouble
from schemas.refusals import Refusal
from schemas.replica import ReportReplicaPresent, ReportReplicaTrouble
from schemas.replication import tie_of

_ID_CHARACTERS_MAX = 128
_BECAUSE_CHARACTERS_MAX = 1000

_MAY_PASS = frozenset({Untouched.DISK_MISSING, Untouched.DISK_UNREADABLE})
_NOT_THERE = {
    "pool-missing": Refusal.UNKNOWN_POOL,
    "thin-pool-missing": Refusal.NO_THIN_POOL,
    "volume-missing": Refusal.UNKNOWN_REPLICA,
    "snapshot-missing": Refusal.SNAPSHOT_MISSING,
    "header-lost": Refusal.HEADER_LOST,
    "metadata-missing": Refusal.METADATA_LOST,
    "verdict-unknown": Refusal.PEER_UNREACHABLE,
    "peer-smaller": Refusal.PEER_UNREACHABLE,
}
_NOT_LENT = {
    "source-silent": Refusal.SOURCE_SILENT,
    "source-unreachable": Refusal.SOURCE_UNREACHABLE,
}
_NEVER_BACK = frozenset({Refusal.SNAPSHOT_MISSING, Refusal.HEADER_LOST, Refusal.METADATA_LOST})
_NO_KEY = {
    "bad-key-reference": Refusal.BAD_KEY_REFERENCE,
    "key-missing": Refusal.KEY_MISSING,
    "key-source-unset": Refusal.KEY_SOURCE_UNSET,
    "key-source-silent": Refusal.KEY_SOURCE_SILENT,
    "key-denied": Refusal.KEY_DENIED,
    "key-unfit": Refusal.KEY_UNFIT,
    "key-exposed": Refusal.KEY_EXPOSED,
}
_UNSUITABLE = {
    "too-few-disks": Refusal.TOO_FEW_DISKS,
    "cannot-replicate": Refusal.CANNOT_REPLICATE,
    "not-up-to-date": Refusal.NOT_UP_TO_DATE,
    "verify-broken": Refusal.VERIFY_BROKEN,
    "not-as-seen": Refusal.NOT_AS_SEEN,
    "snapshot-lost": Refusal.SNAPSHOT_LOST,
    "copy-differs": Refusal.COPY_DIFFERS,
    "no-credentials": Refusal.NO_CREDENTIALS,
    "cannot-encrypt": Refusal.CANNOT_ENCRYPT,
    "wrong-key": Refusal.WRONG_KEY,
    "same-key": Refusal.SAME_KEY,
    "no-key-slot": Refusal.NO_KEY_SLOT,
    "used-beside": Refusal.USED_BESIDE,
    "not-still": Refusal.NOT_STILL,
    "backup-exists": Refusal.BACKUP_EXISTS,
    "backup-missing": Refusal.UNKNOWN_BACKUP,
    "backup-damaged": Refusal.BACKUP_DAMAGED,
    "backup-foreign": Refusal.BACKUP_FOREIGN,
    "backup-changed": Refusal.BACKUP_CHANGED,
    "target-denied": Refusal.TARGET_DENIED,
    "target-no-bucket": Refusal.NO_BUCKET,
    "target-unfit": Refusal.TARGET_UNFIT,
}
_CONTENTS = {
    ContentKind.BLANK: Content.BLANK,
    ContentKind.PARTITION_TABLE: Content.PARTITIONS,
    ContentKind.FILESYSTEM: Content.FILESYSTEM,
    ContentKind.RAID: Content.RAID,
    ContentKind.MOUNTED: Content.IN_USE,
    ContentKind.HELD: Content.IN_USE,
    ContentKind.SYSTEM: Content.SYSTEM,
    ContentKind.UNREADABLE: Content.OTHER,
}


# What is said of the node itself. The log knows a node before it is told what is on it.
NODE_LANE = "node"


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A report on its way. Letters of one ``lane`` go out in order.

    ``newest_only``: it tells a state, so an older letter of its lane that still waits is void.
    """

    lane: str
    subject: str
    headers: dict[str, str]
    data: bytes
    newest_only: bool = False


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """Why something wanted is not so; ``permanent``: trying again would not help."""

    code: Refusal
    because: str
    permanent: bool


def letter(
    report: Report,
    *,
    node: str,
    command_id: str,
    lane: str,
    cause: str,
    correlation: str = "",
    traceparent: str = "",
    newest_only: bool = False,
) -> Letter:
    """Return *report* as it goes over the bus."""
    headers = {
        "Hwbus-Command-Id": command_id,
        "Hwbus-Actor": f"worker:{node}",
        "Hwbus-Cause": cause,
    }
    if correlation:
        headers["Hwbus-Correlation"] = correlation
    if traceparent:
        headers["traceparent"] = traceparent
    return Letter(
        lane=lane,
        subject=subjects.command(*kind_and_verb(report)),
        headers=headers,
        data=msgspec.json.encode(report),
        newest_only=newest_only,
    )


def command_id(node: str, *parts: str) -> str:
    """Return the id of a report: the same for the same thing said again, never another's."""
    plain = ":".join((node, *parts))
    if len(plain) <= _ID_CHARACTERS_MAX:
        return plain
    digest = hashlib.sha256(plain.encode()).hexdigest()
    return f"{plain[:60]}:{digest}"


def trouble_of(  # noqa: C901  (a table of errors)
    error: StorageError, *, unready: bool = False
) -> Trouble:
    """Return what *error* means to whoever wants the thing done.

    What is *unready* can be held open by nobody but a tool that outlives the worker that started
    it, such as a ``mkfs`` or a copier: that passes.
    """
    because = error.sentence[:_BECAUSE_CHARACTERS_MAX]
    match error:
        case RefusedToTouchError() if error.refusal in _MAY_PASS:
            code, permanent = Refusal.DISK_GONE, False
        case RefusedToTouchError():
            code, permanent = Refusal.REFUSED_TO_TOUCH, True
        case InUseError():
            code, permanent = Refusal.IN_USE, not unready or bool(error.mount_point)
        case NoSpaceError():
            metadata = error.reason == "no-metadata-space"
            code, permanent = Refusal.METADATA if metadata else Refusal.NO_SPACE_ON_NODE, True
        case UnsuitableError():
            code, permanent = _UNSUITABLE.get(error.reason, Refusal.BAD_LAYOUT), True
        case LoanError():
            code, permanent = _NOT_LENT.get(error.reason, Refusal.SOURCE_NOT_LENT), False
        case LimitsError():
            bare = error.reason == "no-cgroup"
            code, permanent = Refusal.NO_CGROUP if bare else Refusal.NO_IO_CONTROLLER, True
        case NotThereError():
            code = _NOT_THERE.get(error.reason, Refusal.TOOL_FAILED)
            permanent = code in _NEVER_BACK  # nothing that may come back
        case NoKeyError():
            # Whoever waits is told at once what to do about it; only a silent source may pass.
            code = _NO_KEY.get(error.reason, Refusal.KEY_DENIED)
            permanent = code is not Refusal.KEY_SOURCE_SILENT
        case ToolTimedOutError():
            code, permanent = Refusal.TOOL_TIMED_OUT, False
        case _:
            code, permanent = Refusal.TOOL_FAILED, False
    return Trouble(code=code, because=because, permanent=permanent)


def trouble_report(step: Step, trouble: Trouble, node: str) -> Report:
    """Return the report that *step* met *trouble*."""
    if isinstance(step, HavePool | HaveNoPool):
        return ReportPoolTrouble(
            pool=step.group,
            node=node,
            uid=step.uid,
            code=trouble.code,
            because=trouble.because,
            permanent=trouble.permanent,
        )
    if isinstance(step, HaveErrand | HaveNoErrand):
        return ReportErrandTrouble(
            operation=step.uid,
            node=node,
            code=trouble.code,
            because=trouble.because,
            permanent=trouble.permanent,
        )
    if isinstance(step, HaveAttachment | HaveNoAttachment):
        return ReportAttachmentTrouble(
            volume=step.volume,
            node=node,
            uid=step.uid,
            code=trouble.code,
            because=trouble.because,
            permanent=trouble.permanent,
        )
    return ReportReplicaTrouble(
        volume=step.key.partition("/")[2],
        node=node,
        uid=step.uid,
        code=trouble.code,
        because=trouble.because,
        permanent=trouble.permanent,
    )


def pool_facts(pool: PoolState, thin: ThinPoolState | None) -> PoolFacts:
    """Return a pool's facts as the ledger wants them."""
    return PoolFacts(
        size_bytes=pool.size_bytes,
        extent_bytes=pool.extent_bytes,
        # One half of the area holds the metadata as it is, the other what it is about to become.
        metadata_bytes=pool.metadata_bytes // 2,
        disks=tuple(filter(None, pool.disks)),  # without what was added by hand, unstamped
        thin_bytes=thin.size_bytes if thin is not None else 0,
        thin_overhead_bytes=thin.taken_bytes - thin.size_bytes if thin is not None else 0,
    )


def sighting(disk: ObservedDisk) -> Sighting:
    """Return the disk in the words of the log."""
    return Sighting(
        path=disk.path,
        size_bytes=disk.size_bytes,
        media=DiskClass(disk.disk_class.value),
        content=_content(disk),
        detail=_detail(disk.content),
        serial=disk.serial,
        wwn=disk.wwn,
        model=disk.model,
    )


def _content(disk: ObservedDisk) -> Content:
    if disk.content.kind is ContentKind.LVM:
        ours = disk.stamped or disk.content.pool_uid
        return Content.OURS if ours else Content.FOREIGN_LVM
    if disk.content.kind is ContentKind.BLANK and disk.read_only:
        return Content.OTHER
    return _CONTENTS[disk.content.kind]


def _detail(content: DiskContent) -> str:
    return content.detail or content.pool


def present(
    step: HaveReplica | HaveReplicaAwake | HaveMended | HaveLeft | HaveSplitSettled,
    state: VolumeState,
    node: str,
) -> ReportReplicaPresent:
    """Return that the leg is there, as storage has it."""
    stays = isinstance(step, HaveReplicaAwake)
    stays = stays or (isinstance(step, HaveReplica) and step.withdrawn)
    return ReportReplicaPresent(
        volume=step.volume,
        node=node,
        uid=step.uid,
        size_bytes=state.size_bytes,
        device=state.path,
        withdrawn=stays,
        tie=tie_of(step.spec.replication, node),
    )
