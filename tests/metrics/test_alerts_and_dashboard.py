"""The alert rules and the dashboard load into real Prometheus, and name only what onpace exposes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.metrics.names import METRICS
from tests.helpers.onpace_process import REPOSITORY
from tests.metrics.test_exposition import DOCUMENTED

ALERTS = REPOSITORY / "configs" / "alerts.yaml"
CASES = Path(__file__).parent / "alert_cases.yaml"
DASHBOARD = json.loads((REPOSITORY / "configs" / "grafana-dashboard.json").read_text())
RULES = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
EXPRESSIONS = [rule["expr"] for rule in RULES]
TARGETS = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]
GIVEN_BY_PROMETHEUS = {"up"}
SCRAPE_LABELS = {"instance", "job"}


@pytest.fixture
def promtool():
    """Run promtool; return its output. Debian has it in the package prometheus."""
    found = shutil.which("promtool")
    if found is None:
        if os.environ.get("FAIL_WITHOUT_PROMTOOL") == "1":
            pytest.fail("promtool is missing: apt-get install prometheus")
        pytest.skip("promtool is missing: apt-get install prometheus")

    def run(*arguments: str | Path) -> str:
        done = subprocess.run([found, *arguments], capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def metrics_in(expression: str) -> set[str]:
    """Return the families that an expression names."""
    plain = re.sub(r'"[^"]*"', '""', expression)
    names = set(re.findall(r"\b(?:onpace|process)_\w+|\bup\b", plain))
    return {re.sub(r"(_seconds)_(bucket|sum|count)$", r"\1", name) for name in names}


def without_variables(expression: str) -> str:
    """Return a dashboard's expression as Prometheus gets it."""
    return expression.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$stream", ".*")


@pytest.mark.parametrize("expression", EXPRESSIONS + [expression for _, expression in TARGETS])
def test_every_expression_names_only_metrics_and_labels_that_exist(expression):
    names = metrics_in(expression)
    assert names
    assert names <= DOCUMENTED.keys() | GIVEN_BY_PROMETHEUS
    for name, matchers in re.findall(r"(onpace_\w+)\{([^}]*)\}", expression):
        (family,) = metrics_in(name)
        assert set(re.findall(r"(\w+)=~?\"", matchers)) <= {*METRICS[family].labels, *SCRAPE_LABELS}, name


def test_the_rules_are_right_for_prometheus(promtool):
    assert f"{len(RULES)} rules found" in promtool("check", "rules", ALERTS)


def test_each_alert_fires_when_it_should_and_not_before(promtool, tmp_path):
    # The cases are about when, not about words.
    bare = [{key: value for key, value in rule.items() if key != "annotations"} for rule in RULES]
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump({"groups": [{"name": "onpace", "rules": bare}]}))
    cases: dict[str, Any] = yaml.safe_load(CASES.read_text())
    (tmp_path / "cases.yaml").write_text(yaml.safe_dump({"rule_files": ["alerts.yaml"], **cases}))
    promtool("test", "rules", tmp_path / "cases.yaml")
    tried = [case for test in cases["tests"] for case in test["alert_rule_test"]]
    for rule in RULES:
        ours = [case for case in tried if case["alertname"] == rule["alert"]]
        assert any(case["exp_alerts"] for case in ours), f"{rule['alert']} is never seen to fire"
        assert any(not case["exp_alerts"] for case in ours), f"{rule['alert']} is never seen to be silent"


def test_each_alert_says_what_is_wrong_and_what_to_do():
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"]["summary"] and len(rule["annotations"]["description"]) > 40, rule["alert"]


def test_prometheus_understands_every_expression_of_the_dashboard(promtool, tmp_path):
    rules = [
        {"record": f"dashboard:{number}", "expr": without_variables(expression)}
        for number, (_, expression) in enumerate(TARGETS)
    ]
    assert not [rule for rule in rules if "$" in rule["expr"]]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", tmp_path / "rules.yaml")


def test_the_dashboard_is_whole():
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert DASHBOARD["uid"] and DASHBOARD["schemaVersion"] >= 36 and DASHBOARD["title"]
    for panel in panels:
        place = panel["gridPos"]
        assert panel["title"] and panel["description"] and panel["type"] and panel["targets"]
        assert place["x"] >= 0 and place["x"] + place["w"] <= 24 and place["h"] > 0
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    for one in panels:
        for other in panels:
            assert one is other or not _overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])
    known = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD))) - {"__rate_interval", "__all"}
    assert used <= known


def test_the_dashboard_shows_every_figure_of_ours():
    shown = set().union(*(metrics_in(expression) for _, expression in TARGETS))
    alerted = set().union(*(metrics_in(rule["expr"]) for rule in RULES))
    left_out = {"onpace_process_verdict", "onpace_stream_state", "onpace_stream_capture_clock"}
    assert METRICS.keys() - shown - alerted == left_out


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )
