"""Command lines that are only read: what they would say is collected, and nothing is said."""

import io
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any

import msgspec

from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.options import Change
from hwbus.cli.world import Link, World, enter, world
from hwbus.ports import Bus
from hwbus.subjects import ROOT
from schemas.grammar import Message

_WORDS: ContextVar[list[Message] | None] = ContextVar("words", default=None)
_NOUNS = frozenset(
    {"node", "disk", "pool", "volume", "vol", "snapshot", "snap", "policy", "group"}
    | {"schedule", "sched", "qos", "backup", "op", "drift"}
)
"""Under these nothing is done but through the bus."""


def collecting() -> bool:
    """Return whether what is said now is only collected."""
    return _WORDS.get() is not None


def collected(word: Message, how: Change) -> bool:
    """Return whether *word* was collected, and so is not to be said.

    Raises:
        FailureError: a line that is only read asks for more than to be said.
    """
    words = _WORDS.get()
    if words is None:
        return False
    if how != Change():
        odd = "--wait, --timeout, --id, --expect-version, --plan and --at have no place in a plan"
        raise FailureError(Exit.USAGE, odd, fix="Leave them out.")
    words.append(word)
    return True


def said(word: Message) -> dict[str, Any]:
    """Return the step of a plan that *word* is."""
    return {"what": "say", "command": msgspec.Raw(msgspec.json.encode(word))}


def words_of(line: Sequence[str], server: str | None) -> list[Message]:
    """Return what a command line would say. Views may be asked for it; nothing is changed.

    Raises:
        FailureError: it is none that changes something, or cannot be read.
    """
    from cyclopts import CycloptsError

    from hwbus.cli.app import build, hoist

    argv = list(line[1:] if line[:1] == ["hwbus"] else line)
    if not argv or argv[0] not in _NOUNS:
        raise FailureError(Exit.USAGE, f"{' '.join(argv)!r} changes nothing that can be planned")
    argv += ["--server", server] if server is not None else []
    with _only_read() as words:
        try:
            build()(hoist(argv))
        except CycloptsError as error:
            raise FailureError(Exit.USAGE, str(error)) from error
    if not words:
        raise FailureError(Exit.USAGE, f"{' '.join(line)!r} changes nothing that can be planned")
    return words


@contextmanager
def _only_read() -> Iterator[list[Message]]:
    here, words = world(), list[Message]()
    token = _WORDS.set(words)
    enter(
        msgspec.structs.replace(
            here, connect=_reading(here), out=io.StringIO(), stdin=io.StringIO()
        )
    )
    try:
        yield words
    finally:
        _WORDS.reset(token)
        enter(here)


def _reading(here: World) -> Any:
    @asynccontextmanager
    async def connect(server: str) -> AsyncIterator[Link]:
        async with here.connect(server) as link:
            yield msgspec.structs.replace(link, bus=_OnlyQuestions(link.bus))

    return connect


class _OnlyQuestions:
    """A bus on which nothing can be changed."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    async def request(
        self, subject: str, data: bytes, *, headers: dict[str, str], timeout_s: float
    ) -> bytes:
        """As ``Bus.request``, for questions. Raises ``FailureError`` for all else."""
        if not subject.startswith(f"{ROOT}.q."):
            raise FailureError(Exit.USAGE, "that line does something before it is a command")
        return await self._bus.request(subject, data, headers=headers, timeout_s=timeout_s)
