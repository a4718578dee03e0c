"""What is said about comparing the replicas of a volume, and about evening out what differs."""

from typing import Annotated

import msgspec

from schemas.grammar import Event, Report, Request
from schemas.refusals import Refusal
from schemas.units import Bytes, Id, Moment, Name, Seconds, SomeBytes, Text

VERIFY_S = 2 * 86_400
"""Comparing takes what reading takes; this deadline is there so that none is forgotten."""

VerifySeconds = Annotated[Seconds, msgspec.Meta(description="Two days unless it is given.")]


class VerifyVolume(Request, frozen=True, kw_only=True, omit_defaults=True, tag="volume.verify.v1"):
    """Have the replicas compared by checksum, with the volume in use.

    With ``repair`` the blocks that differ are then copied from the replica that is written to:
    which of them is right nobody can know.
    """

    volume: Name
    repair: bool = False
    deadline_s: VerifySeconds = VERIFY_S


class RepairReplicas(Request, frozen=True, kw_only=True, tag="volume.repair.v1"):
    """Step of verifying: what differs shall be copied; nothing else is done to the volume then."""

    volume: Name
    operation: Id


class ConcludeVerification(
    Report, frozen=True, kw_only=True, omit_defaults=True, tag="volume.report-verified.v1"
):
    """The replicas are compared; so much of them differs, or differed and was ``repaired``.

    ``goes_on``: it is to be repaired now. A ``code``: it was given up.
    """

    volume: Name
    operation: Id
    differing_bytes: SomeBytes = 0
    goes_on: bool = False
    repaired: bool = False
    code: Refusal | None = None
    because: Text = ""


class VerificationBegan(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="volume.verification-began.v1"
):
    """The replicas on ``node``, which is written to, and on ``peers`` are being compared."""

    volume: Name
    uid: Id
    operation: Id
    deadline: Moment
    node: Name
    peers: tuple[Name, ...]
    size_bytes: Bytes
    repair: bool = False


class VolumeVerified(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="volume.verified.v1"
):
    """All of the replicas was compared; ``differing_bytes`` of it is not the same everywhere.

    ``goes_on``: that is to be repaired now.
    """

    volume: Name
    operation: Id
    at: Moment
    differing_bytes: SomeBytes = 0
    goes_on: bool = False


class RepairBegan(Event, frozen=True, kw_only=True, tag="volume.repair-began.v1"):
    """What differs is copied from the replica on ``node``, which is written to."""

    volume: Name
    operation: Id
    node: Name
    differing_bytes: SomeBytes


class VolumeRepaired(Event, frozen=True, kw_only=True, tag="volume.repaired.v1"):
    """What differed is the same everywhere, as it is on ``node``."""

    volume: Name
    operation: Id
    node: Name
    differing_bytes: SomeBytes


class VerificationFailed(Event, frozen=True, kw_only=True, tag="volume.verification-failed.v1"):
    """Comparing or repairing was given up. What was found until then is told by the replicas."""

    volume: Name
    operation: Id
    code: Refusal
    because: str


VerifyingCommand = VerifyVolume | RepairReplicas | ConcludeVerification
VerifyingEvent = (
    VerificationBegan | VolumeVerified | RepairBegan | VolumeRepaired | VerificationFailed
)
