import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hwbus.jetstream import Login, connect
from hwbus.ports import Call, Endpoint, ForbiddenError, NobodyThereError, OutcomeUnknownError
from hwbus.pruning import purge
from hwbus.server import Broker, BrokerError, ServerSettings, embedded, find_binary, render
from hwbus.streams import AUDIT
from tests.support.frozen import frozen
from tests.support.nats import a_broker, a_store, fresh_broker, until, wires_to
from tests.support.users import SECRETS, login, settings

CONFIGS = Path(__file__).parents[3] / "deploy" / "nats"
PLACES = {
    "HWBUS_SERVER_NAME": "one",
    "HWBUS_SITE": "edge-1",
    "HWBUS_CENTRE_URL": "nats://centre:7422",
    **{f"HWBUS_ROUTE_{i}": f"nats://broker-{i}:6222" for i in (1, 2, 3)},
}


def test_the_binary_of_the_wheel_is_found() -> None:
    said = subprocess.run([find_binary(), "--version"], capture_output=True, check=True, text=True)
    assert said.stdout.startswith("nats-server: v2.15.")


def test_another_binary_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("#!/bin/sh\n")
    monkeypatch.setenv("HWBUS_NATS_SERVER", str(mine))
    with pytest.raises(BrokerError, match="not an executable"):
        find_binary()
    mine.chmod(0o755)
    assert find_binary() == mine


def test_a_binary_that_is_none_is_reported_with_what_it_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.write_text("#!/bin/sh\necho no disks today; exit 3\n")
    mine.chmod(0o755)
    monkeypatch.setenv("HWBUS_NATS_SERVER", str(mine))
    with pytest.raises(BrokerError, match="no disks today"):
        asyncio.run(Broker(ServerSettings(store=tmp_path / "store")).start())


def test_acknowledged_means_on_disk_unless_one_says_otherwise(tmp_path: Path) -> None:
    settings = ServerSettings(store=tmp_path)
    assert "sync_interval: always" in render(settings, port=-1)
    lazy = msgspec.structs.replace(settings, sync_always=False, store_max_bytes=1_000_000)
    assert "sync_interval: 2m" in render(lazy, port=-1)
    assert "max_file_store: 1000000" in render(lazy, port=-1)


def test_a_broker_keeps_its_address_and_its_store_over_a_restart() -> None:
    async def story() -> None:
        async with fresh_broker() as broker, wires_to(broker) as wires:
            await wires.ensure_streams()
            await wires.log.append("hwbus.evt.a.-.b", b"x", after=0, message_id="1")
            url = broker.url
            await broker.stop()
            assert broker.pid is None
            await broker.start()
            assert broker.url == url
            await until(lambda: wires.connected)
            assert await wires.log.head() == 1

    asyncio.run(story())


def test_a_broker_can_outlive_the_event_loop_it_was_started_in() -> None:
    with a_broker() as broker:
        for _ in range(2):
            asyncio.run(_ask_once(broker))


async def _ask_once(broker: Broker) -> None:
    async with wires_to(broker) as wires:
        await wires.ensure_streams()
        assert await wires.log.head() == 0


def test_two_brokers_never_share_a_store() -> None:
    async def story(store: Path) -> None:
        settings = ServerSettings(store=store)
        async with embedded(settings):
            with pytest.raises(BrokerError, match="is locked"):
                await Broker(settings).start()
        async with embedded(settings):
            pass

    with a_store() as store:
        asyncio.run(story(store))


def test_the_store_stays_locked_while_an_orphan_works_on_it() -> None:
    # The lock is the broker's as well: without that, a killed owner would free a store in use.
    with a_broker() as broker:
        assert broker.pid is not None
        assert "lock" in open_files(broker.pid)


def open_files(pid: int) -> set[str]:
    """Return the names of what a process has open; what it closes meanwhile is left out."""
    names = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            names.add(fd.readlink().name)
    return names


def test_a_busy_port_is_an_error_with_the_reason() -> None:
    async def story(store: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(BrokerError, match="address already in use"):
                await Broker(ServerSettings(store=store, port=port)).start()

    with a_store() as store:
        asyncio.run(story(store))


def test_a_broker_of_the_same_name_on_the_port_is_not_taken_for_ours() -> None:
    async def story(store: Path) -> None:
        async with fresh_broker() as other:
            port = int(other.url.rpartition(":")[2])
            with pytest.raises(BrokerError, match="address already in use"):
                await Broker(ServerSettings(store=store, port=port)).start()

    with a_store() as store:
        asyncio.run(story(store))


def test_before_the_first_start_there_is_no_address(tmp_path: Path) -> None:
    broker = Broker(ServerSettings(store=tmp_path))
    assert broker.pid is None
    with pytest.raises(BrokerError, match="not been started"):
        _ = broker.url


OWNER = """
import asyncio, sys, time
from pathlib import Path
from hwbus.server import Broker, ServerSettings
broker = Broker(ServerSettings(store=Path(sys.argv[1])))
asyncio.run(broker.start())
print("pid", broker.pid, flush=True)
time.sleep(60)
"""


def test_a_broker_dies_with_its_killed_owner() -> None:
    with a_store() as store:
        root = Path(__file__).parents[3]
        with subprocess.Popen(
            [sys.executable, "-c", OWNER, str(store)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(root)},
        ) as owner:
            assert owner.stdout is not None
            pid = next(int(line.split()[1]) for line in owner.stdout if line.startswith("pid "))
            assert Path(f"/proc/{pid}").exists()
            owner.send_signal(signal.SIGKILL)
            owner.wait()
            asyncio.run(until(lambda: not _runs(pid)))


def _runs(pid: int) -> bool:
    try:
        return "nats-server" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def test_a_broker_that_does_not_stop_is_ended_by_force() -> None:
    async def story() -> None:
        async with fresh_broker() as broker:
            pid = broker.pid
            assert pid is not None
            async with frozen(pid):
                await broker.stop(grace_s=0.05)
            assert broker.pid is None

    asyncio.run(story())


@pytest.mark.parametrize("name", ["server.conf", "cluster.conf", "edge.conf"])
def test_the_server_accepts_the_configurations_we_ship(name: str) -> None:
    argv = [str(find_binary()), "-t", "-c", str(CONFIGS / name)]
    said = subprocess.run(
        argv, env={**os.environ, **SECRETS, **PLACES}, capture_output=True, check=False, text=True
    )
    assert said.returncode == 0, said.stderr


# Who may say what


def with_users(monkeypatch: pytest.MonkeyPatch) -> ServerSettings:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    return settings()


@pytest.mark.parametrize("stock", [False, True])
def test_only_the_controller_may_write_events(monkeypatch: pytest.MonkeyPatch, stock: bool) -> None:
    settings = with_users(monkeypatch)

    async def story() -> None:
        async with (
            fresh_broker(settings) as broker,
            wires_to(broker, login=login("controller"), stock=stock) as controller,
            wires_to(broker, login=login("node"), stock=stock) as node,
        ):
            await controller.ensure_streams()
            subject = "hwbus.evt.volume.-.a"
            await controller.log.append(subject, b"x", after=0, message_id="1")
            async with asyncio.timeout(2):
                with pytest.raises(ForbiddenError, match=subject):
                    await node.log.append(subject, b"forged", after=1, message_id="2")
            assert node.connected
            async with node.log.follow(after=0) as batches:
                assert [s.data for s in await anext(batches)] == [b"x"]
            await node.outlet.keep("hwbus.audit.executed.node-1", b"lvs", message_id="3")
            with pytest.raises(ForbiddenError):
                await node.outlet.keep("hwbus.audit.refused", b"forged", message_id="4")

    asyncio.run(story())


def test_only_nodes_ask_one_another_for_what_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = with_users(monkeypatch)

    async def answer(call: Call) -> bytes:
        return b"lent"

    async def story() -> None:
        async with (
            fresh_broker(settings) as broker,
            wires_to(broker, login=login("node")) as lender,
            wires_to(broker, login=login("node")) as borrower,
            wires_to(broker, login=login("operator")) as operator,
        ):
            endpoint = Endpoint(name="lend", subject="hwbus.lend.n1", metadata={})
            async with lender.bus.serve("hwbus-loans-n1", "1.0.0", [endpoint], answer):
                asked: dict[str, Any] = {"headers": {}, "timeout_s": 2}
                said = await borrower.bus.request("hwbus.lend.n1", b"", **asked)
                assert said == b"lent"
                with pytest.raises((ForbiddenError, OutcomeUnknownError)):
                    await operator.bus.request("hwbus.lend.n1", b"", **asked)

    asyncio.run(story())


def test_an_operator_may_ask_and_read_but_not_write(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = with_users(monkeypatch)

    async def story() -> None:
        async with (
            fresh_broker(settings) as broker,
            wires_to(broker, login=login("admin")) as admin,
            wires_to(broker, login=login("operator")) as operator,
        ):
            await admin.ensure_streams()
            with pytest.raises(NobodyThereError):
                await operator.bus.request("hwbus.cmd.a.b", b"", headers={}, timeout_s=2)
            assert await operator.log.history("hwbus.evt.a.-.b") == []
            with pytest.raises(ForbiddenError):
                await operator.log.append("hwbus.evt.a.-.b", b"", after=0, message_id="1")

    asyncio.run(story())


def test_only_the_administrator_takes_anything_out_of_the_audit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = with_users(monkeypatch)

    async def story() -> None:
        async with (
            fresh_broker(settings) as broker,
            wires_to(broker, login=login("admin")) as admin,
        ):
            await admin.ensure_streams()
            await admin.outlet.keep("hwbus.audit.executed.n1", b"{}", message_id="1")
            for user in ("controller", "operator", "node"):
                async with wires_to(broker, login=login(user)) as wires:
                    with pytest.raises(ForbiddenError):
                        await purge(wires.bus, AUDIT.name, 1)
            assert await admin.log_of(AUDIT.name).first() == 1
            assert await purge(admin.bus, AUDIT.name, 1) == 1

    asyncio.run(story())


def test_a_stranger_is_turned_away_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = with_users(monkeypatch)

    async def story() -> None:
        async with fresh_broker(settings) as broker, asyncio.timeout(3):
            with pytest.raises(ForbiddenError, match="does not let 'test' in"):
                async with wires_to(broker, login=Login(user="controller", password="guess")):
                    raise AssertionError("let in")

    asyncio.run(story())


def test_without_a_broker_connecting_gives_up_and_says_where() -> None:
    async def story() -> None:
        with pytest.raises(ConnectionError, match=r"no broker at nats://127\.0\.0\.1:1:"):
            async with connect("nats://127.0.0.1:1", name="lost", within_s=0.3):
                raise AssertionError("connected")

    asyncio.run(story())
