"""What a command line is run in: its streams, environment, clock, and its way to the bus."""

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from typing import TextIO

import msgspec

from hwbus.identity import Mint, SystemClock
from hwbus.ports import Bus, Clock, EventLog


class Link(msgspec.Struct, frozen=True):
    """A connection to the bus and to the two streams that lie behind it."""

    bus: Bus
    log: EventLog
    audit: EventLog


Connect = Callable[[str], AbstractAsyncContextManager[Link]]


class World(msgspec.Struct, frozen=True, kw_only=True):
    """Everything outside; tests bring another one. ``then`` is there when the past is shown."""

    connect: Connect
    out: TextIO
    err: TextIO
    stdin: TextIO
    env: Mapping[str, str]
    clock: Clock
    mint: Callable[[], str]
    user: str
    then: datetime | None = None

    @property
    def home(self) -> Path:
        """The user's home directory."""
        return Path(self.env.get("HOME") or "/")

    def directory(self, variable: str, fallback: str) -> Path:
        """Return one of the XDG base directories with our name below it."""
        named = self.env.get(variable, "")
        base = Path(named) if named.startswith("/") else self.home / fallback
        return base / "hwbus"

    @property
    def config(self) -> Path:
        """Where contexts are kept."""
        return self.directory("XDG_CONFIG_HOME", ".config")

    @property
    def state(self) -> Path:
        """Where one machine's control plane keeps all it has."""
        return self.directory("XDG_STATE_HOME", ".local/state")

    @property
    def cache(self) -> Path:
        """Where names for completion are kept, and how far we have written."""
        return self.directory("XDG_CACHE_HOME", ".cache")

    def colours(self, stream: TextIO) -> bool:
        """Say whether *stream* shall be coloured: a terminal, and nobody objects."""
        return stream.isatty() and not self.env.get("NO_COLOR") and self.env.get("TERM") != "dumb"


_CURRENT: ContextVar[World] = ContextVar("world")


def world() -> World:
    """Return the world the running command is in."""
    return _CURRENT.get()


def go_back(then: datetime) -> None:
    """Make the past the world of what is printed from here on: ages are what they were then."""
    enter(msgspec.structs.replace(world(), then=then))


def enter(outside: World) -> None:
    """Make *outside* the world of what is run from here on."""
    _CURRENT.set(outside)


def real_world(connect: Connect) -> World:
    """Return the world of a process: its own streams, environment and user."""
    return World(
        connect=connect,
        out=sys.stdout,
        err=sys.stderr,
        stdin=sys.stdin,
        env=os.environ,
        clock=SystemClock(),
        mint=Mint(),
        user=_user(),
    )


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid-{os.getuid()}"
