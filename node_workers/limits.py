"""How fast what runs in a control group may use a device: io.max, read before it is written."""

from node_workers.ports import Limits, LimitsError, Runner
from node_workers.tools import Tools

CGROUPS = "/sys/fs/cgroup"
# In the shell, so that what was written stands in the audit.
WRITE = ("sh", "-c", 'printf "%s\\n" "$1" > "$2"', "hwbus")
_TIMEOUT_S = 10.0
_MISSING = 1  # what cat answers for a file that is not there


class IoLimits:
    """Sets and lifts the limits of devices, by control group."""

    def __init__(self, runner: Runner) -> None:
        self._tools = Tools(runner)

    async def ensure(self, cgroup: str, device: str, limits: Limits, *, cause: str) -> None:
        """Have exactly *limits* for *device* ("254:3") in *cgroup*.

        Raises ``LimitsError`` if there is no such group, or it cannot limit I/O. Without any
        limits to set that is as good as lifted.
        """
        if not limits.any:
            await self.ensure_lifted(cgroup, device, cause=cause)
            return
        now = await self._read(cgroup, "io.max", cause=cause)
        if now is None and await self._read(cgroup, "cgroup.controllers", cause=cause) is None:
            raise LimitsError("no-cgroup", f"there is no control group {cgroup}")
        if now is None:
            raise LimitsError(
                "no-io-controller",
                f"the control group {cgroup} has no io.max: its io controller is not on",
            )
        wanted = _line(device, limits)
        if wanted not in now.splitlines():
            await self._write(cgroup, wanted, cause=cause)

    async def hold(self, cgroup: str, device: str, limits: Limits, *, cause: str) -> bool:
        """Return whether exactly *limits*, and there are some, stand for *device* in *cgroup*."""
        now = await self._read(cgroup, "io.max", cause=cause)
        return _line(device, limits) in (now or "").splitlines()

    async def ensure_lifted(self, cgroup: str, device: str, *, cause: str) -> None:
        """Have no limits for *device* in *cgroup*, which may be gone."""
        now = await self._read(cgroup, "io.max", cause=cause)
        if any(line.split()[:1] == [device] for line in (now or "").splitlines()):
            await self._write(cgroup, _line(device, Limits()), cause=cause)

    async def _read(self, cgroup: str, file: str, *, cause: str) -> str | None:
        execution = await self._tools.must(
            *("cat", f"{CGROUPS}/{cgroup}/{file}"),
            cause=cause,
            timeout_s=_TIMEOUT_S,
            accepted=frozenset({0, _MISSING}),
        )
        return execution.stdout if execution.exit_status == 0 else None

    async def _write(self, cgroup: str, line: str, *, cause: str) -> None:
        file = f"{CGROUPS}/{cgroup}/io.max"
        await self._tools.must(*WRITE, line, file, cause=cause, timeout_s=_TIMEOUT_S)


def _line(device: str, limits: Limits) -> str:
    return (
        f"{device} rbps={limits.read_bytes_per_s or 'max'} wbps={limits.write_bytes_per_s or 'max'}"
        f" riops={limits.read_iops or 'max'} wiops={limits.write_iops or 'max'}"
    )
