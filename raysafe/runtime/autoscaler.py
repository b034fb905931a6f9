"""What a cluster's autoscaler may still start: its node types, from wherever this process can learn them.

Ray's open-source autoscaler publishes its node types nowhere (2.60). They are read from what it reads itself: the
RayCluster resource under KubeRay, or the file that the head's monitor was started with (`ray up`).
"""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

logger = logging.getLogger(__name__)
KUBERNETES_TIMEOUT_S = 3.0
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
UNLIMITED = 10_000


@dataclass(frozen=True)
class NodeType:
    """A kind of node; `most` of them may stand at a time."""

    name: str
    cpus: float
    gpus: float
    most: int


def node_types() -> list[NodeType] | None:
    """The worker node types of the joined cluster's autoscaler; None where there is none, or none can be found out."""
    published = _published()
    if published is not None:
        return published
    config = _of_kuberay() or _of_monitor()
    return None if config is None else from_config(config)


def from_config(config: dict[str, Any]) -> list[NodeType]:
    """The worker types of an autoscaling config, as in a cluster launcher's file."""
    head, most = config.get("head_node_type"), int(config.get("max_workers", UNLIMITED))
    types = []
    for name, kind in config.get("available_node_types", {}).items():
        resources = kind.get("resources", {})
        limit = 0 if name == head and "max_workers" not in kind else int(kind.get("max_workers", most))
        types.append(NodeType(name, float(resources.get("CPU", 0)), float(resources.get("GPU", 0)), min(limit, most)))
    return [kind for kind in types if kind.most > 0]


def _published() -> list[NodeType] | None:
    """What a platform's own autoscaler has told the cluster."""
    # get_cluster_config is private in Ray 2.60; Ray Data reads the same to size its actor pools
    from ray._private.state import state

    config = state.get_cluster_config()
    if not config or not config.node_group_configs:
        return None
    return [
        NodeType(
            group.name,
            float(group.resources.get("CPU", 0)),
            float(group.resources.get("GPU", 0)),
            # a maximum of -1 means that there is none
            group.max_count if group.max_count >= 0 else UNLIMITED,
        )
        for group in config.node_group_configs
    ]


def _of_kuberay() -> dict[str, Any] | None:
    """The config of this pod's RayCluster, asked of Kubernetes."""
    name = os.environ.get("RAY_CLUSTER_NAME")
    if not name or not (SERVICE_ACCOUNT / "token").is_file():
        return None
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
    from ray.autoscaler._private.kuberay.node_provider import KubernetesHttpApiClient

    def ask() -> dict[str, Any]:
        namespace = (SERVICE_ACCOUNT / "namespace").read_text().strip()
        return KubernetesHttpApiClient(namespace=namespace).get(f"rayclusters/{name}")

    pool = ThreadPoolExecutor(1)
    try:
        resource = pool.submit(ask).result(KUBERNETES_TIMEOUT_S)
        return _derive_autoscaling_config_from_ray_cr(resource)
    except Exception as error:  # no rights, no network, another version: Ray's client lets all of theirs through
        logger.warning("the RayCluster %s can't be read, so what it may add isn't known: %s", name, error)
        return None
    finally:
        pool.shutdown(wait=False)


def _of_monitor() -> dict[str, Any] | None:
    """The file that the monitor of the joined cluster was given, where it runs on this machine."""
    import psutil
    import ray

    gcs = ray.get_runtime_context().gcs_address
    for process in psutil.process_iter(["cmdline"]):
        arguments = process.info["cmdline"] or []
        given = next((a.partition("=")[2] for a in arguments if a.startswith("--autoscaling-config=")), "")
        if given and f"--gcs-address={gcs}" in arguments:
            try:
                return yaml.safe_load(Path(given).expanduser().read_text())
            except (OSError, yaml.YAMLError) as error:
                logger.warning("the autoscaler's config %s can't be read: %s", given, error)
    return None
