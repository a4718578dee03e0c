"""The streams of the store: made as they must be, or refused as they are."""

import nats.errors
from eventsourcing.persistence import OperationalError, ProgrammingError
from nats.js import api
from nats.js.errors import BadRequestError

from hwbus.eventstore.link import Link

_NAME_IN_USE = 10058


def stream_name(link: Link, purpose: str) -> str:
    """Return the name of this application's stream for *purpose*."""
    return f"{link.settings.stream}_{purpose.upper()}"


def events_stream(link: Link, purpose: str) -> api.StreamConfig:
    """Return a stream that keeps everything: events, or snapshots."""
    return _stream(link, purpose)


def tracking_stream(link: Link) -> api.StreamConfig:
    """Return a stream that keeps the newest message of each subject: positions and rows."""
    config = _stream(link, "tracking")
    config.max_msgs_per_subject = 1
    config.discard = api.DiscardPolicy.OLD  # with one message a subject, old means replaced
    config.deny_delete = config.deny_purge = False  # a view may be thrown away and made again
    return config


def subject_prefix(link: Link, stream: str) -> str:
    """Return what all subjects of *stream* begin with."""
    return f"{link.settings.subject}.{stream}"


async def ensure(link: Link, config: api.StreamConfig) -> None:
    """Make the stream unless it is there, and see that it can hold an event store.

    Raises:
        ProgrammingError: there is a stream of that name, but it is of another kind.
        OperationalError: JetStream refused, or did not answer.
    """
    try:
        found = (await link.jetstream.add_stream(config)).config
    except BadRequestError as error:
        if error.err_code != _NAME_IN_USE:
            raise OperationalError(f"stream {config.name}: {error.description}") from error
        found = await _look(link, config)
    except (TimeoutError, nats.errors.Error) as error:
        raise OperationalError(f"stream {config.name}: {error!r}") from error
    wrong = [
        f"{field} is {getattr(found, field)!r}"
        for field in ("subjects", "allow_atomic", "allow_direct", "max_msgs_per_subject")
        if getattr(found, field) != getattr(config, field)
    ]
    if config.deny_purge and not (found.deny_delete and found.deny_purge):
        wrong.append("messages may be deleted")
    if wrong:
        raise ProgrammingError(f"stream {config.name} is no event store: {', '.join(wrong)}")


async def _look(link: Link, config: api.StreamConfig) -> api.StreamConfig:
    try:
        return (await link.jetstream.stream_info(config.name or "")).config
    except (TimeoutError, nats.errors.Error) as error:
        raise OperationalError(f"stream {config.name}: {error!r}") from error


def _stream(link: Link, purpose: str) -> api.StreamConfig:
    name = stream_name(link, purpose)
    in_memory = link.settings.in_memory
    return api.StreamConfig(
        name=name,
        subjects=[f"{subject_prefix(link, name)}.>"],
        storage=api.StorageType.MEMORY if in_memory else api.StorageType.FILE,
        num_replicas=link.settings.replicas,
        retention=api.RetentionPolicy.LIMITS,
        discard=api.DiscardPolicy.NEW,
        allow_atomic=True,
        allow_direct=True,
        deny_delete=True,
        deny_purge=True,
    )
