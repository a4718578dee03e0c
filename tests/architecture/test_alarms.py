"""Every alarm fires when it should and not before, has a page, and names only figures we emit."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from hwbus.cli.app import build
from schemas.disk import Health
from schemas.limbo import Limbo
from schemas.replica_view import VolumeHealth
from tests.support.alarms import DASHBOARDS, RULES, expressions, rules
from tests.support.cli import Stage

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "alarms"
LONG = "x60"
HEALTHS = frozenset({*VolumeHealth, *Health})


class Case(msgspec.Struct, frozen=True):
    """Series of an hour, a value a minute, with which an alarm fires, and others where not.

    ``labels`` are those it carries beside its severity.
    """

    fires: dict[str, str]
    quiet: dict[str, str]
    labels: dict[str, str] = {}
    after: str = "40m"


def health(how: str, otherwise: str = "healthy") -> Case:
    def of(health: str) -> str:
        return f'hwbus_volume_health{{volume="pg",health="{health}"}}'

    labels = {"volume": "pg", "health": how}
    return Case({of(how): f"1{LONG}"}, {of(otherwise): f"1{LONG}"}, labels)


def over(name: str, much: float, little: float, **labels: str) -> Case:
    told = ",".join(f'{key}="{value}"' for key, value in labels.items())
    series = f"{name}{{{told}}}"
    return Case({series: f"{much}{LONG}"}, {series: f"{little}{LONG}"}, labels)


POOL = {"pool": "fast", "node": "n1"}
ON = '{pool="fast",node="n1"}'
SIGNED = 'hwbus_notary_signed_position{stream="HWBUS_EVENTS"}'
ARCHIVE_AGE = 'hwbus_archive_age_seconds{stream="HWBUS_AUDIT"}'
ARCHIVE_EVERY = 'hwbus_archive_every_seconds{stream="HWBUS_AUDIT"}'
HEARD_ON = 'hwbus_logins_heard{{instance="{}"}}'
CASES = {
    "VolumeDegraded": health("degraded", "syncing"),
    "VolumeFrozen": health("frozen"),
    "VolumeSplit": health("split", "degraded"),
    "VolumeFailed": health("failed"),
    "NodeSilent": over("hwbus_node_silent", 1, 0, node="n1"),
    "DiskFailing": Case(
        {'hwbus_disk_health{disk="d1",node="n1",health="failing"}': f"1{LONG}"},
        {'hwbus_disk_health{disk="d1",node="n1",health="unknown"}': f"1{LONG}"},
        {"disk": "d1", "node": "n1", "health": "failing"},
    ),
    "WorkerBacklog": over("hwbus_worker_letters_waiting", 101, 100, node="n1"),
    "AuditRecordsLost": Case(
        {'hwbus_worker_records_dropped_total{node="n1"}': "0x20 7x40"},
        {'hwbus_worker_records_dropped_total{node="n1"}': f"7{LONG}"},
        {"node": "n1"},
    ),
    "PoolNearlyFull": Case(
        {
            f"hwbus_pool_committed_bytes{ON}": f"91{LONG}",
            f"hwbus_pool_capacity_bytes{ON}": f"100{LONG}",
        },
        {
            f"hwbus_pool_committed_bytes{ON}": f"90{LONG}",
            f"hwbus_pool_capacity_bytes{ON}": f"100{LONG}",
        },
        POOL,
    ),
    "PoolFillingUp": Case(
        {
            f"hwbus_pool_committed_bytes{ON}": "600+1x200",
            f"hwbus_pool_capacity_bytes{ON}": "1000x200",
        },
        {
            f"hwbus_pool_committed_bytes{ON}": "600x200",
            f"hwbus_pool_capacity_bytes{ON}": "1000x200",
        },
        POOL,
        after="150m",
    ),
    "PoolMetadataNearlyFull": over("hwbus_pool_metadata_used_ratio", 0.81, 0.8, **POOL),
    "ThinPoolNearlyFull": over("hwbus_pool_thin_used_ratio", 0.8, 0.75, **POOL),
    "ThinMetadataNearlyFull": over("hwbus_pool_thin_metadata_used_ratio", 0.8, 0.75, **POOL),
    "ThinOvercommitted": Case(
        {
            f"hwbus_pool_thin_promised_bytes{ON}": f"20{LONG}",
            f"hwbus_pool_thin_bytes{ON}": f"10{LONG}",
            f"hwbus_pool_thin_used_ratio{ON}": f"0.7{LONG}",
        },
        {
            f"hwbus_pool_thin_promised_bytes{ON}": f"10{LONG}",
            f"hwbus_pool_thin_bytes{ON}": f"10{LONG}",
            f"hwbus_pool_thin_used_ratio{ON}": f"0.75{LONG}",
        },
        POOL,
    ),
    "SnapshotFilling": over("hwbus_snapshot_used_ratio", 0.8, 0.75, snapshot="s1", volume="pg"),
    "SnapshotLost": over("hwbus_snapshot_lost", 1, 0, snapshot="s1", volume="pg"),
    "BackupOverdue": Case(
        {'hwbus_backup_last_success_timestamp_seconds{volume="pg",target="s3"}': f"-130000{LONG}"},
        {'hwbus_backup_last_success_timestamp_seconds{volume="pg",target="s3"}': f"-100000{LONG}"},
        {"volume": "pg", "target": "s3"},
    ),
    "ControlPlaneDown": Case({"up": f"0{LONG}"}, {'hwbus_build_info{version="1"}': f"1{LONG}"}),
    "OperationOverdue": Case(
        {"hwbus_operations_overdue": f"1{LONG}"}, {"hwbus_operations_overdue": f"0{LONG}"}
    ),
    "LimboFound": over("hwbus_limbo_findings", 1, 0, check="causes"),
    "LogNearlyFull": Case(
        {
            'hwbus_log_bytes{stream="HWBUS_EVENTS"}': f"81{LONG}",
            'hwbus_log_limit_bytes{stream="HWBUS_EVENTS"}': f"100{LONG}",
        },
        {'hwbus_log_bytes{stream="HWBUS_EVENTS"}': f"81{LONG}"},
        {"stream": "HWBUS_EVENTS"},
    ),
    "StateNearlyFull": over("hwbus_state_free_bytes", 1 << 29, 1 << 31),
    "ProjectorLag": over("hwbus_projector_lag_seconds", 61, 60, stream="events"),
    "MessagesParked": Case(
        {"hwbus_messages_parked_total": "0x20 1x40"}, {"hwbus_messages_parked_total": f"1{LONG}"}
    ),
    "HeadNotSigned": Case(
        {"hwbus_desk_position": "10+1x60", SIGNED: f"9{LONG}"},
        {"hwbus_desk_position": "10+1x60", SIGNED: "9+1x60"},
    ),
    "ArchiveBehind": Case(
        {ARCHIVE_AGE: "0+60x60", ARCHIVE_EVERY: f"600{LONG}"},
        {ARCHIVE_AGE: "0+60x10 0+60x9 0+60x40", ARCHIVE_EVERY: f"600{LONG}"},
        {"stream": "HWBUS_AUDIT"},
    ),
    "LoginsNotHeard": Case(
        {HEARD_ON.format("a"): f"0{LONG}", HEARD_ON.format("b"): f"0{LONG}"},
        {HEARD_ON.format("a"): f"0{LONG}", HEARD_ON.format("b"): f"1{LONG}"},
    ),
    "DriftFound": over("hwbus_drift_findings", 2, 0, node="n1"),
    "PolicyAlarm": over("hwbus_policy_alarms", 2, 0, policy="roomy"),
    "QosBehind": over("hwbus_qos_behind_volumes", 2, 0, qos="gold"),
}


@pytest.fixture(scope="module")
def promtool() -> str:
    beside = Path(sys.executable).with_name("promtool")
    found = str(beside) if beside.exists() else shutil.which("promtool")
    if found is None:
        reason = "no promtool: scripts/bootstrap --promtool gets it (as root on Debian or Ubuntu)"
        if os.environ.get("CI", "").lower() not in {"", "0", "false"}:
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def run(promtool: str, *argv: str) -> str:
    done = subprocess.run(
        [promtool, *argv],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_there_is_a_case_for_every_alarm() -> None:
    assert set(CASES) == {rule["alert"] for rule in rules()}


def test_the_rules_and_the_configuration_are_what_prometheus_reads(promtool: str) -> None:
    run(promtool, "check", "config", str(RULES.with_name("prometheus.yml")))


def test_every_alarm_fires_in_its_case_and_not_in_the_other(promtool: str, tmp_path: Path) -> None:
    files = []
    for rule in rules():
        # Alone, for speed, and without its words, which promtool would compare to the letter.
        bare = {key: rule[key] for key in rule if key != "annotations"}
        alone = tmp_path / f"{rule['alert']}.rules.yml"
        alone.write_text(yaml.safe_dump({"groups": [{"name": "alone", "rules": [bare]}]}))
        case = CASES[rule["alert"]]
        played = [_played(rule, case, fires=fires) for fires in (True, False)]
        both = {"rule_files": [str(alone)], "evaluation_interval": "1m", "tests": played}
        files.append(tmp_path / f"{rule['alert']}.yml")
        files[-1].write_text(yaml.safe_dump(both))
    run(promtool, "test", "rules", *map(str, files))


def _played(rule: dict[str, Any], case: Case, *, fires: bool) -> dict[str, Any]:
    series = case.fires if fires else case.quiet
    expected = [{"exp_labels": {**rule["labels"], **case.labels}}] if fires else []
    return {
        "name": f"{rule['alert']} {'fires' if fires else 'is quiet'}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [
            {"eval_time": case.after, "alertname": rule["alert"], "exp_alerts": expected}
        ],
    }


def test_every_expression_of_a_dashboard_is_one(promtool: str, tmp_path: Path) -> None:
    records = [
        {"record": f"panel:{number}", "expr": expression}
        for number, expression in enumerate(expressions())
    ]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": records}]}))
    run(promtool, "check", "rules", str(path))


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_can_be_imported_anywhere(path: Path) -> None:
    board = json.loads(path.read_text())
    assert board["uid"] == f"hwbus-{path.stem}"
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids)) > 8
    places = {(p["gridPos"]["x"], p["gridPos"]["y"]) for p in board["panels"]}
    assert len(places) == len(ids), "panels lie on each other"
    for panel in board["panels"]:
        assert panel["title"]
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"


def test_values_of_labels_that_are_asked_for_are_ones_that_there_are() -> None:
    told = [*(rule["expr"] for rule in rules()), *expressions()]
    asked = [one for text in told for one in re.findall(r'health[!=]~?"([^"]+)"', text)]
    assert len(asked) > 5
    assert {value for one in asked for value in one.split("|")} <= HEALTHS


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alarm_has_a_page_that_says_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    page = ROOT / rule["annotations"]["runbook_url"]
    assert page == PAGES / f"{rule['alert']}.md"
    text = page.read_text()
    assert text.startswith(f"# {rule['alert']}\n\nSeverity: {rule['labels']['severity']}.\n")
    for heading in ("## What it means", "## How to look", "## What to do"):
        assert f"\n{heading}\n\n" in text
    assert f"[{rule['alert']}]({page.name})" in (PAGES / "README.md").read_text()


def test_no_page_is_about_an_alarm_that_is_gone() -> None:
    pages = {path.stem for path in PAGES.glob("*.md")} - {"README"}
    assert pages == {rule["alert"] for rule in rules()}


def spoken() -> Iterator[tuple[str, bool]]:
    for page in sorted(PAGES.glob("*.md")):
        text = page.read_text()
        yield from ((line, True) for line in re.findall(r"^\$ hwbus (.*)$", text, re.MULTILINE))
        yield from ((line, False) for line in re.findall(r"`hwbus ([^`]*)`", text))


@pytest.mark.parametrize(("line", "whole"), sorted(set(spoken())))
def test_a_command_on_a_page_is_one_that_there_is(line: str, whole: bool, tmp_path: Path) -> None:
    app, words = build(), line.partition("#")[0].split()
    if whole:
        Stage(tmp_path).enter()
        app.parse_args(words, print_error=False, exit_on_error=False)
        return
    chain, apps, _ = app.parse_commands(words)
    assert chain, f"there is no hwbus {line}"
    assert apps[-1].default_command is not None, f"hwbus {line} is not whole"


def test_the_page_on_limbo_says_of_every_code_what_hwbus_explain_does() -> None:
    page = (ROOT / "docs" / "limbo.md").read_text()
    for code in Limbo:
        assert f"| `{code}` | {code.check} | {code.meaning} | {code.advice} |\n" in page
