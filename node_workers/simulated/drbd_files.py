"""Resource files as ``drbdadm`` of 8.4 reads them, in the form in which ours are written."""

import re
import shlex

import msgspec

from node_workers.drbd_config import FOLDER
from node_workers.simulated.drbd_model import Options
from node_workers.simulated.model import State

_KIB = 1 << 10
_ON = re.compile(
    r'on "([^"]+)" \{ device minor (\d+); disk "([^"]+)"; meta-disk internal;'
    r" address ipv[46] (\S+); \}"
)
_SIZE = re.compile(r"disk \{ size (\d+)s;")
_RATE = re.compile(r" c-plan-ahead 0; resync-rate (\d+)k;")
_SECRET = re.compile(r'shared-secret "([^"]+)"')
_HANDLER = re.compile(r'fence-peer "((?:[^"\\]|\\.)*)"')


class ResourceFile(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says to this machine."""

    minor: int
    disk: str
    options: Options


def read(state: State, name: str) -> ResourceFile | None:
    """Return what the file of a resource says to this machine, if there is one that names it."""
    text = state.files.get(f"{FOLDER}/{name}.res", "")
    ends = {match[1]: match for match in _ON.finditer(text)}
    here = ends.pop(state.machine, None)
    size, secret, rate = _SIZE.search(text), _SECRET.search(text), _RATE.search(text)
    if here is None or size is None:
        return None
    peer = next(iter(ends.values()), None)
    options = Options(
        sectors=int(size[1]),
        rate_bytes_per_s=0 if rate is None else int(rate[1]) * _KIB,
        here=here[4],
        there="" if peer is None else peer[4],
        peer="" if peer is None else peer[1],
        secret="" if secret is None else secret[1],
    )
    return ResourceFile(minor=int(here[2]), disk=here[3], options=options)


def handled(state: State, name: str) -> tuple[str, str]:
    """Return for which volume, and which uid of it, the handler of a resource asks."""
    found = _HANDLER.search(state.files.get(f"{FOLDER}/{name}.res", ""))
    words = [] if found is None else shlex.split(found[1].replace('\\"', '"').replace("\\\\", "\\"))
    return (words[-2], words[-1]) if len(words) > 1 else ("", "")
