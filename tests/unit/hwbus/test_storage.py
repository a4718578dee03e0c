"""Storage behind the desk's port: what may be said from outside, and what is not forgotten."""

import ast
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from aggregates.guarding import is_step
from aggregates.processes import settlements
from hwbus.asking import Asked
from hwbus.controller.storage import OWN_FIELDS, OWN_REPORTS, StorageDomain
from hwbus.record import OVER_MAX
from hwbus.subjects import Address
from schemas.answers import Refused
from schemas.grammar import Event, Message, Report, Request, kind_and_verb, type_name
from schemas.operation import OPERATIONS, OperationEnded, OperationKind, OperationStarted, Outcome
from schemas.refusals import Refusal
from schemas.sampling import sample_of
from schemas.volume import ConcludeVolume, VolumeGrowthBegan
from schemas.words import every_command
from tests.support.given import GIB, NOON, OPERATION, UID

ROOT = Path(__file__).parents[3]
# What is observed by listening to nodes or by the clock, and how an operation goes.
ANYBODYS = {
    "approval.report-expired",
    "node.report-heard",
    "node.report-silent",
    "operation.report-concluded",
    "operation.report-expired",
    "operation.report-started",
    "operation.report-step-refused",
}
REPORTS = [word for word in every_command() if issubclass(word, Report)]


def said_by_nodes() -> set[str]:
    """Return the names of all classes that the workers speak of."""
    files = (ROOT / "node_workers").rglob("*.py")
    return {
        node.id
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Name)
    }


def is_own(word: type[Message]) -> bool:
    kind, verb = kind_and_verb(word)
    return verb in OWN_REPORTS.get(kind, ())


def forbidden(command: Message, *, within: bool = False) -> Refused | None:
    kind, verb = kind_and_verb(command)
    wish = Asked("id", "somebody", kind, verb, b"", within=within)
    return StorageDomain().forbids(wish, command)


def test_every_report_is_a_nodes_or_the_control_planes_own_and_somebody_has_said_which() -> None:
    spoken = said_by_nodes()
    for word in REPORTS:
        name = ".".join(kind_and_verb(word))
        which = [word.__name__ in spoken, is_own(word), name in ANYBODYS]
        assert sum(which) == 1, f"{name}: OWN_REPORTS in hwbus/controller/storage.py, or a node's"
    known = {kind_and_verb(word) for word in REPORTS}
    assert {(kind, verb) for kind, verbs in OWN_REPORTS.items() for verb in verbs} <= known


def test_what_was_observed_is_taken_from_whoever_says_it() -> None:
    for word in REPORTS:
        if not is_own(word):
            assert forbidden(msgspec.json.decode(sample_of(word), type=word)) is None


def test_the_control_planes_own_reports_are_taken_from_itself_alone() -> None:
    report = ConcludeVolume(volume="pg", operation=OPERATION)
    no = forbidden(report)
    assert no is not None
    assert (no.code, "volume.report-concluded" in no.because) == (Refusal.STEP_FROM_OUTSIDE, True)
    assert forbidden(report, within=True) is None


@pytest.mark.parametrize("field", OWN_FIELDS)
def test_a_field_that_is_filled_in_is_one_of_some_wish(field: str) -> None:
    wishes = [w for w in every_command() if issubclass(w, Request) and not is_step(w)]
    assert any(field in word.__struct_fields__ for word in wishes)


def test_a_wish_whose_fields_are_said_to_be_set_by_others_is_refused_with_them() -> None:
    """Who writes such a field into the words is asked to write it into OWN_FIELDS, too."""
    for word in every_command():
        set_by = [line for line in (word.__doc__ or "").splitlines() if "is set by" in line]
        for line in set_by:
            field = line.split("is set by")[0].rsplit("``", 2)[-2]
            assert field in OWN_FIELDS, type_name(word)


def _ended(domain: StorageDomain, id_: str) -> None:
    about = {"operation": id_, "kind": OperationKind.VOLUME_GROW, "object": "volume/pg"}
    started = OperationStarted(**about, deadline=NOON + timedelta(hours=1))  # type: ignore[arg-type]
    events: tuple[Event, ...] = (
        started,
        OperationEnded(**about, outcome=Outcome.FAILED),  # type: ignore[arg-type]
    )
    domain.evolve(Address(OPERATIONS, "-", id_), events)


def _grows(domain: StorageDomain) -> None:
    began = VolumeGrowthBegan(
        volume="pg",
        uid=UID,
        operation=OPERATION,
        deadline=NOON,
        node="n1",
        pool="fast",
        from_bytes=GIB,
        size_bytes=2 * GIB,
    )
    domain.evolve(Address("volume", "-", "pg"), (began,))


def test_that_an_operation_has_ended_is_known_for_as_long_as_something_is_busy_with_it() -> None:
    domain = StorageDomain()
    _grows(domain)
    ids = [OPERATION, *(f"z{number:025d}" for number in range(2 * OVER_MAX))]
    for id_ in ids:
        _ended(domain, id_)
    for id_ in ids:
        domain.forget(Address(OPERATIONS, "-", id_))
    [owed] = settlements.owed(domain.world)
    assert isinstance(owed, ConcludeVolume)
    assert owed.operation == OPERATION
    assert len(domain.world.operations) <= OVER_MAX / 10


def test_nothing_is_let_go_for_an_operation_of_which_nothing_is_known_yet() -> None:
    domain = StorageDomain()
    _grows(domain)
    assert settlements.owed(domain.world) == ()


def test_an_operation_that_is_read_again_is_read_from_its_beginning() -> None:
    domain = StorageDomain()
    _ended(domain, OPERATION)
    before = domain.world.operations[OPERATION]
    domain.forget(Address(OPERATIONS, "-", OPERATION))
    _ended(domain, OPERATION)
    assert domain.world.operations[OPERATION] == before
    for number in range(OVER_MAX):
        domain.forget(Address(OPERATIONS, "-", f"z{number:025d}"))
    assert domain.world.operations[OPERATION] == before
