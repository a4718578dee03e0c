"""The law of four eyes, in every order: nothing covered is done that another did not allow."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from hwbus.asking import ACTOR, COMMAND_ID
from hwbus.controller.approvals import Approvals
from hwbus.controller.storage import StorageDomain
from hwbus.desk import CommandDesk
from hwbus.identity import Mint
from hwbus.memory import MemoryLog, MemoryOutlet
from hwbus.ports import Call
from schemas.answers import Accepted, Answer, Refused
from schemas.approval import ApprovalExpired, ApprovalGiven, ApprovalRequested, ApprovalUsed
from schemas.commit import Commit
from schemas.grammar import type_name
from schemas.policy import PolicyPaused, PolicyRemoved
from schemas.protection import ProtectionChanged, ProtectionRemoved
from schemas.refusals import Refusal
from tests.contract.test_desk_contract import CODEC
from tests.support.given import NOON

ACTORS = ("alice", "bob", "carol")
WAITS_S, GOOD_FOR_S = 1000, 300
SPEC = {"kinds": ["policy"], "waits_s": WAITS_S, "good_for_s": GOOD_FOR_S}
# Each of them is covered while there is the protection.
COVERED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("policy.pause", {"policy": "p0"}),
    ("policy.pause", {"policy": "p1"}),
    ("policy.remove", {"policy": "p1"}),
    ("protection.set", {"protection": "guard", "spec": {**SPEC, "waits_s": 2000}}),
    ("protection.set", {"protection": "guard", "spec": SPEC}),
    ("protection.remove", {"protection": "guard"}),
)
FREE: tuple[tuple[str, dict[str, Any]], ...] = (
    ("policy.resume", {"policy": "p0"}),
    ("policy.resume", {"policy": "p1"}),
    ("policy.set", {"policy": "p1", "spec": {"kind": "drain-disks"}}),
)
Step = tuple[str, Any, Any, Any]


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = NOON

    def now(self) -> datetime:
        """Return what it shows."""
        return self.time


class DiedError(Exception):
    """The process of a desk is gone."""


class Mortal(MemoryLog):
    """A log whose user can be made to die as it appends what an approval was used for."""

    dies = False

    async def append(self, subject: str, data: bytes, *, after: int, message_id: str) -> int:
        """As ``EventLog.append``, if nobody dies of it."""
        if self.dies and not subject.startswith("hwbus.evt.approval."):
            self.dies = False
            raise DiedError
        return await super().append(subject, data, after=after, message_id=message_id)


class House:
    """One log, two desks that read it whenever somebody has them to, and a clock."""

    def __init__(self) -> None:
        self.clock = Hand()
        self.log = Mortal(self.clock)
        self.mint = Mint(self.clock)
        self.requests: list[str] = []
        self.domains = [StorageDomain(), StorageDomain()]
        self.desks = [self._desk(0), self._desk(1)]

    def _desk(self, number: int) -> CommandDesk:
        domain = self.domains[number] = StorageDomain()
        return CommandDesk(domain, self.log, MemoryOutlet(), CODEC, self.clock, self.mint)

    async def look(self) -> None:
        """Have what is over noted."""
        await Approvals(self.desks[0], self.domains[0].world, self.clock, self.mint).look()

    async def say(
        self, actor: str, subject: str, body: dict[str, Any], *, id_: str = "", desk: int = 0
    ) -> Answer | None:
        """Say it at one of the desks, and remember the request that it left behind."""
        headers = {ACTOR: actor, **({COMMAND_ID: id_} if id_ else {})}
        call = Call(f"hwbus.cmd.{subject}", msgspec.json.encode(body), headers)
        try:
            answer = await self.desks[desk].call(call)
        except DiedError:
            self.desks[desk] = self._desk(desk)
            await self.read(desk)
            return None
        if isinstance(answer, Refused) and answer.code is Refusal.NEEDS_APPROVAL:
            self.requests.append(answer.because.rpartition(" ")[2])
        return answer

    async def read(self, desk: int) -> None:
        """Have a desk take in what the other has written."""
        head = await self.log.head()
        if self.desks[desk].position < head:
            story: Any = self.desks[desk].follow()
            async for _ in story:
                if self.desks[desk].position >= head:
                    break
            await story.aclose()

    async def commits(self) -> list[tuple[str, Commit[Any]]]:
        """Return all that was recorded, each with its subject."""
        found = [await self.log.get(seq) for seq in range(1, await self.log.head() + 1)]
        return [(one.subject, CODEC.decode(one.data)) for one in found if one is not None]


async def furnished() -> House:
    house = House()
    for name in ("p0", "p1"):
        kind = {"p0": "drain-disks", "p1": "grow-snapshots"}[name]
        more = {"threshold_percent": 80, "step_percent": 20} if name == "p1" else {}
        spec = {"kind": kind, **more}
        assert isinstance(await house.say("root", "policy.set", _set(name, spec)), Accepted)
    guard = {"protection": "guard", "spec": SPEC}
    assert isinstance(await house.say("root", "protection.set", guard), Accepted)
    await house.read(1)
    return house


def _set(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"policy": name, "spec": spec}


turns = st.tuples(
    st.just("turn"),
    st.sampled_from(ACTORS),
    st.sampled_from(COVERED),
    st.tuples(
        st.sampled_from(["", "k1"]),
        st.booleans(),
        st.sampled_from([0, 299, 300]),
        st.sampled_from([0, 1, 300]),
    ),
)
steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("say"),
            st.sampled_from(ACTORS),
            st.sampled_from(COVERED),
            st.sampled_from(["", "", "k1", "k2"]),
        ),
        st.tuples(st.just("say"), st.sampled_from(ACTORS), st.sampled_from(FREE), st.just("")),
        st.tuples(
            st.sampled_from(["approve", "approve", "approve", "reject"]),
            st.sampled_from((*ACTORS, "anonymous")),
            st.integers(0, 5),
            st.none(),
        ),
        st.tuples(st.just("repeat"), st.integers(0, 5), st.none(), st.none()),
        turns,
        turns,
        turns,
        st.tuples(st.just("wait"), st.sampled_from([1, 299, 300, 1000]), st.none(), st.none()),
        st.tuples(st.just("read"), st.none(), st.none(), st.none()),
        st.tuples(st.just("look"), st.none(), st.none(), st.none()),
    ),
    max_size=30,
)
both = st.lists(st.integers(0, 1), min_size=30, max_size=30)


async def played(house: House, story: list[Step], desks: list[int]) -> None:
    refused: list[tuple[str, str, dict[str, Any], str]] = []
    for (what, a, b, c), desk in zip(story, desks, strict=False):
        match what:
            case "say":
                refused += await spoken(house, a, b, c, desk)
            case "turn":
                await turned(house, a, b, c, desk)
            case "repeat" if refused:
                actor, subject, body, id_ = refused[-1 - a % len(refused)]
                await house.say(actor, subject, body, id_=id_, desk=desk)
            case "approve" | "reject" if house.requests:
                request = house.requests[-1 - b % len(house.requests)]
                await house.say(a, f"approval.{what}", {"approval": request}, desk=desk)
            case "wait":
                house.clock.time += timedelta(seconds=a)
            case "read":
                await house.read(desk)
            case "look":
                await house.look()
            case _:
                pass


async def spoken(
    house: House, actor: str, wish: tuple[str, dict[str, Any]], id_: str, desk: int
) -> list[tuple[str, str, dict[str, Any], str]]:
    """Say it, and return it if it was refused."""
    answer = await house.say(actor, *wish, id_=id_, desk=desk)
    if isinstance(answer, Accepted) and wish[0] == "protection.set":
        # Until a desk has read of a new protection, it does not know of it.
        await house.read(1 - desk)
    return [(actor, *wish, id_)] if isinstance(answer, Refused) else []


async def turned(
    house: House,
    actor: str,
    wish: tuple[str, dict[str, Any]],
    how: tuple[str, bool, int, int],
    desk: int,
) -> None:
    """Ask, be allowed, say it, perhaps die of that, and try the same again, and again."""
    id_, dies, before_s, after_s = how
    await house.say(actor, *wish, id_=id_, desk=desk)
    if house.requests:
        other = ACTORS[(ACTORS.index(actor) + 1) % len(ACTORS)]
        body = {"approval": house.requests[-1]}
        await house.say(other, "approval.approve", body, desk=desk)
    house.clock.time += timedelta(seconds=before_s)
    house.log.dies = dies
    await house.say(actor, *wish, id_=id_, desk=desk)
    house.log.dies = False
    house.clock.time += timedelta(seconds=after_s)
    for free in FREE[:2]:
        await house.say(actor, *free, desk=desk)
    for again in (id_, ""):
        await house.say(actor, *wish, id_=again, desk=desk)
    await house.read(1 - desk)


def judged(commits: list[tuple[str, Commit[Any]]]) -> int:
    """Check each commit by the log alone; return how many covered ones were let through."""
    guarded, done = False, 0
    asked: dict[str, ApprovalRequested] = {}
    given_: dict[tuple[str, int], ApprovalGiven] = {}
    free: dict[str, tuple[datetime, str, str]] = {}
    for subject, commit in commits:
        for event in commit.events:
            match event:
                case ApprovalRequested():
                    assert event.actor == commit.actor
                    asked[event.approval] = event
                case ApprovalGiven():
                    wish = asked[event.approval]
                    assert event.by == commit.actor != wish.actor
                    assert event.round == wish.round
                    assert commit.at < wish.until
                    given_[event.approval, event.round] = event
                case ApprovalUsed():
                    yes = given_.pop((event.approval, event.round))
                    wish = asked[event.approval]
                    assert commit.at < yes.until <= commit.at + timedelta(seconds=GOOD_FOR_S)
                    assert commit.actor == wish.actor
                    # Whose desk died, and who came too late with the same id, may be allowed anew.
                    assert event.command not in free or free[event.command][0] <= commit.at
                    free[event.command] = (yes.until, wish.request, wish.actor)
                case PolicyPaused() | PolicyRemoved() | ProtectionRemoved() if guarded:
                    done += _was_allowed(commit, free)
                case ProtectionChanged() if guarded:
                    done += _was_allowed(commit, free)
                case _:
                    pass
        if subject == "hwbus.evt.protection.-.guard":
            guarded = not isinstance(commit.events[-1], ProtectionRemoved)
    return done


def _was_allowed(commit: Commit[Any], free: dict[str, tuple[datetime, str, str]]) -> int:
    until, request, actor = free.pop(commit.command)
    assert commit.at < until
    assert (bytes(commit.request).decode(), commit.actor) == (request, actor)
    return 1


def run(tale: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(tale())  # type: ignore[arg-type]


@given(steps, both)
@settings(deadline=None)
def test_nothing_covered_is_done_without_an_unused_unexpired_approval_of_another(
    story: list[Step], desks: list[int]
) -> None:
    async def tale() -> None:
        house = await furnished()
        await played(house, story, desks)
        judged(await house.commits())
        assert all(desk.counters.parked == 0 for desk in house.desks)

    run(tale)


def test_the_law_is_not_kept_by_doing_nothing() -> None:
    async def tale() -> None:
        house = await furnished()
        pause = COVERED[0]
        story: list[Step] = [
            ("say", "alice", pause, ""),
            ("approve", "alice", 0, None),
            ("repeat", 0, None, None),
            ("approve", "bob", 0, None),
            ("repeat", 0, None, None),
            ("say", "bob", FREE[0], ""),
            ("repeat", 0, None, None),
        ]
        await played(house, story, [0] * 40)
        commits = await house.commits()
        assert judged(commits) == 1
        assert len([c for _, c in commits if c.word == "policy.pause.v1"]) == 1

    run(tale)


def test_what_is_over_is_noted_by_itself_once() -> None:
    async def tale() -> None:
        house = await furnished()
        await house.say("alice", *COVERED[0])
        for seconds in (WAITS_S - 1, 1, 1):
            house.clock.time += timedelta(seconds=seconds)
            await house.look()
        words = [type_name(e) for _, c in await house.commits() for e in c.events]
        assert words.count("approval.expired.v1") == 1
        _, last = (await house.commits())[-1]
        assert isinstance(last.events[0], ApprovalExpired)
        assert (last.actor, last.cause) == ("hwbus", "approval-over")
        assert last.at == NOON + timedelta(seconds=WAITS_S)

    run(tale)
