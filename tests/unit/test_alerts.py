"""Dashboard, alerts and runbook speak of what is there: a typing error here shows itself in the night it is needed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

import pipeline.app  # noqa: F401  # every metric of a worker is registered by importing it

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "pstn.json").read_text())
RULES = [rule for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
OF_PROMETHEUS = {"instance", "job", "le"}


def labels_of_metrics() -> dict[str, set[str]]:
    """Every series name that a worker serves, with the labels it has."""
    found: dict[str, set[str]] = {"process_cpu_seconds_total": set(), "process_resident_memory_bytes": set()}
    for collector in set(REGISTRY._names_to_collectors.values()):
        if not isinstance(collector, MetricWrapperBase):
            continue
        for name in (name for name, owner in REGISTRY._names_to_collectors.items() if owner is collector):
            found[name] = set(collector._labelnames)
    return found


METRICS = labels_of_metrics()


def expressions() -> list[str]:
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    return [rule["expr"] for rule in RULES] + [target["expr"] for panel in panels for target in panel["targets"]]


@pytest.mark.parametrize("expression", expressions())
def test_every_metric_and_label_that_is_named_exists(expression: str) -> None:
    named = set(re.findall(r"\b(?:pstn|process)_[a-z_]+", expression))
    assert named, "it watches nothing"
    assert named <= METRICS.keys()
    known = set.union(*(METRICS[name] for name in named)) | OF_PROMETHEUS
    grouped = [label.strip() for labels in re.findall(r"\bby \(([^)]*)\)", expression) for label in labels.split(",")]
    matched = [label for braces in re.findall(r"\{([^}]*)\}", expression) for label in re.findall(r"(\w+)=", braces)]
    assert set(grouped) | set(matched) <= known


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    """Who is woken finds the section by the alert's name: what it means, what to look at, what to do."""
    _, _, after = RUNBOOK.partition(f"\n## {rule['alert']}\n")
    section = after.split("\n## ")[0]
    assert "Look:" in section
    assert "Do:" in section
    assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
    assert rule["labels"]["severity"] in {"page", "ticket"}


def test_the_runbook_names_no_alert_that_is_gone() -> None:
    sections = set(re.findall(r"\n## (\w+)\n", RUNBOOK.partition("\n# Alerts\n")[2]))
    assert sections == {rule["alert"] for rule in RULES}


@pytest.mark.parametrize("command", [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]])
def test_promtool_accepts_the_rules_and_they_fire_when_they_must(command: list[str]) -> None:
    """Prometheus's own tool, on made-up series: quiet when all is well, heard when it is not."""
    promtool = shutil.which("promtool")
    assert promtool is not None, "promtool is not installed: type `tests/install-servers`"
    done = subprocess.run([promtool, *command], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboards_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(x + place["x"], y + place["y"]) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
