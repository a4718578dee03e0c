"""Deciding about findings: which one is meant, as it was seen, and what is asked before."""

from typing import Any

import pytest

from schemas.node import Drift
from schemas.settling import EXPLAINED, WAYS
from schemas.views import DriftRow, PastDriftRow
from tests.support.cli import OPERATION, Stage, accepted, ago
from tests.unit.hwbus.cli.rows import furnish

LEG, STRANGER = "replica/n1/pg", "lv/n1/fast/theirs"


def finding(drift: Drift, object_: str, seen: str) -> DriftRow:
    about: dict[str, Any] = {"node": "n1", "since": ago(minutes=2), "seq": 6}
    settle = (f"hwbus drift x {object_} --seen {seen}",)
    return DriftRow(drift=drift, object=object_, seen=seen, settle=settle, **about)


@pytest.fixture
def found(stage: Stage) -> Stage:
    furnish(stage)
    stage.rows["drift"] = (
        finding(Drift.VOLUME_RENAMED, LEG, "aaa"),
        finding(Drift.VOLUME_RESIZED, LEG, "bbb"),
        finding(Drift.VOLUME_MISSING, "replica/n1/db", "ccc"),
        finding(Drift.VOLUME_FOREIGN, STRANGER, "ddd"),
        finding(Drift.VOLUME_QUARANTINED, "lv/n1/fast/aside", "eee"),
    )
    stage.rows["drift-past"] = (
        PastDriftRow(
            node="n1",
            drift=Drift.VOLUME_MISSING,
            object=LEG,
            since=ago(minutes=9),
            until=ago(minutes=8),
            by="ada",
            operation=OPERATION,
            seq=3,
        ),
    )
    stage.when("hwbus.cmd.node.settle-drift", accepted())
    return stage


@pytest.mark.parametrize(
    ("argv", "drift", "seen", "more"),
    [
        (("accept", LEG), "volume-resized", "bbb", {}),
        (("undo", LEG, "--kind", "volume-renamed"), "volume-renamed", "aaa", {}),
        (("undo", LEG, "--seen", "bbb"), "volume-resized", "bbb", {}),
        (("undo", f"volume-renamed/{LEG}"), "volume-renamed", "aaa", {}),
        (("accept", "replica/n1/db"), "volume-missing", "ccc", {}),
        (
            ("recreate", "replica/n1/db", "--volume", "db", "--seen", "old"),
            "volume-missing",
            "old",
            {"volume": "db"},
        ),
        (("recreate", "replica/n1/db", "--yes"), "volume-missing", "ccc", {"volume": "db"}),
        (
            ("adopt", STRANGER, "--as", "db2", "--fs", "xfs", "--deadline", "2m"),
            "volume-foreign",
            "ddd",
            {"volume": "db2", "filesystem": "xfs", "deadline_s": 120},
        ),
        (("quarantine", STRANGER), "volume-foreign", "ddd", {}),
        (("release", "lv/n1/fast/aside"), "volume-quarantined", "eee", {}),
    ],
)
def test_a_finding_is_settled_as_it_was_seen(
    found: Stage, argv: tuple[str, ...], drift: str, seen: str, more: dict[str, Any]
) -> None:
    done = found.run("drift", *argv)
    assert done.code == 0, done.err
    said = found.said()
    assert found.heard[-1].subject == "hwbus.cmd.node.settle-drift"
    assert (said["node"], said["drift"], said["verb"]) == ("n1", drift, argv[0])
    assert said["seen"] == seen
    assert {key: said.get(key) for key in more} == more


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("undo", LEG), "2 findings"),
        (("accept", "replica/n1/other"), "no finding"),
        (("recreate", "replica/n1/db"), "nobody is there to confirm"),
    ],
)
def test_what_is_not_clear_is_asked_of_nobody(
    found: Stage, argv: tuple[str, ...], says: str
) -> None:
    done = found.run("drift", *argv)
    assert done.code != 0
    assert says in done.err
    assert not any("cmd" in call.subject for call in found.heard)


def test_a_volume_is_made_anew_for_whoever_types_its_name(found: Stage) -> None:
    typed = found.run("drift", "recreate", "replica/n1/db", typed="db\n", typed_on_tty=True)
    assert typed.code == 0
    assert found.said()["volume"] == "db"
    assert "empty" in typed.err


def test_findings_are_listed_and_shown_with_what_they_were_before(found: Stage) -> None:
    assert found.run("drift", "ls", "-o", "name").out.count("\n") == 5
    one = found.run("drift", "ls", "--kind", "volume-missing", "-o", "json").json["items"]
    assert [row["seen"] for row in one] == ["ccc"]
    past = found.run("drift", "ls", "--past", "-o", "json").json["items"]
    assert [row["by"] for row in past] == ["ada"]
    shown = found.run("drift", "show", STRANGER).out
    assert "hwbus drift x lv/n1/fast/theirs --seen ddd" in shown
    assert LEG in found.run("drift", "show", LEG).out
    assert "Before" in found.run("drift", "show", f"volume-renamed/{LEG}").out
    assert found.run("drift", "show", "replica/n1/other").code != 0


@pytest.mark.parametrize("kind", Drift)
def test_each_kind_of_finding_is_explained_with_what_settles_it(stage: Stage, kind: Drift) -> None:
    told = stage.run("explain", kind.value, "-o", "json").json["items"][0]
    assert (told["meaning"], told["fix"]) == EXPLAINED[kind]
    assert told["settle"] == [f"hwbus drift {verb.value}" for verb in WAYS.get(kind, ())]
    assert stage.run("explain", kind.value, "-o", "name").out == f"{kind.value}\n"
    assert EXPLAINED[kind][0] in stage.run("explain", kind.value).out.replace("\n", " ")
