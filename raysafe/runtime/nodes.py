"""What Ray says of nodes and placements, and what it doesn't know yet: a node whose raylet answers no more is gone."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from raysafe.runtime.cluster import Node, described, nodes_to_come
from raysafe.runtime.placement import Layout, Pool, pack, rooms_of

KNOCK_TIMEOUT_S = 1.0
NODE_ID = "ray.io/node-id"


def usable() -> list[Node]:
    """Alive nodes whose raylet takes connections: Ray itself notices a lost one only after some fifteen seconds."""
    return [described(node) for node, answers in _knocked() if answers]


def silent() -> list[str]:
    """Ids of nodes that Ray takes for alive and that answer no more."""
    return [node["NodeID"] for node, answers in _knocked() if not answers]


def _knocked() -> list[tuple[dict[str, Any], bool]]:
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(_answers, alive))
    # where not even this driver's own node answers, knocking tells nothing: a firewall, say
    return [(node, answered or not any(answers)) for node, answered in zip(alive, answers, strict=True)]


def free(standing: Sequence[Node]) -> list[Node]:
    """The same nodes with what nobody uses of them now; of a GPU that is shared in part, nothing."""
    # private in Ray 2.60; the public ray.available_resources() has only the sums over all nodes
    from ray._private.state import available_resources_per_node

    left = available_resources_per_node()
    return [
        replace(node, cpus=left.get(node.id, {}).get("CPU", 0.0), gpus=left.get(node.id, {}).get("GPU", 0.0))
        for node in standing
    ]


def _answers(node: dict[str, Any]) -> bool:
    try:
        socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), KNOCK_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def may_hold(
    pools: Mapping[str, Pool], standing: Sequence[Node], held: Sequence[tuple[str, tuple[float, float]]]
) -> bool:
    """Whether all would fit in full with the nodes that the autoscaler may still add."""
    to_come = nodes_to_come(list(standing))
    if not to_come:
        return False
    rooms = rooms_of([*standing, *to_come], sum(pool.workers for pool in pools.values()))
    by_id = {room.node.id: room for room in rooms if room.node.id}
    for node, bundle in held:
        if node in by_id:
            by_id[node].take(bundle)
    return pack({name: (pool, pool.workers) for name, pool in pools.items()}, rooms) is None


def ask(plan: Layout, labels: Mapping[str, str]) -> Any:
    """Ask Ray for a placement group, away from nodes that are gone and not known to be."""
    from ray.util import placement_group

    away = silent()
    selector = dict(labels)
    if away:
        selector.setdefault(NODE_ID, f"!in({','.join(away)})")
    bundles = [
        {kind: amount for kind, amount in (("CPU", cpus), ("GPU", gpus)) if amount} for cpus, gpus in plan.bundles
    ]
    return placement_group(
        bundles,
        strategy=plan.strategy,
        bundle_label_selector=[selector] * len(bundles) if selector else None,  # type: ignore[arg-type]
    )


def stands(placement: Any, among: set[str] | None) -> bool:
    """Whether every bundle of a placement group has its place, on one of these nodes where they are given."""
    from ray.util import placement_group_table

    table = placement_group_table(placement)
    return table.get("state") == "CREATED" and (among is None or set(table["bundles_to_node_id"].values()) <= among)
