"""Asking the log, over the bus, whether this node may go on without a peer that it has lost."""

from typing import TYPE_CHECKING

import msgspec
import structlog

from hwbus import subjects
from hwbus.identity import Mint
from hwbus.ports import ForbiddenError, NobodyThereError, OutcomeUnknownError
from node_workers.replication import Verdict
from schemas.answers import Accepted, Refused, Undecided
from schemas.grammar import kind_and_verb
from schemas.handing import FencePeer
from schemas.refusals import Refusal

if TYPE_CHECKING:
    from node_workers.outbox import Link

_LOG = structlog.get_logger("node_workers.refereeing")
_ANSWER: msgspec.json.Decoder[Accepted | Refused | Undecided] = msgspec.json.Decoder(
    Accepted | Refused | Undecided
)
_ANSWER_S = 5.0
_AWAY = (OutcomeUnknownError, NobodyThereError, ForbiddenError, OSError)
_LOST = frozenset({Refusal.NOT_PRIMARY, Refusal.UNKNOWN_VOLUME})


class Referee:
    """The judge of one node. Without a bus it knows nothing, and its node stays as it is."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._mint = Mint()
        self.link: Link | None = None

    async def __call__(self, volume: str, uid: str, peer: str) -> Verdict:
        """Return what the log says: may this node go on without *peer*?

        Every question is one of its own: what was granted once says nothing of now.
        """
        if self.link is None:
            return Verdict.UNKNOWN
        ask = FencePeer(volume=volume, uid=uid, node=self._node, peer=peer)
        headers = {
            "Hwbus-Command-Id": self._mint(),
            "Hwbus-Actor": f"worker:{self._node}",
            "Hwbus-Cause": "fence-peer",
        }
        subject = subjects.command(*kind_and_verb(ask))
        try:
            data = await self.link.bus.request(
                subject, msgspec.json.encode(ask), headers=headers, timeout_s=_ANSWER_S
            )
            answer = _ANSWER.decode(data)
        except (*_AWAY, msgspec.DecodeError) as error:
            _LOG.warning("the log cannot be asked", volume=volume, peer=peer, because=str(error))
            return Verdict.UNKNOWN
        verdict = _verdict(answer)
        _LOG.warning("peer lost", volume=volume, peer=peer, verdict=verdict.value)
        return verdict


def _verdict(answer: Accepted | Refused | Undecided) -> Verdict:
    match answer:
        case Accepted():
            return Verdict.GRANTED
        case Refused(code=code) if code in _LOST:
            return Verdict.LOST
        case _:
            return Verdict.UNKNOWN
