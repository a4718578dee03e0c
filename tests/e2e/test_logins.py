"""Logins on a real broker: who is let in, turned away and let go is found by the command line."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hwbus import logins
from hwbus.cli import doctor
from hwbus.controller import doorkeeper
from hwbus.controller.__main__ import ControlPlane, Settings, control_plane
from hwbus.controller.system_login import SystemLoginError
from hwbus.jetstream import Wires
from hwbus.ports import ForbiddenError
from hwbus.server import Broker
from hwbus.streams import AUDIT
from tests.support.command_line import said as tell
from tests.support.nats import until, until_async, wires_to
from tests.support.users import SECRETS, a_broker_with_users, login, url_of

GUESS = "secret-guess"
Row = dict[str, Any]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The users that we ship, and a doorkeeper that looks more often."""
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    monkeypatch.setattr(logins, "BRIEF", timedelta(seconds=0.2))
    for name in ("_PROBE_S", "_TICK_S", "_AGAIN_S"):
        monkeypatch.setattr(doorkeeper, name, 0.05)
    monkeypatch.setattr(doctor, "_HEARTBEATS_S", 0.05)


def address(broker: Broker) -> str:
    return url_of(broker, "admin")


def a_file(home: Path, text: str) -> Path:
    path = home / "system.login"
    path.write_text(text)
    path.chmod(0o600)
    return path


@asynccontextmanager
async def a_plane(broker: Broker, home: Path, system: Path | None) -> AsyncIterator[ControlPlane]:
    stop = asyncio.Event()
    state = home / "state"
    given = Settings(
        nats_url=address(broker), state=state, http="", replicas=1, system_login=system
    )
    async with control_plane(given) as plane:
        running = asyncio.create_task(plane.run(stop))
        await until(lambda: not plane.unready())
        try:
            yield plane
        finally:
            stop.set()
            await running


async def said(broker: Broker, home: Path, *argv: str) -> str:
    _, out = await asyncio.to_thread(tell, *argv, home=home, server=address(broker))
    return out


async def found(broker: Broker, home: Path, *argv: str) -> list[Row]:
    text = await said(broker, home, "audit", "--kind", "login", *argv, "-o", "json")
    items: list[Row] = json.loads(text)["items"]
    return items


def words(rows: list[Row], user: str) -> list[str]:
    return [row["word"] for row in reversed(rows) if row.get("actor") == user]


async def everything(wires: Wires) -> bytes:
    """Return all that is on the audit, as it lies there."""
    log = wires.log_of(AUDIT.name)
    stored = [await log.get(seq) for seq in range(1, await log.head() + 1)]
    return b"\n".join(one.data for one in stored if one is not None)


def test_logins_failures_and_ends_are_found_across_a_restart_of_the_broker(tmp_path: Path) -> None:
    system = a_file(tmp_path, f"listener:{SECRETS['HWBUS_LISTENER_PASSWORD']}\n")

    async def tale() -> None:
        async with a_broker_with_users() as broker, a_plane(broker, tmp_path, system) as plane:
            await until(lambda: plane.doorkeeper.heard)
            async with wires_to(broker, name="ada-s", login=login("viewer")):
                with pytest.raises(ForbiddenError):
                    async with wires_to(broker, name="eve", login=login("node", GUESS)):
                        raise AssertionError("let in")
                await asyncio.sleep(0.25)  # what is not brief takes its time
            await broker.stop()
            await until(lambda: not plane.doorkeeper.heard)
            await broker.start()
            await until(lambda: plane.doorkeeper.heard and not plane.unready())
            async with wires_to(broker, name="bob-s", login=login("operator")):
                pass

            async def told() -> bool:
                return words(await found(broker, tmp_path), "operator") == ["login.let-in"]

            await until_async(told)
            await examine(broker, tmp_path)
            async with wires_to(broker, login=login("admin")) as wires:
                kept = await everything(wires)
            assert not [one for one in (GUESS, *SECRETS.values()) if one.encode() in kept]

    asyncio.run(tale())


async def examine(broker: Broker, home: Path) -> None:
    rows = await found(broker, home)
    assert words(rows, "viewer") == ["login.let-in", "login.left"]
    assert words(rows, "hwbus") == ["logins.began", "logins.lost", "logins.again"]
    [left, _] = await found(broker, home, "--by", "viewer")
    assert left["client"] == "ada-s"
    assert left["duration_ms"] > 200
    assert (left["account"], left["connection"], left["because"]) == (
        *("HWBUS", "nats"),
        "Client Closed",
    )
    [away] = await found(broker, home, "--by", "node", "--text", "127.0.0.1", "--since", "5m")
    assert (away["word"], away["client"]) == ("login.turned-away", "eve")
    assert away["because"] == "Authentication Failure"
    [brief] = await found(broker, home, "--by", "operator")
    assert 0 < brief["duration_ms"] < 200
    export = ("audit", "export", "--kind", "login", "--by", "node")
    [line] = (await said(broker, home, *export)).splitlines()
    assert json.loads(line)["address"] == "127.0.0.1"
    cells = list(csv.DictReader(io.StringIO(await said(broker, home, *export, "--format", "csv"))))
    assert [cell["address"] for cell in cells] == ["127.0.0.1"]
    assert "heard since" in await said(broker, home, "doctor")


def test_two_control_planes_write_a_login_once(tmp_path: Path) -> None:
    system = a_file(tmp_path, f"listener:{SECRETS['HWBUS_LISTENER_PASSWORD']}\n")

    async def tale() -> None:
        async with a_broker_with_users() as broker:
            async with (
                a_plane(broker, tmp_path / "a", system) as one,
                a_plane(broker, tmp_path / "b", system) as two,
            ):
                await until(lambda: one.doorkeeper.heard and two.doorkeeper.heard)
                async with wires_to(broker, name="ada-s", login=login("viewer")):
                    pass
            async with wires_to(broker, login=login("admin")) as wires:
                kept = await everything(wires)
            assert kept.count(b'"client":"ada-s"') == 1
            assert kept.count(b'"state":"stopped"') == 2

    asyncio.run(tale())


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("listener:wrong\n", "does not let 'hwbus-doorkeeper' in"),
        (f"viewer:{SECRETS['HWBUS_VIEWER_PASSWORD']}\n", "does not let this login hear"),
        (f"admin:{SECRETS['HWBUS_ADMIN_PASSWORD']}\n", "none of the system account"),
    ],
)
def test_a_login_by_which_nothing_is_heard_is_trouble(
    tmp_path: Path, text: str, because: str
) -> None:
    async def tale() -> None:
        async with (
            a_broker_with_users() as broker,
            a_plane(broker, tmp_path, a_file(tmp_path, text)) as plane,
        ):
            await until(lambda: because in plane.doorkeeper.trouble)

            async def told() -> bool:
                return because in await said(broker, tmp_path, "doctor")

            await until_async(told)
            assert not plane.doorkeeper.heard

    asyncio.run(tale())


def test_without_a_login_of_the_system_account_it_is_said_that_nothing_is_heard(
    tmp_path: Path,
) -> None:
    async def tale() -> None:
        async with a_broker_with_users() as broker, a_plane(broker, tmp_path, None):

            async def told() -> bool:
                return words(await found(broker, tmp_path), "hwbus") == ["logins.off"]

            await until_async(told)
            assert "--system-login" in await said(broker, tmp_path, "doctor")

    asyncio.run(tale())


def test_a_login_that_others_may_read_is_not_taken(tmp_path: Path) -> None:
    system = a_file(tmp_path, "listener:x\n")
    system.chmod(0o644)

    async def tale() -> None:
        async with a_broker_with_users() as broker:
            with pytest.raises(SystemLoginError, match="chmod 600"):
                async with a_plane(broker, tmp_path, system):
                    raise AssertionError("taken")

    asyncio.run(tale())
