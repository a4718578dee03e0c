"""Where the story plays: three nodes with disks, a control plane, workers that can be killed."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import msgspec

NODES = ("n1", "n2", "n3")
DISKS = 3
DISK_BYTES = 20 << 30
# Somebody else's filesystem lies here before anybody looks: on this node, on this disk of it.
FOREIGN_NODE = "n3"
FOREIGN_DISK = 1


class PlaceError(Exception):
    """The place could not be made, or does not obey; the message is a sentence for a person."""


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool left that was run in a node."""

    status: int
    stdout: str
    stderr: str


class Place(Protocol):
    """Three nodes, the same for the story whether their kernels are real or not.

    Entering starts everything and leaving takes everything away; both raise ``PlaceError``.
    """

    @property
    def what(self) -> str:
        """What the nodes are, in a few words."""

    @property
    def measures(self) -> bool:
        """Whether there are devices that take their time, so that it can be measured."""

    @property
    def nats_url(self) -> str:
        """Where the bus is, once entered."""

    @property
    def home(self) -> Path:
        """A directory for the small things of who tells the story; it goes with the place."""

    async def run(self, node: str, argv: Sequence[str]) -> Ran:
        """Run a tool that only looks."""

    async def by_hand(self, node: str, commands: Sequence[Sequence[str]]) -> list[Ran]:
        """Run tools that change something behind the back of hwbus, one after the other.

        Stops at the first that fails; its result is the last.
        """

    async def kill_worker(self, node: str) -> None:
        """SIGKILL the worker of a node and all it started."""

    async def start_worker(self, node: str) -> None:
        """Start the worker of a node."""

    async def cut_power(self, node: str) -> None:
        """Have the node be without power, at once. Raises ``PlaceError`` where there is none."""

    async def boot(self, node: str) -> None:
        """Have the node run again, with what was on its disks."""

    async def evidence(self) -> str:
        """Return what there is to see of it when something is not so."""

    def left_behind(self) -> str:
        """Return what is still there after leaving, or nothing."""

    async def __aenter__(self) -> Self:
        """Start everything."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take everything away."""
