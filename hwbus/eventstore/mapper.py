"""Events as msgspec structs, known on the wire by a tag that was written out, never by a class."""

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Union, cast

import msgspec
from eventsourcing.domain import DomainEventProtocol, TAggregateID
from eventsourcing.persistence import (
    Cipher,
    Compressor,
    Mapper,
    MapperDeserialisationError,
    ProgrammingError,
    StoredEvent,
    Transcoder,
)

_TAG = re.compile(r"[a-z]+(-[a-z]+)*\.[a-z]+(-[a-z]+)*\.v[1-9][0-9]*")
_UPCASTS_MAX = 100


class MsgspecMapper(Mapper[TAggregateID]):
    """Maps msgspec structs, for example ``tag="account.opened.v1"``, to stored events and back.

    A subclass names them in ``events``, every version ever stored included, and in ``upcasts``
    how an old struct becomes a newer one. Each has the fields ``originator_id`` and
    ``originator_version``. Name the subclass in ``MAPPER_TOPIC``.

    Raises:
        ProgrammingError: a tag is missing, not written out, or used twice.
    """

    events: ClassVar[tuple[type[msgspec.Struct], ...]] = ()
    upcasts: ClassVar[Mapping[type[msgspec.Struct], Callable[[Any], Any]]] = {}

    def __init__(
        self,
        transcoder: Transcoder,
        compressor: Compressor | None = None,
        cipher: Cipher | None = None,
    ) -> None:
        super().__init__(transcoder, compressor, cipher)
        self._tags = {event: _tag(event) for event in self.events}
        if not self._tags or len(set(self._tags.values())) < len(self._tags):
            raise ProgrammingError(f"{type(self).__name__}.events is empty, or repeats a tag")
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(cast("Any", Union[self.events]))  # noqa: UP007

    def to_stored_event(self, domain_event: DomainEventProtocol[TAggregateID]) -> StoredEvent:
        """Return *domain_event* as it is stored.

        Raises:
            ProgrammingError: its class is not among ``events``.
        """
        tag = self._tags.get(cast("Any", type(domain_event)))
        if tag is None:
            raise ProgrammingError(f"{type(domain_event).__name__} is not in {type(self).__name__}")
        state = self._encoder.encode(domain_event)
        if self.compressor:
            state = self.compressor.compress(state)
        if self.cipher:
            state = self.cipher.encrypt(state)
        return StoredEvent(
            originator_id=domain_event.originator_id,
            originator_version=domain_event.originator_version,
            topic=tag,
            state=state,
        )

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[TAggregateID]:
        """Return *stored_event* as the newest struct it has become.

        Raises:
            MapperDeserialisationError: it cannot be decrypted or decoded, or its tag is unknown.
        """
        state = stored_event.state
        try:
            if self.cipher:
                state = self.cipher.decrypt(state)
            if self.compressor:
                state = self.compressor.decompress(state)
            event = self._decoder.decode(state)
        except Exception as error:
            raise MapperDeserialisationError(
                f"{stored_event.topic} of {stored_event.originator_id}, version "
                f"{stored_event.originator_version}: {error}"
            ) from error
        for _ in range(_UPCASTS_MAX):
            upcast = self.upcasts.get(type(event))
            if upcast is None:
                return cast("DomainEventProtocol[TAggregateID]", event)
            event = upcast(event)
        raise ProgrammingError(f"the upcasts of {stored_event.topic} never end")


def _tag(event: type[msgspec.Struct]) -> str:
    tag = event.__struct_config__.tag
    if not isinstance(tag, str) or _TAG.fullmatch(tag) is None:
        raise ProgrammingError(
            f"{event.__name__} needs a written-out tag like 'account.opened.v1', not {tag!r}"
        )
    missing = {"originator_id", "originator_version"} - set(event.__struct_fields__)
    if missing:
        raise ProgrammingError(f"{event.__name__} has no field {' and no field '.join(missing)}")
    return tag
