"""The door through which the library finds its store: ``PERSISTENCE_MODULE=hwbus.eventstore``."""

import threading
from typing import TypeVar

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    InfrastructureFactory,
    ProcessRecorder,
    ProgrammingError,
)
from eventsourcing.utils import Environment, EnvType, resolve_topic

from hwbus.eventstore.bridge import Bridge
from hwbus.eventstore.log import HwbusLogRecorder
from hwbus.eventstore.recorders import (
    JetStreamAggregateRecorder,
    JetStreamApplicationRecorder,
    JetStreamProcessRecorder,
)
from hwbus.eventstore.settings import read_settings
from hwbus.eventstore.tracking import JetStreamTrackingRecorder

R = TypeVar("R")


class Factory(InfrastructureFactory[JetStreamTrackingRecorder]):
    """Makes recorders that share one connection and one thread, opened at the first of them.

    Raises:
        ProgrammingError: the environment is not understood (see ``hwbus.eventstore.settings``).
    """

    def __init__(self, env: Environment | EnvType | None) -> None:
        super().__init__(env)
        read_settings(self.env)
        self._lock = threading.Lock()
        self._bridge: Bridge | None = None

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        """Return a recorder of events, or with *purpose* "snapshots" of snapshots."""
        return JetStreamAggregateRecorder(self._open(), purpose)

    def application_recorder(self) -> ApplicationRecorder:
        """Return a recorder of an application's events."""
        topic = self.env.get(self.APPLICATION_RECORDER_TOPIC)
        if topic:
            return _resolve(topic, JetStreamApplicationRecorder)(self._open())
        return JetStreamApplicationRecorder(self._open())

    def tracking_recorder(
        self, tracking_recorder_class: type[JetStreamTrackingRecorder] | None = None
    ) -> JetStreamTrackingRecorder:
        """Return a view of the given class, else of the one the environment names."""
        topic = self.env.get(self.TRACKING_RECORDER_TOPIC)
        if tracking_recorder_class is None and topic:
            tracking_recorder_class = _resolve(topic, JetStreamTrackingRecorder)
        return (tracking_recorder_class or JetStreamTrackingRecorder)(self._open())

    def process_recorder(self) -> ProcessRecorder:
        """Return a recorder of events and positions together."""
        topic = self.env.get(self.PROCESS_RECORDER_TOPIC)
        if topic:
            return _resolve(topic, JetStreamProcessRecorder)(self._open())
        return JetStreamProcessRecorder(self._open())

    def log_recorder(self) -> HwbusLogRecorder:
        """Return a read-only recorder of the log of hwbus."""
        return HwbusLogRecorder(self._open())

    def close(self) -> None:
        """Disconnect all recorders made here. Safe to repeat; the next recorder connects again."""
        with self._lock:
            bridge, self._bridge = self._bridge, None
        if bridge is not None:
            bridge.close()

    def _open(self) -> Bridge:
        with self._lock:
            if self._bridge is None or self._bridge.is_closed:
                self._bridge = Bridge(read_settings(self.env))
            return self._bridge


def _resolve(topic: str, wanted: type[R]) -> type[R]:
    found = resolve_topic(topic)
    if not isinstance(found, type) or not issubclass(found, wanted):
        raise ProgrammingError(f"{topic} is no {wanted.__name__}")
    return found
