"""Questions over the bus: answered, refused, or told how far behind the view is."""

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hwbus.memory import MemoryBus
from hwbus.ports import Call, NobodyThereError
from projectors.composition import Projectors
from projectors.projector import Sources
from projectors.service import Views, endpoints, with_steps
from projectors.sqlite import EVENTS
from projectors.tables import OPERATIONS
from schemas.answers import Refused
from schemas.attachment import Limits
from schemas.labels import VolumeLabelled
from schemas.operation_views import AuditKind, AuditRow, OperationRow
from schemas.policy import PolicyChanged, PolicyKind, PolicySpec
from schemas.protection import ProtectionChanged, ProtectionSpec
from schemas.qos import QosClassCreated
from schemas.queries import COLUMNS, PAGE_MAX_BYTES, ROWS, Behind, Page, QueryAnswer
from schemas.refusals import Refusal
from schemas.views import VolumeRow
from schemas.volume import Candidate, VolumeProvisioningBegan
from tests.support.backup_words import ADDED, backup_began
from tests.support.clock import NOON
from tests.unit.projectors.stories import GIB, Bench, Story, tool, uid
from tests.unit.projectors.test_approvals import REQUESTED

ANSWER: msgspec.json.Decoder[Page[msgspec.Raw] | Refused | Behind] = msgspec.json.Decoder(
    QueryAnswer
)


async def _ask(views: Views, view: str, **asked: Any) -> Page[msgspec.Raw] | Refused | Behind:
    return ANSWER.decode(await views(Call(f"hwbus.q.{view}", msgspec.json.encode(asked), {})))


async def _page(views: Views, view: str, **asked: Any) -> Page[msgspec.Raw]:
    answer = await _ask(views, view, **asked)
    assert isinstance(answer, Page), answer
    return answer


def _items(page: Page[msgspec.Raw], field: str) -> list[Any]:
    return [msgspec.json.decode(item)[field] for item in page.items]


# A day of accounts is kept when it is over, and an account is closed when its volume is gone.
_EMPTY = {"account-days", "closed-accounts", "drift", "drift-past", "parked"}


def _busy() -> Story:
    story = Story().node().disk("d1").pool(size=100 * GIB)
    for number, name in enumerate(("a", "b", "c", "d", "e"), 1):
        story.volume(name, number)
    spec = PolicySpec(kind=PolicyKind.DRAIN_DISKS)
    story.say(PolicyChanged(policy="p", uid=uid(8), spec=spec))
    story.say(QosClassCreated(qos="gold", uid=uid(9), at=NOON, limits=Limits(read_iops=5)))
    story.say(ProtectionChanged(protection="all", uid=uid(11), spec=ProtectionSpec()))
    story.say(REQUESTED)
    story.say(ADDED)
    story.say(backup_began())
    story.snapshot("s", 9, "a", 1).group("g", ("a", 1))
    return story.schedule("hourly", 10, "a")


class _Asked:
    """Views over a story, to be asked in a test."""

    def __init__(self, path: Path, story: Story) -> None:
        self._bench = Bench(path)
        self._story = story

    async def __aenter__(self) -> Views:
        await self._bench.tell(self._story)
        self._running = self._bench.running()
        projector = await self._running.__aenter__()
        await projector.caught_up.wait()
        return Views(projector)

    async def __aexit__(self, *_: object) -> None:
        await self._running.__aexit__(None, None, None)


def test_every_view_answers_with_rows_of_its_kind(tmp_path: Path) -> None:
    async def run() -> None:
        async with _Asked(tmp_path / "views", _busy()) as views:
            where = {"volume": {"name": "a"}, "operation": {"id": uid(500_001)}}
            for view, row in ROWS.items():
                page = await _page(views, view, where=where.get(view, {}))
                for item in page.items:
                    msgspec.json.decode(item, type=row)
                assert (page.kind, page.next) == (view, None)
                assert page.items or view in _EMPTY

    asyncio.run(run())


def test_an_empty_message_asks_for_everything(tmp_path: Path) -> None:
    async def run() -> None:
        async with _Asked(tmp_path / "views", _busy()) as views:
            answer = ANSWER.decode(await views(Call("hwbus.q.volumes", b"", {})))
            assert isinstance(answer, Page)
            assert _items(answer, "name") == ["a", "b", "c", "d", "e"]

    asyncio.run(run())


def test_pages_hold_every_row_once_in_order_and_end_with_no_cursor(tmp_path: Path) -> None:
    async def run() -> None:
        async with _Asked(tmp_path / "views", _busy()) as views:
            for view, field, order in (
                ("volumes", "name", ["a", "b", "c", "d", "e"]),
                ("operations", "object", [f"volume/{name}" for name in "edcba"]),
            ):
                found: list[Any] = []
                cursor: str | None = ""
                while cursor is not None:
                    page = await _page(views, view, limit=2, cursor=cursor)
                    assert len(page.items) <= 2
                    found += _items(page, field)
                    cursor = page.next
                assert found == order

    asyncio.run(run())


def test_where_keeps_the_rows_that_equal_all_of_it(tmp_path: Path) -> None:
    async def run() -> None:
        story = _busy()
        story.begin("f", 6, GIB)
        async with _Asked(tmp_path / "views", story) as views:
            ready = await _page(views, "volumes", where={"state": "ready", "pool": "fast"})
            assert _items(ready, "name") == ["a", "b", "c", "d", "e"]
            running = await _page(views, "operations", where={"ended": False})
            assert _items(running, "object") == ["volume/f"]

    asyncio.run(run())


def test_volumes_are_found_by_all_of_their_labels_now_and_as_they_were(tmp_path: Path) -> None:
    async def run() -> None:
        story = _busy()
        for number, tier in enumerate(("gold", "silver", "gold")):
            labels = {"team": "shop", "tier": tier}
            story.say(VolumeLabelled(volume="abc"[number], uid=uid(number + 1), set=labels))
        before = len(story.events)
        story.say(VolumeLabelled(volume="a", uid=uid(1), set={"tier": ""}, removed=("team",)))
        async with _Asked(tmp_path / "views", story) as views:
            for selector, names in (
                ("team=shop", ["b", "c"]),
                ("team=shop,tier=gold", ["c"]),
                ("tier=", ["a"]),
                ("team=sho", []),
            ):
                page = await _page(views, "volumes", where={"selector": selector})
                assert _items(page, "name") == names
            gold = {"selector": "tier=gold"}
            assert _items(await _page(views, "volumes", where=gold, at=before), "name") == [
                "a",
                "c",
            ]
            (row,) = (await _page(views, "volumes", where={"name": "a"})).items
            assert msgspec.json.decode(row)["labels"] == {"tier": ""}

    asyncio.run(run())


def test_the_audit_is_asked_by_object_time_text_and_kind_newest_first(tmp_path: Path) -> None:
    async def run() -> None:
        story = _busy()
        story.note("hwbus.audit.executed.n1", tool(story, "event:9"))
        async with _Asked(tmp_path / "views", story) as views:
            of_a = await _page(views, "audit", where={"object": "volume/a"})
            assert _items(of_a, "seq") == sorted(_items(of_a, "seq"), reverse=True)
            assert set(_items(of_a, "object")) == {"volume/a"}
            by_driver = await _page(views, "audit", where={"actor": "hwbus:driver", "seq": 12})
            assert _items(by_driver, "correlation") == [uid(500_001)]
            assert (await _page(views, "audit", where={"code": "HW-P003"})).items == ()
            tools = await _page(views, "audit", where={"text": "LVcreate"})
            assert _items(tools, "kind") == ["tool"]
            since, until = "2026-01-01T12:00:02Z", "2026-01-01T13:00:04+01:00"
            some = await _page(views, "audit", where={"since": since, "until": until})
            assert _items(some, "seq") == [4, 3]

    asyncio.run(run())


def test_one_operation_is_shown_with_its_steps_in_the_order_of_their_causes(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        story = Story().node().pool()
        story.volume("a", 1)
        operation = uid(500_001)
        wanted = next(s.seq for s in story.events if b"replica.wanted" in s.data)
        story.note("hwbus.audit.executed.n1", tool(story, f"event:{wanted}", operation, status=5))
        story.note("hwbus.audit.executed.n1", tool(story, f"event:{wanted}", operation))
        async with _Asked(tmp_path / "views", story) as views:
            (item,) = (await _page(views, "operation", where={"id": operation})).items
            row = msgspec.json.decode(item, type=OperationRow)
            assert row.tools == 2
            told = [step.word if step.argv else step.events[0] for step in row.steps]
            assert told == [
                "volume.provisioning-began.v1",
                "operation.started.v1",
                "pool.room-reserved.v1",
                "replica.wanted.v1",
                "lvcreate",
                "lvcreate",
                "replica.created.v1",
                "pool.room-settled.v1",
                "volume.provisioned.v1",
                "operation.ended.v1",
            ]

    asyncio.run(run())


def test_a_step_without_a_cause_in_the_log_stands_at_the_end() -> None:
    story = Story().node().pool().volume("a", 1)
    row = story.row(OPERATIONS, uid(500_001))
    assert row is not None
    lost = AuditRow(kind=AuditKind.REFUSED, seq=1, at=NOON, cause="command:x")
    known = AuditRow(kind=AuditKind.ACCEPTED, seq=7, at=NOON)
    assert with_steps(row, [lost, known]).steps == (known, lost)


def test_one_volume_is_shown_with_the_pools_it_was_considered_for(tmp_path: Path) -> None:
    candidate = Candidate(node="n1", pool="fast", room_bytes=GIB, score=7, parts={"room": 7})

    async def run() -> None:
        story = Story().node().pool()
        began = VolumeProvisioningBegan(
            volume="a",
            uid=uid(1),
            operation=uid(2),
            deadline=NOON,
            size_bytes=GIB,
            candidates=(candidate,),
        )
        story.say(began)
        async with _Asked(tmp_path / "views", story) as views:
            (one,) = (await _page(views, "volume", where={"name": "a"})).items
            (listed,) = (await _page(views, "volumes")).items
            assert msgspec.json.decode(one, type=VolumeRow).candidates == (candidate,)
            assert msgspec.json.decode(listed, type=VolumeRow).candidates == ()
            assert (await _page(views, "volume", where={"name": "b"})).items == ()

    asyncio.run(run())


def test_a_view_that_has_not_seen_enough_says_so_and_one_that_has_answers(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        story = _busy()
        async with _Asked(tmp_path / "views", story) as views:
            head = len(story.events)
            behind = await _ask(views, "volumes", min_seq=head + 1, wait_ms=10)
            assert isinstance(behind, Behind)
            assert (behind.seq, behind.min_seq) == (head, head + 1)
            assert (await _page(views, "volumes", min_seq=head)).seq == head

    asyncio.run(run())


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"\xff",
        b"[]",
        b'{"limit":0}',
        b'{"limit":5001}',
        b'{"min_seq":-1}',
        b'{"wait_ms":3600000}',
        b'{"where":{"name":{"$ne":1}}}',
        b'{"where":{"colour":"red"}}',
        b'{"cursor":"?"}',
        b'{"order":"name"}',
        b'{"min_seq":' + b"9" * 40 + b"}",
        b'{"where":{"name":' + b"9" * 40 + b"}}",
        b'{"where":{"name":-9223372036854775809}}',
        b'{"where":{"name":1.5}}',
        b'{"where":{"name":"\\ud800"}}',
        b"[" * 30_000,
        b'{"where":{"selector":"team"}}',
        b'{"where":{"selector":"te am=x"}}',
        b'{"where":{"selector":""}}',
        b'{"cursor":"' + b"a" * 100_000 + b'"}',
    ],
)
def test_a_bad_question_is_refused_with_a_way_out(tmp_path: Path, data: bytes) -> None:
    async def run() -> None:
        async with _Asked(tmp_path / "views", Story()) as views:
            answer = ANSWER.decode(await views(Call("hwbus.q.volumes", data, {})))
            assert isinstance(answer, Refused)
            assert answer.code is Refusal.MALFORMED
            assert answer.because
            assert answer.fix

    asyncio.run(run())


def test_the_views_are_served_on_the_bus_as_long_as_they_run(tmp_path: Path) -> None:
    async def run() -> None:
        bench, bus = Bench(tmp_path / "views"), MemoryBus()
        await bench.tell(_busy())
        projectors = Projectors(
            bench.path,
            sources=Sources(bench.events, bench.audit.log),
            outlet=bench.audit,
            bus=bus,
            clock=bench.clock,
        )
        async with projectors.running() as projector:
            asked = msgspec.json.encode({"min_seq": await bench.events.head()})
            answer = await bus.request("hwbus.q.volumes", asked, headers={}, timeout_s=5)
            page = ANSWER.decode(answer)
            assert isinstance(page, Page)
            assert (page.seq, len(page.items)) == (projector.store.positions[EVENTS].seq, 5)
        with pytest.raises(NobodyThereError):
            await bus.request("hwbus.q.volumes", b"", headers={}, timeout_s=5)

    asyncio.run(run())


def test_every_view_has_an_address_that_says_what_it_takes() -> None:
    served = {endpoint.name: endpoint for endpoint in endpoints()}
    assert served.keys() == COLUMNS.keys() == ROWS.keys()
    assert served["volumes"].subject == "hwbus.q.volumes"
    assert served["volumes"].metadata["where"].split(",") == list(COLUMNS["volumes"])


def test_ten_thousand_volumes_are_listed_filtered_and_paged_within_200_ms_each(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        story = Story().node().pool("fast", size=1 << 50)
        story.node("n2").pool("fast", "n2", size=1 << 50, number=950)
        for number in range(10_000):
            operation = story.begin(f"v{number:05}", number, GIB)
            assert operation
        async with _Asked(tmp_path / "views", story) as views:
            found, cursor, slowest_s = 0, "", 0.0
            while True:
                asked = {"cursor": cursor, "limit": 5000, "where": {"state": "provisioning"}}
                call = Call("hwbus.q.volumes", msgspec.json.encode(asked), {})
                began = time.process_time()  # others may be at work on this machine
                data = await views(call)
                slowest_s = max(slowest_s, time.process_time() - began)
                assert len(data) < PAGE_MAX_BYTES + 10_000
                page = ANSWER.decode(data)
                assert isinstance(page, Page)
                found += len(page.items)
                if page.next is None:
                    break
                cursor = page.next
            assert found == 10_000
            assert slowest_s < 0.2

    asyncio.run(run())
