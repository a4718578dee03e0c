"""By which key an encrypted volume opens: always one that the log knows where to find."""

from datetime import timedelta
from typing import TYPE_CHECKING

from aggregates.decision import Decision, Facts
from aggregates.peers import others, unwritable
from schemas.answers import Refused, refuse
from schemas.encrypting import (
    EncryptingEvent,
    RekeyVolume,
    VolumeRekeyed,
    VolumeRekeyingBegan,
    VolumeRekeyingFailed,
)
from schemas.keys import locate
from schemas.refusals import Refusal
from schemas.volume import ConcludeVolume

if TYPE_CHECKING:
    from aggregates.volume import Volume


def no_reference(key_ref: str | None) -> Refused | None:
    """Refuse what is no reference to a key. It is not repeated: somebody may have said a key."""
    if key_ref is None or locate(key_ref) is not None:
        return None
    return refuse(Refusal.BAD_KEY_REFERENCE, f"{len(key_ref)} characters that name no key source")


def decide(volume: "Volume", command: RekeyVolume, facts: Facts) -> Decision[EncryptingEvent]:
    """Say what shall happen to a volume that is ready for it."""
    if not volume.key_ref:
        return refuse(Refusal.NOT_ENCRYPTED, f"{command.volume} is not encrypted")
    if command.key_ref == volume.key_ref:
        return refuse(Refusal.SAME_KEY, f"{command.volume} opens by {volume.key_ref} already")
    for one in volume.members:
        # One that is behind would keep a header that opens by the old key.
        no = unwritable(volume, command.volume, one.node, facts.world)
        if no is not None:
            return no
    return (
        VolumeRekeyingBegan(
            volume=command.volume,
            uid=volume.uid,
            operation=facts.operation,
            deadline=facts.at + timedelta(seconds=command.deadline_s),
            node=volume.node,
            from_key_ref=volume.key_ref,
            key_ref=command.key_ref,
            others=tuple(leg.node for leg in others(volume)),
        ),
    )


def rekeyed(volume: "Volume", report: ConcludeVolume) -> EncryptingEvent:
    """Return how changing the key has ended."""
    if report.code is None:
        return VolumeRekeyed(
            volume=report.volume, operation=report.operation, key_ref=volume.rekeying
        )
    return VolumeRekeyingFailed(
        volume=report.volume,
        operation=report.operation,
        code=report.code,
        because=report.because,
    )
