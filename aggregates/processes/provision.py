"""Making a volume: set room aside, have the leg made, book what it takes, say that it is there."""

from typing import Self

from msgspec.structs import replace

from aggregates.processes.process import Due, GivingUp, Process
from schemas.disk import ClaimDisk
from schemas.grammar import Event
from schemas.keys import Encryption, header_bytes
from schemas.mending import LeaveReplica, ReplicaMendWithdrawn
from schemas.operation import OperationKind, StepRefused
from schemas.pool import ReportUnreserved, Reserve, RoomReserved, RoomSettled, RoomUnreserved
from schemas.refusals import Refusal
from schemas.replica import (
    CreateReplica,
    RemoveReplica,
    ReplicaCreated,
    ReplicaRemovalWanted,
    ReplicaRemoved,
    ReplicaSpec,
    ReplicaTroubled,
    ReplicaWanted,
)
from schemas.snapshot import (
    ReadSnapshot,
    ReportSnapshotRead,
    SnapshotReadingBegan,
    SnapshotReadingEnded,
)
from schemas.volume import (
    Candidate,
    ConcludeVolume,
    CopyOf,
    Filesystem,
    Layout,
    VolumeProvisioned,
    VolumeProvisioningBegan,
    VolumeProvisioningFailed,
)
from schemas.volume_group import GroupVolumesAdded, JoinGroup


class Provision(Process, frozen=True, kw_only=True):
    """The candidates are tried in their order; the first that keeps its word gets the volume.

    A volume that is to hold a snapshot keeps that from going while it is read; one that is made for
    a group is of it before anything else.
    """

    volume: str
    wish: VolumeProvisioningBegan
    candidates: tuple[Candidate, ...]
    joined: bool = False
    tried: int = 0
    reserved: bool = False
    bounced: bool = False
    wanted: bool = False
    created_bytes: int = 0
    settled: bool = False
    reading: bool = False
    read: bool = False
    removal_wanted: bool = False
    removed: bool = False
    stuck: bool = False
    concluded: bool = False

    @property
    def header_bytes(self) -> int:
        """By how much the leg is larger than the volume."""
        return header_bytes(self.wish.key_ref)

    @property
    def filesystem(self) -> Filesystem:
        """What its leg gets when it is made."""
        return self.wish.filesystem

    @property
    def bare(self) -> bool:
        """Whether nothing is made on its leg, since that comes when it has peers."""
        return False

    @property
    def here(self) -> Candidate:
        """The candidate whose turn it is; the last one when all have been tried."""
        return self.candidates[min(self.tried, len(self.candidates) - 1)]

    def forward(self) -> Due | None:
        """Reserve, have the leg made, wait for the node and the ledger, conclude."""
        if self.succeeded:
            return self._read() or self.completed()
        if self.wish.group is not None and not self.joined:
            return self._join(self.wish.group)
        if self.wish.source is not None and not self.reading:
            return self._begin_reading(self.wish.source)
        if self.bounced:
            return self._unreserve()
        if not self.reserved:
            return Due("reserve", self._reserve(), self.tried)
        if not self.wanted:
            return Due("create", self._create(), self.tried)
        if not (self.created_bytes and self.settled):
            return None
        return Due("ready", self.ready())

    def back(self, why: GivingUp) -> Due | None:
        """Have the leg removed, give the room back, say that there is no volume."""
        if self.wanted and not self.removed:
            if not self.removal_wanted:
                return self._undo()
            if not (self.out_of_time or self.stuck):
                return None
        elif self.reserved and not self.wanted:
            return self._unreserve()
        if not self.concluded:
            return Due(
                "failed",
                ConcludeVolume(
                    volume=self.volume,
                    operation=self.operation,
                    code=why.code,
                    because=why.because[:1000],
                ),
            )
        left = self.wanted and not self.removed
        return self._read() or self.given_up(
            why, *((f"replica/{self.here.node}/{self.volume}",) if left else ())
        )

    def refused(self, refusal: StepRefused) -> Self:
        """Go on with the next candidate when this one does not keep its word."""
        if refusal.step in {"remove", "leave"} and refusal.code is Refusal.UNKNOWN_REPLICA:
            return replace(self, removal_wanted=True, removed=True)  # its node has been forgotten
        left = len(self.candidates) - self.tried - 1
        if refusal.step not in {"reserve", "create"} or self.wanted:
            return self.give_up(refusal.code, refusal.because)
        bounced = refusal.step == "create"
        onward = replace(self, bounced=bounced, tried=self.tried + (0 if bounced else 1))
        return onward if left else onward.give_up(refusal.code, refusal.because)

    def note(self, event: Event) -> Self:
        """Note what pool and node say."""
        match event:
            case GroupVolumesAdded():
                return replace(self, joined=True)
            case RoomReserved():
                return replace(self, reserved=True)
            case RoomUnreserved():
                bounced = 1 if self.bounced else 0
                return replace(self, reserved=False, bounced=False, tried=self.tried + bounced)
            case ReplicaWanted():
                return replace(self, wanted=True)
            case ReplicaCreated():
                return replace(self, created_bytes=event.size_bytes)
            case RoomSettled():
                return replace(self, settled=True)
            case SnapshotReadingBegan() | SnapshotReadingEnded():
                return replace(self, reading=True, read=isinstance(event, SnapshotReadingEnded))
            case ReplicaTroubled(permanent=True):
                # Also its removal may be given up: then it is left behind, and named.
                return replace(self.give_up(event.code, event.because), stuck=self.removal_wanted)
            case ReplicaRemovalWanted() | ReplicaMendWithdrawn():
                return replace(self, removal_wanted=True)
            case ReplicaRemoved():
                return replace(self, removed=True)
            case VolumeProvisioned():
                return self.success()
            case VolumeProvisioningFailed():
                return replace(self, concluded=True)
            case _:
                return self

    def ready(self) -> ConcludeVolume:
        """Return that the volume is there, as large as the node has made it."""
        return ConcludeVolume(
            volume=self.volume,
            operation=self.operation,
            node=self.here.node,
            pool=self.here.pool,
            size_bytes=self.created_bytes - self.header_bytes,
        )

    def _join(self, group: str) -> Due:
        about = {"volume": self.volume, "uid": self.wish.uid, "operation": self.operation}
        return Due("join", JoinGroup(group=group, **about))

    def _reserve(self) -> Reserve | ClaimDisk:
        return Reserve(
            pool=self.here.pool,
            node=self.here.node,
            claim=self.wish.uid,
            size_bytes=self.wish.size_bytes + self.header_bytes,
            operation=self.operation,
            thin=self.wish.layout is Layout.THIN,
            stripes=self.wish.stripes,
        )

    def _create(self) -> CreateReplica:
        key_ref = self.wish.key_ref
        return CreateReplica(
            volume=self.volume,
            node=self.here.node,
            operation=self.operation,
            spec=ReplicaSpec(
                uid=self.wish.uid,
                pool=self.here.pool,
                size_bytes=self.wish.size_bytes + self.header_bytes,
                layout=self.wish.layout,
                stripes=self.wish.stripes,
                filesystem=self.filesystem,
                copy_of=self._source(),
                encryption=Encryption(keys=(key_ref,)) if key_ref else None,
                from_backup=self.wish.backup,
                adopts=self.wish.adopts,
                bare=self.bare,
            ),
        )

    def _undo(self) -> Due:
        """Return what undoes the making; what somebody else had made is given back, whole."""
        node, operation = self.here.node, self.operation
        if self.wish.adopts is not None:
            leave = LeaveReplica(volume=self.volume, node=node, operation=operation)
            return Due("leave", leave)
        return Due("remove", RemoveReplica(volume=self.volume, node=node, operation=operation))

    def _source(self) -> CopyOf | None:
        """Return what is to be in the leg, with the node that has it if that is another one."""
        source = self.wish.source
        near = source is not None and source.node == self.here.node
        return replace(source, node=None) if source is not None and near else source

    def _begin_reading(self, source: CopyOf) -> Due:
        snapshot, uid = source.snapshot, source.uid
        return Due("read", ReadSnapshot(snapshot=snapshot, uid=uid, operation=self.operation))

    def _read(self) -> Due | None:
        """Return what lets the snapshot go again, if it is held."""
        source = self.wish.source
        if source is None or not self.reading or self.read:
            return None
        return Due(
            "let-go",
            ReportSnapshotRead(snapshot=source.snapshot, uid=source.uid, operation=self.operation),
        )

    def _unreserve(self) -> Due:
        return Due(
            "unreserve",
            ReportUnreserved(pool=self.here.pool, node=self.here.node, claim=self.wish.uid),
            self.tried,
        )


def kind_of(event: VolumeProvisioningBegan) -> OperationKind:
    """Return what kind of operation it is to make that volume."""
    filled = event.source is not None or event.backup is not None
    return OperationKind.VOLUME_RESTORE if filled else OperationKind.VOLUME_PROVISION


def begin(event: VolumeProvisioningBegan) -> Provision:
    """Return the operation that *event* began."""
    return Provision(
        operation=event.operation,
        kind=kind_of(event),
        object=f"volume/{event.volume}",
        deadline=event.deadline,
        volume=event.volume,
        wish=event,
        candidates=tuple(c for c in event.candidates if c.code is None),
    )
