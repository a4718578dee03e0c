import asyncio
from collections.abc import Mapping
from importlib.metadata import version

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwbus.fastnats import Asker, FastClient, Hear, StockClient, Unhear, new_client, read_headers
from hwbus.jetstream_follow import stamp
from hwbus.ports import ForbiddenError, NobodyThereError, OutcomeUnknownError
from tests.support.nats import fresh_broker, until

CLIENTS = pytest.mark.parametrize("kind", [FastClient, StockClient])


class Loop:
    """A line that remembers what was sent and answers when told."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.hear_: Hear | None = None

    async def send(
        self,
        subject: str,
        data: bytes,
        *,
        reply: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        assert data == b""
        assert not headers
        self.sent.append((subject, reply))

    async def hear(self, subject: str, hear: Hear) -> Unhear:
        assert subject == "_I.*"
        self.hear_ = hear

        async def unhear() -> None:
            self.hear_ = None

        return unhear

    def forget_unsent(self) -> None:
        self.sent.clear()

    def answer(self, reply: str, data: bytes, block: bytes = b"") -> None:
        assert self.hear_ is not None
        self.hear_(reply.encode(), b"", data, block)


def test_the_client_is_the_one_whose_private_names_were_read() -> None:
    assert version("nats-py").startswith("2.16.")
    for name in ("_process_msg", "_send_command", "_flush_pending"):
        assert asyncio.iscoroutinefunction(getattr(FastClient.__mro__[1], name))


def test_the_stock_path_is_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HWBUS_NATS_STOCK", raising=False)
    assert isinstance(new_client(), FastClient)
    monkeypatch.setenv("HWBUS_NATS_STOCK", "0")
    assert isinstance(new_client(), FastClient)
    monkeypatch.setenv("HWBUS_NATS_STOCK", "1")
    assert isinstance(new_client(), StockClient)
    assert isinstance(new_client(stock=False), FastClient)


@CLIENTS
def test_bytes_and_headers_arrive_as_they_were_sent(
    kind: type[FastClient] | type[StockClient],
) -> None:
    async def story() -> None:
        heard: list[tuple[bytes, bytes, bytes, bytes]] = []
        arrived = asyncio.Event()

        def hear(*message: bytes) -> None:
            heard.append((message[0], message[1], message[2], message[3]))
            arrived.set()

        async with fresh_broker() as broker:
            client = kind()
            await client.connect(broker.url)
            unhear = await client.hear("a.*", hear)
            await client.send("a.b", b"\r\n\0", reply="r", headers={"X-One": "1", "Two": "a: b"})
            await arrived.wait()
            await unhear()
            await client.send("a.b", b"unheard")
            await client.flush()
            await client.close()
        ((subject, reply, data, block),) = heard
        assert (subject, reply, data) == (b"a.b", b"r", b"\r\n\0")
        assert read_headers(block) == (0, {"X-One": "1", "Two": "a: b"})

    asyncio.run(story())


@CLIENTS
def test_a_subject_cannot_smuggle_a_command(kind: type[FastClient] | type[StockClient]) -> None:
    async def story() -> None:
        async with fresh_broker() as broker:
            client = kind()
            await client.connect(broker.url)
            for subject in ("", "a b", "a\r\nPUB b 0\r\n\r\n", "a\tb"):
                with pytest.raises(ValueError, match="is no subject"):
                    await client.send(subject, b"")
            await client.close()

    asyncio.run(story())


def test_a_header_cannot_smuggle_a_header() -> None:
    async def story() -> None:
        async with fresh_broker() as broker:
            client = FastClient()
            await client.connect(broker.url)
            for value in ("a\r\nb: c", "a\nb", "a\r"):
                with pytest.raises(ValueError, match="line break"):
                    await client.send("a", b"", headers={"x": value})
            await client.close()

    asyncio.run(story())


@CLIENTS
def test_nothing_is_sent_while_disconnected(kind: type[FastClient] | type[StockClient]) -> None:
    async def story() -> None:
        client = kind()
        with pytest.raises(OutcomeUnknownError, match="nothing was sent"):
            await client.send("a", b"")

    asyncio.run(story())


def test_answers_find_their_askers_whatever_their_order() -> None:
    async def story() -> None:
        line = Loop()
        asker = Asker(line, "_I")
        await asker.open()
        asks = [asyncio.ensure_future(asker.ask(f"s.{i}", b"", timeout_s=5)) for i in range(3)]
        await until(lambda: len(line.sent) == 3)
        assert asker.in_flight == 3
        for subject, reply in reversed(line.sent):
            line.answer(reply, subject.encode())
        assert [(await ask).data for ask in asks] == [b"s.0", b"s.1", b"s.2"]
        assert asker.in_flight == 0
        line.answer("_I.1", b"late")
        line.answer("_I.99", b"unknown")
        await asker.close()

    asyncio.run(story())


def test_each_way_an_answer_can_fail_has_its_name() -> None:
    async def story() -> None:
        line = Loop()
        asker = Asker(line, "_I")
        await asker.open()

        async def ask() -> "asyncio.Task[object]":
            before = len(line.sent)
            task: asyncio.Task[object] = asyncio.create_task(
                asker.ask("hwbus.Evt", b"", timeout_s=5)
            )
            await until(lambda: len(line.sent) > before)
            return task

        nobody = await ask()
        line.answer(line.sent[-1][1], b"", b"NATS/1.0 503\r\n\r\n")
        with pytest.raises(NobodyThereError):
            await nobody
        forbidden = await ask()
        asker.forbid("other")
        asker.forbid("hwbus.evt")
        with pytest.raises(ForbiddenError, match=r"hwbus\.Evt"):
            await forbidden
        broken = await ask()
        asker.fail(OutcomeUnknownError("broke"))
        with pytest.raises(OutcomeUnknownError, match="broke"):
            await broken
        with pytest.raises(OutcomeUnknownError, match=r"no answer .* in 0\.01 s"):
            await asker.ask("s", b"", timeout_s=0.01)
        given_up = await ask()
        given_up.cancel()
        await asyncio.wait({given_up})
        assert asker.in_flight == 0

    asyncio.run(story())


def test_no_more_than_the_agreed_number_is_in_flight() -> None:
    async def story() -> None:
        line = Loop()
        asker = Asker(line, "_I", at_once_max=2)
        await asker.open()
        asks = [asyncio.ensure_future(asker.ask("s", b"", timeout_s=5)) for _ in range(5)]
        for turn in range(5):
            await until(lambda turn=turn: len(line.sent) > turn)  # type: ignore[misc]
            assert asker.in_flight <= 2
            line.answer(line.sent[turn][1], b"")
        await asyncio.gather(*asks)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (b"NATS/1.0\r\nA: b\r\n\r\n", (0, {"A": "b"})),
        (b"NATS/1.0 404 No Messages\r\n\r\n", (404, {})),
        (
            b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Stream: 7\r\n\r\n",
            (100, {"Nats-Last-Stream": "7"}),
        ),
        (b"NATS/1.0 503\r\n\r\n", (503, {})),
        (b"NATS/1.0\r\nA:b\r\nA: c:d \r\n\r\n", (0, {"A": "c:d"})),
        (b"", (0, {})),
    ],
)
def test_header_blocks_are_read(block: bytes, expected: tuple[int, dict[str, str]]) -> None:
    assert read_headers(block) == expected


@given(st.binary(max_size=200))
def test_no_header_block_is_too_odd_to_be_read(block: bytes) -> None:
    status, headers = read_headers(block)
    assert status >= 0
    assert all("\r\n" not in name for name in headers)


def test_an_ack_subject_is_read_with_and_without_a_domain() -> None:
    plain = b"$JS.ACK.S.C.1.17.3.1700000000000000000.9"
    domain = b"$JS.ACK.hub.hash.S.C.1.17.3.1700000000000000000.9.x"
    assert stamp(plain) == stamp(domain) == (1, 17, 3, 1700000000000000000)


@CLIENTS
def test_a_flush_that_is_cancelled_just_as_the_pong_comes_is_cancelled(
    kind: type[FastClient | StockClient],
) -> None:
    async def story() -> None:
        async with fresh_broker() as broker:
            client = kind()
            await client.connect(broker.url)
            flushing = asyncio.create_task(client.flush())
            while not client._pongs:  # noqa: ASYNC110  (it must not have been answered)
                await asyncio.sleep(0)
            client._pongs[-1].set_result(True)
            flushing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await flushing
            await client.close()

    asyncio.run(story())


@CLIENTS
def test_a_pong_for_somebody_who_was_cancelled_makes_nobody_deaf(
    kind: type[FastClient | StockClient],
) -> None:
    async def story() -> None:
        async with fresh_broker() as broker:
            client = kind()
            await client.connect(broker.url)
            flushing = asyncio.create_task(client.flush())
            while not client._pongs:  # noqa: ASYNC110  (it must not have been answered)
                await asyncio.sleep(0)
            flushing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await flushing
            assert await client.echo(10)
            await client.close()

    asyncio.run(story())
