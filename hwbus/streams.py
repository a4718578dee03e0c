"""Streams as data; a golden file shows every change of them in review."""

import msgspec


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """One JetStream stream. Nothing here ages out silently: a full stream refuses."""

    name: str
    subjects: tuple[str, ...]
    description: str
    retention: str = "limits"
    discard: str = "new"
    deny_delete: bool = True
    deny_purge: bool = True
    allow_direct: bool = True
    duplicate_window_s: int = 600
    max_message_bytes: int = 1_048_576
    max_bytes: int = -1
    replicas: int = 1


EVENTS = Stream(
    name="HWBUS_EVENTS",
    subjects=("hwbus.evt.>",),
    description="The truth: one message is one decision.",
)
SUBMIT = Stream(
    name="HWBUS_SUBMIT",
    subjects=("hwbus.submit.>",),
    description="Commands that wait for a desk.",
    retention="workqueue",
    deny_delete=False,
    deny_purge=False,
)
AUDIT = Stream(
    name="HWBUS_AUDIT",
    subjects=("hwbus.audit.>",),
    description="What is not an event but must be kept: refusals, tools run, parked messages.",
    # What is archived may be taken out, by an administrator: hwbus audit prune.
    deny_purge=False,
)
STREAMS = (EVENTS, SUBMIT, AUDIT)
