"""An upgrade, rehearsed: does this code make of a log what the log, and the rows of then, say?

Three things are looked at. Every commit must be read, and every fold of it go well. Every command
is decided again, on the state before it, and must give the events that the log has. And rows that
were written down where the log comes from must be those that come out here.
"""

from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from aggregates.world import Held
from hwbus.codec import UnreadableError, command_codec
from hwbus.controller.storage import StorageDomain
from hwbus.replaying.player import Player, Unread
from projectors.reading import Seen
from schemas.answers import Refused
from schemas.commit import Commit
from schemas.grammar import Event, Message, type_name
from schemas.target import BackupBegan
from schemas.words import COMMANDS, command_for

Place = tuple[str, str, str]
Was = tuple[Place, Held]
Outcome = tuple[Event, ...] | Refused | Exception
DIFFERENCES_MAX = 1000
ASIDE_MAX = 64
"""Desks decide side by side: what was decided may not have seen so many commits before it."""

# A desk looks at its clock when it decides, and again when it writes.
_LATER = timedelta(seconds=2)
What = Literal["unreadable", "unknown", "fold", "command", "refused", "decision", "row", "hash"]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it was: at a commit, about an object; both sides as text."""

    what: What
    seq: int
    object: str
    field: str = ""
    then: str = ""
    now: str = ""


class Findings(msgspec.Struct):
    """What came of a rehearsal; ``untold`` differences were too many to be kept.

    ``aside`` commands gave what they gave only on a state some commits earlier, as of a desk that
    had not seen these; of ``unasked`` commits the command was not kept.
    """

    commits: int = 0
    decided: int = 0
    aside: int = 0
    unasked: int = 0
    rows: int = 0
    untold: int = 0
    differences: list[Difference] = msgspec.field(default_factory=list)

    def add(self, one: Difference) -> None:
        """Take a difference, if there are not too many."""
        if len(self.differences) < DIFFERENCES_MAX:
            self.differences.append(one)
        else:
            self.untold += 1


class Rehearsing:
    """Plays a log with this code, and notes in ``findings`` what is not as it was."""

    def __init__(self, player: Player) -> None:
        self.findings = Findings()
        self._player = player
        self._domain = StorageDomain(player.world)
        self._lately: deque[Was] = deque(maxlen=ASIDE_MAX)

    def play(self, until: int) -> None:
        """Go on up to *until*, commit by commit."""
        player = self._player
        while player.seq < min(until, player.tape.last):
            seen = player.look()
            self.findings.commits += 1
            if isinstance(seen, Unread):
                self._note("unreadable", seen.stored.seq, seen.stored.subject, now=seen.because)
            else:
                self._compare(seen)
            for because in player.try_step():
                self._note("fold", player.seq, _about(seen), now=because)

    def _compare(self, seen: Seen) -> None:
        for word in seen.unknown:
            self._note("unknown", seen.seq, str(seen.address), then=word.word)
        place = (seen.address.kind, seen.address.place, seen.address.id)
        if place[0] not in COMMANDS:
            self._note("unknown", seen.seq, str(seen.address), then=place[0])
            return
        before = self._player.world.held(*place)
        if not seen.unknown:
            self._decide(seen, place)
        self._lately.append((place, before))

    def _decide(self, seen: Seen, place: Place) -> None:
        if bytes(seen.commit.request) == b"null":
            self.findings.unasked += 1
            return
        command = _command(seen.commit)
        if not isinstance(command, Message):
            self._note("command", seen.seq, str(seen.address), seen.commit.word, now=command)
            return
        self.findings.decided += 1
        decided = self._decided(command, seen)
        if _same(decided, seen.events):
            return
        if any(
            _same(self._decided_aside(command, seen, n), seen.events) for n in self._aside(place)
        ):
            self.findings.aside += 1
            return
        self._tell(seen, decided)

    def _decided(self, command: Message, seen: Seen) -> Outcome:
        commit = seen.commit
        try:
            return self._domain.decide(
                command, actor=commit.actor, at=commit.at, mint=_recorded(seen.events)
            )
        except Exception as error:  # noqa: BLE001 -- whatever it was, it is what is looked for
            return error

    def _aside(self, place: Place) -> range:
        """Return how many commits before this one may be left away: not its own object's."""
        back = next((n for n, (one, _) in enumerate(reversed(self._lately)) if one == place), None)
        return range(1, (len(self._lately) if back is None else back) + 1)

    def _decided_aside(self, command: Message, seen: Seen, count: int) -> Outcome:
        """Decide on the state *count* commits earlier."""
        world = self._player.world
        back = list(self._lately)[-count:]
        now = [(place, world.held(*place)) for place in dict.fromkeys(one for one, _ in back)]
        for (kind, place, id_), held in reversed(back):
            world.hold(kind, place, id_, held)
        try:
            return self._decided(command, seen)
        finally:
            for (kind, place, id_), held in now:
                world.hold(kind, place, id_, held)

    def _tell(self, seen: Seen, decided: Outcome) -> None:
        about, seq = str(seen.address), seen.seq
        if isinstance(decided, Exception):
            said = f"{type(decided).__name__}: {decided}"
            self._note("decision", seq, about, seen.commit.word, _words(seen.events), said)
            return
        if isinstance(decided, Refused):
            refused = f"{decided.code} {decided.because}"
            self._note("refused", seq, about, seen.commit.word, _words(seen.events), refused)
            return
        if [type(one) for one in decided] != [type(one) for one in seen.events]:
            words = (_words(seen.events), _words(decided))
            self._note("decision", seq, about, seen.commit.word, *words)
            return
        for was, now in zip(seen.events, decided, strict=True):
            for field in was.__struct_fields__:
                then, here = _plain(getattr(was, field)), _plain(getattr(now, field))
                if not _alike(then, here):
                    name = f"{type_name(was)}: {field}"
                    self._note("decision", seq, about, name, _json(then), _json(here))

    def _note(
        self, what: What, seq: int, about: str, field: str = "", then: str = "", now: str = ""
    ) -> None:
        self.findings.add(
            Difference(what=what, seq=seq, object=about, field=field, then=then, now=now)
        )


def _about(seen: Seen | Unread) -> str:
    return seen.stored.subject if isinstance(seen, Unread) else str(seen.address)


def _command(commit: Commit[Any]) -> Message | str:
    """Return what was asked, or why this code cannot read it."""
    kind, _, verb = commit.word.partition(".")
    word = command_for(kind, verb.partition(".")[0])
    if word is None:
        return "there is no such command any more"
    try:
        command: Message = command_codec(word).decode(bytes(commit.request))
    except UnreadableError as error:
        return str(error)
    return command


def _recorded(events: Sequence[Event]) -> Callable[[], str]:
    """Return what gives out the identities that were made then: of the operation, then a uid."""
    first = next(iter(events), None)
    ids = deque([getattr(first, "operation", None) or "", _uid(first)])
    return lambda: ids.popleft() if ids else ""


def _uid(event: Event | None) -> str:
    if isinstance(event, BackupBegan):
        # Of that one only the end is kept, in the name of the snapshot; and no more of it counts.
        return event.snapshot.rpartition("-")[2]
    spec = getattr(event, "attachment", None)
    return str(getattr(event, "uid", None) or getattr(spec, "uid", None) or "")


def _same(decided: Outcome, events: Sequence[Event]) -> bool:
    if isinstance(decided, Refused | Exception):
        return False
    return decided == tuple(events) or _alike(_plain(decided), _plain(events))


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value, builtin_types=(datetime,))


def _alike(then: Any, now: Any) -> bool:
    """Compare, but for how long a desk took between deciding and writing."""
    if isinstance(then, datetime) and isinstance(now, datetime):
        return abs(then - now) <= _LATER
    if isinstance(then, dict) and isinstance(now, dict):
        return then.keys() == now.keys() and all(_alike(then[key], now[key]) for key in then)
    if isinstance(then, list | tuple) and isinstance(now, list | tuple):
        return len(then) == len(now) and all(map(_alike, then, now))
    return bool(then == now)


def _words(events: Sequence[Event]) -> str:
    return ", ".join(map(type_name, events)) or "nothing"


def _json(value: Any) -> str:
    return msgspec.json.encode(value, order="sorted").decode()
