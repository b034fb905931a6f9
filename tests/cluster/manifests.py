"""What the tests of cluster/ read: manifests by kind and name, KubeRay's schemas, and metric names in PromQL."""

from __future__ import annotations

import copy
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.real_data import ROOT, SHARED

CLUSTER = ROOT / "cluster"
KUBERAY = CLUSTER / "kuberay"
MONITORING = CLUSTER / "monitoring"
SCHEMAS = SHARED / "kuberay"
CLUSTER_SPEC = {"RayCluster": "spec", "RayJob": "rayClusterSpec", "RayService": "rayClusterConfig"}
FILES = {"RayCluster": "raycluster.yaml", "RayJob": "rayjob.yaml", "RayService": "rayservice.yaml"}


def documents(path: Path) -> list[dict[str, Any]]:
    """All documents of a YAML file, the caller's own."""
    return copy.deepcopy(_documents(path))


@cache
def _documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.load_all(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def manifest(kind: str) -> dict[str, Any]:
    """KubeRay's RayCluster, RayJob or RayService of this repository."""
    (found,) = documents(KUBERAY / FILES[kind])
    return found


def cluster_spec(resource: dict[str, Any]) -> dict[str, Any]:
    """The spec of the cluster that a resource of KubeRay describes."""
    kind = resource["kind"]
    return resource["spec"] if kind == "RayCluster" else resource["spec"][CLUSTER_SPEC[kind]]


def groups(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The head's group and the workers'."""
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


@cache
def schema(kind: str) -> dict[str, Any]:
    """KubeRay's schema, made strict: Kubernetes drops a field that it doesn't know, so here such a field is refused."""
    path = SCHEMAS / f"{kind.lower()}-v1.schema.json"
    if not path.is_file():
        pytest.skip(f"KubeRay's schemas aren't in {SCHEMAS}")
    return strict(json.loads(path.read_text()))


def strict(node: Any) -> Any:
    """The schema without room for unknown fields, wherever it says which ones there are."""
    if isinstance(node, list):
        return [strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    closed = {key: strict(value) for key, value in node.items()}
    listed = isinstance(node.get("properties"), dict) and node.get("type") == "object"
    if listed and not node.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    if node.get("x-kubernetes-int-or-string"):
        closed["type"] = ["integer", "string"]
    return closed


def part(whole: dict[str, Any], *path: str) -> dict[str, Any]:
    """The schema of a field inside another's; `[]` goes into a list's items."""
    found = whole
    for name in path:
        found = found["items"] if name == "[]" else found["properties"][name]
    return found


def validate(value: Any, against: dict[str, Any]) -> None:
    """Raise jsonschema.ValidationError where the value doesn't fit; the schema itself isn't examined, which is slow."""
    jsonschema.Draft202012Validator(against).validate(value)


def without(resource: dict[str, Any], *path: str | int) -> dict[str, Any]:
    """A copy of the resource that lacks one field."""
    changed = copy.deepcopy(resource)
    holder: Any = changed
    for name in path[:-1]:
        holder = holder[name]
    del holder[path[-1]]
    return changed


def quantity(text: str) -> float:
    """A Kubernetes quantity of memory, in bytes."""
    number, unit = re.fullmatch(r"([\d.]+)([KMGT]i)?", text).groups()  # type: ignore[union-attr]
    return float(number) * 1024 ** ("KMGT".index(unit[0]) + 1 if unit else 0)


def metric_names(expression: str) -> set[str]:
    """The metrics of a PromQL expression: names that are no function, keyword, label or word in a string."""
    bare = re.sub(r'"(?:\\.|[^"\\])*"', '""', expression)
    bare = re.sub(r"\{[^}]*\}", "", bare)
    bare = re.sub(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    bare = re.sub(r"\[[^\]]*\]", "", bare)
    words = re.findall(r"\b[a-zA-Z_:][\w:]*\b(?!\s*\()", bare)
    return {word for word in words if word not in {"and", "or", "unless", "bool", "offset", "by", "on"}}
