"""Read a tool's arguments as strictly as can be: a flag the model does not know is our mistake."""

from collections.abc import Sequence

import msgspec


class UnknownToolUseError(Exception):
    """The driver used a tool in a way the model was never taught: teach it, on a real kernel."""


class ToolRefusal(Exception):  # noqa: N818 - no error of ours: what the tool's caller shall see
    """The tool ends otherwise than with 0: its exit status and what it writes."""

    def __init__(self, exit_status: int, stderr: str, stdout: str = "") -> None:
        super().__init__(stderr)
        self.exit_status = exit_status
        self.stderr = stderr
        self.stdout = stdout


class Arguments(msgspec.Struct, frozen=True):
    """Options with all their values, and what was given without one."""

    options: dict[str, list[str]]
    words: list[str]

    def one(self, name: str, default: str = "") -> str:
        """Return the only value of an option."""
        values = self.options.get(name, [default])
        if len(values) != 1:
            raise UnknownToolUseError(f"{name} was given {len(values)} times")
        return values[0]

    def all(self, name: str) -> list[str]:
        """Return all values of a repeated option."""
        return self.options.get(name, [])

    def word(self) -> str:
        """Return the only word."""
        if len(self.words) != 1:
            raise UnknownToolUseError(f"one word was expected, not {self.words}")
        return self.words[0]


def read_arguments(
    argv: Sequence[str], *, valued: frozenset[str] = frozenset(), flags: frozenset[str]
) -> Arguments:
    """Take *argv* (without the tool) apart. Raises ``UnknownToolUseError`` for a new flag."""
    options: dict[str, list[str]] = {}
    words: list[str] = []
    rest = iter(argv)
    for word in rest:
        if word in valued:
            options.setdefault(word, []).append(next(rest))
        elif word in flags:
            options.setdefault(word, []).append("")
        elif word.startswith("-") and word != "-":
            raise UnknownToolUseError(f"the model knows no {word} of {' '.join(argv)}")
        else:
            words.append(word)
    return Arguments(options, words)
