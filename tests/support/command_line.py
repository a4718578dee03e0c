"""The command line in this process, with a real broker: as people type it, but that it is told."""

import io
from collections.abc import Mapping
from pathlib import Path

from hwbus.cli.app import run
from hwbus.cli.nats_link import connect_nats
from hwbus.cli.world import World
from hwbus.identity import Mint, SystemClock

_NOTHING: Mapping[str, str] = {}
NOBODY = "nats://127.0.0.1:1"


def said(
    *argv: str, home: Path, server: str = NOBODY, env: Mapping[str, str] = _NOTHING
) -> tuple[int, str]:
    """Run ``hwbus *argv``; return its exit code, which is 0 or 1, and what it printed."""
    code, out, err = typed(*argv, home=home, server=server, env=env)
    assert code in {0, 1}, err
    return code, out


def typed(
    *argv: str, home: Path, server: str = NOBODY, env: Mapping[str, str] = _NOTHING
) -> tuple[int, str, str]:
    """Run ``hwbus *argv``; return its exit code, what it printed, and what it said beside."""
    out, err = io.StringIO(), io.StringIO()
    world = World(
        connect=connect_nats,
        out=out,
        err=err,
        stdin=io.StringIO(),
        env={"HOME": str(home), "HWBUS_SERVER": server, **env},
        clock=SystemClock(),
        mint=Mint(),
        user="ada",
    )
    code = run(argv, world)
    return int(code), out.getvalue(), err.getvalue()
