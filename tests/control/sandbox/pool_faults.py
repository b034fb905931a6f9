"""A pool of sandboxes on three raylets of one machine; run as a script, it prints what it saw as JSON lines."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from typing import Any

import ray
from ray.cluster_utils import Cluster

import raysafe  # noqa: F401
from raysafe.control.sandbox.cluster_pool import ClusterPool, JobLost
from raysafe.control.sandbox.policy import Policy

POLICY = Policy(memory_bytes=256 << 20, wall_seconds=60, cpus=1)


def say(test: str, **found: Any) -> None:
    print(json.dumps({"test": test, **found}), flush=True)


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        with ClusterPool(POLICY, workers=2) as pool:
            spread(pool)
            lost_with_a_job(pool)
            lost_without_a_job(pool)
            lost_node(cluster, nodes, pool)
    finally:
        ray.shutdown()
        cluster.shutdown()


def until_working(pool: ClusterPool, places: int) -> None:
    """Wait until so many places have been handed a job."""
    while pool.working < places:
        time.sleep(0.01)


def spread(pool: ClusterPool) -> None:
    found = list(pool.map([f"print({at})" for at in range(8)]))
    say("spread", nodes=len(set(pool.nodes())), said=[getattr(one, "stdout", str(one)) for one in found])


def pid_of(place: Any) -> int:
    """The process of one of the pool's places."""
    return ray.get(place.__ray_call__.remote(lambda self: os.getpid()))


def lost_with_a_job(pool: ClusterPool) -> None:
    """A place is killed while its job runs: the job is lost, and said to be."""
    found: list[str] = []

    def ask() -> None:
        try:
            found.append(pool.run("import time; time.sleep(40)").stdout)
        except JobLost as lost:
            found.append(str(lost))

    before = set(pool._all)
    pids = {actor: pid_of(actor) for actor in before}
    thread = threading.Thread(target=ask)
    thread.start()
    until_working(pool, 1)
    busy = list(pool._busy)
    os.kill(pids[busy[0]], signal.SIGKILL)
    thread.join(60)
    say("lost with a job", busy=len(busy), found=found)


def lost_without_a_job(pool: ClusterPool) -> None:
    """All idle places are killed: no job is lost, for none had begun."""
    for actor in list(pool._all):
        os.kill(pid_of(actor), signal.SIGKILL)
    found = list(pool.map([f"print({at})" for at in range(4)]))
    say("lost without a job", said=[getattr(one, "stdout", str(one)) for one in found])


def lost_node(cluster: Cluster, nodes: list[Any], pool: ClusterPool) -> None:
    """A whole node goes while jobs wait: those that had begun there are lost, the others run elsewhere."""
    where = pool.nodes()[0]
    victim = next(node for node in nodes if node.node_id == where)
    found: list[Any] = []
    thread = threading.Thread(
        target=lambda: found.extend(pool.map(["import time; time.sleep(3); print(1)"] * 2 + ["print(2)"] * 4))
    )
    thread.start()
    until_working(pool, 2)
    cluster.remove_node(victim, allow_graceful=False)
    thread.join(100)
    said = [getattr(one, "stdout", "lost" if isinstance(one, JobLost) else str(one)) for one in found]
    say("lost node", said=said)


if __name__ == "__main__":
    main()
