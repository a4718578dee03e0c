"""The operator's door: everything starts here, and almost nothing is imported for it."""

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from hwbus.cli.world import Link


def _connect(server: str) -> "AbstractAsyncContextManager[Link]":
    from hwbus.cli.nats_link import connect_nats

    return connect_nats(server)


def main() -> int:
    """Run the command line of this process; returns its exit code."""
    from hwbus.cli.tree import HELP_WORDS, root_help

    if sys.argv[1:] in HELP_WORDS:
        sys.stdout.write(root_help())
        return 0
    from hwbus.cli.app import run
    from hwbus.cli.world import real_world

    try:
        code = run(sys.argv[1:], real_world(_connect))
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read us has had enough; Python must not complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


if __name__ == "__main__":
    sys.exit(main())
