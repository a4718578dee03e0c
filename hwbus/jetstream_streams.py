"""Streams made as they are written down, or compared with it: never quietly changed."""

from collections.abc import Sequence
from typing import Any

import msgspec
import structlog

from hwbus.jetstream_core import ApiError, Core
from hwbus.streams import Stream

_LOG = structlog.get_logger("hwbus.jetstream")
_NS = 1_000_000_000
_NO_STREAM = 10059
_TIMEOUT_S = 15.0


class StreamDiffersError(Exception):
    """The broker's stream is not the one written down; the message names every difference."""


class _Info(msgspec.Struct):
    config: dict[str, Any]


def config_of(stream: Stream) -> dict[str, Any]:
    """Return the broker's configuration for *stream*, every field that could hurt us spelt out."""
    return {
        "name": stream.name,
        "description": stream.description,
        "subjects": list(stream.subjects),
        "retention": stream.retention,
        "discard": stream.discard,
        "storage": "file",
        "num_replicas": stream.replicas,
        "max_age": 0,
        "max_msgs": -1,
        "max_msgs_per_subject": -1,
        "max_bytes": stream.max_bytes,
        "max_msg_size": stream.max_message_bytes,
        "duplicate_window": stream.duplicate_window_s * _NS,
        "deny_delete": stream.deny_delete,
        "deny_purge": stream.deny_purge,
        "allow_direct": stream.allow_direct,
        "allow_rollup_hdrs": False,
        "sealed": False,
    }


def differences(wanted: dict[str, Any], actual: dict[str, Any]) -> list[str]:
    """Return one line a field in which *actual* is not as *wanted*; absent flags are false.

    Of a stream that was made so that nothing can be purged the broker never allows it again. More
    is forbidden then than has to be, and that hurts nobody: it is no difference.
    """
    return [
        f"{name} is {actual.get(name, False)!r}, not {value!r}"
        for name, value in wanted.items()
        if actual.get(name, False) != value and not (name == "deny_purge" and not value)
    ]


async def ensure_streams(
    core: Core, streams: Sequence[Stream], *, replicas: int | None = None
) -> None:
    """Create what is missing and compare everything with what is written down.

    *replicas* None takes each stream's own number.

    Raises:
        StreamDiffersError: a stream exists, or was created, otherwise than asked.
        ApiError, OutcomeUnknownError, NobodyThereError: the broker could not do it.
    """
    for stream in streams:
        wanted = config_of(
            stream if replicas is None else msgspec.structs.replace(stream, replicas=replicas)
        )
        actual = await _existing(core, stream.name)
        if actual is None:
            # The broker has been seen to create a stream with deny_purge silently off.
            where = f"STREAM.CREATE.{stream.name}"
            actual = (await core.api(where, wanted, _Info, timeout_s=_TIMEOUT_S)).config
            _LOG.info("stream created", stream=stream.name, replicas=wanted["num_replicas"])
        wrong = differences(wanted, actual)
        if wrong:
            raise StreamDiffersError(f"stream {stream.name}: {'; '.join(wrong)}")


async def _existing(core: Core, name: str) -> dict[str, Any] | None:
    try:
        info = await core.api(f"STREAM.INFO.{name}", {}, _Info, timeout_s=_TIMEOUT_S)
    except ApiError as error:
        if error.err_code == _NO_STREAM:
            return None
        raise
    return info.config
