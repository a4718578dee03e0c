"""What there is to see of a lab in which something went wrong, for whoever reads about it later."""

from pathlib import Path

import msgspec

from hwbus.lab.client import LabClient
from hwbus.lab.line import LabNotRunningError
from hwbus.lab.uml.errors import LabError

_TAIL_LINES = 15
_LOOK_S = 10.0
# Threads of the kernel cannot be asked why they wait; their stacks tell.
_LOOK = r"""
ps -eo pid,stat,etime,wchan:24,args | grep -v ' \['
cat /proc/drbd 2>/dev/null
ss -Htanop '( sport >= 7000 and sport < 8000 ) or ( dport >= 7000 and dport < 8000 )'
for stack in /proc/[0-9]*/stack; do
    process=${stack%/stack}
    read -r name <$process/comm || continue
    case $name in drbd_r_*|drbd_w_*|drbd_a_*)
        echo "$name: $(sed 's/.* //' $stack | head -n 12 | tr '\n' ' ')" ;;
    esac
done
dmesg | tail -n 40
"""


async def evidence(lab: LabClient) -> str:
    """Return the ends of the logs, and of each node its programs, its DRBD and its kernel's words.

    A node that does not answer is told as such. Raises what ``LabClient.status`` does.
    """
    status = await lab.status()
    parts = [f"--- {msgspec.to_builtins(one)}\n{tail(Path(one.log))}" for one in status.services]
    for node in status.nodes:
        try:
            seen = (
                await lab.exec(node.name, "sh", "-c", _LOOK, timeout_s=_LOOK_S, check=False)
            ).stdout
        except (LabError, LabNotRunningError, TimeoutError) as error:
            seen = f"nothing to see: {error!r}"
        parts.append(f"--- {node.name} {'runs' if node.running else 'is off'}\n{seen}")
    return "\n".join(parts)


def tail(log: Path) -> str:
    """Return the last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
