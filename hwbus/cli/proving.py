"""Reading the streams for proofs: the log up to a place, and the hashes of its leaves."""

import base64
from collections.abc import Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any

import msgspec

from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.world import Link
from hwbus.heads import heads_in, up_to
from hwbus.merkle import Tree, consistency, inclusion
from hwbus.ports import EventLog, Stored
from hwbus.proof import FORMAT, gap_hash, leaf_hash
from hwbus.streams import EVENTS, Stream
from schemas.audit import HeadRecord

_SIGNED = ("stream", "seq", "root", "at", "key", "signature")


async def until_of(log: EventLog, ends: int | datetime) -> int:
    """Return the last sequence that is not above *ends*, or was stored before then."""
    head = await log.head()
    if isinstance(ends, int):
        return min(ends, head)
    low, high = 0, head
    while low < high:
        middle = (low + high + 1) // 2
        stored = await log.get(middle)
        if stored is None or stored.at < ends:
            low = middle
        else:
            high = middle - 1
    return low


async def proof_of(
    seq: int, with_heads: Sequence[int], link: Link, stream: Stream
) -> dict[str, Any]:
    """Return the proof of the message at *seq*, with what leads from earlier heads to the newest.

    Raises:
        FailureError: there is no such message or head, it is not signed, or the log was changed.
    """
    log = link.log if stream is EVENTS else link.audit
    stored = await _proven(log, seq, stream)
    heads = [head for head in await heads_in(link.audit) if head.stream == stream.name]
    newest = max(heads, key=lambda head: head.seq, default=None)
    if newest is None or newest.seq < seq:
        raise FailureError(
            Exit.FAILED,
            f"message {seq} is not signed yet",
            fix="A head is signed every minute while the log grows.",
        )
    leaves = await _leaves(log, newest.seq, stream)
    tree = Tree()
    tree.extend(leaves)
    if tree.root().hex() != newest.root:
        raise FailureError(
            Exit.FAILED,
            f"the log is not the one that was signed at {newest.seq}",
            fix="hwbus audit verify finds what was changed.",
        )
    return {
        "format": FORMAT,
        "message": {
            "seq": seq,
            "subject": stored.subject,
            "data": base64.b64encode(stored.data).decode(),
        },
        "head": _signed(newest),
        "inclusion": [node.hex() for node in inclusion(leaves, seq - 1)],
        "earlier": [_earlier(size, heads, leaves) for size in with_heads],
    }


async def _proven(log: EventLog, seq: int, stream: Stream) -> Stored:
    first = await log.first()
    if first > 1:
        raise FailureError(
            Exit.FAILED,
            f"{stream.name} begins at {first}: a proof takes the hashes of all messages before",
            fix="hwbus audit verify --from-archive checks the archive, which has them.",
        )
    stored = await log.get(seq)
    if stored is None:
        raise FailureError(
            Exit.NOT_FOUND,
            f"there is no message {seq} in {stream.name}",
            fix="hwbus events tail and hwbus audit show the latest.",
        )
    return stored


def _earlier(size: int, heads: Sequence[HeadRecord], leaves: bytes) -> dict[str, Any]:
    head = next((head for head in heads if head.seq == size), None)
    if head is None:
        raise FailureError(
            Exit.NOT_FOUND,
            f"no head of {size} messages was signed",
            fix="hwbus audit heads lists them.",
        )
    path = [node.hex() for node in consistency(leaves, size)]
    return {"head": _signed(head), "consistency": path}


def _signed(head: HeadRecord) -> dict[str, Any]:
    whole = msgspec.to_builtins(head)
    return {name: whole[name] for name in _SIGNED}


async def _leaves(log: EventLog, until: int, stream: Stream) -> bytes:
    leaves = bytearray()
    at = 0
    async with aclosing(up_to(log, until, stream.subjects)) as batches:
        async for batch in batches:
            for stored in batch:
                leaves += b"".join(map(gap_hash, range(at + 1, stored.seq)))
                leaves += leaf_hash(stored.subject, stored.seq, stored.data)
                at = stored.seq
    return bytes(leaves + b"".join(map(gap_hash, range(at + 1, until + 1))))
