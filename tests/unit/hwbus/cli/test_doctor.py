"""The doctor says what is wrong, and what to do, and ends with a code that means it."""

import msgspec
import pytest

from hwbus.cli import doctor
from schemas.audit import Hearing, HearingRecord
from schemas.limbo import Limbo, LimboRow
from schemas.views import NodeState, StatusRow
from tests.support.cli import Stage, ago
from tests.support.signing import signed
from tests.unit.hwbus.cli.rows import furnish

PAST, HEADS = signed(4, 4)
INFO = "$JS.API.STREAM.INFO.HWBUS_EVENTS"


@pytest.fixture
def clinic(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A healthy cluster, whose heartbeats nobody has to wait for."""
    monkeypatch.setattr(doctor, "_HEARTBEATS_S", 0.01)
    furnish(stage)
    [node] = stage.rows["nodes"]
    stage.rows["nodes"] = (msgspec.structs.replace(node, drifts=0),)
    stage.when(INFO, msgspec.json.encode({"ts": ago()}))
    return stage


def findings(stage: Stage, code: int) -> dict[str, dict[str, str]]:
    done = stage.run("doctor", "-o", "json")
    assert done.code == code, done.out
    return {item["what"]: item for item in done.json["items"]}


def test_a_healthy_cluster_is_found_well(clinic: Stage) -> None:
    found = findings(clinic, 0)
    for what in ("nats", "control plane", "nodes", "clocks", "views of HWBUS_EVENTS"):
        assert found[what]["state"] == "ok"


def test_every_finding_that_is_not_well_comes_with_a_fix(stage: Stage) -> None:
    stage.unreachable = True
    found = findings(stage, 10)
    assert found["nats"]["state"] == "trouble"
    assert all(item["fix"] for item in found.values() if item["state"] != "ok")


def test_a_log_that_grows_and_is_not_signed_is_trouble(clinic: Stage) -> None:
    clinic.past = [(one.subject, one.data) for one in PAST]
    assert findings(clinic, 0)["signed heads"]["found"] == "up to 0"
    clinic.stored_at = ago(minutes=11)
    assert findings(clinic, 1)["signed heads"]["state"] == "trouble"
    clinic.kept = [("hwbus.audit.head.abc", msgspec.json.encode(head)) for head in HEADS]
    assert findings(clinic, 0)["signed heads"]["found"] == "up to 4"


@pytest.mark.parametrize(
    ("state", "code", "verdict", "words"),
    [
        (Hearing.OFF, 0, "advice", "not heard: why so"),
        (Hearing.BEGAN, 0, "ok", "heard since"),
        (Hearing.AGAIN, 0, "ok", "heard since"),
        (Hearing.MISSED, 0, "advice", "3 missed"),
        (Hearing.LOST, 1, "trouble", "why so"),
        (Hearing.STOPPED, 0, "advice", "stopped since"),
    ],
)
def test_whether_logins_are_heard_is_told(
    clinic: Stage, state: Hearing, code: int, verdict: str, words: str
) -> None:
    assert findings(clinic, 0)["logins"]["state"] == "advice"
    said = HearingRecord(at=ago(), listener="ctl-1", state=state, missed=3, because="why so")
    clinic.kept = [("hwbus.audit.hearing.logins", msgspec.json.encode(said))]
    found = findings(clinic, code)["logins"]
    assert (found["state"], words in found["found"]) == (verdict, True)


def test_what_the_control_plane_finds_in_limbo_is_trouble(clinic: Stage) -> None:
    assert findings(clinic, 0)["limbo"]["found"] == "nothing, up to 7"
    code = Limbo.OVERDUE
    hangs = LimboRow(
        code=code, stream="HWBUS_EVENTS", seq=5, subject="volume/pg", because="late", fix="look"
    )
    clinic.rows["limbo"] = (hangs,)
    assert "HW-L001 at 5, volume/pg: late" in findings(clinic, 1)["limbo"]["found"]


def test_a_silent_node_is_trouble(clinic: Stage) -> None:
    [node] = clinic.rows["nodes"]
    clinic.rows["nodes"] = (msgspec.structs.replace(node, state=NodeState.SILENT),)
    assert "n1" in findings(clinic, 11)["nodes"]["found"]


def test_drift_is_worth_a_word(clinic: Stage) -> None:
    [node] = clinic.rows["nodes"]
    clinic.rows["nodes"] = (msgspec.structs.replace(node, drifts=2),)
    assert findings(clinic, 0)["drift"]["state"] == "advice"


def test_a_clock_that_is_wrong_is_trouble(clinic: Stage) -> None:
    clinic.when(INFO, msgspec.json.encode({"ts": ago(seconds=-90)}))
    assert "the broker +90.0 s" in findings(clinic, 1)["clocks"]["found"]


def test_views_that_are_far_behind_or_parked_something_are_named(clinic: Stage) -> None:
    behind = StatusRow(stream="events", position=1, head=5000, lag_events=4999, lag_s=9, parked=0)
    spoilt = StatusRow(stream="audit", position=7, head=7, lag_events=0, lag_s=0, parked=2)
    clinic.rows["status"] = (behind, spoilt)
    found = findings(clinic, 1)
    assert found["views of events"]["state"] == "advice"
    assert "2 messages" in found["views of audit"]["found"]


def test_this_machine_alone_can_be_looked_at(stage: Stage) -> None:
    stage.unreachable = True
    done = stage.run("doctor", "--here")
    assert done.code == 0
    assert "python" in done.out
    assert stage.servers == []
