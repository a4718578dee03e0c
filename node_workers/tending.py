"""What is attached stays attached: made again after a reboot, or whoever took it away."""

from collections.abc import Callable
from collections.abc import Set as AbstractSet

import structlog

from node_workers.figures import Figures
from node_workers.hands import Hands
from node_workers.observation import Observation
from node_workers.plan_attachments import (
    attachment_step,
    limited_attachments,
    lost_attachments,
)
from node_workers.ports import StorageError
from node_workers.scans import Scans
from node_workers.state import State
from node_workers.wanted import WantedAttachment
from schemas.attachment import stable_device
from schemas.node import Drift, Finding

_LOG = structlog.get_logger("node_workers.tending")
_TEXT_CHARACTERS_MAX = 1000


class Tending:
    """Looks after the attachments that nobody is working on, with the bus or without."""

    def __init__(
        self,
        state: State,
        busy: Callable[[], AbstractSet[str]],
        hands: Hands,
        scans: Scans,
        figures: Figures,
    ) -> None:
        self._state = state
        self._busy = busy
        self._hands = hands
        self._scans = scans
        self._figures = figures
        self._missing: dict[str, str] = {}
        scans.also_tell(self.findings)

    def findings(self) -> tuple[Finding, ...]:
        """Return the attachments that could not be made again, and why."""
        wanted = self._state.wanted
        missing = ((wanted.get(key), because) for key, because in self._missing.items())
        return tuple(
            self._finding(one, because)
            for one, because in missing
            if isinstance(one, WantedAttachment) and one.present
        )

    async def look_after(self, seen: Observation, cause: str) -> None:
        """Have that there of which something is missing on the machine that was *seen*."""
        if seen.devices:
            await self.resume(cause)
        lost = {one.key for one in lost_attachments(self._state.wanted, seen)}
        for one, number in limited_attachments(self._state.wanted, seen):
            known = one.key in lost or one.key in self._busy()
            if not known and not await self._limits_hold(one, number, cause):
                lost.add(one.key)
        for key in sorted(lost):
            await self._tend(key, cause)
        self._missing = {key: why for key, why in self._missing.items() if key in lost}

    async def resume(self, cause: str) -> None:
        """Have devices go on that somebody left standing still, a worker that was killed perhaps.

        It asks device mapper alone, which answers whatever stands still.
        """
        try:
            resumed = await self._hands.resume(cause)
        except StorageError as error:
            self._figures.count("troubles_total")
            _LOG.error("devices could not be resumed", cause=cause, because=error.sentence)
            return
        if resumed:
            _LOG.warning("devices stood still and go on", volumes=resumed, cause=cause)

    async def _limits_hold(self, one: WantedAttachment, number: str, cause: str) -> bool:
        try:
            return await self._hands.limits_hold(one, number, cause)
        except StorageError:
            return False

    async def _tend(self, key: str, cause: str) -> None:
        # Looked at again and begun without waiting for anything in between: whoever wants it gone
        # meanwhile comes after, since works on one volume take their turns in order.
        one = self._state.wanted.get(key)
        if not isinstance(one, WantedAttachment) or not one.present or key in self._busy():
            return
        try:
            await self._hands.attach(attachment_step(one, self._state.wanted), cause)
        except StorageError as error:
            self._figures.count("troubles_total")
            _LOG.error("not attached", key=key, cause=cause, because=error.sentence)
            if self._missing.get(key) != error.sentence:
                self._missing[key] = error.sentence
                self._scans.hint()  # so that it is told soon
            return
        self._missing.pop(key, None)
        _LOG.info("attached again", key=key, cause=cause)

    def _finding(self, one: WantedAttachment, because: str) -> Finding:
        where = f", mounted at {one.spec.mount_point}" if one.spec.mount_point else ""
        limited = ", limited" if one.spec.limits.any else ""
        return Finding(
            drift=Drift.ATTACHMENT_MISSING,
            object=f"attachment/{self._hands.node}/{one.volume}",
            wanted=f"{stable_device(one.volume)}{where}{limited}, for {one.spec.consumer}",
            observed=because[:_TEXT_CHARACTERS_MAX],
            settle=(f"hwbus volume detach {one.volume}",),
        )
