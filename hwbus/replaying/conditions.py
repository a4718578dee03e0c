"""Where to stop: at the first commit that is all of what is asked for."""

import msgspec

from hwbus.replaying.player import Player, Unread
from schemas.grammar import Event, type_name
from schemas.refusals import Refusal
from schemas.words import every_event


class UnknownError(ValueError):
    """Nothing is called so; the message says what it was."""


class Until(msgspec.Struct, frozen=True, kw_only=True):
    """What the commit must have: an event, an object, a code, an actor, an operation.

    What is None does not matter. A commit has a code if one of its events gives it as a reason.
    """

    event: str | None = None
    object: str | None = None
    code: str | None = None
    actor: str | None = None
    operation: str | None = None

    @property
    def given(self) -> bool:
        """Whether anything is asked for."""
        return self != Until()

    def check(self) -> "Until":
        """Return itself. Raises ``UnknownError``: no event, or no refusal, is called so."""
        if self.event is not None and self.event not in {
            one for word in every_event() for one in _names(word)
        }:
            raise UnknownError(f"no event is called {self.event[:80]!r}")
        if self.code is not None and self.code not in set(Refusal):
            raise UnknownError(f"no refusal has the code {self.code[:80]!r}")
        return self

    def meets(self, player: Player) -> bool:
        """Return whether the latest commit of *player* is one."""
        seen = player.latest
        if seen is None or isinstance(seen, Unread):
            return False
        return (
            self.object in {None, str(seen.address)}
            and self.actor in {None, seen.commit.actor}
            and self.operation in {None, seen.commit.correlation}
            and (self.event is None or any(self.event in _names(type(e)) for e in seen.events))
            and (self.code is None or any(_code(e) == self.code for e in seen.events))
        )


def _names(word: type[Event]) -> tuple[str, str]:
    whole = type_name(word)
    return whole, whole.rpartition(".v")[0]


def _code(event: Event) -> str | None:
    return getattr(event, "code", None)
