"""How much room a replicated volume takes in a pool besides its data."""

_SECTOR_BYTES = 512
_STEP_BYTES = 4 << 20
# DRBD keeps, at the end of a leg, a superblock of 4 KiB, an activity log of 32 KiB, and a bit for
# each 4 KiB of data and each peer. It counts the bitmap in sectors (16 MiB of data each) and rounds
# it up to 4 KiB: drbd_md_set_sector_offsets in drivers/block/drbd/drbd_nl.c of Linux.
_FIXED_BYTES = (4 + 32) << 10
_DATA_BYTES_A_SECTOR = 16 << 20
_ALIGNED_BYTES = 4 << 10


def head_room_bytes(size_bytes: int, members: int = 2) -> int:
    """Return how much larger each leg of a volume of *size_bytes* is, in whole 4 MiB."""
    peers = max(1, members - 1)
    room_bytes = 0
    needed_bytes = _metadata_bytes(size_bytes, peers)
    while room_bytes < needed_bytes:
        room_bytes = _rounded(needed_bytes, _STEP_BYTES)
        needed_bytes = _metadata_bytes(size_bytes + room_bytes, peers)
    return room_bytes


def _metadata_bytes(leg_bytes: int, peers: int) -> int:
    bitmap_bytes = -(-leg_bytes // _DATA_BYTES_A_SECTOR) * _SECTOR_BYTES
    return _FIXED_BYTES + peers * _rounded(bitmap_bytes, _ALIGNED_BYTES)


def _rounded(number: int, step: int) -> int:
    return -(-number // step) * step
