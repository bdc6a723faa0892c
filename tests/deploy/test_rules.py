"""The alert rules: each fires and is quiet when it should, is about metrics that exist, and has a runbook."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.bridge.metrics import BridgeMetrics
from streams.metrics import Metrics
from streams.settings import loads
from tests.deploy.conftest import ROOT, Promtool
from tests.deploy.test_metrics import CITY

PROMETHEUS = ROOT / "deploy" / "prometheus"
UNIT_TESTS = Path(__file__).with_name("rules_test.yml")


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"] for rule in group["rules"]]


def names() -> list[str]:
    return [rule["alert"] for rule in rules()]


def test_prometheus_takes_the_configuration_and_the_rules(promtool: Promtool) -> None:
    promtool("check", "config", PROMETHEUS / "prometheus.yml")
    promtool("check", "rules", PROMETHEUS / "rules.yml")


def test_every_rule_fires_and_keeps_quiet_as_its_unit_tests_say(promtool: Promtool) -> None:
    promtool("test", "rules", UNIT_TESTS)


@pytest.mark.parametrize("alert", names())
def test_a_rule_that_never_fired_would_be_found(alert: str, promtool: Promtool, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=alert):
        promtool("test", "rules", broken(alert, "vector(1) > 1", tmp_path))


@pytest.mark.parametrize("alert", names())
def test_a_rule_that_always_fired_would_be_found(alert: str, promtool: Promtool, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"all is well|" + alert):
        promtool("test", "rules", broken(alert, "vector(1)", tmp_path))


def broken(alert: str, expression: str, directory: Path) -> Path:
    """The unit tests over rules of which one has another expression."""
    content = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())
    for group in content["groups"]:
        for rule in group["rules"]:
            if rule["alert"] == alert:
                rule["expr"] = expression
    (directory / "rules.yml").write_text(yaml.safe_dump(content))
    tests = yaml.safe_load(UNIT_TESTS.read_text()) | {"rule_files": ["rules.yml"]}
    (directory / "test.yml").write_text(yaml.safe_dump(tests))
    return directory / "test.yml"


@pytest.mark.parametrize("alert", names())
def test_every_rule_is_tried_both_ways(alert: str) -> None:
    cases = [c for t in yaml.safe_load(UNIT_TESTS.read_text())["tests"] for c in t.get("alert_rule_test", ())]
    fires = {bool(case.get("exp_alerts")) for case in cases if case["alertname"] == alert}
    assert fires == {True, False}


def test_rules_are_about_metrics_and_labels_that_a_worker_shows() -> None:
    labels: dict[str, set[str]] = {}
    for registry in (Metrics(loads(CITY).timeline, version="1", clock="live").registry, BridgeMetrics().registry):
        for collector, collected in registry._collector_to_names.items():
            for name in collected:
                labels[name] = set(getattr(collector, "_labelnames", ()))
    for rule in rules():
        used = re.findall(r"(urban_brain_\w+)(?:\{([^}]*)\})?", rule["expr"])
        assert used or "up{" in rule["expr"]
        for name, matchers in used:
            assert name in labels, f"{rule['alert']}: {name}"
            assert set(re.findall(r"(\w+)\s*[=!]", matchers)) <= labels[name], rule["alert"]


@pytest.mark.parametrize("rule", rules(), ids=names())
def test_every_rule_tells_a_person_what_where_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    texts = rule["annotations"]
    assert set(texts) == {"summary", "description", "runbook"}
    page, _, anchor = texts["runbook"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.M)
    assert anchor == rule["alert"].lower()
    assert rule["alert"] in headings


def test_no_runbook_is_of_a_rule_that_is_gone() -> None:
    headings = re.findall(r"^#+ (UrbanBrain\w+)$", (ROOT / "docs" / "operations.md").read_text(), re.M)
    assert sorted(headings) == sorted(names())
