"""What lies on a device, block by block: the smallest thing that DRBD copies."""

import hashlib

import msgspec
from msgspec.structs import replace

from node_workers.simulated.drbd_model import BLOCK_BYTES
from node_workers.simulated.model import Content

HEAD = 0  # where signatures and the user's mark lie
_HEADER_BLOCKS = (16 << 20) // BLOCK_BYTES


def flat(content: Content) -> dict[int, str]:
    """Return all that is written, by block; what lies behind encryption is behind the header."""
    head = msgspec.json.encode(_head(content)).decode()
    blocks = {HEAD: head} if head != _BLANK else {}
    blocks |= content.blocks
    if content.inner is not None:
        blocks |= {block + _HEADER_BLOCKS: text for block, text in content.inner.blocks.items()}
    return blocks


def put(content: Content, block: int, text: str | None) -> None:
    """Have *text* in a block, or nothing."""
    if block == HEAD:
        _put_head(content, msgspec.json.decode(text or _BLANK, type=Content))
        return
    if content.inner is not None and block >= _HEADER_BLOCKS:
        content, block = content.inner, block - _HEADER_BLOCKS
    if text is None:
        content.blocks.pop(block, None)
    else:
        content.blocks[block] = text


def differing(one: dict[int, str], other: dict[int, str]) -> set[int]:
    """Return the blocks in which two devices are not the same."""
    return {block for block in one.keys() | other.keys() if one.get(block) != other.get(block)}


def digest(content: Content, size_bytes: int) -> str:
    """Return a checksum of so much of a device."""
    blocks = sorted(flat(content).items())
    told = [one for one in blocks if one[0] * BLOCK_BYTES < size_bytes]
    return hashlib.sha256(msgspec.json.encode(told)).hexdigest()


def _head(content: Content) -> Content:
    inner = None if content.inner is None else _head(content.inner)
    return replace(content, blocks={}, metadata={}, inner=inner)


def _put_head(content: Content, head: Content) -> None:
    for field in ("kind", "uuid", "size_bytes", "used_bytes", "finished", "data", "slots"):
        setattr(content, field, getattr(head, field))
    if head.inner is None or content.inner is None:
        content.inner = head.inner
    else:
        _put_head(content.inner, head.inner)


_BLANK = msgspec.json.encode(Content()).decode()
