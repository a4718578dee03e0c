"""Watching an operation: its events as they come, and in the end what became of it."""

import asyncio
from contextlib import AbstractContextManager, aclosing
from types import TracebackType
from typing import Any, Self

import msgspec

from hwbus.cli.exits import Exit, FailureError, for_failed_operation
from hwbus.cli.paint import Pen, clean
from hwbus.cli.sizes import copied, format_size
from hwbus.cli.world import world
from hwbus.client import ENDED, FILLED, Client, Happening, ends
from schemas.refusals import Refusal

_OWN = "operation/"
_TOLD = ("code", "because", "device", "outcome")


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How an operation ended, as its last event says; ``size_bytes`` is what came of it, if any."""

    operation: str
    kind: str
    object: str
    outcome: str
    seq: int
    code: Refusal | None = None
    because: str = ""
    leftovers: tuple[str, ...] = ()

    @property
    def exit(self) -> Exit:
        """The code to end with."""
        return Exit.OK if self.outcome == "completed" else for_failed_operation(self.code)


def describe(event: dict[str, Any]) -> str:
    """Return an event in words: ``pool room reserved, 10GiB``."""
    kind, _, rest = str(event.get("type", "?")).partition(".")
    verb = rest.rpartition(".")[0].replace("-", " ") or rest
    details = []
    if isinstance(event.get("size_bytes"), int):
        details.append(format_size(event["size_bytes"]))
    if isinstance(event.get("of_bytes"), int):
        details.append(copied(int(event.get("done_bytes", 0)), event["of_bytes"]))
    if event.get("type") == FILLED:
        details += _legs(event)
    details += [clean(str(event[key])) for key in _TOLD if event.get(key)]
    return ", ".join([f"{kind} {verb}".strip(), *details])


def _legs(event: dict[str, Any]) -> list[str]:
    """Return how good the data of a replica is, and what is still to be filled."""
    seen = event.get("seen", {})
    peers = seen.get("peers", ())
    left = max((int(peer.get("out_of_sync_bytes", 0)) for peer in peers), default=0)
    how = "differs" if all(peer.get("sync", "none") == "none" for peer in peers) else "behind"
    return [clean(str(seen.get("disk", "unknown")))] + (
        [f"{format_size(left)} {how}"] if left else []
    )


class Progress(AbstractContextManager["Progress"]):
    """A line that follows what happens: alive on a terminal, one line an event elsewhere."""

    def __init__(self, title: str) -> None:
        here = world()
        self._title = title
        self._pen = Pen(here, here.err)
        self._status: Any = None
        if self._pen.terminal:
            from rich.console import Console

            console = Console(file=here.err, no_color=not self._pen.colours)
            self._status = console.status(title)

    def __enter__(self) -> Self:
        """Show the line."""
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the line away."""
        if self._status is not None:
            self._status.stop()

    def tell(self, happening: Happening) -> None:
        """Show the latest of what happened."""
        words = "; ".join(describe(event) for event in happening.events)
        place = "" if happening.object.startswith(_OWN) else f"  {clean(happening.object)}"
        text = f"{words}{place}  seq {happening.seq}"
        if self._status is None:
            self._pen.line(f"  {text}")
        else:
            from rich.markup import escape

            self._status.update(escape(f"{self._title}  {text}"))


def ending_of(happening: Happening) -> Ending:
    """Return how an operation ended, from the commit that ended it."""
    ended = next(event for event in happening.events if event.get("type") == ENDED)
    return msgspec.convert({"because": "", **ended, "seq": happening.seq}, Ending)


async def follow_to_end(
    client: Client, operation: str, *, title: str, object_: str, after: int, timeout_s: float
) -> Ending:
    """Show what happens until *operation* has ended, and return how.

    Raises:
        FailureError: *timeout_s* passed, or somebody pressed Ctrl-C; the operation goes on.
    """
    try:
        with Progress(title) as progress:
            async with (
                asyncio.timeout(timeout_s),
                aclosing(client.follow_operation(operation, object_=object_, after=after)) as story,
            ):
                async for happening in story:
                    progress.tell(happening)
                    if ends(happening):
                        return ending_of(happening)
        raise FailureError(Exit.FAILED, f"the log ended before operation {operation} did")
    except TimeoutError as error:
        raise FailureError(
            Exit.TIMED_OUT,
            f"operation {operation} has not ended within {timeout_s:g} s; it goes on",
            fix=f"Look again: hwbus op watch {operation}",
        ) from error
    except asyncio.CancelledError as error:
        raise FailureError(
            Exit.INTERRUPTED,
            f"left off watching; operation {operation} goes on",
            fix=f"Look again: hwbus op watch {operation}    "
            f"Give it up: hwbus op cancel {operation}",
        ) from error
