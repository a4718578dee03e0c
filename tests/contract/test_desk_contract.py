"""What the desk promises, on the log in memory and on a real broker."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest

from hwbus.asking import ACTOR, COMMAND_ID, EXPECTED_VERSION
from hwbus.codec import commit_codec, hash_of
from hwbus.controller.storage import StorageDomain
from hwbus.desk import CommandDesk
from hwbus.identity import Mint, SystemClock
from hwbus.memory import MemoryLog, MemoryOutlet
from hwbus.parking import park
from hwbus.ports import (
    Call,
    EventLog,
    ForbiddenError,
    LogFullError,
    OutcomeUnknownError,
    Outlet,
    Stored,
)
from hwbus.record import Records
from hwbus.streams import AUDIT
from schemas.answers import Accepted, Answer, Refused, Undecided
from schemas.audit import ParkedRecord, RefusedRecord
from schemas.commit import Commit
from schemas.refusals import Refusal
from schemas.words import AnyEvent
from tests.support.nats import fresh_wires

CODEC = commit_codec(AnyEvent)


class Scene:
    """One log, one audit, and as many desks as a story needs."""

    def __init__(
        self, log: EventLog, outlet: Outlet, audit: Callable[[], "AsyncIterator[Stored]"]
    ) -> None:
        self.log = log
        self.outlet = outlet
        self._audit = audit
        self.desk = self.another_desk()

    def another_desk(self, log: EventLog | None = None) -> CommandDesk:
        return CommandDesk(
            StorageDomain(), log or self.log, self.outlet, CODEC, SystemClock(), Mint()
        )

    async def say(
        self,
        subject: str,
        body: object,
        *,
        desk: CommandDesk | None = None,
        **headers: str,
    ) -> Answer:
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        names = {name.replace("_", "-"): text for name, text in headers.items()}
        call = Call(f"hwbus.cmd.{subject}", data, {ACTOR: "alice", **names})
        return await (desk or self.desk).call(call)

    async def refusals(self) -> list[RefusedRecord]:
        found = [s async for s in self._audit() if ".refused." in s.subject]
        return [msgspec.json.decode(s.data, type=RefusedRecord) for s in found]

    async def parked(self) -> list[ParkedRecord]:
        found = [s async for s in self._audit() if ".parked." in s.subject]
        return [msgspec.json.decode(s.data, type=ParkedRecord) for s in found]

    async def commits(self, subject: str) -> list[Commit[AnyEvent]]:
        return [CODEC.decode(s.data) for s in await self.log.history(subject)]


@asynccontextmanager
async def in_memory() -> AsyncIterator[Scene]:
    clock, outlet = SystemClock(), MemoryOutlet()

    async def audit() -> AsyncIterator[Stored]:
        for number, kept in enumerate(outlet.under("hwbus.audit.>"), start=1):
            yield Stored(number, kept.subject, kept.data, clock.now())

    yield Scene(MemoryLog(clock), outlet, audit)


@asynccontextmanager
async def on_nats() -> AsyncIterator[Scene]:
    async with fresh_wires() as wires:
        log = wires.log_of(AUDIT.name)

        async def audit() -> AsyncIterator[Stored]:
            for seq in range(1, await log.head() + 1):
                stored = await log.get(seq)
                assert stored is not None
                yield stored

        yield Scene(wires.log, wires.outlet, audit)


Tale = Callable[[Scene], Awaitable[None]]
Play = Callable[[Tale], None]


@pytest.fixture(params=[in_memory, on_nats], ids=["memory", "nats"])
def play(request: pytest.FixtureRequest) -> Play:
    def run(tale: Tale) -> None:
        async def told() -> None:
            async with request.param() as scene:
                await tale(scene)

        asyncio.run(told())

    return run


def test_an_accepted_command_is_in_the_log_with_all_that_led_to_it(play: Play) -> None:
    async def tale(scene: Scene) -> None:
        answer = await scene.say("node.report-joined", {"node": "n1"}, Hwbus_Command_Id="c1")
        assert isinstance(answer, Accepted)
        assert (answer.seq, answer.version, answer.events) == (1, 1, ("node.joined.v1",))
        (commit,) = await scene.commits("hwbus.evt.node.-.n1")
        assert (commit.actor, commit.command, commit.word) == (
            "alice",
            "c1",
            "node.report-joined.v1",
        )
        assert bytes(commit.request) == b'{"type":"node.report-joined.v1","node":"n1"}'

    play(tale)


def test_each_commit_names_the_hash_of_the_one_before(play: Play) -> None:
    async def tale(scene: Scene) -> None:
        await scene.say("node.report-joined", {"node": "n1"})
        await scene.say("node.cordon", {"node": "n1"})
        first, second = await scene.log.history("hwbus.evt.node.-.n1")
        assert CODEC.decode(first.data).prev == ""
        assert CODEC.decode(second.data).prev == hash_of(first.data)

    play(tale)


def test_the_same_command_id_twice_is_one_decision(play: Play) -> None:
    async def tale(scene: Scene) -> None:
        first = await scene.say("node.report-joined", {"node": "n1"}, Hwbus_Command_Id="c1")
        again = await scene.say("node.report-joined", {"node": "n1"}, Hwbus_Command_Id="c1")
        assert isinstance(first, Accepted)
        assert isinstance(again, Accepted)
        assert (again.seq, again.version) == (first.seq, first.version)
        assert await scene.log.head() == 1

    play(tale)


def test_a_desk_that_was_not_there_remembers_all_the_same(play: Play) -> None:
    async def tale(scene: Scene) -> None:
        await scene.say("node.report-joined", {"node": "n1"}, Hwbus_Command_Id="c1")
        newcomer = scene.another_desk()
        body = {"node": "n1"}
        again = await scene.say("node.report-joined", body, desk=newcomer, Hwbus_Command_Id="c1")
        assert isinstance(again, Accepted)
        assert again.seq == 1
        assert await scene.log.head() == 1

    play(tale)


def test_a_command_id_used_for_something_else_is_refused(play: Play) -> None:
    async def tale(scene: Scene) -> None:
        await scene.say("node.report-joined", {"node": "n1"}, Hwbus_Command_Id="c1")
        answer = await scene.say("node.cordon", {"node": "n1"}, Hwbus_Command_Id="c1")
        assert isinstance(answer, Refused)
        assert answer.code is Refusal.COMMAND_ID_REUSED

    play(tale)


def test_of_two_desks_that_race_each_decision_sees_the_one_before(play: Play) -> None:
    async def tale(scene: Scene) -> None:
        await scene.say("node.report-joined", {"node": "n1"})
        desks = [scene.another_desk() for _ in range(3)]
        wishes = [
            scene.say(
                "node.report-joined",
                {"node": "n1", "zone": f"z{n}"},
                desk=desks[n % 3],
            )
            for n in range(12)
        ]
        answers = await asyncio.gather(*wishes)
        accepted = [a for a in answers if isinstance(a, Accepted)]
        refused = [a for a in answers if isinstance(a, Refused)]
        assert {a.code for a in refused} <= {Refusal.CONTENDED}
        commits = await scene.commits("hwbus.evt.node.-.n1")
        assert [c.version for c in commits] == list(range(1, len(accepted) + 2))

    play(tale)


def test_a_desk_that_lags_does_not_refuse_what_is_so_by_now(play: Play) -> None:
    async def tale(scene: Scene) -> None:
        await scene.say("node.report-joined", {"node": "n1"})
        lagging = scene.another_desk()
        answer = await scene.say("node.cordon", {"node": "n1"}, desk=lagging)
        assert isinstance(answer, Accepted)
        await scene.say("node.uncordon", {"node": "n1"})
        again = await scene.say("node.cordon", {"node": "n1"}, desk=lagging)
        assert isinstance(again, Accepted)
        assert again.events == ("node.cordoned.v1",)

    play(tale)


def test_a_stale_expectation_is_refused_and_changes_nothing(play: Play) -> None:
    async def tale(scene: Scene) -> None:
        await scene.say("node.report-joined", {"node": "n1"})
        stale = await scene.say("node.cordon", {"node": "n1"}, Hwbus_Expected_Version="7")
        assert isinstance(stale, Refused)
        assert stale.code is Refusal.STALE_VERSION
        assert await scene.log.head() == 1
        right = await scene.say("node.cordon", {"node": "n1"}, Hwbus_Expected_Version="1")
        assert isinstance(right, Accepted)

    play(tale)


def test_what_a_desk_has_forgotten_it_reads_again(play: Play) -> None:
    """Nodes that were removed are over; with room for one, the first is forgotten."""

    async def tale(scene: Scene) -> None:
        scene.desk._records = Records(over_max=1)
        operations = []
        for node in ("n1", "n2"):
            await scene.say("node.report-joined", {"node": node}, Hwbus_Command_Id=f"join-{node}")
            begun = await scene.say("node.remove", {"node": node})
            assert isinstance(begun, Accepted)
            ended = {"operation": begun.operation, "kind": "node-remove", "object": node}
            await scene.say(
                "operation.report-started", {**ended, "deadline": "2030-01-01T00:00:00Z"}
            )
            outcome = {"operation": begun.operation, "outcome": "completed"}
            await scene.say("operation.report-concluded", outcome)
            operations.append(begun.operation)
        assert len(scene.desk._records) == 3
        again = await scene.say("operation.cancel", {"operation": operations[0]})
        assert isinstance(again, Refused)
        assert again.code is Refusal.OPERATION_ENDED

    play(tale)


BAD = [
    ("volume.provision", b"{bad", Refusal.MALFORMED),
    ("volume.provision", b"", Refusal.MALFORMED),
    ("volume.provision", b"\xff\xfe", Refusal.MALFORMED),
    ("volume.provision", b"[1]", Refusal.MALFORMED),
    ("volume.provision", {"volume": "a"}, Refusal.MALFORMED),
    ("volume.provision", {"volume": "a", "size_bytes": "1GiB"}, Refusal.MALFORMED),
    ("volume.provision", {"volume": "a", "size_bytes": -1}, Refusal.MALFORMED),
    ("volume.provision", {"volume": "a", "size_bytes": 0}, Refusal.MALFORMED),
    ("volume.provision", {"volume": "a", "size_bytes": 1 << 62}, Refusal.MALFORMED),
    ("volume.provision", {"volume": "a", "size_bytes": 1.5}, Refusal.MALFORMED),
    ("volume.provision", {"volume": "a", "size_bytes": 1, "colour": "red"}, Refusal.MALFORMED),
    ("volume.provision", b'{"volume":"a","volume":"b","size_bytes":1}', Refusal.MALFORMED),
    ("volume.provision", {"volume": "a.b", "size_bytes": 1}, Refusal.BAD_NAME),
    ("volume.provision", {"volume": "*", "size_bytes": 1}, Refusal.BAD_NAME),
    ("volume.provision", {"volume": ">", "size_bytes": 1}, Refusal.BAD_NAME),
    ("volume.provision", {"volume": "a b", "size_bytes": 1}, Refusal.BAD_NAME),
    ("volume.provision", {"volume": "a\n", "size_bytes": 1}, Refusal.BAD_NAME),
    ("volume.provision", {"volume": "", "size_bytes": 1}, Refusal.BAD_NAME),
    ("volume.provision", {"volume": "x" * 10_240, "size_bytes": 1}, Refusal.BAD_NAME),
    ("volume.provision", {"volume": 7, "size_bytes": 1}, Refusal.BAD_NAME),
    ("volume.provision", {"volume": "a", "size_bytes": 1, "node": "B"}, Refusal.BAD_NAME),
    ("pool.form", {"pool": "p", "node": "n", "disks": ["a/b"]}, Refusal.BAD_NAME),
    ("volume.provision", b" " * 70_000, Refusal.TOO_LARGE),
    ("volume.frobnicate", {}, Refusal.UNKNOWN_COMMAND),
    ("teapot.brew", {}, Refusal.UNKNOWN_COMMAND),
    ("volume.a.b.c", {}, Refusal.BAD_NAME),
    ("volume.grow", {"volume": "nobody", "size_bytes": 1}, Refusal.UNKNOWN_VOLUME),
    ("volume.delete", {"volume": "nobody"}, Refusal.UNKNOWN_VOLUME),
    ("pool.remove", {"pool": "p", "node": "nobody"}, Refusal.UNKNOWN_POOL),
    ("pool.form", {"pool": "p", "node": "nobody", "disks": ["d"]}, Refusal.UNKNOWN_NODE),
    ("disk.reserve", {"disk": "nobody"}, Refusal.UNKNOWN_DISK),
    ("operation.cancel", {"operation": "0" * 26}, Refusal.UNKNOWN_OPERATION),
    ("node.cordon", {"node": "nobody"}, Refusal.UNKNOWN_NODE),
]


def test_bad_input_gets_its_code_and_an_audit_record_and_changes_nothing(play: Play) -> None:
    async def tale(scene: Scene) -> None:
        for number, (subject, body, code) in enumerate(BAD):
            answer = await scene.say(subject, body, Hwbus_Command_Id=f"bad{number}")
            assert isinstance(answer, Refused), (subject, body, answer)
            assert answer.code is code, (subject, body, answer)
            assert answer.because
            assert answer.fix
        assert await scene.log.head() == 0
        kept = await scene.refusals()
        assert [r.code for r in kept] == [code for _, _, code in BAD]
        assert {r.actor for r in kept} == {"alice"}
        assert all("regex" not in r.because for r in kept)
        names = [r.because for r in kept if r.code is Refusal.BAD_NAME]
        assert names[:2] == ["volume 'a.b' is no name", "volume '*' is no name"]
        assert "disks[0] 'a/b' is no name" in names
        assert max(map(len, names)) < 120

    play(tale)


def test_a_bad_header_is_refused(play: Play) -> None:
    async def tale(scene: Scene) -> None:
        for name, text in ((COMMAND_ID, "a b"), (ACTOR, "x" * 200), (EXPECTED_VERSION, "soon")):
            call = Call("hwbus.cmd.node.cordon", b'{"node":"n1"}', {name: text})
            answer = await scene.desk.call(call)
            assert isinstance(answer, Refused)
            assert answer.code is Refusal.BAD_HEADER
            assert name in answer.because
        kept = await scene.refusals()
        assert [record.code for record in kept] == [Refusal.BAD_HEADER] * 3
        assert {record.actor for record in kept} == {"anonymous"}

    play(tale)


def test_a_report_of_nothing_new_is_accepted_and_not_recorded(play: Play) -> None:
    async def tale(scene: Scene) -> None:
        await scene.say("node.report-joined", {"node": "n1"})
        answer = await scene.say("node.report-joined", {"node": "n1"})
        assert isinstance(answer, Accepted)
        assert answer.events == ()
        assert await scene.log.head() == 1

    play(tale)


def test_a_message_nobody_can_read_is_parked_and_holds_up_nobody(play: Play) -> None:
    async def tale(scene: Scene) -> None:
        await scene.log.append("hwbus.evt.node.-.n1", b"garbage", after=0, message_id="g")
        newcomer = scene.another_desk()
        answer = await scene.say("node.report-joined", {"node": "n1"}, desk=newcomer)
        assert isinstance(answer, Accepted)
        assert answer.seq == 2
        follower = aiter(scene.another_desk().follow())
        # What nobody can read may come by itself, and leaves a stretch with nothing in it.
        stretches = [await anext(follower)]
        while not stretches[-1]:
            stretches.append(await anext(follower))
        assert [one.seq for stretch in stretches for one in stretch] == [2]
        await follower.aclose()  # type: ignore[attr-defined]
        parked = await scene.parked()
        assert {(p.seq, p.consumer, p.data) for p in parked} == {(1, "desk", "garbage")}

    play(tale)


class LosesAnswers:
    """A log that stores, and then does not say so."""

    def __init__(self, log: EventLog, *, stores: bool) -> None:
        self._log = log
        self._stores = stores

    async def append(self, subject: str, data: bytes, *, after: int, message_id: str) -> int:
        if self._stores:
            await self._log.append(subject, data, after=after, message_id=message_id)
        raise OutcomeUnknownError("no answer in time")

    async def last(self, subject: str) -> Stored | None:
        return await self._log.last(subject)

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)


def test_when_the_answer_is_lost_the_log_is_asked_what_is_so(play: Play) -> None:
    async def tale(scene: Scene) -> None:
        deaf = scene.another_desk(LosesAnswers(scene.log, stores=True))  # type: ignore[arg-type]
        answer = await scene.say("node.report-joined", {"node": "n1"}, desk=deaf)
        assert isinstance(answer, Accepted)
        assert answer.seq == 1

    play(tale)


def test_when_nobody_knows_the_answer_is_undecided_and_may_be_repeated(play: Play) -> None:
    async def tale(scene: Scene) -> None:
        cut_off = scene.another_desk(LosesAnswers(scene.log, stores=False))  # type: ignore[arg-type]
        body = {"node": "n1"}
        answer = await scene.say("node.report-joined", body, desk=cut_off, Hwbus_Command_Id="c1")
        assert isinstance(answer, Undecided)
        again = await scene.say("node.report-joined", body, Hwbus_Command_Id="c1")
        assert isinstance(again, Accepted)

    play(tale)


class Troubled:
    """An outlet, or a log to append to, that takes nothing."""

    def __init__(self, trouble: Exception, log: EventLog | None = None) -> None:
        self._trouble = trouble
        self._log = log

    async def keep(self, *_: object, **__: object) -> None:
        raise self._trouble

    async def append(self, *_: object, **__: object) -> int:
        raise self._trouble

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)


TROUBLES = pytest.mark.parametrize(
    "trouble",
    [LogFullError("it is full"), ForbiddenError("it may not"), OutcomeUnknownError("silence")],
    ids=["full", "forbidden", "silent"],
)


@TROUBLES
def test_a_refusal_that_the_audit_does_not_take_is_undecided(trouble: Exception) -> None:
    async def tale() -> None:
        async with in_memory() as scene:
            scene.outlet = Troubled(trouble)
            desk = scene.another_desk()
            for subject in ("node.cordon", "node.nonsense", "no command"):
                answer = await scene.say(subject, {"node": "n1"}, desk=desk)
                assert isinstance(answer, Undecided)
                assert f"the audit could not be written: {trouble}" in answer.because

    asyncio.run(tale())


@TROUBLES
def test_a_decision_that_the_log_does_not_take_is_undecided(trouble: Exception) -> None:
    async def tale() -> None:
        async with in_memory() as scene:
            desk = scene.another_desk(Troubled(trouble, scene.log))  # type: ignore[arg-type]
            answer = await scene.say("node.report-joined", {"node": "n1"}, desk=desk)
            assert isinstance(answer, Undecided)
            assert str(trouble) in answer.because

    asyncio.run(tale())


@TROUBLES
def test_parking_what_the_audit_does_not_take_holds_up_nobody(trouble: Exception) -> None:
    async def tale() -> None:
        stored = Stored(7, "hwbus.evt.node.-.n1", b"garbage", SystemClock().now())
        await park(Troubled(trouble), SystemClock(), "desk", stored, "no commit")

    asyncio.run(tale())
