"""What is taken out of the audit stream keeps its rows, whatever they are of."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from projectors.comparing import differences
from projectors.projector import Projector
from projectors.tables import AUDIT
from schemas.audit import (
    DecidedRecord,
    Hearing,
    HearingRecord,
    LoginOutcome,
    LoginRecord,
    ParkedRecord,
    RefusedRecord,
)
from schemas.node import NodeCordoned, NodeHeard
from schemas.operation_views import AuditKind
from schemas.refusals import Refusal
from tests.support.clock import NOON
from tests.unit.projectors.stories import Bench, Story, tool

Rows = dict[str, tuple[str, int]]


def a_story() -> Story:
    """Return one with an audit row of every kind; the records are more than the commits."""
    story = Story().node()
    story.say(NodeCordoned(node="n1"), NodeHeard(node="n1"))
    old = story.events.pop()
    story.write(old.subject, old.data.replace(b'"node.heard.v1"', b'"node.sang.v1"'))
    of = {"at": NOON, "actor": "bob", "word": "node.cordon.v1", "object": "node/n1"}
    refused = RefusedRecord(command="c1", code=Refusal.CAPACITY, because="full", **of)  # type: ignore[arg-type]
    story.note("hwbus.audit.refused.node", refused)
    story.note("hwbus.audit.decided.node", DecidedRecord(command="c2", seq=2, **of))  # type: ignore[arg-type]
    story.note("hwbus.audit.executed.n1", tool(story, "event:1"))
    parked = ParkedRecord(at=NOON, consumer="desk", subject="s", seq=3, because="no JSON")
    story.note("hwbus.audit.parked.desk", parked)
    story.note("hwbus.audit.parked.worker", b"\xff not json")
    about = {"at": NOON, "server": "one", "server_id": "NABC", "user": "ada"}
    came = LoginRecord(outcome=LoginOutcome.LET_IN, number=8, **about)  # type: ignore[arg-type]
    story.note("hwbus.audit.login.let-in", came)
    many = LoginRecord(outcome=LoginOutcome.TURNED_AWAY, times=7, address="10.0.0.5", **about)  # type: ignore[arg-type]
    story.note("hwbus.audit.login.turned-away", many)
    heard = HearingRecord(at=NOON + timedelta(seconds=1), listener="ctl", state=Hearing.BEGAN)
    story.note("hwbus.audit.hearing.logins", heard)
    return story


def rows_of(path: Path) -> Rows:
    db = sqlite3.connect(path)
    found = db.execute("SELECT key, kind, seq FROM audit").fetchall()
    db.close()
    return {key: (kind, seq) for key, kind, seq in found}


def on(path: Path, scene: Callable[[Bench, Projector], Awaitable[None]]) -> None:
    async def run() -> None:
        bench = Bench(path)
        await bench.tell(a_story())
        async with asyncio.timeout(60), bench.running() as projector:
            await projector.caught_up.wait()
            await scene(bench, projector)

    asyncio.run(run())


async def differing(projector: Projector) -> int:
    async with projector.compared() as compared:
        many, _found = await compared.look(differences, [AUDIT], at_most=9)
    return int(many)


def test_the_story_has_a_row_of_every_kind(tmp_path: Path) -> None:
    async def scene(bench: Bench, _: Projector) -> None:
        found = rows_of(bench.path)
        assert {kind for kind, _ in found.values()} == set(AuditKind)
        assert {key[key.index("/") :][:3] for key in found} == {"/a/", "/e/", "/l/", "/p/"}
        assert len(found) == 2 + 8

    on(tmp_path / "views", scene)


@pytest.mark.parametrize("until", range(1, 8))
def test_rows_of_records_that_were_taken_out_stay_when_views_are_made_anew(
    tmp_path: Path, until: int
) -> None:
    async def scene(bench: Bench, projector: Projector) -> None:
        before = rows_of(bench.path)
        bench.audit.log.purge(until)
        assert await differing(projector) == 0
        assert (await projector.check()).tables == ()
        await projector.rebuild()
        assert rows_of(bench.path) == before
        await projector.rebuild([AUDIT])
        assert rows_of(bench.path) == before
        assert await differing(projector) == 0

    on(tmp_path / "views", scene)


@pytest.mark.parametrize("kind", [AuditKind.ACCEPTED, AuditKind.UNKNOWN, AuditKind.LOGIN])
def test_what_the_streams_still_have_is_made_of_them_alone(tmp_path: Path, kind: AuditKind) -> None:
    """A row that somebody has put in is found, unless it could be of what was taken out."""

    async def scene(bench: Bench, projector: Projector) -> None:
        before = rows_of(bench.path)
        bench.audit.log.purge(4)
        db = sqlite3.connect(bench.path)
        with db:
            row = "SELECT 'z/' || key, body, kind, actor, object, word, code, command, correlation"
            many = "INSERT INTO audit " + row + ", cause, node, seq FROM audit WHERE kind = ?"
            assert db.execute(many, (kind.value,)).rowcount > 0
        db.close()
        assert await differing(projector) > 0
        await projector.rebuild()
        assert rows_of(bench.path) == before

    on(tmp_path / "views", scene)
