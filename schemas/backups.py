"""Where backups lie, by which credentials, and how they and their parts are named."""

from typing import Annotated

import msgspec

from schemas.units import Bytes, Name, Rate

Digest = Annotated[
    str,
    msgspec.Meta(pattern=r"^[0-9a-f]{64}$(?!\n)", description="BLAKE2b, 32 bytes, in hex."),
]
Url = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^s3://[a-z0-9][-.a-z0-9]{1,61}[a-z0-9](/[-._a-zA-Z0-9]+)*$(?!\n)",
        max_length=255,
        description="Where backups lie: s3://BUCKET/PREFIX.",
    ),
]
Endpoint = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(https?://[-.a-zA-Z0-9\[\]:]+)?$(?!\n)",
        max_length=255,
        description="http(s)://HOST:PORT of the store; empty: that of AWS in the region.",
    ),
]
Region = Annotated[str, msgspec.Meta(pattern=r"^[-a-z0-9]+$(?!\n)", min_length=1, max_length=63)]
CredentialsRef = Annotated[
    str,
    msgspec.Meta(
        pattern=(
            r"^(file:[A-Za-z0-9][A-Za-z0-9._-]{0,126}|env:[A-Z0-9][A-Z0-9_]{0,126}"
            r"|vault:[A-Za-z0-9][A-Za-z0-9._-]{0,126}(/[A-Za-z0-9][A-Za-z0-9._-]{0,126})*"
            r"#[A-Za-z0-9][A-Za-z0-9._-]{0,126})$(?!\n)"
        ),
        max_length=255,
        description="Where a node finds credentials: file:NAME, env:NAME or vault:PATH#FIELD.",
    ),
]
BackupName = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$(?!\n)",
        min_length=1,
        max_length=100,
        description="Letters, digits and '-'.",
    ),
]
GraceSeconds = Annotated[int, msgspec.Meta(ge=0, le=366 * 86_400)]


class Place(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where backups lie, and by which credentials: a reference to them, never they themselves."""

    url: Url
    endpoint: Endpoint = ""
    region: Region = "us-east-1"
    credentials: CredentialsRef


class FromBackup(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The backup that a new volume is to hold: no other than the one with that ``manifest``."""

    place: Place
    target: Name
    backup: BackupName
    manifest: Digest
    size_bytes: Bytes
    rate_bytes_per_s: Rate | None = None
