"""A disk is an image file and a serial number; the letter says where it is plugged in today."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from hwbus.lab.uml.errors import LabError

ROOT_LETTER = "a"
LETTERS = "bcdefghijklmnop"  # UML has sixteen; the first one is the node's root disk

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"([0-9]+)([KMGT]?)(?:i?B)?", re.IGNORECASE)
_SERIAL = re.compile(r"[A-Za-z0-9._-]{1,20}")  # 20 bytes is what ATA allows


class DiskSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A disk to be made: its size ("20G", binary units) and its serial number, if it matters."""

    size: str = "1G"
    serial: str | None = None


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk in a node."""

    letter: str
    image: Path
    size_bytes: int
    serial: str

    @property
    def device(self) -> str:
        """The path of the disk in the node."""
        return f"/dev/ubd{self.letter}"

    @property
    def word(self) -> str:
        """The disk as the kernel's command line and its management console spell it."""
        return f"ubd{self.letter}={self.image},,{self.serial}"


def parse_size(size: str) -> int:
    """Return the bytes of "20G", "500MiB" or "4096". Raises `LabError` for anything else."""
    match = _SIZE.fullmatch(size)
    if not match or not int(match[1]):
        raise LabError(f"{size!r} is no size: write a number and K, M, G or T, for example 20G")
    return int(match[1]) * _UNITS[match[2].upper()]


def create(image: Path, letter: str, size: str, serial: str) -> Disk:
    """Make a blank, sparse image. Raises `LabError` for a bad size or serial number."""
    if not _SERIAL.fullmatch(serial):
        raise LabError(f"{serial!r} is no serial number: 1 to 20 letters, digits, '.', '_', '-'")
    size_bytes = parse_size(size)
    with image.open("xb") as file:
        os.truncate(file.fileno(), size_bytes)
    return Disk(letter=letter, image=image, size_bytes=size_bytes, serial=serial)


def choose_letter(wanted: str | None, taken: Iterable[str]) -> str:
    """Return the letter asked for, else the first free one. Raises `LabError` if there is none."""
    free = [letter for letter in LETTERS if letter not in taken]
    if wanted is None:
        if not free:
            raise LabError(f"the node has all the {len(LETTERS)} disks it can have")
        return free[0]
    if wanted not in free:
        raise LabError(f"disk letter {wanted!r} is taken, or not one of {LETTERS}")
    return wanted
