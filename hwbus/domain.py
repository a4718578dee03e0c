"""What a desk serves: pure decisions, whatever they are about."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from hwbus.asking import Asked
from hwbus.subjects import Address
from schemas.answers import Refused
from schemas.grammar import Event, Message


class Domain(Protocol):
    """What the desk serves: pure decisions about addresses, whatever they are about."""

    def word(self, kind: str, verb: str) -> type[Message] | None:
        """Return the command that is asked for under that name, or None."""
        ...

    def address(self, command: Message) -> Address:
        """Return which aggregate *command* is about."""
        ...

    def decide(
        self, command: Message, *, actor: str, at: datetime, mint: Callable[[], str]
    ) -> tuple[Event, ...] | Refused:
        """Decide. Pure but for *mint*, which gives out new identities."""
        ...

    def forbids(self, wish: Asked, command: Message) -> Refused | None:
        """Return why nobody like whoever said *wish* may say *command*, or None."""
        ...

    def condition(
        self, wish: Asked, command: Message, request: bytes, *, at: datetime
    ) -> Message | None:
        """Return what has to be decided before *command*, whose text is *request*; or None."""
        ...

    def unmet(self, condition: Message) -> Refused:
        """Return the refusal for what still stands under *condition* when that is decided."""
        ...

    def evolve(self, address: Address, events: Sequence[Event]) -> None:
        """Apply what was decided."""
        ...

    def is_over(self, address: Address) -> bool:
        """Return whether nothing more is to be expected of the aggregate, so far as is known."""
        ...

    def forget(self, address: Address) -> None:
        """Drop the state of an aggregate that is over; it can be had again from the log."""
        ...

    def operation(self, events: Sequence[Event]) -> str:
        """Return the operation that *events* begin, or an empty string."""
        ...

    def belongs_to(self, command: Message) -> str:
        """Return the operation that *command* is part of, or an empty string."""
        ...

    def is_name(self, field: str) -> bool:
        """Return whether the field of that name holds the name of something."""
        ...
