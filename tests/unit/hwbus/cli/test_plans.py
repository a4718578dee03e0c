"""Plans on the command line: what is asked, what is told, and that nothing is ever changed."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.answers import refuse
from schemas.operation import OperationKind, Outcome
from schemas.plan import (
    Counts,
    Ended,
    Forecast,
    Foreseen,
    Move,
    PoolChange,
    Said,
    VolumeChange,
)
from schemas.queries import Page
from schemas.refusals import Refusal
from tests.support.cli import Stage
from tests.support.clock import NOON
from tests.unit.hwbus.cli.rows import furnish
from tests.unit.hwbus.cli.test_changes import CHANGES

GIB = 1 << 30
PLAN = "hwbus.q.plan"
DRAINED = Ended(kind=OperationKind.NODE_DRAIN, object="node/n1", outcome=Outcome.COMPLETED)
FULL = {
    "operations": (DRAINED,),
    "moves": (Move(volume="pg", source="n1/fast", target="n2/fast", size_bytes=5 * GIB),),
    "pools": (
        PoolChange(
            node="n1",
            pool="fast",
            size_bytes=20 * GIB,
            free_bytes=15 * GIB,
            free_after_bytes=20 * GIB,
            claims=1,
        ),
    ),
    "volumes": (
        VolumeChange(
            volume="pg",
            node="n1",
            node_after="n2",
            copies=2,
            copies_after=1,
            survives=1,
            survives_after=0,
        ),
    ),
    "events": (
        Foreseen(object="node/n1", type="node.drain-began.v1", operation="plan1"),
        Foreseen(object="volume/pg", type="volume.migration-began.v1", operation="plan1"),
    ),
    "counts": Counts(operations=1, moves=1, pools=1, volumes=1, events=2),
    "moved_bytes": 5 * GIB,
}


def page(*steps: Said, at: Any = None, **told: Any) -> bytes:
    forecast = Forecast(seq=7, at=NOON, steps=steps or (Said(said="node.drain n1"),), **told)
    return msgspec.json.encode(Page(kind="plan", seq=7, at=at, items=(forecast,)))


@pytest.mark.parametrize(("argv", "verb", "payload"), CHANGES, ids=lambda value: str(value)[:40])
def test_every_command_that_changes_something_can_be_planned_and_is_then_not_said(
    stage: Stage, argv: tuple[str, ...], verb: str, payload: dict[str, Any]
) -> None:
    furnish(stage)
    stage.when(PLAN, page())
    asked = [word for word in argv if word not in {"--yes", "-y"}]
    ends = asked.index("--") if "--" in asked else len(asked)
    done = stage.run(*asked[:ends], "--plan", *asked[ends:])
    assert done.code == 0, done.err
    assert all(call.subject.startswith("hwbus.q.") for call in stage.heard)
    assert stage.heard[-1].subject == PLAN
    [step] = stage.said()["steps"]
    assert step["what"] == "say"
    assert step["command"].pop("type") == f"{verb}.v1"
    assert payload.items() <= step["command"].items()


def test_a_plan_shows_moves_capacity_redundancy_and_events(stage: Stage) -> None:
    stage.when(PLAN, page(**FULL))
    done = stage.run("node", "drain", "n1", "--plan")
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert lines == [
        "node.drain n1 accepted",
        "",
        "Moves",
        "VOLUME FROM TO SIZE",
        "pg n1/fast n2/fast 5GiB",
        "",
        "Capacity",
        "NODE POOL FREE AFTER THIN-FREE AFTER VOLUMES AFTER",
        "n1 fast 15GiB 20GiB - - 1 0",
        "",
        "Redundancy",
        "VOLUME NODE AFTER COPIES AFTER SURVIVES AFTER",
        "pg n1 n2 2 1 1 0",
        "",
        "Events",
        "1 of node, 1 of volume",
    ]
    assert "a plan as of seq 7: nothing was changed" in done.err
    assert "5GiB would be copied" in done.err
    wide = stage.run("node", "drain", "n1", "--plan", "-o", "wide").out
    assert "volume.migration-began.v1" in wide
    assert stage.run("node", "drain", "n1", "--plan", "-o", "name").out == "volume/pg\n"


def test_a_plan_as_json_holds_everything(stage: Stage) -> None:
    stage.when(PLAN, page(**FULL))
    shape = stage.run("node", "drain", "n1", "--plan", "-o", "json").json
    assert (shape["kind"], shape["seq"]) == ("Plan", 7)
    [told] = shape["items"]
    assert told["moves"][0]["target"] == "n2/fast"
    assert len(told["events"]) == 2


@pytest.mark.parametrize(
    ("told", "code", "said"),
    [
        (
            {"steps": (Said(said="x", code=Refusal.CAPACITY, because="full", fix="Ask."),)},
            5,
            "HW-P003 full\n  Ask.",
        ),
        (
            {
                "operations": (
                    Ended(
                        kind=OperationKind.NODE_DRAIN,
                        object="node/n1",
                        outcome=Outcome.FAILED,
                        code=Refusal.NOT_DRAINED,
                        because="pg",
                        leftovers=("volume/pg",),
                    ),
                )
            },
            1,
            "node/n1 node-drain leaves volume/pg",
        ),
        (
            {"operations": (Ended(kind=OperationKind.NODE_DRAIN, object="node/n1"),)},
            1,
            "does not end",
        ),
        ({"cut_off": True}, 1, "what is shown is a part"),
        ({"under_way": ("volume-delete volume/x",)}, 0, "1 operations were under way"),
        ({"moves": FULL["moves"], "counts": Counts(moves=9)}, 0, "8 more of 9 are not shown"),
    ],
)
def test_what_would_go_wrong_is_said_and_is_the_exit_code(
    stage: Stage, told: dict[str, Any], code: int, said: str
) -> None:
    steps = told.pop("steps", ())
    stage.when(PLAN, page(*steps, **told))
    done = stage.run("node", "drain", "n1", "--plan")
    assert done.code == code
    assert said in done.out + done.err


def test_a_plan_of_the_past_says_when(stage: Stage) -> None:
    stage.when(PLAN, page(at=NOON))
    done = stage.run("node", "cordon", "n1", "--plan", "--at", "4711")
    assert stage.said()["at"] == 4711
    assert "a plan as of seq 7, 2026-01-01" in done.err
    stage.run("node", "cordon", "n1", "--plan", "--at", "2026-01-01T02:13:00Z")
    assert stage.said()["at"] == "2026-01-01T02:13:00Z"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--at", "4711"), "--at is for a plan"),
        (("--plan", "--wait"), "--plan goes with none of"),
        (("--plan", "--id", "x"), "--plan goes with none of"),
        (("--plan", "--expect-version", "3"), "--plan goes with none of"),
        (("--plan", "--at", "yesterday"), "no point in time"),
    ],
)
def test_what_makes_no_sense_with_a_plan_is_refused(
    stage: Stage, more: tuple[str, ...], said: str
) -> None:
    done = stage.run("node", "cordon", "n1", *more)
    assert done.code == 2
    assert said in done.err
    assert stage.heard == []


def test_the_call_of_a_plan_can_be_shown(stage: Stage) -> None:
    out = stage.run("node", "cordon", "n1", "--plan", "--show-call").out
    assert f"request {PLAN}" in out
    assert stage.heard == []


def test_a_refused_question_ends_as_any_other(stage: Stage) -> None:
    stage.when(PLAN, refuse(Refusal.NOT_YET, "the log ends at 9"))
    done = stage.run("node", "cordon", "n1", "--plan", "--at", "4711")
    assert done.code == 5
    assert "HW-H001 the log ends at 9" in done.err


SCENARIO = """
at = "15m"

[[step]]
node_dies = "n3"
for_good = true

[[step]]
disk_fails = "wwn-3"

[[step]]
fails = "replica.wanted.v1"
node = "n2"

[[step]]
create = 2
size = "10GiB"
replicas = 2
name = "new"

[[step]]
run = "hwbus volume delete pg --hold 0s"

[[step]]
run = "pool grow fast --disk a"
"""


def written(stage: Stage, text: str, name: str = "s.toml") -> str:
    path = Path(stage.home) / name
    path.write_text(text)
    return str(path)


def test_a_scenario_is_asked_step_by_step_and_says_nothing(stage: Stage) -> None:
    furnish(stage)
    stage.when(PLAN, page(**FULL))
    done = stage.run("plan", written(stage, SCENARIO))
    assert done.code == 0, done.err
    assert all(call.subject.startswith("hwbus.q.") for call in stage.heard)
    steps = stage.said()["steps"]
    assert steps[:3] == [
        {"what": "node-dies", "node": "n3", "for_good": True},
        {"what": "disk-fails", "disk": "wwn-3"},
        {
            "what": "work-fails",
            "node": "n2",
            "event": "replica.wanted.v1",
            "code": "HW-W001",
        },
    ]
    said = [step["command"] for step in steps[3:]]
    assert [one["volume"] for one in said[:3]] == ["new-1", "new-2", "pg"]
    assert said[0]["size_bytes"] == 10 * GIB
    assert said[0]["replicas"] == 2
    grow = {"type": "pool.grow.v1", "pool": "fast", "node": "n1", "disks": ["a"]}
    assert grow.items() <= said[3].items()
    assert stage.said()["at"].endswith("Z")
    assert done.out.startswith("node.drain n1")


def test_a_scenario_may_be_json_and_begin_at_a_sequence(stage: Stage) -> None:
    stage.when(PLAN, page())
    path = written(stage, '{"at": 5, "step": [{"node_dies": "n1"}]}', "s.json")
    assert stage.run("plan", path).code == 0
    assert stage.said()["at"] == 5
    assert stage.run("plan", path, "--at", "6").code == 0
    assert stage.said()["at"] == 6


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there are no steps"),
        ("[[step]", "line 1"),
        ("x = 1\n[[step]]\nnode_dies = 'n1'", "'x' is no field of a scenario"),
        ("at = 'soon'\n[[step]]\nnode_dies = 'n1'", "at: 'soon' is no point in time"),
        ("[[step]]\nrain = 1", "line 1, step 1: it has none"),
        ("[[step]]\nnode_dies = 'n1'\nrun = 'x'", "step 1: it has"),
        (
            "[[step]]\nnode_dies = 'n1'\n\n[[step]]\ncreate = 2\nsize = '3 bananas'",
            "line 6, step 2, size: ",
        ),
        ("[[step]]\ncreate = 2", "line 1, step 1: Object missing required field `size`"),
        ("[[step]]\nsize='1GiB'\ncreate = 'two'", "line 3, step 1, create: Expected `int`"),
        ("[[step]]\nnode_dies = 'n1'\nsize = 3", "line 3, step 1, size: "),
        ("[[step]]\nrun = 'volume create pg'", "line 2, step 1, run: "),
        ("[[step]]\nrun = 'volume ls'", "changes nothing that can be planned"),
        ("[[step]]\nrun = 'down --purge --yes'", "changes nothing that can be planned"),
        ("[[step]]\nrun = 'node cordon n1 --wait'", "have no place in a plan"),
        ("[[step]]\nrun = 'backup ls s3'", "does something before it is a command"),
        ("[[step]]\nrun = 'volume \"'", "No closing quotation"),
        ("[[step]]\nfails = 'x'\nnode = 'n1'\ncode = 'HW-X'", "line 4, step 1, code: "),
    ],
)
def test_what_is_wrong_in_a_scenario_is_named_with_line_and_field(
    stage: Stage, text: str, said: str
) -> None:
    furnish(stage)
    done = stage.run("plan", written(stage, text))
    assert done.code == 2, done.err
    assert said in done.err
    assert "s.toml" in done.err
    assert all(call.subject != PLAN for call in stage.heard)
    assert not any(call.subject.startswith("hwbus.cmd") for call in stage.heard)


def test_a_scenario_that_is_not_there_is_said_so(stage: Stage) -> None:
    done = stage.run("plan", str(stage.home / "no.toml"))
    assert done.code == 2
    assert "cannot be read" in done.err
