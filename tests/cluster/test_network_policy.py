"""What the network policies let through, worked out as Kubernetes does: a connection needs a rule at both ends."""

from __future__ import annotations

import ipaddress
from typing import Any

import jsonschema
import pytest

from tests.cluster.manifests import KUBERAY, documents, part, schema, validate

HERE = "raysafe"
HEAD = {"ray.io/is-ray-node": "yes", "ray.io/node-type": "head"}
WORKER = {"ray.io/is-ray-node": "yes", "ray.io/node-type": "worker"}
REDIS = {"app.kubernetes.io/name": "raysafe-redis"}
SUBMITTER = {"app.kubernetes.io/component": "submitter"}
OPERATOR = {"app.kubernetes.io/name": "kuberay-operator"}
POLICIES = documents(KUBERAY / "network-policy.yaml")
HUB = documents(KUBERAY / "network-policy-hub.yaml")


def matches(selector: dict[str, Any] | None, labels: dict[str, str]) -> bool:
    return (selector or {}).get("matchLabels", {}).items() <= labels.items()


def peer_matches(peer: dict[str, Any], labels: dict[str, str], namespace: dict[str, str]) -> bool:
    if "ipBlock" in peer:
        return False
    within = matches(peer["namespaceSelector"], namespace) if "namespaceSelector" in peer else named(namespace) == HERE
    return within and matches(peer.get("podSelector"), labels)


def named(namespace: dict[str, str]) -> str:
    return namespace["kubernetes.io/metadata.name"]


def allows(policies: list[dict[str, Any]], direction: str, pod: dict[str, str], port: int, peer: Any) -> bool:
    """Whether the pod's policies let a TCP connection pass; peer: (labels, namespace's labels), or an address."""
    side, kind = ("from", "Ingress") if direction == "ingress" else ("to", "Egress")
    bound = [p["spec"] for p in policies if matches(p["spec"]["podSelector"], pod) and kind in p["spec"]["policyTypes"]]
    assert bound, "a pod that no policy binds is open"
    for rule in (rule for spec in bound for rule in spec.get(direction, [])):
        if "ports" in rule and not any(p["port"] == port and p["protocol"] == "TCP" for p in rule["ports"]):
            continue
        if any(_reaches(entry, peer) for entry in rule[side]):
            return True
    return False


def _reaches(entry: dict[str, Any], peer: Any) -> bool:
    if not isinstance(peer, str):
        return peer_matches(entry, *peer)
    block = entry.get("ipBlock")
    address = ipaddress.ip_address(peer)
    return bool(
        block
        and address in ipaddress.ip_network(block["cidr"])
        and not any(address in ipaddress.ip_network(other) for other in block.get("except", []))
    )


def space(name: str, **labels: str) -> dict[str, str]:
    return {"kubernetes.io/metadata.name": name, **labels}


def test_kuberays_copy_of_the_schema_takes_every_rule() -> None:
    rules = part(schema("RayCluster"), "spec", "networkPolicy", "head")
    for document in POLICIES + HUB:
        for direction, field in (("ingress", "ingressRules"), ("egress", "egressRules")):
            validate(document["spec"].get(direction, []), part(rules, field))


def test_the_schema_refuses_a_misspelt_peer() -> None:
    rules = part(schema("RayCluster"), "spec", "networkPolicy", "head", "ingressRules")
    with pytest.raises(jsonschema.ValidationError, match="podselector"):
        validate([{"from": [{"podselector": {}}]}], rules)


@pytest.mark.parametrize("pod", [HEAD, WORKER, REDIS, SUBMITTER, {}])
@pytest.mark.parametrize("port", [22, 6379, 8000, 8080, 8265, 10001, 52365])
def test_other_namespaces_reach_nothing(pod: dict[str, str], port: int) -> None:
    assert not allows(POLICIES, "ingress", pod, port, ({}, space("default")))


@pytest.mark.parametrize("pod", [HEAD, WORKER, REDIS, SUBMITTER, {}])
@pytest.mark.parametrize("address", ["8.8.8.8", "169.254.169.254", "203.0.113.7"])
def test_nothing_leaves_for_the_internet_or_the_clouds_credentials(pod: dict[str, str], address: str) -> None:
    assert not allows(POLICIES, "egress", pod, 443, address)
    assert not allows(POLICIES, "egress", pod, 80, address)


def test_ray_nodes_reach_each_other_on_any_port() -> None:
    for one, other in ((HEAD, WORKER), (WORKER, HEAD), (WORKER, WORKER)):
        assert allows(POLICIES, "egress", one, 31234, (other, space(HERE)))
        assert allows(POLICIES, "ingress", other, 31234, (one, space(HERE)))


def test_only_ray_nodes_reach_redis() -> None:
    assert allows(POLICIES, "egress", HEAD, 6379, (REDIS, space(HERE)))
    assert allows(POLICIES, "ingress", REDIS, 6379, (HEAD, space(HERE)))
    assert not allows(POLICIES, "ingress", REDIS, 6379, (SUBMITTER, space(HERE)))
    assert not allows(POLICIES, "egress", REDIS, 6379, (HEAD, space(HERE)))


def test_the_submitter_reaches_the_dashboard_and_no_other_port() -> None:
    assert allows(POLICIES, "egress", SUBMITTER, 8265, (HEAD, space(HERE)))
    assert allows(POLICIES, "ingress", HEAD, 8265, (SUBMITTER, space(HERE)))
    assert not allows(POLICIES, "egress", SUBMITTER, 10001, (HEAD, space(HERE)))


def test_the_operator_reaches_the_dashboard_from_its_own_namespace() -> None:
    assert allows(POLICIES, "ingress", HEAD, 8265, (OPERATOR, space("kuberay-system")))
    assert not allows(POLICIES, "ingress", WORKER, 8265, (OPERATOR, space("kuberay-system")))


def test_the_gateway_is_open_to_namespaces_with_the_label_only() -> None:
    client = space("front", **{"raysafe/gateway-client": "true"})
    assert allows(POLICIES, "ingress", WORKER, 8000, ({}, client))
    assert not allows(POLICIES, "ingress", WORKER, 8265, ({}, client))


def test_prometheus_reaches_figures_and_not_the_dashboard() -> None:
    for port in (8080, 44217, 44227, 8000):
        assert allows(POLICIES, "ingress", HEAD, port, ({}, space("monitoring")))
    assert not allows(POLICIES, "ingress", HEAD, 8265, ({}, space("monitoring")))


def test_only_the_head_reaches_kubernetes() -> None:
    assert allows(POLICIES, "egress", HEAD, 443, "10.96.0.1")
    assert not allows(POLICIES, "egress", WORKER, 443, "10.96.0.1")


def test_the_hub_is_opened_by_a_policy_of_its_own_and_credentials_stay_out_of_reach() -> None:
    assert allows(POLICIES + HUB, "egress", WORKER, 443, "203.0.113.7")
    assert not allows(POLICIES + HUB, "egress", WORKER, 443, "169.254.169.254")
    assert not allows(POLICIES + HUB, "egress", WORKER, 22, "203.0.113.7")
