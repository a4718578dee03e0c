"""One node: a User Mode Linux kernel with its own disks, root file system and network links."""

import asyncio
import contextlib
import hashlib
import os
import shlex
import shutil
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from hwbus.lab.uml import disks, host, mconsole
from hwbus.lab.uml.command import AgentLink, Command, Output, Result
from hwbus.lab.uml.disks import Disk, DiskSpec
from hwbus.lab.uml.errors import LabError, NodeDownError
from hwbus.lab.uml.network import PrivateNetwork
from hwbus.lab.uml.processors import first_home

HARNESS = "harness"  # the network on which the nodes' agents reach us; never cut

# A node's kernel runs in a PID namespace: when it ends, however it ends, the shell there does too,
# and with it all that is left of the node. (Processes of a node that lose their kernel would go on
# as programs of the host.) In its mount namespace the host's root is read-only, except for the
# node's directory. The kernel is not PID 1 there: a panic's abort() would then be ignored.
_SANDBOX = (
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec"),
    'mount --bind "$0" "$0"; mount -o remount,bind,ro /; ulimit -c 0; "$@"; exit',
)
_PYTHON = os.path.realpath(sys.executable)
_ROOT_SIZE = "1G"
_CONSOLE_TAIL = 2000

Health = Literal["plain", "wrapped", "broken"]


class Node:
    """A machine of a `Cluster`. Its disks keep their content while it is down."""

    def __init__(
        self, name: str, number: int, directory: Path, guest: Path, network: PrivateNetwork
    ) -> None:
        self.name = name
        self.number = number
        self.directory = directory
        self.share = directory / "share"  # /share in the node, live both ways
        self.frozen = False
        self._guest = guest
        self._network = network
        self._disks: dict[str, Disk] = {}
        self._health: dict[str, Health] = {}
        self._disks_made = 0
        self._slots = asyncio.Lock()  # one disk in or out at a time, or two take one letter
        self._kernel: Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._link = AgentLink(name)

    @property
    def running(self) -> bool:
        """Whether the kernel runs and its agent answers."""
        return self._kernel is not None and self._link.up

    @property
    def pid(self) -> int | None:
        """The host process that holds the node, while there is one."""
        return self._kernel.pid if self._kernel else None

    @property
    def disks(self) -> tuple[Disk, ...]:
        """The data disks, by letter."""
        return tuple(self._disks[letter] for letter in sorted(self._disks))

    def address(self, network: str) -> str:
        """Return the node's address on a network."""
        return self._network.node_address(network, self.number)

    async def prepare(self, specs: tuple[DiskSpec, ...]) -> None:
        """Make the disks and plug in the network cables, once."""
        self.share.mkdir(parents=True)
        root = disks.create(self._root_image, disks.ROOT_LETTER, _ROOT_SIZE, f"{self.number}-root")
        await host.execute("mkfs.ext4", "-q", "-F", root.image)
        for spec in specs:
            await self.add_disk(spec)
        links = []
        for index, (network, subnet) in enumerate(self._network.subnets.items()):
            await self._network.add_tap(network, self.number)
            links.append(f"vec{index}:{network}:{self.address(network)}/{subnet.prefixlen}")
        our_address = self._network.host_address(HARNESS)
        our_port = await self._link.listen(our_address)
        variables = {
            "NODE_NAME": self.name,
            "NODE_MACHINE_ID": hashlib.sha256(str(self.directory).encode()).hexdigest()[:32],
            "NODE_ROOT": root.device,
            "NODE_LINKS": " ".join(links),
            "NODE_HOST": f"{our_address} {our_port}",
            "NODE_PYTHON": _PYTHON,
            "NODE_GUEST": str(self._guest),
            "NODE_SHARE": str(self.share),
        }
        (self.directory / "settings").write_text(
            "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())
        )

    async def close(self) -> None:
        """Cut the power for good."""
        await self.kill()
        self._link.close()

    async def boot(
        self,
        *,
        memory: str = "256M",
        in_shm: bool = True,
        preload: Path | None = None,
        timeout_s: float = 120,
    ) -> None:
        """Switch the node on and wait for its agent; wrapped disks are wrapped again.

        Its memory is a file in /dev/shm, or else in the node's directory, which is slower.
        *preload* is a library for its kernel (see `xstate`).
        Raises `NodeDownError` with the end of its console if it does not come up.
        """
        if self._kernel:
            raise LabError(f"{self.name} is running already")
        # A kernel that died left its console here, with a process id that the next one, in a PID
        # namespace of its own, has as well: that one would take the place for occupied.
        shutil.rmtree(self.directory / "uml", ignore_errors=True)
        self._link.expect()
        self.frozen = False
        # Said in any case: the TMPDIR of whoever started us is not there in the sandbox.
        env = {"TMPDIR": "/dev/shm" if in_shm else str(self.directory)}  # noqa: S108
        line = self._kernel_line(memory)
        if preload is not None:
            line = ["env", f"LD_PRELOAD={preload}", *line]
        home = ("taskset", "--cpu-list", str(first_home(self.number)))
        self._kernel = await host.start(*home, *_SANDBOX, self.directory, *line, env=env)
        self._watcher = asyncio.create_task(self._watch(self._kernel))
        try:
            await self._link.connected(timeout_s)
            for letter, health in self._health.items():
                await self._wrap(letter, "error" if health == "broken" else "linear")
        except TimeoutError:
            await self.kill()
            raise NodeDownError(
                f"{self.name} did not boot within {timeout_s:.0f} s:\n{self._console_tail()}"
            ) from None
        except BaseException:
            await self.kill()
            raise

    async def kill(self) -> None:
        """Cut the power; when this returns, all the node's processes are gone."""
        if self._kernel and self._watcher:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._kernel.pid, signal.SIGKILL)  # all its processes at once
            await self._watcher

    async def shutdown(self, *, timeout_s: float = 30) -> None:
        """Stop in good order: what was written is on the disks."""
        if self._kernel and self._watcher:
            self._link.hang_up()
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(self._watcher)

    async def freeze(self) -> None:
        """Stop the node in its tracks, as a hypervisor that hangs would."""
        await self.console("stop")
        self.frozen = True

    async def thaw(self) -> None:
        """Let a frozen node go on."""
        await self.console("go")
        self.frozen = False

    async def console(self, command: str) -> str:
        """Ask the kernel's management console: config, remove, stop, go, sysrq ..."""
        if not self._kernel:
            raise NodeDownError(f"{self.name} is down")
        return await mconsole.request(self.directory / "uml" / "mconsole", command)

    async def run(
        self,
        *argv: str,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        timeout_s: float = 60,
        check: bool = True,
    ) -> Result:
        """Run a command in the node to its end.

        Raises `CommandFailedError` (unless `check` is false), `NodeDownError` or `TimeoutError`;
        a command that is not waited for any more is killed.
        """
        command = self.start(*argv, stdin=stdin, env=env)
        try:
            result = await command.wait(timeout_s)
        except (TimeoutError, asyncio.CancelledError):
            if self.running:
                command.signal(signal.SIGKILL)
            raise
        return result.checked(self.name, argv) if check else result

    async def shell(self, script: str, *, timeout_s: float = 60) -> str:
        """Run a shell script in the node; returns its standard output."""
        return (await self.run("sh", "-ec", script, timeout_s=timeout_s)).stdout

    def start(
        self,
        *argv: str,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        on_output: Output | None = None,
    ) -> Command:
        """Start a command in the node; `on_output` is called with what it writes, as it does."""
        return self._link.start(argv, stdin=stdin, env=env, on_output=on_output)

    def free_letter(self, wanted: str | None = None) -> str:
        """Return the letter asked for, else the first free. Raises `LabError` if there is none."""
        return disks.choose_letter(wanted, self._disks)

    async def add_disk(self, spec: DiskSpec, letter: str | None = None) -> Disk:
        """Give the node a new, blank disk; at once if it runs."""
        async with self._slots:
            letter = self.free_letter(letter)
            self._disks_made += 1
            serial = spec.serial or f"{self.name[:12]}-d{self._disks_made}"
            image = self.directory / f"disk-{self._disks_made}.img"
            disk = disks.create(image, letter, spec.size, serial)
            try:
                return await self._plug(disk)
            except LabError:
                image.unlink()
                raise

    async def attach(self, disk: Disk, letter: str | None = None) -> Disk:
        """Plug in a disk that was detached from some node; its content and serial come along."""
        async with self._slots:
            letter = self.free_letter(letter)
            self._disks_made += 1
            image = (
                self.directory / f"disk-{self._disks_made}.img"
            )  # its kernel may write only here
            disk.image.rename(image)
            try:
                return await self._plug(
                    Disk(letter=letter, image=image, size_bytes=disk.size_bytes, serial=disk.serial)
                )
            except LabError:
                image.rename(disk.image)
                raise

    async def detach(self, letter: str) -> Disk:
        """Pull a disk out and return it. Raises `ConsoleError` while the node has it open."""
        async with self._slots:
            self._disk(letter)
            if self._kernel:
                if letter in self._health:
                    await self.shell(f"dmsetup remove disk-{letter}; {_unfiltered(letter)}")
                await self.console(f"remove ubd{letter}")
            self._health.pop(letter, None)
            return self._disks.pop(letter)

    async def remove_disk(self, letter: str) -> None:
        """Pull a disk out and throw it away. Raises `ConsoleError` while the node has it open."""
        (await self.detach(letter)).image.unlink()

    def health(self, letter: str) -> Health:
        """Return whether a disk is plain, wrapped (it could be broken) or broken."""
        return self._health.get(letter, "plain")

    async def wrap_disk(self, letter: str) -> str:
        """Lay a device over the disk that `fail_disk` can break, and return its path.

        It passes for a multipath device with this disk as its only path, which LVM and hwbus see
        instead of the disk from then on, also after the next boots.
        """
        self._disk(letter)
        if letter in self._health:
            raise LabError(f"disk {letter} of {self.name} is wrapped already")
        await self._wrap(letter, "linear")
        self._health[letter] = "wrapped"
        return f"/dev/mapper/disk-{letter}"

    async def fail_disk(self, letter: str) -> None:
        """From now on every access to the wrapped disk is an error."""
        await self._set_health(letter, "broken")

    async def mend_disk(self, letter: str) -> None:
        """From now on the wrapped disk works again."""
        await self._set_health(letter, "wrapped")

    async def set_link(self, network: str, *, connected: bool) -> None:
        """Plug the node's cable to a network in or out."""
        await self._network.set_link(network, self.number, connected=connected)

    async def isolate(self, network: str, *, isolated: bool) -> None:
        """Nodes so marked cannot reach one another on the network, only the others and the host."""
        await self._network.isolate(network, self.number, isolated=isolated)

    @property
    def _root_image(self) -> Path:
        return self.directory / "root.img"

    def _kernel_line(self, memory: str) -> list[str]:
        return [
            *("linux.uml", f"mem={memory}", "quiet", "noreboot"),
            *("rootfstype=hostfs", "root=/dev/root", "ro", f"init={self._guest / 'init.sh'}"),
            f"NODE_SETTINGS={self.directory / 'settings'}",
            *(f"uml_dir={self.directory}", "umid=uml", "con=null", "con0=null,fd:1"),
            f"ubd{disks.ROOT_LETTER}={self._root_image},,{self.number}-root",
            *(disk.word for disk in self.disks),
            # Without gro=1 the driver drops what the host's TCP sends in large pieces.
            *(
                f"vec{index}:transport=tap,ifname={network}{self.number},depth=128,gro=1"
                for index, network in enumerate(self._network.subnets)
            ),
        ]

    def _disk(self, letter: str) -> Disk:
        if letter not in self._disks:
            raise LabError(f"{self.name} has no disk {letter}; it has {', '.join(self._disks)}")
        return self._disks[letter]

    async def _plug(self, disk: Disk) -> Disk:
        if self._kernel:
            await self.console(f"config {disk.word}")
        self._disks[disk.letter] = disk
        return disk

    async def _wrap(self, letter: str, target: str) -> None:
        # LVM itself leaves the paths below a multipath device alone, but only SCSI and NVMe ones.
        uuid = f"mpath-{self._disk(letter).serial}"
        await self.shell(f"""
            {_unfiltered(letter)}
            sed -i 's#global_filter = \\[#& "r|^/dev/ubd{letter}$|",#' /etc/lvm/lvm.conf
            dmsetup create disk-{letter} --uuid {uuid} --table "{_table(letter, target)}" """)

    async def _set_health(self, letter: str, health: Health) -> None:
        if letter not in self._health:
            raise LabError(f"disk {letter} of {self.name} is not wrapped: wrap_disk it first")
        target = "error" if health == "broken" else "linear"
        await self.shell(f"""
            dmsetup suspend --nolockfs disk-{letter}
            dmsetup load disk-{letter} --table "{_table(letter, target)}"
            dmsetup resume disk-{letter}""")
        self._health[letter] = health

    def _console_tail(self) -> str:
        return (self.directory / "console.log").read_text(errors="replace")[-_CONSOLE_TAIL:].strip()

    async def _watch(self, kernel: Process) -> None:
        """See the kernel end, whoever ended it, and tell those who wait for the node."""
        if kernel.stdout is None:
            raise LabError(f"{self.name}: its console is not connected")
        with (self.directory / "console.log").open("ab", buffering=0) as log:
            while output := await kernel.stdout.read(65536):  # ends with the last process
                log.write(output)
        await kernel.wait()
        booted = self._link.up
        self._kernel = None
        self._link.lost(
            f"{self.name} went down"
            if booted
            else f"{self.name} did not boot:\n{self._console_tail()}"
        )


def _unfiltered(letter: str) -> str:
    return f"""sed -i 's# "r|[^"]*/dev/ubd{letter}[^"]*",##' /etc/lvm/lvm.conf"""


def _table(letter: str, target: str) -> str:
    where = f" /dev/ubd{letter} 0" if target == "linear" else ""
    return f"0 $(blockdev --getsz /dev/ubd{letter}) {target}{where}"
