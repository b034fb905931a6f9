"""Prometheus' own tool on its files; dashboards and rules against the metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from raysafe.monitoring.exported import GAUGES
from raysafe.serving.metrics import Metrics
from tests.cluster.manifests import KUBERAY, MONITORING, documents, metric_names

PROMTOOL = shutil.which("promtool") or shutil.which("promtool", path=str(Path(sys.executable).parent))
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool (Debian's package prometheus) isn't installed")
DASHBOARDS = sorted((MONITORING / "grafana" / "dashboards").glob("*.json"))
each_dashboard = pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
OUTSIDE = {"up"}  # Prometheus' own


def promtool(*arguments: object, folder: Path = MONITORING) -> subprocess.CompletedProcess[str]:
    assert PROMTOOL is not None
    return subprocess.run([PROMTOOL, *map(str, arguments)], cwd=folder, capture_output=True, text=True, check=False)


def rules() -> list[dict[str, Any]]:
    (file,) = documents(MONITORING / "rules.yml")
    return [rule for group in file["groups"] for rule in group["rules"]]


def of_the_gateway() -> set[str]:
    """The gateway's metrics as its registry exports them, samples of histograms and counters included."""
    metrics = Metrics("m")
    names = set()
    for family in metrics.registry.collect():
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}[family.type]
        names |= {family.name + suffix for suffix in suffixes}
    return names


def of_the_monitor() -> set[str]:
    """The safety monitor's metrics, under the names that Ray exports them by."""
    return {f"ray_{name}" for name in GAUGES}


def of_ray() -> set[str]:
    """Ray's metrics: those of a running head, the reporter's gauges, and those of Ray's own panels."""
    assert ray.__version__.startswith("2.60."), "make ray_metrics.txt anew for this version"
    package = Path(ray.__file__).parent
    seen = {
        line
        for line in Path(__file__).with_name("ray_metrics.txt").read_text().splitlines()
        if not line.startswith("#")
    }
    reporter = (package / "dashboard/modules/reporter/reporter_agent.py").read_text()
    gauges = {f"ray_{name}" for name in re.findall(r'Gauge\(\s*"(\w+)"', reporter)}
    panels = (package / "dashboard/modules/metrics/dashboards/default_dashboard_panels.py").read_text()
    return seen | gauges | set(re.findall(r"\bray_\w+(?=\{\{)", panels))


def dashboard(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def expressions(board: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]


@needs_promtool
def test_promtool_takes_the_configuration_and_the_rules() -> None:
    found = promtool("check", "config", "prometheus.yml")
    assert found.returncode == 0, found.stderr
    assert f"{len(rules())} rules found" in found.stdout


@needs_promtool
def test_the_alerts_fire_when_they_should_and_only_then() -> None:
    found = promtool("test", "rules", "rules_test.yml")
    assert found.returncode == 0, found.stdout + found.stderr


@needs_promtool
def test_promtool_finds_a_rule_whose_threshold_has_moved(tmp_path: Path) -> None:
    text = (MONITORING / "rules.yml").read_text()
    assert "> 0.97" in text
    (tmp_path / "rules.yml").write_text(text.replace("> 0.97", "> 0.99"))
    (tests,) = documents(MONITORING / "rules_test.yml")
    tests["tests"] = [test for test in tests["tests"] if "GPU" in test["name"]]
    (tmp_path / "rules_test.yml").write_text(yaml.safe_dump(tests))
    found = promtool("test", "rules", "rules_test.yml", folder=tmp_path)
    assert found.returncode != 0
    assert "GPUMemoryNearlyFull" in found.stdout + found.stderr


@needs_promtool
def test_promtool_finds_a_rule_that_is_no_promql(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(
        (MONITORING / "rules.yml").read_text().replace("sum by (model", "sum bye (model")
    )
    assert promtool("check", "rules", "rules.yml", folder=tmp_path).returncode != 0


@needs_promtool
@each_dashboard
def test_every_panels_expression_is_promql(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "rules.yml"
    recorded = [
        {"record": f"panel:{number}", "expr": expression.replace("$instance", ".*").replace("$model", ".*")}
        for number, expression in enumerate(expressions(dashboard(path)))
    ]
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    found = promtool("check", "rules", file)
    assert found.returncode == 0, found.stdout + found.stderr


def test_each_alert_has_a_test_that_it_fires() -> None:
    (tests,) = documents(MONITORING / "rules_test.yml")
    fired = {case["alertname"] for test in tests["tests"] for case in test["alert_rule_test"] if case.get("exp_alerts")}
    assert fired == {rule["alert"] for rule in rules()}


def test_rules_ask_for_metrics_that_there_are() -> None:
    asked = set().union(*(metric_names(rule["expr"]) for rule in rules()))
    assert asked - of_ray() - of_the_gateway() - of_the_monitor() - OUTSIDE == set()


@each_dashboard
def test_panels_ask_for_metrics_that_there_are(path: Path) -> None:
    board = dashboard(path)
    queries = [variable["query"] for variable in board["templating"]["list"] if variable["type"] == "query"]
    asked = set().union(*(metric_names(expression) for expression in expressions(board)))
    asked |= {re.fullmatch(r"label_values\((\w+), \w+\)", query)[1] for query in queries}  # type: ignore[index]
    assert len(asked) > 5
    assert asked - of_ray() - of_the_gateway() - of_the_monitor() == set()


def test_a_metric_that_does_not_exist_is_found() -> None:
    asked = metric_names('sum by (le) (rate(raysafe_latency_bucket{mode="whole"}[5m])) / on (job) ray_resources')
    assert asked == {"raysafe_latency_bucket", "ray_resources"}
    assert asked - of_ray() - of_the_gateway() == {"raysafe_latency_bucket"}


def test_rules_and_panels_ask_the_gateway_for_labels_that_it_gives() -> None:
    metrics = Metrics("m")
    metrics.ended(stream=False, outcome="allowed", seconds=1.0)
    known = {"requests": {"model", "mode", "outcome"}, "request_seconds": {"model", "mode"}}
    exported = metrics.text().decode()
    for name, labels in known.items():
        sample = re.search(rf"^raysafe_{name}_\w+{{([^}}]*)}}", exported, re.MULTILINE)
        assert sample
        assert labels <= set(re.findall(r"(\w+)=", sample[1]))
    texts = [rule["expr"] for rule in rules()] + [e for path in DASHBOARDS for e in expressions(dashboard(path))]
    for name, labels in known.items():
        for text in texts:
            for matchers in re.findall(rf"raysafe_{name}_\w+{{([^}}]*)}}", text):
                assert set(re.findall(r"(\w+)(?:=|!)", matchers)) <= labels


def test_outcomes_in_the_rules_are_the_gateways() -> None:
    from typing import get_args

    from raysafe.serving.metrics import Outcome

    used = {
        outcome
        for rule in rules()
        for found in re.findall(r'outcome=~?"([^"]+)"', rule["expr"])
        for outcome in found.split("|")
    }
    assert used
    assert used <= set(get_args(Outcome))


@each_dashboard
def test_dashboards_hang_together(path: Path) -> None:
    board = dashboard(path)
    variables = {variable["name"] for variable in board["templating"]["list"]}
    numbers = [panel["id"] for panel in board["panels"]]
    assert "datasource" in variables
    assert len(set(numbers)) == len(numbers)
    for panel in board["panels"]:
        assert panel["title"]
        assert panel["description"]
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters)
    for expression in expressions(board):
        assert set(re.findall(r"\$\{?(\w+)", expression)) <= variables


@each_dashboard
def test_panels_do_not_overlap(path: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard(path)["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not taken & cells
        taken |= cells


def test_dashboards_have_names_of_their_own() -> None:
    boards = [dashboard(path) for path in DASHBOARDS]
    assert len({board["uid"] for board in boards}) == len({board["title"] for board in boards}) == len(boards) == 3


def test_pod_monitors_name_ports_and_labels_of_the_pods() -> None:
    nodes, gateway = documents(MONITORING / "podmonitor.yaml")
    (service,) = documents(KUBERAY / "rayservice.yaml")
    head = service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]
    ports = {port["name"] for port in head["spec"]["containers"][0]["ports"]}
    asked = {end["port"] for monitor in (nodes, gateway) for end in monitor["spec"]["podMetricsEndpoints"]}
    assert asked <= ports
    assert gateway["spec"]["selector"]["matchLabels"] == head["metadata"]["labels"]
    jobs = {
        label["replacement"]
        for monitor in (nodes, gateway)
        for end in monitor["spec"]["podMetricsEndpoints"]
        for label in end["relabelings"]
        if label["targetLabel"] == "job"
    }
    (config,) = documents(MONITORING / "prometheus.yml")
    assert jobs == {scrape["job_name"] for scrape in config["scrape_configs"]} == {"ray", "raysafe-gateway"}


def test_prometheus_reads_rays_own_list_of_nodes() -> None:
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    (config,) = documents(MONITORING / "prometheus.yml")
    assert config["scrape_configs"][0]["file_sd_configs"][0]["files"] == [
        f"/tmp/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"
    ]
