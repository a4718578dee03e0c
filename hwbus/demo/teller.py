"""Telling: chapters, the commands as one would type them, what they print, and whether it is so."""

import shlex
import time
from collections.abc import Sequence
from typing import TextIO

_BOLD, _DIM, _GREEN, _RED = "1", "2", "32", "1;31"
_MARGIN = "   "
_WIDTH_MAX = 180


class NotSoError(Exception):
    """Something the story shows is not so; the message names it."""


class Teller:
    """Prints the story to *out*; in colours, and cut to *width*, where a person looks on."""

    def __init__(self, out: TextIO, *, colours: bool, width: int = _WIDTH_MAX) -> None:
        self._out = out
        self._colours = colours
        self._width = width
        self._chapter = 0
        self._began_s = time.monotonic()
        self.checked = 0

    @property
    def place(self) -> str:
        """Where in the story we are."""
        return f"chapter {self._chapter}" if self._chapter else "set-up"

    def chapter(self, title: str) -> None:
        """Begin the next chapter."""
        self._chapter += 1
        at = f"[{time.monotonic() - self._began_s:5.1f} s]" if self._chapter > 1 else ""
        if self._chapter == 1:
            self._began_s = time.monotonic()
        self._line("")
        self._line(f"{self._paint(f'{self._chapter}. {title}', _BOLD)}  {at}".rstrip())

    def elapsed_s(self) -> float:
        """Return how long ago the first chapter began."""
        return time.monotonic() - self._began_s

    def say(self, text: str) -> None:
        """Say a sentence or two."""
        self._line(f"{_MARGIN}{text}")

    def command(self, argv: Sequence[str], *, node: str = "", beside: bool = False) -> None:
        """Show a command line: ours, or one typed in a *node*; *beside*: others follow at once."""
        prompt = f"{node}#" if node else "$"
        text = f"{_MARGIN}{prompt} {shlex.join(argv)}{' &' if beside else ''}"
        self._line(self._paint(text, _BOLD))

    def output(self, text: str) -> None:
        """Show what a command printed."""
        for line in text.rstrip().splitlines():
            if line:
                self._line(self._paint(self._cut(f"{_MARGIN}  {line}"), _DIM))

    def check(self, so: bool, sentence: str, otherwise: str = "") -> None:  # noqa: FBT001
        """Say that *sentence* is so. Raises ``NotSoError``, with *otherwise*, if it is not."""
        if not so:
            raise NotSoError(f"{sentence}{f' ({otherwise})' if otherwise else ''}")
        self.checked += 1
        self._line(f"{_MARGIN}{self._paint('ok', _GREEN)} {sentence}")

    def same(self, found: object, wanted: object, sentence: str) -> None:
        """Say that *found* is *wanted*, as *sentence* puts it. Raises ``NotSoError``."""
        self.check(found == wanted, sentence, f"{found!r} is not {wanted!r}")

    def fail(self, text: str) -> None:
        """Say what was not so."""
        self._line(self._paint(text, _RED))

    def end(self, text: str) -> None:
        """Say the last words."""
        self._line("")
        self._line(self._paint(text, _BOLD))

    def _cut(self, text: str) -> str:
        return text if len(text) <= self._width else f"{text[: self._width - 1]}…"

    def _paint(self, text: str, colour: str) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._colours and text else text

    def _line(self, text: str) -> None:
        self._out.write(f"{text}\n")
        self._out.flush()
