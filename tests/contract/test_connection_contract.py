"""What holds for a connection to the broker, whatever becomes of the broker or of the client."""

import asyncio

import pytest

from hwbus.jetstream import ApiError, connect
from hwbus.ports import NobodyThereError, OutcomeUnknownError
from tests.support.nats import fresh_broker, fresh_wires, until

A = "hwbus.evt.volume.-.a"


@pytest.mark.parametrize("stock", [False, True])
def test_of_several_addresses_in_one_text_one_is_enough(stock: bool) -> None:
    async def story() -> None:
        async with fresh_broker() as broker:
            servers = f"nats://127.0.0.1:1, {broker.url}"
            async with connect(servers, name="one of two", stock=stock) as wires:
                await wires.ensure_streams()
                broker.kill()
                await broker.start()
                await until(lambda: wires.connected, within_s=10)
                assert await wires.log.append(A, b"1", after=0, message_id="1") == 1

    asyncio.run(story())


def test_a_connection_that_is_not_coming_back_is_given_up_once_the_broker_is_there() -> None:
    async def story() -> None:
        async with (
            fresh_broker() as broker,
            connect(broker.url, name="stuck", patience_s=1.0) as wires,
            connect(broker.url, name="sound", patience_s=1.0) as sound,
        ):
            await wires.ensure_streams()
            async with wires.log.follow(after=0) as batches:
                await wires.log.append(A, b"1", after=0, message_id="1")
                await anext(batches)
                broker.kill()
                client = wires._core.client
                await until(lambda: client._reconnection_task is not None, within_s=10)
                assert client._reconnection_task is not None
                client._reconnection_task.cancel()
                waiting = asyncio.ensure_future(anext(batches))
                _, still = await asyncio.wait((waiting,), timeout=2.5)
                assert still, "while nobody is there, nobody is to blame"
                await broker.start()
                with pytest.raises(ConnectionError, match="closed for good"):
                    await waiting
            await wires.until_gone()
            assert wires.counters["abandoned"] == 1
            await until(lambda: sound.connected, within_s=10)
            assert "abandoned" not in sound.counters

    asyncio.run(story())


@pytest.mark.parametrize(
    ("code", "raised"),
    [
        # JetStream system temporarily unavailable; insufficient resources; stream is offline
        (10008, OutcomeUnknownError),
        (10023, OutcomeUnknownError),
        (10118, OutcomeUnknownError),
        (10059, NobodyThereError),  # stream not found
    ],
)
def test_where_a_log_begins_and_ends_is_unknown_while_the_broker_is_in_trouble(
    monkeypatch: pytest.MonkeyPatch, code: int, raised: type[Exception]
) -> None:
    async def trouble(subject: str, *_: object) -> None:
        raise ApiError(subject, 503, code, "in trouble")

    async def story() -> None:
        async with fresh_wires() as wires:
            await wires.log.append(A, b"1", after=0, message_id="1")
            with monkeypatch.context() as broken:
                broken.setattr(wires._core, "api", trouble)
                for ask in (wires.log.head, wires.log.first):
                    with pytest.raises(raised, match="HWBUS_EVENTS"):
                        await ask()
            assert (await wires.log.first(), await wires.log.head()) == (1, 1)

    asyncio.run(story())
