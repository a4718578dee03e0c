"""What is attached stays attached: made again after a reboot, or whoever took it away."""

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet

import structlog

from node_workers.figures import Figures
from node_workers.hands import Hands
from node_workers.observation import Observation
from node_workers.plan import attachment_step, attachments, lost_attachments
from node_workers.ports import StorageError
from node_workers.wanted import Wanted, WantedAttachment

_LOG = structlog.get_logger("node_workers.tending")


class Tending:
    """Looks after the attachments that nobody is working on, with the bus or without."""

    def __init__(
        self,
        wanted: Callable[[], Mapping[str, Wanted]],
        busy: Callable[[], AbstractSet[str]],
        hands: Hands,
        figures: Figures,
    ) -> None:
        self._wanted = wanted
        self._busy = busy
        self._hands = hands
        self._figures = figures

    async def all(self, cause: str) -> None:
        """Have all of them there, as when the node has just started."""
        await self._tend((one.key for one in attachments(self._wanted())), cause)

    async def lost(self, seen: Observation, cause: str) -> None:
        """Have those there of which something is missing on the machine that was *seen*."""
        await self._tend((one.key for one in lost_attachments(self._wanted(), seen)), cause)

    async def _tend(self, keys: Iterable[str], cause: str) -> None:
        for key in list(keys):
            # Looked at again and begun without waiting for anything in between: whoever wants it
            # gone meanwhile comes after, since works on one volume take their turns in order.
            one = self._wanted().get(key)
            if not isinstance(one, WantedAttachment) or not one.present or key in self._busy():
                continue
            step = attachment_step(one, self._wanted())
            try:
                await self._hands.attach(step, cause)
            except StorageError as error:
                self._figures.count("troubles_total")
                _LOG.error("not attached", key=key, cause=cause, because=error.sentence)
