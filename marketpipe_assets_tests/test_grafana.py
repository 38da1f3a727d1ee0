"""Prometheus takes the configuration and the rules, and every alert is silent before and fires after."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

GRAFANA = Path(__file__).parents[1] / "grafana"
PROMTOOL = shutil.which("promtool")


@pytest.mark.skipif(PROMTOOL is None, reason="needs promtool (Debian: prometheus)")
@pytest.mark.parametrize(
    "command", ["check config prometheus.yml", "check rules alerts.yml", "test rules alerts_test.yml"]
)
def test_promtool_finds_no_fault(command: str) -> None:
    done = subprocess.run(
        [str(PROMTOOL), *command.split()], cwd=GRAFANA, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout + done.stderr


def test_every_alert_is_tested_silent_and_firing() -> None:
    rules = yaml.safe_load((GRAFANA / "alerts.yml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    tests = [
        test
        for case in yaml.safe_load((GRAFANA / "alerts_test.yml").read_text())["tests"]
        for test in case["alert_rule_test"]
    ]

    assert {test["alertname"] for test in tests if not test.get("exp_alerts")} == alerts
    assert {test["alertname"] for test in tests if test.get("exp_alerts")} == alerts


def test_rules_ask_for_metrics_that_exist() -> None:
    from marketpipe_assets.metrics.names import METRICS

    named = set(re.findall(r"\bmp_\w+", (GRAFANA / "alerts.yml").read_text()))

    assert named <= METRICS.keys()
