"""Kills, by SIGKILL, every process that uses one block device: what is mounted of it, or itself.

    python -I -S evict.py 254:3

DRBD 8.4 tells a frozen write that it is safe when the device is taken down, though the peer has
gone on without it. Who is dead does not hear that. It looks at no file of the filesystem, which may
not answer: what a file lies on is known by the mount it was opened through (proc(5)). Only what was
opened through a mount that is no more is asked for its device, which the kernel knows by heart.

Who waits for a frozen write dies when that is let go, and does nothing more until then: one that
has its SIGKILL already is not killed again, so that whoever runs this until it kills nobody ends.
"""

import contextlib
import os
import signal
import sys


def main() -> int:
    """Kill them, and print who they were."""
    device = sys.argv[1]
    alive = [pid for pid in _others() if not is_dying(pid)]
    killed = [pid for pid in alive if uses(pid, device) and _kill(pid)]
    print(" ".join(str(pid) for pid in killed))  # noqa: T201
    return 0


def _others() -> list[int]:
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208
    return [pid for pid in pids if pid not in {os.getpid(), os.getppid(), 1}]


def is_dying(pid: int) -> bool:
    """Return whether the process has a SIGKILL waiting for it: it runs no more of its program."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as lines:  # noqa: PTH123
        return has_sigkill(list(lines))
    return False


def has_sigkill(status: list[str]) -> bool:
    """Return whether one waits, by the lines of ``/proc/<pid>/status``."""
    waiting = [line.split()[1] for line in status if line.startswith(("SigPnd:", "ShdPnd:"))]
    return any(int(one, 16) >> (signal.SIGKILL - 1) & 1 for one in waiting)


def uses(pid: int, device: str) -> bool:
    """Return whether the process has a file on the device, works there, or has it open."""
    with contextlib.suppress(OSError):
        mounts = _mounts(pid)
        if any(_is_below(f"/proc/{pid}/{name}", mounts, device) for name in ("cwd", "root")):
            return True
        if _maps(pid, device):
            return True
        for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208
            if _is_open(pid, name, mounts, device):
                return True
    return False


def _mounts(pid: int) -> dict[str, tuple[str, str]]:
    """Return device and mount point of the mounts the process sees, by their id."""
    with open(f"/proc/{pid}/mountinfo") as lines:  # noqa: PTH123
        fields = [line.split() for line in lines]
    return {one[0]: (one[2], one[4]) for one in fields}


def _is_below(link: str, mounts: dict[str, tuple[str, str]], device: str) -> bool:
    where = os.readlink(link)  # noqa: PTH115
    targets = (target for number, target in mounts.values() if number == device)
    return any(where == target or where.startswith(f"{target}/") for target in targets)


def _maps(pid: int, device: str) -> bool:
    major, minor = device.split(":")
    told = f"{int(major):02x}:{int(minor):02x}"
    with open(f"/proc/{pid}/maps") as lines:  # noqa: PTH123
        return any(told in line.split()[3:4] for line in lines)


def _is_open(pid: int, name: str, mounts: dict[str, tuple[str, str]], device: str) -> bool:
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/fdinfo/{name}") as lines:  # noqa: PTH123
            through = next((line.split()[1] for line in lines if line.startswith("mnt_id")), "")
        if mounts.get(through, ("", ""))[0] == device:
            return True
        where = os.readlink(f"/proc/{pid}/fd/{name}")  # noqa: PTH115
        if through not in mounts and where.startswith("/"):
            # Opened before its mount was taken away; or in memory, which is on none of ours.
            lies_on = os.stat(f"/proc/{pid}/fd/{name}").st_dev  # noqa: PTH116
            if f"{os.major(lies_on)}:{os.minor(lies_on)}" == device:
                return True
        if where.startswith("/dev/"):
            number = os.stat(where).st_rdev  # noqa: PTH116
            return f"{os.major(number)}:{os.minor(number)}" == device
    return False


def _kill(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


if __name__ == "__main__":
    sys.exit(main())
