"""Preflight: a job that can't be held is refused before anything starts, with a table of asked and offered."""

from __future__ import annotations

import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st

from raysafe.errors import ResourceError
from raysafe.runtime import cluster
from raysafe.runtime.autoscaler import NodeType
from raysafe.runtime.cluster import Needs, Node, cluster_nodes, connect, fits, preflight


@pytest.mark.parametrize(
    ("needs", "nodes", "held"),
    [
        (Needs(workers=2, cpus=1), [Node("a", 2, 0)], True),
        (Needs(workers=3, cpus=1), [Node("a", 2, 0)], False),
        # two nodes of one CPU don't make a worker of two
        (Needs(workers=1, cpus=2), [Node("a", 1, 0), Node("b", 1, 0)], False),
        (Needs(workers=8, cpus=1, gpus=1), [Node("a", 64, 8)], True),
        (Needs(workers=8, cpus=16, gpus=1), [Node("a", 64, 8)], False),
        (Needs(workers=8, cpus=1, gpus=0.5), [Node("a", 64, 4)], True),
        (Needs(workers=8, cpus=1, gpus=1), [Node("head", 4, 0), Node("gpu (autoscaler)", 32, 4, count=2)], True),
    ],
)
def test_workers_fit_whole_onto_nodes(needs: Needs, nodes: list[Node], held: bool) -> None:
    assert fits(needs, nodes) is held


@given(workers=st.integers(1, 20), nodes=st.integers(1, 5), cpus=st.integers(1, 8), each=st.integers(1, 4))
def test_one_kind_of_worker_fits_as_often_as_division_says(workers: int, nodes: int, cpus: int, each: int) -> None:
    offered = [Node(str(i), cpus, 0) for i in range(nodes)]
    assert fits(Needs(workers=workers, cpus=each), offered) == (workers <= nodes * (cpus // each))


def test_eight_gpus_on_a_machine_without_are_refused_before_ray_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: pytest.fail("Ray was started"))
    monkeypatch.setattr(cluster, "local_node", lambda: Node("this machine", 2, 0))
    with pytest.raises(
        ResourceError, match=r"can't hold 8 worker\(s\) of 1 CPUs and 1 GPUs each: lower workers"
    ) as raised:
        connect(needs=Needs(workers=8, gpus=1))
    table = str(raised.value).splitlines()[1:]
    asked = next(line for line in table if "asked" in line)
    offered = next(line for line in table if "offered: this machine" in line)
    assert asked.split()[-3:] == ["8", "1", "1"]
    assert offered.split()[-3:] == ["1", "2", "0"]


def test_a_job_for_a_cluster_is_not_judged_by_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    preflight("ray://elsewhere:10001", Needs(workers=1000, gpus=1))


def test_nodes_that_the_autoscaler_may_add_count(monkeypatch: pytest.MonkeyPatch) -> None:
    alive = {"Alive": True, "NodeManagerHostname": "head", "Resources": {"CPU": 4.0}}
    one_up = {"Alive": True, "NodeManagerHostname": "gpu-0", "Resources": {"CPU": 32.0, "GPU": 4.0}}
    monkeypatch.setattr(ray, "nodes", lambda: [alive, one_up, alive | {"Alive": False}])
    monkeypatch.setattr(cluster, "node_types", lambda: [NodeType("gpu", 32, 4, 3)])
    assert cluster_nodes() == [Node("head", 4, 0), Node("gpu-0", 32, 4), Node("gpu (autoscaler)", 32, 4, count=2)]
