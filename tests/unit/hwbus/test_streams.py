import asyncio
import json
from pathlib import Path

import msgspec
import pytest

from hwbus import streams
from hwbus.filters import collide
from hwbus.jetstream import StreamDiffersError
from hwbus.jetstream_streams import config_of, differences
from hwbus.pruning import PurgeError, purge, sealed
from tests.support.nats import fresh_broker, wires_to

GOLDEN = Path(__file__).parents[2] / "golden" / "streams.json"


def test_no_stream_changes_without_being_seen_in_review() -> None:
    now = [config_of(stream) for stream in streams.STREAMS]
    assert now == json.loads(GOLDEN.read_text()), "if it is meant: write config_of() there"


def test_no_message_is_taken_by_two_streams() -> None:
    taken = [subject for stream in streams.STREAMS for subject in stream.subjects]
    pairs = [(a, b) for i, a in enumerate(taken) for b in taken[i + 1 :]]
    assert not [pair for pair in pairs if collide(*pair)]


def test_commands_that_want_an_answer_are_taken_by_no_stream() -> None:
    taken = [subject for stream in streams.STREAMS for subject in stream.subjects]
    asked = ("hwbus.cmd.>", "hwbus.q.>", "hwbus.live.>")
    assert not [(a, b) for a in taken for b in asked if collide(a, b)]


def test_the_truth_can_neither_be_deleted_nor_purged_nor_forgotten() -> None:
    config = config_of(streams.EVENTS)
    assert config["deny_delete"]
    assert config["deny_purge"]
    assert [one.name for one in streams.STREAMS if one.deny_delete] == [
        "HWBUS_EVENTS",
        "HWBUS_AUDIT",
    ]
    assert (config["discard"], config["max_age"], config["max_msgs"]) == ("new", 0, -1)
    assert not config["allow_rollup_hdrs"]


def test_differences_are_named() -> None:
    wanted = config_of(streams.EVENTS)
    assert differences(wanted, dict(wanted)) == []
    assert differences(wanted, {**wanted, "deny_purge": False}) == ["deny_purge is False, not True"]
    # The broker leaves false flags out of its answer.
    without = {name: value for name, value in wanted.items() if name != "allow_rollup_hdrs"}
    assert differences(wanted, without) == []


def test_a_stream_that_was_made_so_that_nothing_can_be_purged_stays_as_good() -> None:
    async def story() -> None:
        older = msgspec.structs.replace(streams.AUDIT, deny_purge=True)
        async with fresh_broker() as broker, wires_to(broker) as wires:
            await wires.ensure_streams((older,))
            await wires.ensure_streams()
            assert await sealed(wires.bus, streams.AUDIT.name)
            await wires.outlet.keep("hwbus.audit.executed.n1", b"{}", message_id="1")
            with pytest.raises(PurgeError, match="not permitted"):
                await purge(wires.bus, streams.AUDIT.name, 1)
            assert await wires.log_of(streams.AUDIT.name).first() == 1

    asyncio.run(story())


def test_of_the_audit_what_is_asked_for_is_taken_out_and_no_more() -> None:
    async def story() -> None:
        async with fresh_broker() as broker, wires_to(broker) as wires:
            await wires.ensure_streams()
            assert not await sealed(wires.bus, streams.AUDIT.name)
            for number in range(4):
                subject = f"hwbus.audit.executed.n{number}"
                await wires.outlet.keep(subject, b"{}", message_id=str(number))
            log = wires.log_of(streams.AUDIT.name)
            for until, gone, first in ((2, 2, 3), (2, 0, 3), (1, 0, 3), (3, 1, 4)):
                assert await purge(wires.bus, streams.AUDIT.name, until) == gone
                assert (await log.first(), await log.head()) == (first, 4)
            with pytest.raises(PurgeError):
                await purge(wires.bus, streams.EVENTS.name, 1)

    asyncio.run(story())


def test_streams_are_created_once_and_a_different_one_is_left_alone() -> None:
    async def story() -> None:
        async with fresh_broker() as broker, wires_to(broker) as wires:
            await wires.ensure_streams()
            await wires.ensure_streams()
            await wires.log.append("hwbus.evt.a.-.b", b"x", after=0, message_id="1")
            other = msgspec.structs.replace(
                streams.EVENTS, deny_purge=False, max_message_bytes=1_000
            )
            with pytest.raises(StreamDiffersError) as error:
                await wires.ensure_streams((other,))
            assert "max_msg_size is 1048576, not 1000" in str(error.value)
            await wires.ensure_streams()
            assert await wires.log.head() == 1

    asyncio.run(story())


def test_the_numbers_of_copies_are_compared_too() -> None:
    async def story() -> None:
        async with fresh_broker() as broker, wires_to(broker) as wires:
            await wires.ensure_streams()
            with pytest.raises(StreamDiffersError, match="num_replicas is 1, not 3"):
                await wires.ensure_streams(replicas=3)

    asyncio.run(story())
