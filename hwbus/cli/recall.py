"""What is remembered between two command lines: how far we wrote, and which names there were."""

import hashlib
import os
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from hwbus.cli.world import World

# After this long nobody waits any more for a view to reach what was written.
_OWN_WRITES_FOR = timedelta(seconds=60)
_NAMES_MAX = 2000


class Recall(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of one control plane; ``seq`` was written at ``at``."""

    seq: int = 0
    at: datetime | None = None
    names: dict[str, list[str]] = {}


def _file(world: World, server: str) -> Path:
    return world.cache / f"{hashlib.sha256(server.encode()).hexdigest()[:16]}.json"


def recall(world: World, server: str) -> Recall:
    """Return what is remembered of the control plane behind *server*: nothing, if unreadable."""
    try:
        return msgspec.json.decode(_file(world, server).read_bytes(), type=Recall)
    except (OSError, msgspec.DecodeError):
        return Recall()


def own_writes(world: World, server: str) -> int:
    """Return the sequence a read has to wait for so that it shows what we have just written."""
    known = recall(world, server)
    if known.at is None or world.clock.now() - known.at > _OWN_WRITES_FOR:
        return 0
    return known.seq


def wrote(world: World, server: str, seq: int) -> None:
    """Remember that we wrote up to *seq*."""
    known = recall(world, server)
    _keep(world, server, msgspec.structs.replace(known, seq=seq, at=world.clock.now()))


def saw(world: World, server: str, view: str, names: list[str]) -> None:
    """Remember the names of *view*, for completion."""
    known = recall(world, server)
    names = names[:_NAMES_MAX]
    if known.names.get(view) != names:
        _keep(world, server, msgspec.structs.replace(known, names=known.names | {view: names}))


def forget(world: World, server: str) -> None:
    """Remember nothing more of *server*: it is gone, and another may come to its address."""
    _file(world, server).unlink(missing_ok=True)


def _keep(world: World, server: str, known: Recall) -> None:
    path = _file(world, server)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new.write_bytes(msgspec.json.encode(known))
        new.replace(path)
    except OSError as error:
        # A read-only home must not stop anybody; only reading one's own writes gets weaker.
        world.err.write(f"note: {path} cannot be written ({error.strerror})\n")
