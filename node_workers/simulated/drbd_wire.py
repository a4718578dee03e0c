"""How simulated machines find each other, in one process or each in its own."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from node_workers.simulated.model import State


class Wire(Protocol):
    """The storage network, as one machine sees it, and the clock that all of them share."""

    def now_s(self) -> float:
        """Return what time it is; it never goes back."""
        ...

    def peers(self, state: State) -> Sequence[State]:
        """Return the machines that *state* reaches at this moment, and that are on."""
        ...

    def held(self, state: State) -> AbstractContextManager[None]:
        """Have nobody else change *state* or its peers meanwhile, and keep what was changed."""
        ...


class NoWire:
    """Nobody is there."""

    def now_s(self) -> float:
        """Return the beginning of time: a machine alone waits for nothing."""
        return 0.0

    def peers(self, _: State) -> Sequence[State]:
        """Return nobody."""
        return ()

    @contextmanager
    def held(self, _: State) -> Iterator[None]:
        """Do nothing."""
        yield


class Switch:
    """A network of machines in one process, which can be cut."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._machines: list[State] = []
        self._off: set[str] = set()
        self._apart: set[frozenset[str]] = set()

    def plug(self, state: State) -> None:
        """Have a machine on the network, and on."""
        self._machines.append(state)

    def cut(self, one: str, other: str) -> None:
        """Have two machines lose each other."""
        self._apart.add(frozenset({one, other}))

    def mend(self, one: str, other: str) -> None:
        """Have them find each other again."""
        self._apart.discard(frozenset({one, other}))

    def power(self, machine: str, *, on: bool) -> None:
        """Have a machine be on, or not."""
        (self._off.discard if on else self._off.add)(machine)

    def now_s(self) -> float:
        """Return what time it is."""
        return self._now_s()

    def peers(self, state: State) -> Sequence[State]:
        """Return the machines that *state* reaches."""
        if state.machine in self._off:
            return ()
        return [other for other in self._machines if self._reaches(state, other)]

    @contextmanager
    def held(self, _: State) -> Iterator[None]:
        """Do nothing: nobody else runs."""
        yield

    def _reaches(self, state: State, other: State) -> bool:
        pair = frozenset({state.machine, other.machine})
        return len(pair) > 1 and pair not in self._apart and other.machine not in self._off
