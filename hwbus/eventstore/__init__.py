"""A persistence module for the ``eventsourcing`` library on JetStream, of use on its own, too."""

from hwbus.eventstore.application import ForensicReplay, HwbusLog, Tampered
from hwbus.eventstore.factory import Factory
from hwbus.eventstore.log import CommitMapper, HwbusLogRecorder, LoggedCommit
from hwbus.eventstore.mapper import MsgspecMapper
from hwbus.eventstore.projections import CommitCounts, CommitsPerDay, Count
from hwbus.eventstore.recorders import (
    JetStreamAggregateRecorder,
    JetStreamApplicationRecorder,
    JetStreamProcessRecorder,
)
from hwbus.eventstore.tracking import JetStreamTrackingRecorder

__all__ = [
    "CommitCounts",
    "CommitMapper",
    "CommitsPerDay",
    "Count",
    "Factory",
    "ForensicReplay",
    "HwbusLog",
    "HwbusLogRecorder",
    "JetStreamAggregateRecorder",
    "JetStreamApplicationRecorder",
    "JetStreamProcessRecorder",
    "JetStreamTrackingRecorder",
    "LoggedCommit",
    "MsgspecMapper",
    "Tampered",
]
