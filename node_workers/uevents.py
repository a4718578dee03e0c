"""A whisper from the kernel that a disk came or went: a hint to look sooner, never the truth."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec

_NETLINK_KOBJECT_UEVENT = 15
_KERNEL_GROUP = 1
_MESSAGE_BYTES_MAX = 8192
_ACTIONS = frozenset({"add", "remove", "change"})
_SILENT_ERRORS = (OSError, AttributeError)  # no right, no netlink family, not Linux

Action = Annotated[str, msgspec.Meta(description="add, remove or change")]


class Uevent(msgspec.Struct, frozen=True, kw_only=True):
    """The kernel added, removed or changed a block device of that name."""

    action: Action
    name: str


class UeventsUnavailableError(Exception):
    """This machine gives us no uevents; the sentence says why. Rescans must do."""


@contextlib.asynccontextmanager
async def block_uevents() -> AsyncIterator[AsyncIterator[Uevent]]:
    """Listen for block devices coming and going while the context lasts.

    Events may be lost when many come at once. Raises ``UeventsUnavailableError`` where the
    kernel does not let us listen.
    """
    try:
        channel = _open()
    except _SILENT_ERRORS as error:
        raise UeventsUnavailableError(f"the kernel's uevents are out of reach: {error}") from error
    with channel:
        channel.settimeout(0)
        yield _read(channel)


def parse(message: bytes) -> Uevent | None:
    """Return the event in a kernel message, or None if it is not about a block device."""
    words = message.decode(errors="replace").split("\x00")
    fields = dict(word.split("=", 1) for word in words if "=" in word)
    action = fields.get("ACTION", "")
    if fields.get("SUBSYSTEM") != "block" or action not in _ACTIONS or "DEVNAME" not in fields:
        return None
    return Uevent(action=action, name=fields["DEVNAME"].removeprefix("/dev/"))


def _open() -> socket.socket:
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
    channel = socket.socket(socket.AF_NETLINK, kind, _NETLINK_KOBJECT_UEVENT)
    try:
        channel.bind((0, _KERNEL_GROUP))  # 0: the kernel picks an address that nobody has
    except OSError:
        channel.close()
        raise
    return channel


async def _read(channel: socket.socket) -> AsyncIterator[Uevent]:
    loop = asyncio.get_running_loop()
    while True:
        try:
            message = await loop.sock_recv(channel, _MESSAGE_BYTES_MAX)
        except OSError:  # ENOBUFS: the kernel had more to say than we read; look anyway
            message = b"ACTION=change\x00SUBSYSTEM=block\x00DEVNAME=\x00"
        if event := parse(message):
            yield event
