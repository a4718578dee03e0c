"""What is shipped for Prometheus and Grafana, and which figures it names."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

_DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = _DEPLOY / "prometheus" / "hwbus.rules.yml"
DASHBOARDS = sorted((_DEPLOY / "grafana").glob("*.json"))
_FIGURE = re.compile(r"\bhwbus_[a-z0-9_]+")


@cache
def rules() -> tuple[dict[str, Any], ...]:
    """Return every alarm, as the file has it."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return tuple(rule for group in groups for rule in group["rules"])


def expressions() -> Iterator[str]:
    """Give what the panels of all dashboards show."""
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            yield from (target["expr"] for target in panel["targets"])


def figures_named() -> set[str]:
    """Return the figures that alarms and dashboards look at."""
    told = [*(rule["expr"] for rule in rules()), *expressions()]
    return {name for text in told for name in _FIGURE.findall(text)}


def figures_in(page: str) -> set[str]:
    """Return the figures that a page of ``/metrics`` has, with or without a value."""
    return set(re.findall(r"^# TYPE (\S+)", page, re.MULTILINE))
