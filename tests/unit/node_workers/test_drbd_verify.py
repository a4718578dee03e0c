"""How a comparison that is over is known to have come to its end: on the same connection."""

import asyncio
import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
import pytest

from node_workers.drbd_config import Note, Place
from node_workers.drbd_roles import Roles
from node_workers.drbd_tools import DRBDADM, LOOK, PUT, DrbdTools
from node_workers.drbd_verify import LINE, Comparing, Mark, parse_line
from node_workers.ports import Execution, UnsuitableError
from node_workers.replication import Comparison, Member, ReplicationSpec

MIB = 1 << 20
MEMBERS = tuple(
    Member(
        node=f"n{number}",
        index=number - 1,
        address=f"198.51.100.{10 + number}",
        port=7799 + number,
        minor=1000,
        key=base64.b64encode(bytes(32)).decode(),
    )
    for number in (1, 2)
)
SPEC = ReplicationSpec(volume="pg", uid="uid-pg", pool="fast", size_bytes=64 * MIB, members=MEMBERS)
HERE, THERE, OTHER = "0B6433C6", "0C6433C6", "0D6433C6"


def socket(near: str, far: str, state: str = "01") -> str:
    rest = "00000000:00000000 00:00000000 00000000     0        0 0 1 0000000000000000 20 4 0 10 -1"
    return f"   0: {near} {far} {state} {rest}"


FIRST = (socket(f"{HERE}:1E78", f"{THERE}:C350"), socket(f"{HERE}:A1B2", f"{THERE}:1E79"))
LATER = (socket(f"{HERE}:1E78", f"{THERE}:C350"), socket(f"{HERE}:A1B4", f"{THERE}:1E79"))


def test_the_connections_of_a_volume_are_told_from_those_of_others() -> None:
    said = (
        *FIRST,
        socket(f"{HERE}:1E78", "00000000:0000", "0A"),
        socket(f"{HERE}:9999", f"{OTHER}:1E79"),
        socket(f"{HERE}:9998", f"{THERE}:1E80"),
        "nonsense",
    )
    line = parse_line("\n".join(said), SPEC, "n1")
    assert line.mark is None
    assert line.ends == ("0B6433C6:41394 0C6433C6:7801", "0B6433C6:7800 0C6433C6:50000")


def test_connections_by_ipv6_are_known_too() -> None:
    there = msgspec.structs.replace(MEMBERS[1], address="2001:db8::2")
    spec = msgspec.structs.replace(SPEC, members=(MEMBERS[0], there))
    far = "B80D0120000000000000000002000000"
    line = parse_line(socket(f"{'0' * 32}:A1B2", f"{far}:1E79"), spec, "n1")
    assert len(line.ends) == 1


@pytest.mark.parametrize("mark", ["", "{}", "mark", "mark {", 'mark {"run":"a"}'])
def test_a_mark_that_cannot_be_read_is_none(mark: str) -> None:
    assert parse_line(mark, SPEC, "n1").mark is None


class Kernel:
    """A runner in front of DRBD and the kernel's table of sockets, as far as these tests go."""

    def __init__(self) -> None:
        self.replication = "Established"
        self.done = ""
        self.disk = self.peer_disk = "UpToDate"
        self.torn = 0
        self.connection = "Connected"
        self.differing_kib = 0
        self.sockets: Sequence[str] = FIRST
        self.mark = ""
        self.asked: list[str] = []

    async def run(
        self, argv: Sequence[str], *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        del timeout_s
        out = ""
        if tuple(argv) == LOOK:
            out = self.look()
            if self.torn:
                self.torn -= 1
                self.disk = "Outdated" if self.torn else "UpToDate"
        elif tuple(argv[: len(LINE)]) == LINE:
            mark = f"mark {self.mark}" if self.mark else ""
            out = "\n".join(filter(None, (mark, *self.sockets)))
        elif tuple(argv[: len(PUT)]) == PUT:
            self.mark = stdin.decode().strip()
        elif tuple(argv[: len(DRBDADM)]) == DRBDADM:
            words = list(argv[len(DRBDADM) :])
            self.asked.append(" ".join(words))
            if "verify" in words:
                self.replication, self.done = "VerifyS", " done:0.00"
            elif words[0] == "disconnect":
                self.replication, self.done, self.sockets = "Established", "", LATER
        elif argv[0] == "rm":
            self.mark = ""
        else:
            raise AssertionError(argv)
        return Execution(
            argv=tuple(argv),
            exit_status=0,
            stdout=out,
            stderr="",
            duration_ms=1.0,
            cause=cause,
            started_at=datetime(2026, 1, 1, tzinfo=UTC),
        )

    def look(self) -> str:
        note = Note(spec=SPEC, places=(Place(leg_bytes=68 * MIB, size_bytes=64 * MIB),))
        about = "name:hwbus-pg"
        return "\n".join(
            (
                "host h1",
                "==> /etc/drbd.d/hwbus-pg.res <==",
                f"# hwbus: {msgspec.json.encode(note).decode()}",
                "",
                "drbd 8.4.11 (api:1/proto:86-101)",
                f"exists resource {about} role:Secondary suspended:no",
                (
                    f"exists connection {about} conn-name:peer connection:{self.connection}"
                    " role:Secondary"
                ),
                f"exists device {about} volume:0 minor:1000 disk:{self.disk} size:65536",
                (
                    f"exists peer-device {about} conn-name:peer volume:0"
                    f" replication:{self.replication} peer-disk:{self.peer_disk}{self.done}"
                    f" out-of-sync:{self.differing_kib}"
                ),
                "exists -",
            )
        )


class Bench:
    """A comparison by whichever worker is alive."""

    def __init__(self) -> None:
        self.kernel = Kernel()

    def comparing(self) -> Comparing:
        roles = cast("Any", Roles.__new__(Roles))
        roles._begun_s = {}
        return Comparing(self.kernel, DrbdTools(self.kernel), roles, node="n1")

    def compare(self, run: str = "op") -> Comparison:
        return asyncio.run(self.comparing().compare("pg", "uid-pg", run, cause="event:1"))

    def broken(self, run: str = "op") -> str:
        with pytest.raises(UnsuitableError) as caught:
            self.compare(run)
        assert caught.value.reason == "verify-broken"
        return caught.value.sentence

    def goes(self, percent: str) -> None:
        self.kernel.done = f" done:{percent}"

    def ends(self, differing_kib: int = 0) -> None:
        self.kernel.replication, self.kernel.done = "Established", ""
        self.kernel.differing_kib = differing_kib


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_it_begins_at_the_first_block_once_and_says_how_far_it_is(bench: Bench) -> None:
    assert bench.compare() == Comparison(size_bytes=64 * MIB)
    assert bench.kernel.asked == ["-- --start=0 verify hwbus-pg"]
    bench.goes("25.00")
    assert bench.compare() == Comparison(size_bytes=64 * MIB, done_bytes=16 * MIB)
    bench.ends(differing_kib=4)
    for _ in range(2):
        whole = Comparison(
            size_bytes=64 * MIB, done_bytes=64 * MIB, differing_bytes=4096, done=True
        )
        assert bench.compare() == whole
    assert len(bench.kernel.asked) == 1


def test_one_that_somebody_else_began_is_waited_for_and_counts_for_nothing(bench: Bench) -> None:
    bench.kernel.replication = "VerifyS"
    bench.goes("90.00")
    assert bench.compare() == Comparison(size_bytes=64 * MIB)
    assert bench.kernel.asked == []
    bench.ends()
    assert not bench.compare().done
    bench.ends()
    assert bench.compare().done
    assert not bench.compare("another operation").done


def test_one_whose_connection_was_lost_and_is_back_did_not_come_to_its_end(bench: Bench) -> None:
    bench.compare()
    bench.ends()
    bench.kernel.sockets = LATER
    assert "was lost" in bench.broken()


def test_one_that_has_lost_its_peer_or_a_disk_is_broken(bench: Bench) -> None:
    bench.compare()
    bench.kernel.connection = "Connecting"
    assert "not connected" in bench.broken()
    bench.kernel.connection, bench.kernel.peer_disk = "Connected", "Diskless"
    assert "diskless" in bench.broken()


@pytest.mark.parametrize("times", [1, 2])
def test_a_disk_that_was_looked_at_before_its_resync_had_ended_is_looked_at_again(
    bench: Bench, times: int
) -> None:
    bench.kernel.disk, bench.kernel.torn = "Outdated", times
    if times == 1:
        assert not bench.compare().done
        assert bench.kernel.asked == ["-- --start=0 verify hwbus-pg"]
    else:
        assert "outdated" in bench.broken()


def test_nothing_is_compared_on_a_connection_that_cannot_be_seen(bench: Bench) -> None:
    bench.kernel.sockets = ()
    assert "not to be seen" in bench.broken()
    assert bench.kernel.asked == []


def test_who_stops_one_breaks_it_off_if_it_is_his_and_no_other(bench: Bench) -> None:
    bench.compare()

    async def stop(run: str) -> None:
        await bench.comparing().stop("pg", "uid-pg", run, cause="event:1")

    asyncio.run(stop("another operation"))
    assert bench.kernel.replication == "VerifyS"
    asyncio.run(stop("op"))
    assert bench.kernel.asked[1:] == ["disconnect hwbus-pg", "connect hwbus-pg"]
    assert bench.kernel.mark == ""
    asyncio.run(stop("op"))
    assert len(bench.kernel.asked) == 3


def test_what_is_noted_can_be_read_again(bench: Bench) -> None:
    bench.compare()
    mark = parse_line(f"mark {bench.kernel.mark}", SPEC, "n1").mark
    assert mark == Mark(run="op", ends=parse_line("\n".join(FIRST), SPEC, "n1").ends)
