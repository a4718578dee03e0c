"""A program's way to the control plane: say a word, ask a view, follow what comes of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec
import pytest

from hwbus.client import Client, RefusedQueryError, command_call, query_call, subjects_of
from hwbus.memory import MemoryBus, MemoryLog
from hwbus.ports import Call, Endpoint
from hwbus.subjects import BadNameError
from schemas.answers import Accepted, Refused, refuse
from schemas.deleting import VolumeDeleted
from schemas.node import AdmitNode
from schemas.operation import OperationEnded, OperationKind, Outcome
from schemas.refusals import Refusal
from tests.support.cli import OPERATION, UID, append, commit
from tests.support.clock import ManualClock

OTHER = "01j00000000000000000000009"
DELETED = VolumeDeleted(volume="pg", uid=UID, operation=OPERATION)
ENDED = OperationEnded(
    operation=OPERATION,
    kind=OperationKind.VOLUME_DELETE,
    object="volume/pg",
    outcome=Outcome.COMPLETED,
)


@asynccontextmanager
async def a_client(
    answer: Callable[[Call], Any] = lambda _: None,
) -> AsyncIterator[tuple[Client, MemoryLog]]:
    bus, log = MemoryBus(), MemoryLog(ManualClock())

    async def respond(call: Call) -> bytes:
        return msgspec.json.encode(answer(call))

    async with bus.serve("test", "0", [Endpoint("all", "hwbus.*.>", {})], respond):
        yield Client(bus, log, actor="ada", mint=lambda: "minted"), log


def run(scene: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(5):
            await scene()

    asyncio.run(bounded())


def test_a_command_is_its_fields_under_its_name() -> None:
    call = command_call(
        AdmitNode(node="n1"), actor="ada", command_id="c", expect_version=0, correlation="o",
        cause="event:4",
    )  # fmt: skip
    assert call.subject == "hwbus.cmd.node.admit"
    assert msgspec.json.decode(call.data) == {"type": "node.admit.v1", "node": "n1"}
    assert call.headers == {
        "Hwbus-Command-Id": "c",
        "Hwbus-Actor": "ada",
        "Hwbus-Expected-Version": "0",
        "Hwbus-Correlation": "o",
        "Hwbus-Cause": "event:4",
    }


def test_a_query_says_only_what_differs_from_the_defaults() -> None:
    asked = msgspec.json.decode(query_call("volumes", {"name": "pg"}, min_seq=4, wait_ms=0).data)
    assert asked == {"where": {"name": "pg"}, "min_seq": 4, "wait_ms": 0}
    assert msgspec.json.decode(query_call("volumes").data) == {"where": {}}


@pytest.mark.parametrize(
    "answer", [Accepted(command="minted", seq=4, version=1), refuse(Refusal.NODE_KNOWN, "known")]
)
def test_the_answer_of_the_desk_is_returned_as_it_is(answer: Accepted | Refused) -> None:
    async def scene() -> None:
        async with a_client(lambda _: answer) as (client, _):
            assert await client.command(AdmitNode(node="n1")) == answer

    run(scene)


def test_all_pages_of_a_view_are_read() -> None:
    def pages(call: Call) -> dict[str, Any]:
        cursor = msgspec.json.decode(call.data).get("cursor", "0")
        n = int(cursor)
        following = str(n + 1) if n < 2 else None
        return {"answer": "page", "kind": "X", "seq": 5 + n, "items": [{"n": n}], "next": following}

    async def scene() -> None:
        async with a_client(pages) as (client, _):
            page = await client.query_all("volumes")
            assert [row["n"] for row in page.items] == [0, 1, 2]
            assert page.seq == 5

    run(scene)


def test_a_view_that_is_behind_shows_what_it_has_and_says_so() -> None:
    def late(call: Call) -> dict[str, Any]:
        if msgspec.json.decode(call.data).get("min_seq"):
            return {"answer": "behind", "seq": 3, "min_seq": 9, "because": "slow"}
        return {"answer": "page", "kind": "X", "seq": 3, "items": []}

    async def scene() -> None:
        async with a_client(late) as (client, _):
            page = await client.query("volumes", min_seq=9)
            assert (page.seq, page.behind) == (3, 9)

    run(scene)


def test_a_refused_question_raises_with_the_refusal() -> None:
    async def scene() -> None:
        async with a_client(lambda _: refuse(Refusal.MALFORMED, "no such column")) as (client, _):
            with pytest.raises(RefusedQueryError) as caught:
                await client.query("volumes", {"x": 1})
            assert caught.value.refused.code is Refusal.MALFORMED

    run(scene)


def test_following_an_operation_yields_its_commits_alone_and_ends_with_it() -> None:
    async def scene() -> None:
        async with a_client() as (client, log):
            volume = "hwbus.evt.volume.-.pg"
            await append(log, volume, commit(DELETED, correlation=OTHER))
            await append(log, volume, commit(DELETED, correlation=OPERATION))
            await append(log, "hwbus.evt.node.-.n1", commit(correlation=OPERATION))
            await append(log, volume, b"not a commit")
            end = commit(ENDED, correlation=OPERATION)
            await append(log, f"hwbus.evt.operation.-.{OPERATION}", end)
            story = client.follow_operation(OPERATION, object_="volume/pg")
            async with aclosing(story):
                assert [happening.seq async for happening in story] == [2, 5]
            assert (await client.wait(OPERATION)).seq == 5

    run(scene)


def test_waiting_has_a_bound() -> None:
    async def scene() -> None:
        async with a_client() as (client, _):
            with pytest.raises(TimeoutError):
                await client.wait(OPERATION, timeout_s=0.01)

    run(scene)


@pytest.mark.parametrize(
    ("object_", "subjects"),
    [
        (
            "volume/pg",
            ("hwbus.evt.volume.-.pg", "hwbus.evt.replica.*.pg", "hwbus.evt.attachment.*.pg"),
        ),
        ("pool/n1/fast", ("hwbus.evt.pool.n1.fast",)),
        ("node/n1", ("hwbus.evt.node.-.n1",)),
    ],
)
def test_an_address_says_where_its_record_is(object_: str, subjects: tuple[str, ...]) -> None:
    assert subjects_of(object_) == subjects


@pytest.mark.parametrize("object_", ["", "volume", "volume/*", "volume/a.b", "a/b/c/d", "pool/>/x"])
def test_what_is_no_address_never_becomes_a_subject(object_: str) -> None:
    with pytest.raises(BadNameError):
        subjects_of(object_)
