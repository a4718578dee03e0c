"""A cluster of nodes in a directory of its own, which is gone when the cluster is."""

import asyncio
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Self

from hwbus.lab.uml import xstate
from hwbus.lab.uml.disks import Disk, DiskSpec, parse_size
from hwbus.lab.uml.errors import LabError
from hwbus.lab.uml.host import SHADOWED
from hwbus.lab.uml.network import PrivateNetwork
from hwbus.lab.uml.node import HARNESS, Node
from hwbus.lab.uml.processors import keep_spread
from hwbus.lab.uml.together import together

CONTROL, STORAGE = "control", "storage"

# Subnets reserved for documentation: nobody's, and nothing leads out of the namespace anyway.
_SUBNETS = {CONTROL: "192.0.2.0/24", STORAGE: "198.51.100.0/24", HARNESS: "203.0.113.0/24"}

NODES_MAX = 200  # that many addresses are free for them
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# The path goes through the kernel's command line, where these are the only safe characters, into
# a unix socket's address, and must not lie where a node mounts something of its own.
_DIRECTORY = re.compile(r"[A-Za-z0-9._/+@-]+")
_SHM = "/dev/shm"  # noqa: S108  UML's choice, not ours
_SOCKET_PATH_BYTES_MAX = 107


class Cluster:
    """`async with Cluster(directory, {"n1": (DiskSpec(size="1G"),)}) as cluster: ...`.

    Meanwhile the calling thread is in the cluster's network namespace, and only there; nodes die
    with the thread that booted them. `directory` is made, and removed at the end.
    """

    def __init__(
        self,
        directory: Path,
        nodes: Mapping[str, tuple[DiskSpec, ...]],
        *,
        memory: str = "256M",
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        check_layout(directory, nodes)
        self.directory = directory
        self.network = PrivateNetwork(_SUBNETS)
        guest = directory / "guest"
        self.nodes = {
            name: Node(name, number, directory / name, guest, self.network)
            for number, name in enumerate(nodes, start=1)
        }
        self._guest = guest
        self._specs = dict(nodes)
        self._memory = memory
        self._preload: Path | None = None
        self._spreading: asyncio.Task[None] | None = None
        # A node whose memory file does not fit dies; in many containers /dev/shm has 64 MB.
        self._in_shm = shutil.disk_usage(_SHM).free >= len(nodes) * parse_size(memory)
        self._progress = progress

    def __getitem__(self, name: str) -> Node:
        """Return a node by name. Raises `LabError` if there is none of that name."""
        if name not in self.nodes:
            raise LabError(f"there is no node {name!r}; there are {', '.join(self.nodes)}")
        return self.nodes[name]

    def __iter__(self) -> Iterator[Node]:
        """Go through the nodes, in the order they were named."""
        return iter(self.nodes.values())

    async def __aenter__(self) -> Self:
        """Lay the network, make the disks and boot all nodes, or leave nothing behind."""
        self.directory.mkdir(parents=True)
        try:
            await self.network.enter()
            self._progress("network laid")
            self._install_guest()
            if xstate.needed():
                self._preload = await xstate.build(self.directory)
            await together(*(node.prepare(self._specs[node.name]) for node in self))
            self._progress("disks made")
            await together(*(self.boot(node.name) for node in self))
            self._spreading = asyncio.create_task(keep_spread(self._launchers))
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """See `close`."""
        await self.close()

    async def boot(self, name: str) -> None:
        """Switch a node on, with the cluster's amount of memory."""
        await self[name].boot(memory=self._memory, in_shm=self._in_shm, preload=self._preload)
        self._progress(f"{name} booted")

    async def move_disk(
        self, source: str, letter: str, target: str, target_letter: str | None = None
    ) -> Disk:
        """Pull a disk out of one node and plug it into another, content and serial and all.

        Raises `LabError`, and leaves the disk where it was, if either node refuses.
        """
        sender, receiver = self[source], self[target]
        receiver.free_letter(target_letter)
        disk = await sender.detach(letter)
        try:
            return await receiver.attach(disk, target_letter)
        except LabError:
            await sender.attach(disk, letter)
            raise

    async def close(self) -> None:
        """Cut all power, leave the network and remove the directory."""
        spreading, self._spreading = self._spreading, None
        if spreading is not None:
            spreading.cancel()
            await asyncio.wait({spreading})
        await asyncio.gather(*(node.close() for node in self))
        self.network.leave()
        shutil.rmtree(self.directory, ignore_errors=False)
        if spreading is not None and not spreading.cancelled():
            spreading.result()

    def _launchers(self) -> set[int]:
        return {node.pid for node in self if node.pid is not None}

    def _install_guest(self) -> None:
        # A copy, since the package may lie where a kernel's command line cannot say it.
        self._guest.mkdir()
        for source in resources.files("hwbus.lab.uml.guest").iterdir():
            if source.is_file():
                file = self._guest / source.name
                file.write_bytes(source.read_bytes())
                file.chmod(0o755)


def check_layout(directory: Path, nodes: Mapping[str, tuple[DiskSpec, ...]]) -> None:
    """Raise `LabError` if nodes of these names cannot live in this directory."""
    if not 1 <= len(nodes) <= NODES_MAX:
        raise LabError(f"a lab has 1 to {NODES_MAX} nodes, not {len(nodes)}")
    for name in nodes:
        if not _NAME.fullmatch(name):
            raise LabError(f"{name!r} is no node name: lower-case letters, digits and '-' only")
    path = str(directory.resolve())
    if not _DIRECTORY.fullmatch(path) or f"{path}/".startswith(SHADOWED):
        raise LabError(f"nodes cannot live in {path}: choose a plain path outside /dev and /run")
    longest = max(len(f"{path}/{name}/uml/mconsole") for name in nodes)
    if longest > _SOCKET_PATH_BYTES_MAX:
        raise LabError(
            f"{path} is {longest - _SOCKET_PATH_BYTES_MAX} characters too long for a unix socket "
            "below it: choose a shorter path"
        )
