"""Checks offline that an event stood in a signed log: this file and PyNaCl are all it takes.

The log is a Merkle tree as RFC 9162 (Certificate Transparency 2.0, section 2.1) makes one of
SHA-256: the hash of a leaf begins with the byte 0, that of two nodes with the byte 1. The leaf of
the message with sequence ``n`` is number ``n - 1``. What is signed, with Ed25519 (RFC 8032), is a
head: how many leaves there were, and the root over them.

``python -m hwbus.proof FILE [--key HEX] [--head FILE]`` asks nobody anything. The file may be
copied to where nothing else of hwbus is.
"""

import argparse
import base64
import binascii
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

FORMAT = "hwbus-proof.v1"
HASH_BYTES = 32
_FILE_BYTES_MAX = 16 << 20
_DOES_NOT_HOLD = 1
_UNREADABLE = 2
# JSON has numbers that no integer is (1e400 is read as infinity), and may be nested without end.
_MALFORMED = (
    *(KeyError, TypeError, ValueError, AttributeError, binascii.Error),
    *(OverflowError, RecursionError),
)


class ProofError(Exception):
    """The proof does not prove what it says; the text tells what is wrong with it."""


def leaf_hash(subject: str, seq: int, data: bytes) -> bytes:
    """Return the hash of the leaf for one message: 32 bytes.

    The leaf is four lines: what it is, the subject, the sequence in decimal, and the raw message
    to its end. A subject holds no line break, so no two messages have one leaf.
    """
    head = f"hwbus.leaf.v1\n{subject}\n{seq}\n".encode()
    return hashlib.sha256(b"\0" + head + data).digest()


def gap_hash(seq: int) -> bytes:
    """Return the hash of the leaf that stands for a message missing when it was signed."""
    return hashlib.sha256(b"\0" + f"hwbus.gap.v1\n{seq}\n".encode()).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash over two nodes side by side."""
    return hashlib.sha256(b"\1" + left + right).digest()


def root_above(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """Return the root that *path* leads to from leaf number *index* of *size*.

    RFC 9162, section 2.1.3.2. Raises ``ProofError``: the path is not as long as it should be.
    """
    if not 0 <= index < size:
        raise ProofError(f"leaf {index} is not among {size}")
    here, last, node = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise ProofError("the path is longer than the tree is high")
        if here & 1 or here == last:
            node = node_hash(sibling, node)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        here, last = here >> 1, last >> 1
    if last:
        raise ProofError("the path ends before the root")
    return node


def check_consistency(
    first: int, second: int, root_first: bytes, root_second: bytes, path: Sequence[bytes]
) -> None:
    """Check that the tree of *second* leaves begins with that of *first*.

    RFC 9162, section 2.1.4.2. Raises ``ProofError``: it does not, or the path does not show it.
    """
    if not 0 < first <= second:
        raise ProofError(f"{second} leaves cannot begin with {first}")
    if first == second:
        if path or root_first != root_second:
            raise ProofError("two heads of one size have different roots")
        return
    nodes = [root_first, *path] if first & (first - 1) == 0 else list(path)
    if not nodes:
        raise ProofError("the path is empty")
    if _roots_above(first - 1, second - 1, nodes) != (root_first, root_second):
        raise ProofError("the later head does not continue the earlier one")


def _roots_above(here: int, last: int, nodes: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Return the roots of the trees whose last leaves are *here* and *last*."""
    while here & 1:
        here, last = here >> 1, last >> 1
    old = new = nodes[0]
    for node in nodes[1:]:
        if last == 0:
            raise ProofError("the path is longer than the tree is high")
        if here & 1 or here == last:
            old, new = node_hash(node, old), node_hash(node, new)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            new = node_hash(new, node)
        here, last = here >> 1, last >> 1
    if last:
        raise ProofError("the path ends before the root")
    return old, new


def signed_text(head: Mapping[str, Any]) -> bytes:
    """Return what the signature of a head is over: five lines, the last one ended too."""
    fields = ("stream", "seq", "root", "at")
    return "".join(f"{line}\n" for line in ("hwbus.head.v1", *(head[f] for f in fields))).encode()


def check_head(head: Mapping[str, Any]) -> None:
    """Check that the key of *head* signed it. Raises ``ProofError``."""
    try:
        key = VerifyKey(bytes.fromhex(head["key"]))
        key.verify(signed_text(head), bytes.fromhex(head["signature"]))
    except (BadSignatureError, KeyError, TypeError, ValueError) as error:
        raise ProofError(f"the signature of the head at {head.get('seq')} is not right") from error


def check(proof: Mapping[str, Any], keys: Sequence[str] = ()) -> None:
    """Check every link from the message to the signed heads of *proof*.

    *keys* are the public keys (hex) that count; with none, that of the head is believed.

    Raises:
        ProofError: a link does not hold, or is not there.
    """
    try:
        if proof["format"] != FORMAT:
            raise ProofError(f"this is no {FORMAT}, it says {str(proof['format'])[:60]!r}")
        message, head = proof["message"], proof["head"]
        seq, size = int(message["seq"]), int(head["seq"])
        data = base64.b64decode(message["data"], validate=True)
        path = [bytes.fromhex(node) for node in proof["inclusion"]]
        root = bytes.fromhex(head["root"])
        earlier = [
            (one["head"], [bytes.fromhex(node) for node in one["consistency"]])
            for one in proof.get("earlier", ())
        ]
        for one in (head, *(before for before, _ in earlier)):
            _check_trusted(one, keys)
        if root_above(leaf_hash(message["subject"], seq, data), seq - 1, size, path) != root:
            raise ProofError(f"message {seq} is not what stood in the log that was signed")
        for before, steps in earlier:
            check_consistency(int(before["seq"]), size, bytes.fromhex(before["root"]), root, steps)
    except _MALFORMED as error:
        raise ProofError(f"this is no whole proof: {error!r}") from error


def _check_trusted(head: Mapping[str, Any], keys: Sequence[str]) -> None:
    check_head(head)
    if keys and head["key"] not in keys:
        raise ProofError(f"the head at {head['seq']} is signed by {head['key']}, not by your key")


def check_kept(proof: Mapping[str, Any], kept: Sequence[Mapping[str, Any]]) -> None:
    """Check that *proof*, which holds, speaks of the log of which heads were *kept* elsewhere.

    Raises ``ProofError``: none of its heads is one of these.
    """
    heads = (proof["head"], *(one["head"] for one in proof.get("earlier", ())))
    same = ("stream", "seq", "root")
    # A list, since what is read from a file need not be hashable.
    mine = [tuple(head.get(name) for name in same) for head in kept]
    if not any(tuple(head[name] for name in same) in mine for head in heads):
        raise ProofError("the proof does not mention any of the heads that you kept")


def _bytes_of(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(_FILE_BYTES_MAX + 1)
    if len(data) > _FILE_BYTES_MAX:
        raise ValueError(f"more than {_FILE_BYTES_MAX} bytes")
    return data


def _object(data: bytes) -> dict[str, Any]:
    read = json.loads(data)
    if not isinstance(read, dict):
        raise TypeError("no JSON object")
    return read


def main(argv: Sequence[str] | None = None) -> int:
    """Check the proof in a file; 0: it holds, 1: it does not, 2: it cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m hwbus.proof", description=main.__doc__)
    parser.add_argument("file", type=Path, help="what `hwbus audit prove` wrote")
    parser.add_argument("--key", action="append", default=[], help="a public key that counts, hex")
    parser.add_argument("--head", type=Path, help="heads that were kept elsewhere, JSON lines")
    given = parser.parse_args(argv)
    try:
        proof = _object(_bytes_of(given.file))
        lines = [] if given.head is None else _bytes_of(given.head).splitlines()
        kept = [_object(line) for line in lines if line.strip()]
    except (OSError, TypeError, ValueError, RecursionError) as error:
        sys.stderr.write(f"cannot be read: {error}\n")
        return _UNREADABLE
    try:
        check(proof, given.key)
        if given.head is not None:
            check_kept(proof, kept)
    except ProofError as error:
        sys.stderr.write(f"does not hold: {error}\n")
        return _DOES_NOT_HOLD
    head = proof["head"]
    sys.stdout.write(
        f"holds: message {proof['message']['seq']} on {proof['message']['subject']} stood "
        f"in the log of {head['seq']} messages\nthat was signed {head['at']} by {head['key']}\n"
    )
    for one in proof.get("earlier", ()):
        sys.stdout.write(f"which continues the one signed {one['head']['at']}\n")
    if not given.key:
        sys.stdout.write("note: say with --key whose signature counts; any key would have done\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
