"""Groups on a cluster of three raylets with pretended GPUs; run as a script, it prints what it saw as JSON lines."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.cluster_utils import Cluster

import raysafe  # noqa: F401
from raysafe.errors import ResourceError
from raysafe.runtime.cluster import preflight_pools
from raysafe.runtime.group import GroupLost, GroupSpec, Pool
from raysafe.runtime.supervisor import Supervisor
from tests.runtime.group_parts import Part

DEADLINE_S = 30.0


def say(test: str, **found: Any) -> None:
    print(json.dumps({"test": test, **found}), flush=True)


@contextmanager
def groups(*specs: GroupSpec, **options: Any) -> Iterator[tuple[Supervisor, list[dict[str, Any]]]]:
    events: list[dict[str, Any]] = []

    def note(event: str, **fields: Any) -> None:
        events.append({"event": event, **fields})

    with Supervisor(specs, note=note, deadline_s=DEADLINE_S, **options) as supervisor:
        yield supervisor, events


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 0, "labels": {"part": "head"}})
    nodes = [cluster.add_node(num_cpus=2, num_gpus=2, labels={"part": part}) for part in ("left", "right")]
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        placements(nodes)
        losses(cluster, nodes)
    finally:
        ray.shutdown()
        cluster.shutdown()


def placements(nodes: list[Any]) -> None:
    """Labels, a share of a GPU, whole nodes, and what can't be held."""
    on_right = GroupSpec("judge", Pool(cpus=0.5, gpus=0.5, workers=2, labels={"part": "right"}), {"judge": Part})
    packed = GroupSpec("policy", Pool(workers=4, cpus=0.5, gpus=0.5, nodes=2), {"policy": Part}, collective=True)
    with groups(on_right, packed) as (supervisor, _):
        say("labels", right=nodes[1].node_id, found=supervisor.role("judge").call("where"))
        say("strict", found=supervisor.role("policy").call("where"), totals=supervisor.role("policy").call("total"))
    for test, pool in {
        "too many": Pool(workers=5, gpus=1, cpus=0.5),
        "too many nodes": Pool(workers=3, gpus=1, cpus=0.5, nodes=3),
        "no such label": Pool(labels={"part": "!in(head,left,right)"}),
    }.items():
        started = time.monotonic()
        try:
            preflight_pools(None, {"policy": pool})
        except ResourceError as error:
            say(test, seconds=time.monotonic() - started, refused=str(error))


def losses(cluster: Cluster, nodes: list[Any]) -> None:
    """A raylet killed under one group, then the next: first there is room elsewhere, then only for a smaller group."""
    small = GroupSpec("rollout", Pool(workers=1, cpus=0.25, labels={"part": "head"}), {"rollout": Part})
    pool = Pool(workers=2, cpus=0.5, gpus=1, nodes=1)  # both on one node
    with groups(GroupSpec("policy", pool, {"policy": Part}, collective=True), small) as (supervisor, events):
        policy = supervisor.role("policy")
        before = policy.call("where")
        victim = next(node for node in nodes if node.node_id == before[0]["node"])
        cluster.remove_node(victim, allow_graceful=False)
        started = time.monotonic()
        rebuilt = recover(supervisor, "policy")
        say(
            "moved",
            before=before,
            after=policy.call("where"),
            totals=policy.call("total"),
            rebuilt=sorted(rebuilt),
            others=supervisor.role("rollout").call("where"),
            events=events,
            seconds=time.monotonic() - started,
        )
    spread_out = Pool(workers=3, cpus=1, min_workers=1)
    with groups(GroupSpec("policy", spread_out, {"policy": Part}, collective=True)) as (supervisor, events):
        (node,) = [node for node in nodes if node is not victim]
        cluster.remove_node(node, allow_graceful=False)
        recover(supervisor, "policy")
        policy = supervisor.role("policy")
        say("shrunk", ranks=policy.ranks, totals=policy.call("total"), after=policy.call("where"), events=events)
    try:
        with groups(GroupSpec("policy", Pool(gpus=1), {"policy": Part}), place_timeout_s=1):
            pass
    except ResourceError as error:
        say("nothing left", refused=str(error))


def recover(supervisor: Supervisor, role: str) -> frozenset[str]:
    """Call the role until its loss is seen, and rebuild."""
    while True:
        try:
            supervisor.role(role).call("total")
        except GroupLost as lost:
            return supervisor.recover(lost)
        time.sleep(0.1)


if __name__ == "__main__":
    main()
