"""Which aggregate a word is about: its place (a node, or ``-``) and its id.

Kinds are spelled out here, so that a command line need not know all words to place one.
"""

from schemas.grammar import Message, kind_and_verb

CLUSTER = "-"
# The field that names it, where that is not called like the kind.
_ID_FIELD = {"replica": "volume", "attachment": "volume", "errand": "operation"}
_ON_A_NODE = frozenset({"pool", "replica", "attachment", "errand"})


def place_of(word: Message) -> tuple[str, str, str]:
    """Return (kind, place, id) of the aggregate that *word* is about."""
    kind, _verb = kind_and_verb(word)
    place = getattr(word, "node") if kind in _ON_A_NODE else CLUSTER  # noqa: B009
    return kind, place, getattr(word, _ID_FIELD.get(kind, kind))
