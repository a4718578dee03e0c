"""What happens to a save when answers get lost, others are faster, or the broker goes away."""

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import UUID, uuid4

import msgspec
import nats
import pytest
from eventsourcing.application import Application
from eventsourcing.persistence import (
    DataError,
    IntegrityError,
    OperationalError,
    ProgrammingError,
    StoredEvent,
    Tracking,
)
from eventsourcing.utils import Environment, register_topic

from hwbus.eventstore import Factory, JetStreamApplicationRecorder, MsgspecMapper
from hwbus.eventstore.link import OutcomeUnknownError, Write
from tests.support.eventstore_server import Broker, broker

A, B = UUID(int=1), UUID(int=2)


@pytest.fixture
def server() -> Iterator[Broker]:
    with broker() as running:
        yield running


@pytest.fixture
def factory(server: Broker) -> Iterator[Factory]:
    made = _factory(server)
    yield made
    made.close()


@pytest.fixture
def recorder(factory: Factory) -> JetStreamApplicationRecorder:
    return _recorder(factory)


def _factory(server: Broker, **more: str) -> Factory:
    return Factory(Environment("shop", {"NATS_URL": server.url, "NATS_TIMEOUT_S": "1", **more}))


def _recorder(factory: Factory) -> JetStreamApplicationRecorder:
    made = factory.application_recorder()
    assert isinstance(made, JetStreamApplicationRecorder)
    return made


def _event(id_: UUID | str, version: int, state: bytes = b"{}") -> StoredEvent:
    return StoredEvent(id_, version, "thing.happened.v1", state)


def _stored(recorder: JetStreamApplicationRecorder) -> list[tuple[int, object, int]]:
    found = recorder.select_notifications(None, 1000)
    return [(one.id, one.originator_id, one.originator_version) for one in found]


def _lose_one_answer(
    recorder: JetStreamApplicationRecorder,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_sent: bool = True,
    meanwhile: Sequence[StoredEvent] = (),
    other: JetStreamApplicationRecorder | None = None,
) -> None:
    """Let the first save be sent (or not), others do what they do, and the answer never come."""
    link = recorder.bridge.link
    store, store_batch = link.store, link.store_batch

    async def _lose(stream: str, writes: Sequence[Write]) -> int:
        monkeypatch.undo()
        if is_sent and len(writes) == 1:
            await store(stream, writes[0])
        elif is_sent:
            await store_batch(stream, writes)
        if other is not None:
            thread = threading.Thread(target=other.insert_events, args=(meanwhile,))
            thread.start()
            thread.join()
        raise OutcomeUnknownError("the answer was lost")

    async def _lose_single(stream: str, write: Write) -> int:
        return await _lose(stream, [write])

    monkeypatch.setattr(link, "store", _lose_single)
    monkeypatch.setattr(link, "store_batch", _lose)


@pytest.mark.parametrize("is_sent", [True, False])
@pytest.mark.parametrize("versions", [(1,), (1, 2, 3)])
def test_a_save_whose_answer_is_lost_is_stored_exactly_once(
    recorder: JetStreamApplicationRecorder,
    monkeypatch: pytest.MonkeyPatch,
    versions: tuple[int, ...],
    is_sent: bool,
) -> None:
    _lose_one_answer(recorder, monkeypatch, is_sent=is_sent)
    assert recorder.insert_events([_event(A, v) for v in versions]) == list(versions)
    assert _stored(recorder) == [(v, A, v) for v in versions]


def test_a_save_is_found_again_even_if_others_have_built_upon_it(
    server: Broker, recorder: JetStreamApplicationRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(_factory(server)) as elsewhere:
        other = _recorder(elsewhere)
        _lose_one_answer(recorder, monkeypatch, other=other, meanwhile=[_event(A, 2)])
        assert recorder.insert_events([_event(A, 1)]) == [1]
    assert _stored(recorder) == [(1, A, 1), (2, A, 2)]


def test_a_save_that_arrives_late_and_again_is_stored_once(
    recorder: JetStreamApplicationRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = recorder.bridge.link
    store, calls = link.store, itertools.count()

    async def _late(stream: str, write: Write) -> int:
        if next(calls) == 0:
            raise OutcomeUnknownError("not there yet")
        await store(stream, write)  # now the first copy arrives
        return await store(stream, write)

    monkeypatch.setattr(link, "store", _late)
    assert recorder.insert_events([_event(A, 1)]) == [1]
    assert _stored(recorder) == [(1, A, 1)]


def test_a_save_that_stays_unanswered_says_that_it_may_be_stored(
    recorder: JetStreamApplicationRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def _never(stream: str, write: Write) -> int:
        raise OutcomeUnknownError("no acknowledgement")

    monkeypatch.setattr(recorder.bridge.link, "store", _never)
    with pytest.raises(OperationalError, match="may or may not be stored"):
        recorder.insert_events([_event(A, 1)])


def test_a_save_that_never_arrived_loses_to_whoever_was_faster(
    server: Broker, recorder: JetStreamApplicationRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(_factory(server)) as elsewhere:
        other = _recorder(elsewhere)
        _lose_one_answer(
            recorder, monkeypatch, is_sent=False, other=other, meanwhile=[_event(A, 1, b"theirs")]
        )
        with pytest.raises(IntegrityError):
            recorder.insert_events([_event(A, 1, b"ours")])
    assert [event.state for event in recorder.select_events(A)] == [b"theirs"]


def test_one_conflict_among_several_aggregates_stores_nothing(
    recorder: JetStreamApplicationRecorder,
) -> None:
    recorder.insert_events([_event(B, 1)])
    with pytest.raises(IntegrityError):
        recorder.insert_events([_event(A, 1), _event(B, 1)])
    assert recorder.insert_events([_event(A, 1), _event(B, 2), _event(A, 2)]) == [2, 3, 4]
    assert _stored(recorder) == [(1, B, 1), (2, A, 1), (3, B, 2), (4, A, 2)]


def test_what_others_wrote_meanwhile_is_no_conflict_for_the_next_version(
    server: Broker, recorder: JetStreamApplicationRecorder
) -> None:
    recorder.insert_events([_event(A, 1)])
    with contextlib.closing(_factory(server)) as elsewhere:
        _recorder(elsewhere).insert_events([_event(A, 2)])
    assert recorder.insert_events([_event(A, 3)]) == [3]


def test_of_many_writers_of_one_version_exactly_one_succeeds(server: Broker) -> None:
    factories = [_factory(server) for _ in range(4)]
    recorders = [_recorder(factory) for factory in factories]
    outcomes: list[str] = []

    def _try(recorder: JetStreamApplicationRecorder, version: int) -> None:
        try:
            recorder.insert_events([_event(A, version)])
            outcomes.append("stored")
        except IntegrityError:
            outcomes.append("refused")

    try:
        for version in range(1, 11):
            threads = [threading.Thread(target=_try, args=(one, version)) for one in recorders]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert [event.originator_version for event in recorders[0].select_events(A)] == [
            *range(1, 11)
        ]
    finally:
        for factory in factories:
            factory.close()
    assert sorted(outcomes) == ["refused"] * 30 + ["stored"] * 10


def test_while_the_broker_is_away_a_save_is_refused_and_not_kept_for_later(
    server: Broker, recorder: JetStreamApplicationRecorder
) -> None:
    recorder.insert_events([_event(A, 1)])
    server.stop()
    _until(lambda: not recorder.bridge.link.client.is_connected)
    started = time.monotonic()
    with pytest.raises(OperationalError, match="not connected"):
        recorder.insert_events([_event(A, 2, b"lost")])
    assert time.monotonic() - started < 10
    server.start()
    _eventually(lambda: recorder.insert_events([_event(A, 2, b"kept")]))
    assert [event.state for event in recorder.select_events(A)] == [b"{}", b"kept"]


def test_a_subscription_goes_on_after_the_broker_was_away(
    server: Broker, recorder: JetStreamApplicationRecorder
) -> None:
    recorder.insert_events([_event(A, 1)])
    with recorder.subscribe() as subscription:
        assert next(subscription).id == 1
        recorder.insert_events([_event(A, 2)])
        assert next(subscription).id == 2
        server.stop()
        with pytest.raises(OperationalError):  # long enough for the subscription to miss it, too
            recorder.select_events(A)
        server.start()
        _eventually(lambda: recorder.insert_events([_event(A, 3)]))
        assert next(subscription).id == 3


def test_a_subscription_hears_of_an_event_long_before_the_clock_would_tell(
    recorder: JetStreamApplicationRecorder,
) -> None:
    with recorder.subscribe() as subscription:
        recorder.insert_events([_event(A, 1)])
        next(subscription)
        started = time.monotonic()
        for version in range(2, 12):
            recorder.insert_events([_event(A, version)])
            assert next(subscription).originator_version == version
        assert time.monotonic() - started < 10 * recorder.bridge.settings.poll_s / 2


def test_a_subscription_can_be_left_after_the_connection_was_closed(
    factory: Factory, recorder: JetStreamApplicationRecorder
) -> None:
    with recorder.subscribe():
        factory.close()
    with pytest.raises(ProgrammingError, match="closed"):
        recorder.insert_events([_event(A, 1)])


def test_what_is_too_much_for_one_save_is_refused_whole(
    recorder: JetStreamApplicationRecorder,
) -> None:
    with pytest.raises(DataError, match="too many"):
        recorder.insert_events([_event(A, v) for v in range(1001)])
    with pytest.raises(DataError, match="too many"):
        recorder.insert_events([_event(A, 1), _event(A, 2, b"x" * 2_000_000)])
    with pytest.raises(DataError, match="too long"):
        recorder.insert_events([_event("x" * 300, 1)])
    assert recorder.max_notification_id() is None


def test_a_snapshot_of_the_past_may_come_late_but_not_twice(factory: Factory) -> None:
    recorder = factory.aggregate_recorder("snapshots")
    for version in (5, 9, 2):
        recorder.insert_events([_event(A, version)])
    with pytest.raises(IntegrityError):
        recorder.insert_events([_event(A, 5)])
    with pytest.raises(IntegrityError):
        recorder.insert_events([_event(A, 12), _event(A, 3), _event(A, 12)])
    newest = recorder.select_events(A, desc=True, limit=1)
    assert [event.originator_version for event in newest] == [9]
    before = recorder.select_events(A, lte=8, desc=True, limit=1)
    assert [event.originator_version for event in before] == [5]


def test_the_rows_of_a_view_and_its_position_change_together_or_not_at_all(
    factory: Factory,
) -> None:
    view = factory.tracking_recorder()
    view.insert_rows(Tracking("shop", 7), {"a": b"1", "b/ü": b"2"})
    with pytest.raises(IntegrityError):
        view.insert_rows(Tracking("shop", 7), {"a": b"9"})
    assert view.rows() == {"a": b"1", "b/ü": b"2"}
    view.insert_rows(Tracking("shop", 8), {"a": None})
    assert (view.row("a"), view.rows(), view.max_tracking_id("shop")) == (None, {"b/ü": b"2"}, 8)


def test_a_stream_that_may_forget_is_not_accepted_as_a_store(server: Broker) -> None:
    async def _spoil() -> None:
        client = await nats.connect(server.url)
        await client.jetstream().add_stream(name="ES_SHOP_EVENTS", subjects=["es.>"])
        await client.close()

    asyncio.run(_spoil())
    with (
        contextlib.closing(_factory(server)) as factory,
        pytest.raises(ProgrammingError, match="no event store"),
    ):
        factory.application_recorder()


def test_events_of_many_pages_come_back_complete_and_in_order(
    recorder: JetStreamApplicationRecorder,
) -> None:
    ids = [uuid4() for _ in range(5)]
    for version in range(1, 7):
        recorder.insert_events([_event(id_, version, b"x" * 400_000) for id_ in ids])
    found = recorder.select_notifications(None, 100)
    assert [one.id for one in found] == [*range(1, 31)]
    assert [one.originator_version for one in recorder.select_events(ids[0])] == [*range(1, 7)]


@pytest.mark.parametrize(
    "url", ["nats://127.0.0.1:1", "nats://127.0.0.1:1,nats://[", "ftp://127.0.0.1:1"]
)
def test_a_broker_that_is_not_there_is_said_at_once(url: str) -> None:
    env = Environment("shop", {"NATS_URL": url, "NATS_TIMEOUT_S": "0.3"})
    before = set(threading.enumerate())
    with pytest.raises(OperationalError, match="no connection"):
        Factory(env).application_recorder()
    assert set(threading.enumerate()) <= before


class Opened(msgspec.Struct, frozen=True, kw_only=True, tag="account.opened.v1"):
    originator_id: UUID
    originator_version: int
    name: str


class BankMapper(MsgspecMapper[UUID]):
    events = (Opened,)


def test_an_application_keeps_structs_under_the_names_written_out_for_them(
    server: Broker,
) -> None:
    register_topic("the-mapper-of-the-bank", BankMapper)
    env = {
        "PERSISTENCE_MODULE": "hwbus.eventstore",
        "MAPPER_TOPIC": "the-mapper-of-the-bank",
        "NATS_URL": server.url,
    }
    opened: Any = Opened(originator_id=A, originator_version=1, name="Ada")
    with Application[UUID](env) as bank:
        recordings = bank.events.put([opened])
        assert [one.notification.id for one in recordings] == [1]
    with Application[UUID](env) as bank:
        assert list(bank.events.get(A)) == [opened]
        assert bank.notification_log.select(1, 10)[0].topic == "account.opened.v1"


def _until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _eventually(what: Callable[[], object], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            what()
        except OperationalError:
            assert time.monotonic() < deadline
        else:
            return
