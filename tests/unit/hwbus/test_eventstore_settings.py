"""Names and settings: what may stand in a subject, and what the environment may say."""

import asyncio
import re
import threading

import pytest
from eventsourcing.persistence import DataError, OperationalError, ProgrammingError
from eventsourcing.utils import Environment
from hypothesis import given
from hypothesis import strategies as st

from hwbus.eventstore import Factory
from hwbus.eventstore.loop import LoopThread
from hwbus.eventstore.records import decode_record, subject_token
from hwbus.eventstore.settings import Settings, read_settings

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(texts)
def test_any_id_becomes_one_harmless_token_of_a_subject(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_=-]+", subject_token(text))


@given(texts, texts)
def test_different_ids_never_share_a_subject(one: str, other: str) -> None:
    assert (subject_token(one) == subject_token(other)) == (one == other)


@pytest.mark.parametrize("id_", ["x" * 256, "\ud800"])
def test_an_id_that_fits_no_subject_is_refused(id_: str) -> None:
    with pytest.raises(DataError):
        subject_token(id_)


def test_a_message_of_somebody_else_is_not_taken_for_an_event() -> None:
    with pytest.raises(DataError, match="not one of ours"):
        decode_record(b'{"hello": 1}')


def test_an_application_has_streams_of_its_own_and_settings_of_its_own() -> None:
    env = {"NATS_URL": "nats://a:1", "BANK-1_NATS_URL": "nats://b:2", "NATS_STREAM": "ES7"}
    assert read_settings(Environment("Bank-1", env)) == Settings(
        url="nats://b:2", stream="ES7_BANK-1"
    )
    assert read_settings(Environment("", env)) == Settings(url="nats://a:1", stream="ES7")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NATS_REPLICAS", "0"),
        ("NATS_REPLICAS", "many"),
        ("NATS_TIMEOUT_S", "0"),
        ("NATS_STORAGE", "paper"),
        ("NATS_STREAM", "a.b"),
        ("NATS_SUBJECT", "es.>"),
        ("HWBUS_LOG_STREAM", "*"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_before_anything_is_opened(
    name: str, value: str
) -> None:
    with pytest.raises(ProgrammingError, match=name):
        Factory(Environment("", {name: value}))


def test_a_call_that_takes_too_long_is_ended_and_said() -> None:
    loop, cancelled = LoopThread("test"), threading.Event()

    async def _for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    try:
        with pytest.raises(OperationalError, match=r"within 0\.05 s"):
            loop.call(_for_ever, 0.05)
        assert cancelled.wait(5)
    finally:
        loop.close()


def test_a_closed_loop_takes_its_tasks_with_it_and_refuses_new_ones() -> None:
    loop, ended = LoopThread("test"), threading.Event()

    async def _leave_something_running() -> None:
        async def _endless() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        tasks.append(asyncio.create_task(_endless()))
        await asyncio.sleep(0)

    tasks: list[asyncio.Task[None]] = []
    loop.call(_leave_something_running, 5)
    loop.close()
    loop.close()
    assert ended.is_set()
    assert tasks[0].cancelled()
    with pytest.raises(ProgrammingError, match="closed"):
        loop.call(_leave_something_running, 5)


def test_a_recorder_called_on_its_own_loop_says_so_instead_of_waiting_for_ever() -> None:
    loop = LoopThread("test")

    async def _nothing() -> None:
        return

    async def _inside() -> None:
        loop.call(_nothing, 5)

    try:
        with pytest.raises(ProgrammingError, match="own event loop"):
            loop.call(_inside, 5)
    finally:
        loop.close()
