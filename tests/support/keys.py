"""Keys that a test hands out, and may take back or exchange."""

from node_workers.keys import Key, NoKeyError


def secret(name: str) -> bytes:
    """Return the key of that name: the same in every run, and as good as random."""
    return (name.encode() + bytes(range(256)))[:48]


class HeldKeys:
    """A key source that has what is in ``held``."""

    def __init__(self, *references: str) -> None:
        self.held = {reference: secret(reference) for reference in references}
        self.asked: list[str] = []

    async def key(self, reference: str) -> Key:
        self.asked.append(reference)
        if reference not in self.held:
            raise NoKeyError("key-missing", f"the test has no {reference}")
        return Key(self.held[reference])
