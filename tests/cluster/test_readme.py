"""cluster/README.md against the files that it sends people to."""

from __future__ import annotations

import re

import yaml

from tests.cluster.manifests import CLUSTER, KUBERAY, MONITORING, ROOT, cluster_spec, documents, manifest

TEXT = (CLUSTER / "README.md").read_text()


def test_the_files_that_it_names_are_there() -> None:
    named = set(re.findall(r"\bcluster/[\w./-]*\w", TEXT))
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_it_makes_every_secret_that_the_manifests_ask_for() -> None:
    made = dict(re.findall(r"create secret generic ([\w-]+)\s[^=]*--from-literal=(\w+)=", TEXT))
    spec = cluster_spec(manifest("RayCluster"))
    asked = {spec["authOptions"]["secretName"]: "auth_token"}
    for path in KUBERAY.glob("*.yaml"):
        asked |= dict(re.findall(r"secretKeyRef:\s*\{?\s*name: ([\w-]+),?\s*key: (\w+)", path.read_text()))
    assert asked == made


def test_the_rules_become_a_resource_of_the_prometheus_operator() -> None:
    head = re.search(r"printf '([^']+)'", TEXT)
    assert head
    rules = (MONITORING / "rules.yml").read_text()
    resource = yaml.safe_load(head[1].replace("\\n", "\n") + "".join(f"  {line}\n" for line in rules.splitlines()))
    assert resource["kind"] == "PrometheusRule"
    assert resource["spec"] == documents(MONITORING / "rules.yml")[0]
