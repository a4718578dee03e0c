"""The provable audit on a real broker: signed while it runs, and copies of its store examined."""

import asyncio
import json
import os
import shutil
import stat
from pathlib import Path

import msgspec
import pytest

from hwbus.blocks import blocks_of, read_block
from hwbus.client import Client
from hwbus.controller.__main__ import Settings, control_plane
from hwbus.identity import Mint
from hwbus.jetstream import Wires
from hwbus.proof import check
from hwbus.server import Broker, ServerSettings
from hwbus.streams import AUDIT, EVENTS, STREAMS
from schemas.node import CordonNode, ReportNodeJoined, UncordonNode
from tests.support.command_line import said
from tests.support.nats import fresh_wires, until_async, wires_to
from tests.support.signing import Signed, chained

ROUNDS = 6
# Joined, cordoned and uncordoned, cordoned; and once more, where it is cordoned already.
MESSAGES = 1 + 2 * ROUNDS + 1 + 2


class Copy:
    """The store of a broker that has been stopped, and the control plane's state beside it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.store = home / "store"
        self.public = (home / "state" / "notary.pub").read_text().strip()

    def verify(self, *argv: str) -> tuple[int, dict[str, object]]:
        """Return the exit code and the verdict of ``hwbus audit verify`` on this copy."""
        given = ("audit", "verify", "--from-store", str(self.store), "-o", "json", *argv)
        code, out = said(*given, home=self.home, server="nats://127.0.0.1:1")
        return code, json.loads(out)["items"][0]

    @property
    def block(self) -> Path:
        [path] = blocks_of(self.store, EVENTS.name)
        return path


async def live(settings: Settings, wires: Wires, rounds: int) -> None:
    """Run a control plane, have some commands decided, see it sign, and stop it."""
    stop = asyncio.Event()
    async with control_plane(settings) as plane:
        running = asyncio.create_task(plane.run(stop))
        client = Client(wires.bus, wires.log, actor="ada", mint=Mint())

        async def ready() -> bool:
            return not plane.unready()

        await until_async(ready, within_s=30)
        await client.command(ReportNodeJoined(node="n1"))
        for _ in range(rounds):
            await client.command(CordonNode(node="n1", because="to be seen"))
            await client.command(UncordonNode(node="n1"))

        await client.command(CordonNode(node="nobody", because="to be refused"))

        archivist = plane.archivist
        assert archivist is not None

        async def signed_and_archived() -> bool:
            archived = (archivist.until.get(stream, 0) for stream in archivist.streams)
            return all(n.signed > 0 for n in plane.notaries) and all(archived)

        await until_async(signed_and_archived, within_s=30)
        await client.command(CordonNode(node="n1", because="just before the end"))
        stop.set()
        await running


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    home = tmp_path_factory.mktemp("proofs")
    settings = ServerSettings(store=home / "store", sync_always=False)

    async def tale() -> None:
        broker = Broker(settings)
        await broker.start()
        try:
            async with wires_to(broker) as wires:
                place = home / "state"
                given = Settings(
                    nats_url=broker.url,
                    state=place,
                    http="",
                    replicas=1,
                    sign_every_s=0.05,
                    archive_to=str(home / "archive"),
                    archive_every_s=0.05,
                )
                await live(given, wires, ROUNDS)
                # Another life, which begins where the last head of the one before ends.
                await live(given, wires, 1)
                # Meanwhile, as people do it: from outside, while the broker runs.
                record = ("prove", "1", "--record", "--to", str(home / "refusal.json"))
                for argv in (
                    ("archive", "--to", str(home / "archive")),
                    ("verify",),
                    ("prove", "3", "--to", str(home / "proof.json")),
                    record,
                ):
                    code, _ = await asyncio.to_thread(
                        said, "audit", *argv, home=home, server=broker.url
                    )
                    assert code == 0
        finally:
            await broker.stop()

    asyncio.run(tale())
    return Copy(home)


@pytest.fixture
def copy(past: Copy, tmp_path: Path) -> Copy:
    for part in ("store", "state"):
        shutil.copytree(past.home / part, tmp_path / part)
    return Copy(tmp_path)


def records(copy: Copy) -> list[tuple[int, bytes]]:
    """Return where each message begins in the block, and the message."""
    data = copy.block.read_bytes()
    found = []
    for one in read_block(copy.block):
        at = data.index(one.data)
        assert data.count(one.data) == 1
        found.append((at, one.data))
    return found


def test_the_whole_log_is_signed_to_its_end_with_the_key_in_the_state_folder(past: Copy) -> None:
    code, verdict = past.verify("--key", past.public)
    assert (code, verdict["first_bad"], verdict["keys"]) == (0, None, [past.public])
    assert verdict["signed"] == verdict["messages"] == MESSAGES
    assert stat.S_IMODE((past.home / "state" / "notary.key").stat().st_mode) == 0o600


def test_the_archive_of_both_lives_and_of_a_hand_is_one_chain(past: Copy) -> None:
    given = ("audit", "verify", "--from-archive", str(past.home / "archive"), "-o", "json")
    code, out = said(*given, "--key", past.public, home=past.home, server="nats://127.0.0.1:1")
    events, audit = json.loads(out)["items"]
    assert (code, events["first_bad"], audit["first_bad"]) == (0, None, None)
    assert events["signed"] == events["messages"] == MESSAGES
    assert audit["signed"] == audit["messages"] > 0
    assert events["heads"] > 2


def test_nothing_in_the_store_is_in_limbo(past: Copy) -> None:
    given = ("doctor", "--log", "--from-store", str(past.store), "-o", "json")
    code, out = said(*given, home=past.home, server="nats://127.0.0.1:1")
    [verdict] = json.loads(out)["items"]
    assert (code, verdict["commits"], verdict["findings"]) == (0, verdict["seq"], [])


def test_a_proof_that_was_written_while_it_ran_holds_now_that_nothing_does(past: Copy) -> None:
    proof = json.loads((past.home / "proof.json").read_text())
    check(proof, [past.public])
    refusal = json.loads((past.home / "refusal.json").read_text())
    check(refusal, [past.public])
    assert refusal["message"]["subject"].startswith("hwbus.audit.")
    assert b"ada" in msgspec.json.decode(msgspec.json.encode(proof["message"]["data"]), type=bytes)


@pytest.mark.parametrize("seq", [1, 5, MESSAGES])
def test_a_byte_that_was_flipped_in_the_store_is_named(copy: Copy, seq: int) -> None:
    at, message = records(copy)[seq - 1]
    with copy.block.open("r+b") as file:
        file.seek(at + message.index(b'"actor":"') + 9)
        file.write(b"X")
    code, verdict = copy.verify()
    assert (code, verdict["first_bad"]) == (1, seq)


def test_a_refusal_that_was_made_up_afterwards_is_named(copy: Copy) -> None:
    """The audit stream is signed as well, the heads that are on it included."""
    [path] = blocks_of(copy.store, AUDIT.name)
    data = path.read_bytes()
    at = data.index(b'"because":"') + 11
    path.write_bytes(data[:at] + b"X" + data[at + 1 :])
    seq = next(one.seq for one in read_block(path) if b'"because":"X' in one.data)
    given = ("audit", "verify", "--from-store", str(copy.store), "-o", "json")
    code, out = said(*given, home=copy.home, server="nats://127.0.0.1:1")
    events, audit = json.loads(out)["items"]
    assert (code, events["first_bad"], audit["first_bad"]) == (1, None, seq)


def raw_records(copy: Copy) -> list[bytes]:
    """Return the records of the block as they lie there, one behind the other."""
    data = copy.block.read_bytes()
    parts = []
    while data:
        length = int.from_bytes(data[:4], "little") & 0x7FFFFFFF
        parts.append(data[:length])
        data = data[length:]
    return parts


def numbered(record: bytes, seq: int) -> bytes:
    return record[:4] + seq.to_bytes(8, "little") + record[12:]


@pytest.mark.parametrize("how", ["dropped", "dropped, the rest moved up", "swapped", "inserted"])
def test_what_was_done_to_the_order_of_the_store_is_named(copy: Copy, how: str) -> None:
    parts = raw_records(copy)
    match how:
        case "dropped":
            changed = [*parts[:4], *parts[5:]]
        case "dropped, the rest moved up":
            moved = [*parts[:4], *parts[5:]]
            changed = [numbered(part, n) for n, part in enumerate(moved, start=1)]
        case "swapped":
            changed = [
                *parts[:4],
                numbered(parts[6], 5),
                parts[5],
                numbered(parts[4], 7),
                *parts[7:],
            ]
        case _:
            more = [*parts[:4], parts[2], *parts[4:]]
            changed = [numbered(part, n) for n, part in enumerate(more, start=1)]
    copy.block.write_bytes(b"".join(changed))
    code, verdict = copy.verify()
    assert (code, verdict["first_bad"]) == (1, 5)


def test_a_record_that_is_none_any_more_is_named_with_all_behind_it(copy: Copy) -> None:
    parts = raw_records(copy)
    parts[4] = b"\xff" * 4 + parts[4][4:]
    copy.block.write_bytes(b"".join(parts))
    code, verdict = copy.verify()
    assert (code, verdict["first_bad"]) == (1, 5)
    os.truncate(copy.block, sum(map(len, parts[:4])) + 7)
    code, verdict = copy.verify()
    assert (code, verdict["first_bad"]) == (1, 5)


def test_a_message_that_was_deleted_on_the_server_itself_is_missed(tmp_path: Path) -> None:
    """An administrator can: here of a stream that was made without our prohibition."""

    async def tale() -> None:
        loose = [msgspec.structs.replace(one, deny_delete=False) for one in STREAMS]
        async with fresh_wires(streams=loose) as wires:
            here = Signed()
            for one in chained(9):
                last = await wires.log.last(one.subject)
                after = last.seq if last else 0
                await wires.log.append(one.subject, one.data, after=after, message_id=str(one.seq))
            here.notary._log, here.notary._outlet = wires.log, wires.outlet
            assert await here.notary.sign() == 9
            server = wires._core.client.connected_url
            assert server is not None
            for seq in (4, 9):
                where = f"STREAM.MSG.DELETE.{EVENTS.name}"
                await wires._core.api(where, {"seq": seq}, dict)
            code, out = await asyncio.to_thread(
                said, "audit", "verify", "-o", "json", home=tmp_path, server=server.geturl()
            )
            findings = json.loads(out)["items"][0]["findings"]
            assert code == 1
            found = [(one["seq"], one["what"]) for one in findings]
            assert found == [
                (4, "missing"),
                (9, "missing"),
            ]

    asyncio.run(tale())
