"""A log under the finger: forward and back, commit by commit, and what is there to be seen."""

from collections.abc import Callable, Iterable, Sequence

from hwbus.cli.replayed import (
    NoSuchError,
    change_lines,
    differences,
    found,
    object_lines,
    step,
    step_lines,
)
from hwbus.replaying.player import Changed, Player

HELP = (
    "n [COUNT]       forward; an empty line does again what was done last",
    "p [COUNT]       back",
    "go SEQ          to that commit",
    "show KIND NAME  an object as it is here: show volume pg, show pool n1/fast",
    "diff            what differs from where you were before you moved",
    "hash            the hash of everything as it is here",
    "quit            leave",
)


class Stepper:
    """Takes lines as somebody types them, and gives the lines that answer."""

    def __init__(self, player: Player) -> None:
        self.over = False
        self._player = player
        self._moved: tuple[Changed, ...] = ()
        self._again = "n"
        self._verbs: dict[str, Callable[[Sequence[str]], Iterable[str]]] = {
            "n": self._forward,
            "p": self._back,
            "go": self._go,
            "show": self._show,
            "diff": self._diff,
            "hash": self._hash,
            "help": lambda _words: HELP,
            "quit": self._quit,
        }

    @property
    def prompt(self) -> str:
        """What stands before the line that is typed: where one is, of how many."""
        return f"{self._player.seq}/{self._player.tape.last}> "

    def do(self, line: str) -> list[str]:
        """Do what *line* says."""
        line = line.strip() or self._again
        verb, *words = line.split()
        known = [name for name in self._verbs if name.startswith(verb)]
        if verb not in self._verbs and len(known) != 1:
            return [f"{verb[:80]!r} is not known: help tells what is"]
        if verb in {"n", "p"}:
            self._again = line
        try:
            return list(self._verbs[verb if verb in self._verbs else known[0]](words))
        except NoSuchError as error:
            return [str(error)]

    def _forward(self, words: Sequence[str]) -> Iterable[str]:
        return self._move(self._player.seq + _count(words))

    def _back(self, words: Sequence[str]) -> Iterable[str]:
        return self._move(self._player.seq - _count(words))

    def _go(self, words: Sequence[str]) -> Iterable[str]:
        if len(words) != 1 or not words[0].isdecimal():
            raise NoSuchError("go where? go SEQ")
        return self._move(int(words[0]))

    def _move(self, seq: int) -> Iterable[str]:
        player, tape = self._player, self._player.tape
        if not tape.after <= seq <= tape.last:
            yield f"there are {tape.after} to {tape.last}"
        seq = min(max(seq, tape.after), tape.last)
        if seq == player.seq:
            return
        forward = seq == player.seq + 1
        self._moved = player.go(seq)
        # Of a commit that is gone to otherwise only itself is told: diff tells the rest.
        yield from step_lines(step(player, self._moved if forward else ()))

    def _show(self, words: Sequence[str]) -> Iterable[str]:
        if not words:
            raise NoSuchError("show what? show KIND NAME")
        return object_lines(found(self._player, "/".join(words)))

    def _diff(self, _words: Sequence[str]) -> Iterable[str]:
        return list(change_lines(differences(self._moved))) or ["nothing differs"]

    def _hash(self, _words: Sequence[str]) -> Iterable[str]:
        yield f"hash {self._player.seq} {self._player.hash()}"

    def _quit(self, _words: Sequence[str]) -> Iterable[str]:
        self.over = True
        return ()


def _count(words: Sequence[str]) -> int:
    if not words:
        return 1
    if len(words) > 1 or not words[0].isdecimal():
        raise NoSuchError(f"{' '.join(words)[:80]!r} is no number of commits")
    return int(words[0])
