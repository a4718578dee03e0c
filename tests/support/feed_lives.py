"""Lives of the example of a feed: each is begun, let be for some statements, and killed.

    python -m tests.support.feed_lives SERVER FILE LIVES SEED

A process takes long to start and a fork does not, so what is slow is imported once. The child
writes a byte before each statement that SQLite runs; after some of them, by chance, it is killed:
within a transaction, at its commit, or between two.
"""

import asyncio
import contextlib
import importlib.util
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "feed.py"
STATEMENTS_MAX = 90


def example() -> Any:
    """Return the example as a module."""
    spec = importlib.util.spec_from_file_location("feed", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def live(feed: Any, server: str, path: Path, told: int) -> None:
    """Receive for ever, writing a byte to *told* before each statement."""
    made = feed.Feed

    def traced(*about: Any) -> Any:
        one = made(*about)
        one.db.set_trace_callback(lambda _: os.write(told, b"."))
        return one

    feed.Feed = traced
    asyncio.run(feed.receive(server, "HWBUS_EVENTS", path, once=False))


def one_life(feed: Any, server: str, path: Path, statements: int) -> bool:
    """Begin a life and end it after so many statements; return whether it was us who ended it."""
    hears, told = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.close(hears)
            live(feed, server, path, told)
        os._exit(1)
    os.close(told)
    heard = 0
    while heard < statements and (some := os.read(hears, statements - heard)):
        heard += len(some)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(hears)
    return os.WIFSIGNALED(status) and heard == statements


def main(server: str, path: str, lives: str, seed: str) -> int:
    """Live and die so often, and print how many ended by our hand."""
    feed, chance = example(), random.Random(int(seed))
    counts = (chance.randint(1, STATEMENTS_MAX) for _ in range(int(lives)))
    killed = sum(one_life(feed, server, Path(path), count) for count in counts)
    print(killed)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
