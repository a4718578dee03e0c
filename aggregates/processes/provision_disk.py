"""Making a volume of a whole disk: claim it, tell its node, have the leg made, say it is there."""

from typing import Self

from msgspec.structs import replace

from aggregates.processes import provision, provision_replicated
from aggregates.processes.process import Due, GivingUp
from aggregates.processes.provision import Provision
from schemas.disk import ClaimDisk, DiskClaimed, DiskReleased, ReportDiskReleased
from schemas.grammar import Event
from schemas.node import AttachPool, DetachPool, PoolAttached, PoolDetached
from schemas.operation import StepRefused
from schemas.replica import CreateReplica, ReplicaCreated
from schemas.volume import ConcludeVolume, Layout, VolumeProvisioningBegan


class ProvisionDisk(Provision, frozen=True, kw_only=True):
    """A disk instead of room in a pool: it is claimed once, by a decision of its own.

    Its node carries the group on it as it carries pools, so that the node is not removed with it.
    """

    attached: bool = False

    def forward(self) -> Due | None:
        """Attach what was claimed to its node before anything is made of it."""
        if self.attached and self.bounced:
            return self._detach()
        if self.reserved and not (self.attached or self.bounced or self.wanted):
            wish = AttachPool(
                node=self.here.node,
                pool=self.here.pool,
                operation=self.operation,
                volume=self.volume,
            )
            return Due("attach", wish, self.tried)
        return super().forward()

    def back(self, why: GivingUp) -> Due | None:
        """Take it from its node before the claim is given back; a leg's removal does both."""
        if self.attached and not self.wanted:
            return self._detach()
        return super().back(why)

    def refused(self, refusal: StepRefused) -> Self:
        """Give the disk back also if its node does not take it."""
        as_create = replace(refusal, step="create") if refusal.step == "attach" else refusal
        return super().refused(as_create)

    def note(self, event: Event) -> Self:
        """Note what disk and node say."""
        match event:
            case DiskClaimed():
                return replace(self, reserved=True)
            case DiskReleased():
                bounced = 1 if self.bounced else 0
                return replace(self, reserved=False, bounced=False, tried=self.tried + bounced)
            case PoolAttached() | PoolDetached():
                return replace(self, attached=isinstance(event, PoolAttached))
            case ReplicaCreated():
                return replace(self, created_bytes=event.size_bytes, settled=True)
            case _:
                return super().note(event)

    def _reserve(self) -> ClaimDisk:
        return ClaimDisk(
            disk=self.here.disk or "",
            node=self.here.node,
            pool=self.here.pool,
            operation=self.operation,
            volume=self.volume,
        )

    def _unreserve(self) -> Due:
        here = self.here
        given = ReportDiskReleased(disk=here.disk or "", node=here.node, pool=here.pool)
        return Due("unreserve", given, self.tried)

    def _create(self) -> CreateReplica:
        wish = super()._create()
        spec = replace(wish.spec, size_bytes=self.here.room_bytes, disk=self.here.disk)
        return replace(wish, spec=spec)

    def ready(self) -> ConcludeVolume:
        """Return that the volume is there, and which disk it is."""
        return replace(super().ready(), disk=self.here.disk)

    def _detach(self) -> Due:
        wish = DetachPool(node=self.here.node, pool=self.here.pool)
        return Due("detach", wish, self.tried)


def begin(event: VolumeProvisioningBegan) -> Provision:
    """Return the operation that *event* began, of whichever layout."""
    if event.replicas > 1:
        return provision_replicated.begin(event)
    began = provision.begin(event)
    if event.layout is not Layout.DISK:
        return began
    return ProvisionDisk(
        operation=began.operation,
        kind=began.kind,
        object=began.object,
        deadline=began.deadline,
        volume=began.volume,
        wish=began.wish,
        candidates=began.candidates,
    )
