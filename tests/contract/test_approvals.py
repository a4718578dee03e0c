"""Four eyes at the desk: two actors, two desks, and those who try to go round it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from hwbus.asking import ACTOR, COMMAND_ID
from hwbus.controller.counter import Counter
from hwbus.desk import CommandDesk
from hwbus.identity import SystemClock
from hwbus.streams import AUDIT
from schemas.answers import Accepted, Answer, Refused
from schemas.approval import ApprovalRequested, ApprovalUsed
from schemas.audit import RefusedRecord
from schemas.policy import PolicyChanged
from schemas.refusals import Refusal
from tests.contract.test_desk_contract import Play, Scene, in_memory, on_nats
from tests.support.nats import fresh_wires

GUARD = {"protection": "guard", "spec": {"kinds": ["policy"]}}
POLICY = {"policy": "out", "spec": {"kind": "drain-disks"}}
PAUSE = {"policy": "out", "because": "moving"}
ID = "0" * 26
ABOUT = {"policy": "compare", "uid": ID, "object": "volume/pg"}
DUE = {**ABOUT, "seq": 1}
REPAIR = {"type": "volume.verify.v1", "volume": "pg", "repair": True}
BY = {"schedule": "s", "uid": ID, "due": "2026-01-01T00:00:00Z"}


@pytest.fixture(params=[in_memory, on_nats], ids=["memory", "nats"])
def play(request: pytest.FixtureRequest) -> Play:
    def run(tale: Callable[[Scene], Awaitable[None]]) -> None:
        async def told() -> None:
            async with request.param() as scene:
                await tale(scene)

        asyncio.run(told())

    return run


async def furnish(scene: Scene) -> None:
    """Have a policy, and a protection of all policies."""
    for subject, body in (("policy.set", POLICY), ("protection.set", GUARD)):
        assert isinstance(await scene.say(subject, body), Accepted)


def request_of(answer: Answer) -> str:
    """Return the request that a refused command has left behind."""
    assert isinstance(answer, Refused), answer
    assert answer.code is Refusal.NEEDS_APPROVAL, answer
    return answer.because.rpartition(" ")[2]


async def said(
    scene: Scene, actor: str, subject: str, body: object, id_: str = "", desk: Any = None
) -> Answer:
    headers = {ACTOR: actor, **({COMMAND_ID: id_} if id_ else {})}
    return await scene.say(subject, body, desk=desk, **headers)


def test_one_asks_another_approves_and_it_is_done_once(play: Play) -> None:
    async def tale(scene: Scene) -> None:
        await furnish(scene)
        request = request_of(await said(scene, "alice", "policy.pause", PAUSE, "a1"))
        assert request_of(await said(scene, "alice", "policy.pause", PAUSE)) == request
        no = await said(scene, "alice", "approval.approve", {"approval": request})
        assert isinstance(no, Refused)
        assert no.code is Refusal.SAME_ACTOR
        await said(scene, "bob", "approval.approve", {"approval": request})
        assert request_of(await said(scene, "bob", "policy.pause", PAUSE)) != request
        yes = await said(scene, "alice", "policy.pause", PAUSE, "a1")
        assert isinstance(yes, Accepted)
        assert yes.events == ("policy.paused.v1",)
        assert await said(scene, "alice", "policy.pause", PAUSE, "a1") == msgspec.structs.replace(
            yes, events=()
        )
        await said(scene, "alice", "policy.resume", {"policy": "out"})
        assert request_of(await said(scene, "alice", "policy.pause", PAUSE)) == request

        told = await scene.commits(f"hwbus.evt.approval.-.{request}")
        assert [type(e).__name__ for commit in told for e in commit.events] == [
            "ApprovalRequested",
            "ApprovalGiven",
            "ApprovalUsed",
            "ApprovalRequested",
        ]
        assert [commit.actor for commit in told] == ["alice", "bob", "alice", "alice"]
        assert told[2].cause == "command:a1"
        asked = told[0].events[0]
        assert isinstance(asked, ApprovalRequested)
        assert msgspec.json.decode(asked.request) == {"type": "policy.pause.v1", **PAUSE}
        codes = [r.code for r in await scene.refusals()]
        assert codes.count(Refusal.NEEDS_APPROVAL) == 4

    play(tale)


def test_of_two_that_use_one_approval_at_two_desks_at_once_one_is_let_through(play: Play) -> None:
    async def tale(scene: Scene) -> None:
        await furnish(scene)
        request = request_of(await said(scene, "alice", "policy.pause", PAUSE))
        await said(scene, "bob", "approval.approve", {"approval": request})
        other = scene.another_desk()
        await _catch_up(other, scene)
        answers = await asyncio.gather(
            *(
                said(scene, "alice", "policy.pause", PAUSE, f"c{n}", desk)
                for n, desk in enumerate((scene.desk, other) * 3)
            )
        )
        assert len([a for a in answers if isinstance(a, Accepted) and a.events]) == 1
        told = await scene.commits(f"hwbus.evt.approval.-.{request}")
        used = [e for c in told for e in c.events if isinstance(e, ApprovalUsed)]
        assert len(used) == 1

    play(tale)


def test_a_desk_that_dies_between_the_use_and_the_act_lets_the_same_id_through_elsewhere(
    play: Play,
) -> None:
    async def tale(scene: Scene) -> None:
        await furnish(scene)
        request = request_of(await said(scene, "alice", "policy.pause", PAUSE))
        await said(scene, "bob", "approval.approve", {"approval": request})
        dying = scene.another_desk(_DiesAt(scene.log, "hwbus.evt.policy.-.out"))
        await _catch_up(dying, scene)
        with pytest.raises(_DiedError):
            await said(scene, "alice", "policy.pause", PAUSE, "a1", dying)
        heir = scene.another_desk()
        await _catch_up(heir, scene)
        request_of(await said(scene, "alice", "policy.pause", PAUSE, "a2", heir))
        yes = await said(scene, "alice", "policy.pause", PAUSE, "a1", heir)
        assert isinstance(yes, Accepted)
        assert yes.events == ("policy.paused.v1",)

    play(tale)


STEPS: tuple[tuple[str, dict[str, object]], ...] = (
    ("replica.remove", {"volume": "pg", "node": "n1", "operation": "0" * 26}),
    ("pool.tear-down", {"pool": "fast", "node": "n1", "operation": "0" * 26}),
    ("replica.merge", {"volume": "pg", "node": "n1", "operation": "0" * 26}),
    (
        "approval.claim",
        {
            "approval": "0" * 26,
            "command": "c",
            "word": "w",
            "request": "{}",
            "objects": [],
            "protections": [],
            "waits_s": 1,
            "good_for_s": 1,
        },
    ),
)


@pytest.mark.parametrize(("subject", "body"), STEPS, ids=[subject for subject, _ in STEPS])
def test_a_step_of_an_operation_is_nobodys_to_say_over_the_bus(
    subject: str, body: dict[str, object]
) -> None:
    async def tale() -> None:
        async with in_memory() as scene:
            answer = await scene.say(subject, body)
            assert isinstance(answer, Refused)
            assert answer.code is Refusal.STEP_FROM_OUTSIDE
            assert await scene.log.head() == 0

    asyncio.run(tale())


FROM_WITHIN: tuple[tuple[str, dict[str, object], str], ...] = (
    ("policy.report-due", {**DUE, "wish": REPAIR}, "policy.report-due"),
    ("policy.report-answered", {**ABOUT, "number": 1}, "policy.report-answered"),
    (
        "schedule.report-run",
        {"schedule": "s", "uid": ID, "due": "2999-01-01T00:00:00Z", "snapshot": "x"},
        "schedule.report-run",
    ),
    ("volume.report-leg-removed", {"volume": "pg", "uid": ID}, "volume.report-leg-removed"),
    ("snapshot.create", {"snapshot": "x", "volume": "pg", "by": BY}, "by of snapshot.create.v1"),
    ("group.snapshot", {"group": "shop", "snapshot": "x", "by": BY}, "by of group.snapshot.v1"),
    ("snapshot.delete", {"snapshot": "x", "operation": ID}, "operation of snapshot.delete.v1"),
    ("volume.add-replica", {"volume": "pg", "made_on": "n1"}, "made_on of volume.add-replica.v1"),
    ("volume.add-replica", {"volume": "pg", "made_in": "hd"}, "made_in of volume.add-replica.v1"),
)


@pytest.mark.parametrize(("subject", "body", "what"), FROM_WITHIN, ids=lambda one: str(one)[:40])
def test_what_the_control_plane_says_and_sets_by_itself_is_nobody_elses_to_say(
    subject: str, body: dict[str, object], what: str
) -> None:
    async def tale() -> None:
        async with in_memory() as scene:
            for actor in ("mallory", "hwbus", "policy:compare", "schedule:s"):
                answer = await said(scene, actor, subject, body)
                assert isinstance(answer, Refused), answer
                assert answer.code is Refusal.STEP_FROM_OUTSIDE
                assert what in answer.because
            assert await scene.log.head() == 0

    asyncio.run(tale())


def test_a_repair_that_takes_two_is_not_had_from_a_policy_that_only_compares() -> None:
    async def tale() -> None:
        async with in_memory() as scene:
            spec = {"kind": "verify-replicas", "rhythm": {"every_s": 86_400}, "at_once": 1}
            body = {"policy": "compare", "spec": spec}
            assert isinstance(await scene.say("policy.set", body), Accepted)
            [commit] = await scene.commits("hwbus.evt.policy.-.compare")
            [changed] = commit.events
            assert isinstance(changed, PolicyChanged)
            head = await scene.log.head()
            await said(
                scene, "mallory", "policy.report-due", {**DUE, "uid": changed.uid, "wish": REPAIR}
            )
            assert await scene.log.head() == head

    asyncio.run(tale())


def test_who_publishes_straight_to_the_broker_comes_past_the_same_desk() -> None:
    async def tale() -> None:
        async with fresh_wires() as wires:
            scene = Scene(wires.log, wires.outlet, _no_audit)
            await furnish(scene)
            counter = Counter(scene.desk, wires.bus, wires.inbox(), wires.outlet, SystemClock())
            body = msgspec.json.encode(PAUSE)
            async with counter.open("0.0.0"):
                for headers in ({}, {ACTOR: "hwbus"}, {ACTOR: "policy:out"}, {"Within": "true"}):
                    data = await wires.bus.request(
                        "hwbus.cmd.policy.pause", body, headers=headers, timeout_s=5
                    )
                    request_of(msgspec.json.decode(data, type=Answer))
                await wires.bus.publish("hwbus.cmd.policy.pause", body)
                await wires.outlet.keep(
                    "hwbus.submit.policy.pause", body, message_id="s1", headers={ACTOR: "mallory"}
                )
                await _until_refused(wires.log_of(AUDIT.name), 6)
            told = await scene.commits("hwbus.evt.policy.-.out")
            assert [commit.word for commit in told] == ["policy.set.v1"]

    asyncio.run(tale())


async def _no_audit() -> Any:  # pragma: no cover - the scene is not asked for it
    return
    yield


async def _until_refused(audit: Any, count: int) -> None:
    """Wait until so many refusals for want of an approval are on the audit."""
    seen = 0
    async with asyncio.timeout(10), audit.follow(after=0, subjects=("hwbus.audit.>",)) as batches:
        async for batch in batches:
            for stored in batch:
                assert stored.subject == "hwbus.audit.refused.policy"
                record = msgspec.json.decode(stored.data, type=RefusedRecord)
                assert record.code is Refusal.NEEDS_APPROVAL
                seen += 1
            if seen >= count:
                return


class _DiedError(Exception):
    """The process is gone."""


class _DiesAt:
    """A log whose user dies as it appends to one subject."""

    def __init__(self, log: Any, subject: str) -> None:
        self._log = log
        self._subject = subject

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def append(self, subject: str, data: bytes, *, after: int, message_id: str) -> int:
        if subject == self._subject:
            raise _DiedError
        seq: int = await self._log.append(subject, data, after=after, message_id=message_id)
        return seq


async def _catch_up(desk: CommandDesk, scene: Scene) -> None:
    head = await scene.log.head()
    if desk.position >= head:
        return
    story = desk.follow()
    async for _ in story:
        if desk.position >= head:
            break
    await story.aclose()  # type: ignore[attr-defined]


def test_pruning_the_audit_takes_two_where_it_is_protected(play: Play) -> None:
    async def tale(scene: Scene) -> None:
        guard = {"protection": "guard", "spec": {"kinds": ["trail"], "acts": ["trail.prune"]}}
        assert isinstance(await scene.say("protection.set", guard), Accepted)
        about = {"trail": "audit", "until": 8, "root": "a" * 64, "frontier": ["a" * 64]}
        prune = {**about, "place": "s3://b/p", "newest": "2020-01-01T00:00:00Z"}
        request = request_of(await said(scene, "ada", "trail.prune", prune))
        yes = await said(scene, "bob", "approval.approve", {"approval": request})
        assert isinstance(yes, Accepted)
        further = request_of(await said(scene, "ada", "trail.prune", {**prune, "until": 9}))
        assert further != request
        assert isinstance(await said(scene, "ada", "trail.prune", prune), Accepted)

    play(tale)
