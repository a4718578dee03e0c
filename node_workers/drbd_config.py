"""The resource file of a replicated volume, as DRBD reads it; see drbd.conf(5), 8.4 and 9.0.

Its first line is ours: what the file was made from, without what is secret in it. By it a file of
ours is known again, and the volume it is for.
"""

import base64
import hashlib
import hmac
import shlex
from collections.abc import Sequence

import msgspec

from node_workers.ports import Bytes, UnsuitableError
from node_workers.replication import Member, ReplicationSpec
from node_workers.sealed import NotGenuineError, agreed

FOLDER = "/etc/drbd.d"
NOTE = "# hwbus: "
RESOURCE = "hwbus-"
SPLITS = "/run/hwbus/split"
LEG = "/dev/mapper/hwbus:{}.leg"

_SECTOR_BYTES = 512
_BIT_BYTES = 4096
_BITS_A_WORD = 64
_CONSISTENT, _WAS_UP_TO_DATE, _PEER_OUTDATED = 0x01, 0x10, 0x20  # enum mdf_flag of linux/drbd.h
_KIB = 1 << 10
_SECRET_CHARACTERS = 60  # DRBD takes 64, with the end of the string among them
_RATE_KIB_PER_S_MAX = 8 << 20  # DRBD takes no more
_MIN_RATE_KIB_PER_S_MAX = 4 << 20  # and of this half as much
_OLD_MEMBERS_MAX = 2

# A dead peer is noticed two seconds after it should have answered: at once where something is
# written (timeout, then one ping), and by pings where nothing is. Tenths of a second, but for -int.
_NET = (
    "protocol C",
    "timeout 15",
    "ping-int 2",
    "ping-timeout 10",
    "connect-int 2",
    "cram-hmac-alg sha256",
    "verify-alg crc32c",
    "csums-alg crc32c",
    # Two legs whose data went different ways are put together by a person's word, never by a rule.
    "after-sb-0pri disconnect",
    "after-sb-1pri disconnect",
    "after-sb-2pri disconnect",
)
_FENCING = "fencing resource-and-stonith"


class Version(msgspec.Struct, frozen=True, order=True):
    """The release of the kernel's DRBD."""

    major: int
    minor: int

    @property
    def old(self) -> bool:
        """Whether it is the 8.4 of Linux itself, which has one peer and no node-ids."""
        return self.major < 9  # noqa: PLR2004 -- 9 is the number of the release


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where metadata may be: at the end of a leg so large, for a device so large."""

    leg_bytes: Bytes
    size_bytes: Bytes


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What a resource file was made from; that it is there says that metadata was made once.

    ``places`` are where metadata may be, the newest first; ``going``: they are being wiped.
    ``spent``: the leg is on its way to what it was, metadata included, or there: it must not run
    by them. ``digest`` is that of the rest of the file.
    """

    spec: ReplicationSpec
    places: tuple[Place, ...]
    going: bool = False
    spent: bool = False
    digest: str = ""


def resource(volume: str) -> str:
    """Return the name of the volume's resource."""
    return f"{RESOURCE}{volume}"


def path(volume: str) -> str:
    """Return where the volume's resource file is."""
    return f"{FOLDER}/{resource(volume)}.res"


def mine(spec: ReplicationSpec, node: str) -> Member:
    """Return this node's member. Raises ``UnsuitableError`` if it is none."""
    for member in spec.members:
        if member.node == node:
            return member
    raise UnsuitableError("cannot-replicate", f"{node} is no member of {spec.volume}")


def others(spec: ReplicationSpec, node: str) -> tuple[Member, ...]:
    """Return the members but this node's."""
    return tuple(member for member in spec.members if member.node != node)


def refuse_crowd(spec: ReplicationSpec, version: Version) -> None:
    """Raise ``UnsuitableError`` if this DRBD cannot have so many members."""
    if version.old and len(spec.members) > _OLD_MEMBERS_MAX:
        raise UnsuitableError(
            "cannot-replicate",
            f"DRBD {version.major}.{version.minor} ties two nodes, not {len(spec.members)}: that"
            " takes DRBD 9",
        )


def shared_secret(secret: bytes, uid: str, here: Member, peer: Member) -> str:
    """Return what two members prove to each other for the volume *uid*; both come to the same.

    A static Diffie-Hellman of the nodes' X25519 keys (RFC 7748), bound by HMAC to the volume and to
    the ties of both, so that none meets what another tie has left running. Raises
    ``UnsuitableError`` if the peer's key is none.
    """
    ties = ":".join(sorted((here.since, peer.since)))
    try:
        both = agreed(secret, base64.b64decode(peer.key, validate=True))
    except (NotGenuineError, ValueError) as error:
        raise UnsuitableError("cannot-replicate", "a member's key is no public key") from error
    made = hmac.new(both, f"hwbus:replication:{uid}:{ties}".encode(), hashlib.sha256).hexdigest()
    return made[:_SECRET_CHARACTERS]


def first_generation(spec: ReplicationSpec) -> str:
    """Return the generation, in hexadecimal, that all legs of a tie start with.

    Legs of two ties must not look alike: one may lack what was written between them. The lowest
    bit says "primary" to DRBD, and the smallest numbers mean something to it.
    """
    tie = min(spec.members, key=lambda one: one.index).since
    digest = hashlib.sha256(f"hwbus:generation:{spec.uid}:{tie}".encode()).digest()
    number = int.from_bytes(digest[:8])
    return f"{(number | 1 << 63) & ~1:016X}"


def identity(uid: str, member: Member) -> str:
    """Return the number, in hexadecimal, that says in metadata which volume and tie it is of."""
    digest = hashlib.sha256(f"hwbus:leg:{uid}:{member.since}".encode()).digest()
    return f"{int.from_bytes(digest[:8]) | 1:016X}"


def dump(spec: ReplicationSpec, here: Member, *, alone: bool) -> str:
    """Return metadata of 8.4, in the form of ``drbdmeta dump-md``: good data, nothing differs.

    *here* is the member whose leg it is for. With *alone* its peers count as outdated.
    """
    none = f"0x{0:016X};"
    word_bytes = _BIT_BYTES * _BITS_A_WORD
    words = -(-spec.size_bytes // word_bytes)
    flags = _CONSISTENT | _WAS_UP_TO_DATE | (_PEER_OUTDATED if alone else 0)
    return f"""version "v08";
uuid {{ 0x{first_generation(spec)}; {none} {none} {none} flags 0x{flags:08X}; }}
la-size-sect {spec.size_bytes // _SECTOR_BYTES};
bm-byte-per-bit {_BIT_BYTES};
device-uuid 0x{identity(spec.uid, here)};
la-peer-max-bio-size 0;
al-stripes 1;
al-stripe-size-4k 8;
bm {{ {words} times {none} }}
"""


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A resource file: its note, with a digest, and all of its text."""

    note: Note
    text: str


def file(
    note: Note, version: Version, *, node: str, host: str, secret: bytes, handler: Sequence[str]
) -> File:
    """Return the resource file for *node*, which calls itself *host*.

    *handler* is the program that asks whether this node may go on without a peer, and its first
    arguments. Raises ``UnsuitableError`` for too many members, or keys that are none.
    """
    spec = note.spec
    refuse_crowd(spec, version)
    here = mine(spec, node)
    peers = others(spec, node)
    secrets = {peer.node: shared_secret(secret, spec.uid, here, peer) for peer in peers}
    asks = shlex.join((*handler, spec.volume, spec.uid))
    net = _NET if version.old else (*_NET, _FENCING)
    if version.old:
        net = (*net, *(f'shared-secret "{one}"' for one in secrets.values()))
    lines = [
        "# Written by hwbus, and written again at any time: a change by hand does not last.",
        f'resource "{resource(spec.volume)}" {{',
        f"    handlers {{ fence-peer {_string(asks)}; split-brain {_string(_marks(spec))}; }}",
        f"    net {{ {_options(net)} }}",
        f"    disk {{ {_options(_disk(spec, version))} }}",
        *(() if version.old else ("    options { auto-promote no; quorum off; }",)),
        *(_on(one, spec, version, host if one.node == node else one.node) for one in spec.members),
    ]
    if not version.old:
        lines += [_between(here, host, peer, secrets[peer.node]) for peer in peers]
    rest = "\n".join((*lines, "}", ""))
    digest = hashlib.sha256(rest.encode()).hexdigest()
    noted = msgspec.structs.replace(note, digest=digest)
    return File(note=noted, text=f"{NOTE}{msgspec.json.encode(noted).decode()}\n{rest}")


def _string(words: str) -> str:
    escaped = words.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _marks(spec: ReplicationSpec) -> str:
    return f"mkdir -p {SPLITS} && touch {SPLITS}/{spec.uid}"


def _disk(spec: ReplicationSpec, version: Version) -> tuple[str, ...]:
    rate_kib = min(max(1, spec.resync_bytes_per_s // _KIB), _RATE_KIB_PER_S_MAX)
    # Where the rate is DRBD's own to find, it starts at 100 MiB/s instead of at 250 KiB/s. While
    # somebody writes it would fall to 250 KiB/s, and a first sync under load would never end.
    rate = (
        (
            "c-plan-ahead 0",
            f"resync-rate {rate_kib}k",
            f"c-min-rate {min(rate_kib, _MIN_RATE_KIB_PER_S_MAX)}k",
        )
        if spec.resync_bytes_per_s
        else ("resync-rate 100M", "c-max-rate 4G", "c-min-rate 10M")
    )
    return (
        f"size {spec.size_bytes // _SECTOR_BYTES}s",
        "on-io-error detach",
        *((_FENCING,) if version.old else ()),
        *rate,
    )


def _on(member: Member, spec: ReplicationSpec, version: Version, host: str) -> str:
    device = f'device minor {member.minor}; disk "{LEG.format(spec.volume)}"; meta-disk internal;'
    if version.old:
        return f'    on "{host}" {{ {device} address {_address(member)}; }}'
    return f'    on "{host}" {{ node-id {member.index}; volume 0 {{ {device} }} }}'


def _between(here: Member, host: str, peer: Member, secret: str) -> str:
    ends = f'host "{host}" address {_address(here)}; host "{peer.node}" address {_address(peer)};'
    return f'    connection {{ {ends} net {{ shared-secret "{secret}"; }} }}'


def _address(member: Member) -> str:
    family, address = (
        ("ipv6", f"[{member.address}]")
        if ":" in member.address
        else (
            "ipv4",
            member.address,
        )
    )
    return f"{family} {address}:{member.port}"


def _options(options: Sequence[str]) -> str:
    return " ".join(f"{option};" for option in options)
