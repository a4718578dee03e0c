"""A network of our own: a namespace with no way out, in which bridges join the nodes' taps.

The calling thread itself moves into the namespace, so the sockets and processes that it makes from
then on are inside; sockets it made before stay outside. The kernel removes the namespace with its
bridges and taps when the last user of it is gone: there is nothing to clean up.
"""

import ctypes
import ipaddress
import os
from collections.abc import Mapping

from hwbus.lab.uml.host import execute

_CLONE_NEWNET = 0x40000000
_FIRST_NODE = 10  # the addresses below are for the host and for whatever a test puts beside it
_libc = ctypes.CDLL(None, use_errno=True)


class PrivateNetwork:
    """Named networks, each a bridge with the host on the first address of its subnet."""

    def __init__(self, subnets: Mapping[str, str]) -> None:
        self.subnets = {name: ipaddress.IPv4Network(subnet) for name, subnet in subnets.items()}
        self._outside: int | None = None

    async def enter(self) -> None:
        """Move the calling thread into a new namespace and build the bridges there."""
        self._outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        _check(_libc.unshare(_CLONE_NEWNET))
        await execute("ip", "link", "set", "lo", "up")
        for name, subnet in self.subnets.items():
            await execute("ip", "link", "add", name, "type", "bridge")
            await execute("ip", "address", "add", f"{subnet[1]}/{subnet.prefixlen}", "dev", name)
            await execute("ip", "link", "set", name, "up")

    def leave(self) -> None:
        """Bring the calling thread back to where it came from; twice is once."""
        if self._outside is not None:
            _check(_libc.setns(self._outside, _CLONE_NEWNET))
            os.close(self._outside)
            self._outside = None

    def host_address(self, network: str) -> str:
        """Return the host's own address on a network."""
        return str(self.subnets[network][1])

    def node_address(self, network: str, number: int) -> str:
        """Return the address of the node of that number on a network."""
        return str(self.subnets[network][_FIRST_NODE + number])

    async def add_tap(self, network: str, number: int) -> None:
        """Lay a cable for a node to a network."""
        await execute("ip", "tuntap", "add", "dev", f"{network}{number}", "mode", "tap")
        await execute("ip", "link", "set", f"{network}{number}", "master", network, "up")

    async def set_link(self, network: str, number: int, *, connected: bool) -> None:
        """Plug a node's cable in or out.

        The tap stays up and only leaves the bridge: UML gives up on a device whose tap is down.
        """
        bridge = ("master", network) if connected else ("nomaster",)
        await execute("ip", "link", "set", f"{network}{number}", *bridge)

    async def isolate(self, network: str, number: int, *, isolated: bool) -> None:
        """Nodes so marked cannot reach one another on `network`, only the others and the host."""
        state = "on" if isolated else "off"
        await execute("bridge", "link", "set", "dev", f"{network}{number}", "isolated", state)


def _check(result: int) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
