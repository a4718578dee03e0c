"""What a look at something found."""

import msgspec


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at and how it is: ``ok``, ``advice`` or ``trouble``."""

    what: str
    state: str
    found: str
    fix: str = ""
    exit: int = 0
