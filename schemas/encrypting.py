"""What is said about the keys of encrypted volumes: that another one shall open one."""

from schemas.grammar import Event, Request
from schemas.keys import KeyRef
from schemas.refusals import Refusal
from schemas.units import Id, Moment, Name, Seconds


class RekeyVolume(Request, frozen=True, kw_only=True, tag="volume.rekey.v1"):
    """Let the key under ``key_ref`` open the volume, and the one that does now no longer."""

    volume: Name
    key_ref: KeyRef
    deadline_s: Seconds = 600


class VolumeRekeyingBegan(
    Event, frozen=True, kw_only=True, omit_defaults=True, tag="volume.rekeying-began.v1"
):
    """The key under ``key_ref`` shall open the volume instead of that under ``from_key_ref``.

    It is written to on ``node``; its other replicas are on the nodes ``others``.
    """

    volume: Name
    uid: Id
    operation: Id
    deadline: Moment
    node: Name
    from_key_ref: KeyRef
    key_ref: KeyRef
    others: tuple[Name, ...] = ()


class VolumeRekeyed(Event, frozen=True, kw_only=True, tag="volume.rekeyed.v1"):
    """The key under ``key_ref`` opens the volume, and the one before does not."""

    volume: Name
    operation: Id
    key_ref: KeyRef


class VolumeRekeyingFailed(Event, frozen=True, kw_only=True, tag="volume.rekeying-failed.v1"):
    """The volume keeps the key that it had: changing it was given up and undone."""

    volume: Name
    operation: Id
    code: Refusal
    because: str


EncryptingCommand = RekeyVolume
EncryptingEvent = VolumeRekeyingBegan | VolumeRekeyed | VolumeRekeyingFailed
