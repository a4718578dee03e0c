"""What the kernel of a simulated machine asks when a leg may not go on without its peer."""

import asyncio
from collections.abc import AsyncIterator

from node_workers.replication import Judge, Verdict
from node_workers.simulated.drbd_files import handled
from node_workers.simulated.drbd_kernel import DrbdKernel, Question
from node_workers.simulated.drbd_status import events
from node_workers.simulated.model import State

_PAUSE_S = 0.5


class Handler:
    """Stands for the program that DRBD runs: it asks for leave to go on, and tells who listens."""

    def __init__(self, state: State, kernel: DrbdKernel) -> None:
        self._state = state
        self._kernel = kernel
        self._judge: Judge = _unheard
        self._said: list[str] = []
        self._changed = asyncio.Event()

    async def answer(self, question: Question) -> bool:
        """Ask once, and have the kernel do as it is told; returns whether the leg may go on."""
        volume, uid = handled(self._state, question.leg)
        verdict = await self._judge(volume, uid, question.peer)
        if verdict is not Verdict.UNKNOWN:
            with self._kernel.at_work():
                self._kernel.answer(question, granted=verdict is Verdict.GRANTED)
        return verdict is Verdict.GRANTED

    async def serve(self, judge: Judge) -> None:
        """Be the kernel's clock, and ask *judge* for legs that stand still; until cancelled."""
        self._judge = judge
        while True:
            with self._kernel.at_work():
                questions = self._kernel.questions()
                said = events(self._state)
            if said != self._said:
                self._said = said
                self._changed.set()
            for question in questions:
                await self.answer(question)
            await asyncio.sleep(_PAUSE_S)

    async def changes(self) -> AsyncIterator[None]:
        """Yield whenever there is something new to see, as ``drbdsetup events2`` would tell."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            yield


async def _unheard(volume: str, uid: str, peer: str) -> Verdict:
    del volume, uid, peer
    return Verdict.UNKNOWN
