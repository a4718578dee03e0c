"""Hints from the kernel."""

import asyncio
import socket

import pytest

from node_workers.uevents import Uevent, UeventsUnavailableError, block_uevents, parse

ADDED = b"\x00".join(
    b"add@/devices/ubd/block/ubdh ACTION=add DEVPATH=/devices/ubd/block/ubdh "
    b"SUBSYSTEM=block MAJOR=98 DEVNAME=ubdh DEVTYPE=disk SEQNUM=9".split(b" ")
)


def test_a_disk_that_comes_is_heard() -> None:
    assert parse(ADDED) == Uevent(action="add", name="ubdh")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff\xfe",
        ADDED.replace(b"=block", b"=net"),
        ADDED.replace(b"ACTION=add", b"ACTION=x"),
    ],
)
def test_what_is_not_about_disks_is_not_heard(message: bytes) -> None:
    assert parse(message) is None


def test_listening_hears_what_the_kernel_says(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    monkeypatch.setattr("node_workers.uevents._open", lambda: ours)

    async def story() -> None:
        async with block_uevents() as events:
            kernel.send(ADDED.replace(b"=block", b"=net"))
            kernel.send(ADDED)
            assert await asyncio.wait_for(anext(events), 10) == Uevent(action="add", name="ubdh")

    with kernel:
        asyncio.run(story())


def test_where_nobody_may_listen_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> socket.socket:
        raise PermissionError("not permitted")

    monkeypatch.setattr("node_workers.uevents._open", refuse)

    async def story() -> None:
        with pytest.raises(UeventsUnavailableError, match="not permitted"):
            async with block_uevents():
                pytest.fail("it listens")

    asyncio.run(story())
