"""Which nodes are there, and how large a group comes back under what the cluster offers, without a cluster."""

from __future__ import annotations

from typing import Any

import pytest
import ray

from raysafe.errors import ResourceError
from raysafe.runtime import nodes
from raysafe.runtime.autoscaler import NodeType
from raysafe.runtime.cluster import Node
from raysafe.runtime.group import GroupSpec, Pool
from raysafe.runtime.placement import Layout
from raysafe.runtime.supervisor import Supervisor


def listed(name: str, cpus: float, *, alive: bool = True) -> dict[str, Any]:
    return {
        "NodeID": name,
        "Alive": alive,
        "NodeManagerHostname": name,
        "NodeManagerAddress": name,
        "NodeManagerPort": 1,
        "Resources": {"CPU": cpus},
        "Labels": {},
    }


@pytest.mark.parametrize(
    ("answering", "usable"),
    [({"a", "b", "dead"}, ["a", "b"]), ({"a"}, ["a"]), (set(), ["a", "b"])],
    ids=["all answer", "one is silent", "knocking tells nothing"],
)
def test_a_node_whose_raylet_is_silent_is_gone(
    monkeypatch: pytest.MonkeyPatch, answering: set[str], usable: list[str]
) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: [listed("a", 1), listed("b", 1), listed("dead", 1, alive=False)])
    monkeypatch.setattr(nodes, "_answers", lambda node: node["NodeID"] in answering)
    assert [node.id for node in nodes.usable()] == usable
    assert nodes.silent() == [name for name in ("a", "b") if name not in usable]


def test_a_placement_is_asked_for_away_from_silent_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(nodes, "silent", lambda: ["b"])
    monkeypatch.setattr("ray.util.placement_group", lambda bundles, **options: asked.append((bundles, options)))
    nodes.ask(Layout("PACK", ((0.5, 0.0), (0.5, 1.0)), 1), {"zone": "x"})
    ((bundles, options),) = asked
    assert bundles == [{"CPU": 0.5}, {"CPU": 0.5, "GPU": 1.0}]
    assert options["bundle_label_selector"] == [{"zone": "x", "ray.io/node-id": "!in(b)"}] * 2


class World:
    """What Ray would say: standing nodes, what is free on them, what may come, and which sizes find their place."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, standing: float, free: float, to_come: float) -> None:
        self.asked: list[int] = []
        node = Node("n", standing, 0, labels={}, id="n")
        monkeypatch.delenv("RAYSAFE_PREFLIGHT", raising=False)
        monkeypatch.setattr(nodes, "usable", lambda: [node])
        monkeypatch.setattr(nodes, "free", lambda among: [Node("n", free, 0, labels={}, id="n")])
        kinds = [NodeType("more", to_come, 0, 1)] if to_come else None
        monkeypatch.setattr("raysafe.runtime.cluster.node_types", lambda: kinds)
        monkeypatch.setattr(nodes, "ask", lambda plan, labels: self.asked.append(len(plan.bundles)) or self.asked[-1])
        monkeypatch.setattr(nodes, "stands", lambda placement, among: placement <= free)
        monkeypatch.setattr("ray.util.remove_placement_group", lambda placement: None)

    def place(self, pool: Pool) -> int:
        supervisor = Supervisor([GroupSpec("g", pool, {})], note=print, deadline_s=1, place_timeout_s=0.05)
        supervisor._place(["g"])
        return supervisor._states["g"].workers


def test_a_group_keeps_its_size_where_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, standing=4, free=4, to_come=0)
    assert world.place(Pool(workers=4, min_workers=1)) == 4 and world.asked == [4]


def test_a_group_shrinks_at_once_where_no_node_may_come(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, standing=3, free=3, to_come=0)
    assert world.place(Pool(workers=4, min_workers=1)) == 3 and world.asked == [3]


def test_a_group_asks_the_autoscaler_first_and_shrinks_when_it_does_not_deliver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, standing=3, free=3, to_come=8)
    assert world.place(Pool(workers=4, min_workers=1)) == 3 and world.asked == [4, 3]


def test_a_group_shrinks_into_what_other_jobs_leave_free(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, standing=8, free=2, to_come=0)
    assert world.place(Pool(workers=4, min_workers=1)) == 2 and world.asked == [4, 2]


def test_a_group_that_may_not_shrink_is_refused_where_other_jobs_use_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, standing=8, free=2, to_come=0)
    with pytest.raises(ResourceError, match=r"gave no place to g \(4 workers\) within 0.05 s"):
        world.place(Pool(workers=4))


def test_what_can_not_be_held_at_all_is_refused_with_the_smallest_that_was_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, standing=1, free=1, to_come=0)
    with pytest.raises(ResourceError, match=r"what is left of the cluster can't hold pool 'g', 2 worker\(s\)"):
        world.place(Pool(workers=4, min_workers=2))
    assert world.asked == []
