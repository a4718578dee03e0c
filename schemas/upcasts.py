"""Old spellings of a word, turned into the newest: one pure function each, and none needed yet.

A word is never changed in a way that an old message could not bear. It gets a new version and a
new class; the old class moves here, keeps its tag and its sample, and is mapped to a function that
returns what it would be called today (which may be an old word again: upcasts are chained).
"""

from collections.abc import Callable
from typing import Any

from schemas.grammar import Message

UPCASTS: dict[type[Message], Callable[[Any], Message]] = {}
