"""Where pools may go: labels, shares of GPUs, whole nodes, and how small a lost pool comes back."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from raysafe.errors import ConfigError, ResourceError
from raysafe.runtime import cluster
from raysafe.runtime.cluster import Needs, Node, fits, preflight_pools
from raysafe.runtime.placement import Pool, Room, largest, layout, matches, pack, rooms_of, shared_gpus, smaller


def node(name: str, cpus: float, gpus: float = 0, **labels: str) -> Node:
    return Node(name, cpus, gpus, labels=labels, id=name)


def placed(pools: dict[str, Pool], nodes: list[Node]) -> str | None:
    return pack({name: (pool, pool.workers) for name, pool in pools.items()}, rooms_of(nodes, 100))


@pytest.mark.parametrize(
    ("selector", "labels", "found"),
    [
        ({"zone": "a"}, {"zone": "a"}, True),
        ({"zone": "a"}, {"zone": "b"}, False),
        ({"zone": "a"}, {}, False),
        ({"zone": "!a"}, {"zone": "b"}, True),
        ({"zone": "!a"}, {"zone": "a"}, False),
        ({"zone": "!a"}, {}, True),
        ({"zone": "in(a,b)"}, {"zone": "b"}, True),
        ({"zone": "in(a,b)"}, {"zone": "c"}, False),
        ({"zone": "!in(a,b)"}, {"zone": "c"}, True),
        ({"zone": "!in(a,b)"}, {"zone": "a"}, False),
        ({"zone": "a", "ray.io/accelerator-type": "H100"}, {"zone": "a"}, False),
    ],
)
def test_label_selectors_mean_what_ray_means_by_them(
    selector: dict[str, str], labels: dict[str, str], found: bool
) -> None:
    assert matches(selector, labels) is found
    # Ray's own parser takes each of them, and reads the same operator and values
    from ray._private.label_utils import validate_label_selector

    assert validate_label_selector(selector) is None


def test_labels_that_are_not_known_yet_may_match() -> None:
    assert matches({"zone": "a"}, None)


def test_a_label_selector_that_ray_would_not_understand_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"label 'zone' must ask for value, !value, in\(a,b\) or !in\(a,b\)"):
        Pool(labels={"zone": "a or b"})


def test_workers_must_divide_onto_nodes() -> None:
    with pytest.raises(ConfigError, match=r"workers \(3\) must divide evenly onto nodes \(2\)"):
        Pool(workers=3, nodes=2)


def test_fewest_workers_must_be_no_more_than_all() -> None:
    with pytest.raises(ConfigError, match=r"min_workers \(3\) must be at most workers \(2\)"):
        Pool(workers=2, min_workers=3)


@pytest.mark.parametrize(
    ("workers", "share", "gpus"),
    [(4, 0, 0), (1, 0.5, 0.5), (2, 0.5, 1), (3, 0.5, 2), (3, 0.6, 3), (4, 0.25, 1), (3, 1 / 3, 1), (8, 1, 8)],
)
def test_no_worker_straddles_two_gpus(workers: int, share: float, gpus: float) -> None:
    assert shared_gpus(workers, share) == pytest.approx(gpus)


def test_two_shares_that_exceed_a_gpu_need_two() -> None:
    assert placed({"a": Pool(workers=2, gpus=0.6)}, [node("n", 8, 1)]) == "a"
    assert placed({"a": Pool(workers=2, gpus=0.6)}, [node("n", 8, 2)]) is None


def test_a_pool_on_two_nodes_is_split_evenly_and_on_different_ones() -> None:
    pool = Pool(workers=4, nodes=2)
    assert placed({"a": pool}, [node("n", 64)]) == "a"
    assert placed({"a": pool}, [node("n", 3), node("m", 1)]) == "a"
    assert placed({"a": pool}, [node("n", 2), node("m", 2)]) is None


def test_a_pool_without_gpus_leaves_the_node_with_gpus_to_the_one_that_needs_it() -> None:
    pools = {"rollout": Pool(workers=2), "policy": Pool(workers=2, gpus=1)}
    assert placed(pools, [node("gpu", 2, 2), node("cpu", 2)]) is None
    assert placed(pools, [node("gpu", 2, 2), node("cpu", 1)]) == "rollout"


def test_a_labelled_pool_goes_first() -> None:
    pools = {"big": Pool(workers=1, cpus=4), "choosy": Pool(workers=1, cpus=1, labels={"zone": "a"})}
    assert placed(pools, [node("a", 4, zone="a"), node("b", 4)]) is None


def test_pools_that_fit_one_by_one_may_not_fit_together() -> None:
    pools = {"a": Pool(workers=2), "b": Pool(workers=1)}
    assert all(placed({name: pool}, [node("n", 2)]) is None for name, pool in pools.items())
    assert placed(pools, [node("n", 2)]) == "b"


@given(
    workers=st.integers(1, 12),
    cpus=st.sampled_from([0.5, 1.0, 2.0, 3.0]),
    gpus=st.sampled_from([0.0, 1.0]),
    nodes=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 4)), min_size=1, max_size=4),
)
def test_one_pool_fits_exactly_when_the_preflight_of_one_job_says_so(
    workers: int, cpus: float, gpus: float, nodes: list[tuple[int, int]]
) -> None:
    offered = [node(str(i), c, g) for i, (c, g) in enumerate(nodes)]
    pool = Pool(workers=workers, cpus=cpus, gpus=gpus)
    assert (placed({"a": pool}, offered) is None) == fits(Needs(workers=workers, cpus=cpus, gpus=gpus), offered)


pools = st.builds(
    lambda each, nodes, cpus, gpus: Pool(workers=each * (nodes or 1), nodes=nodes, cpus=cpus, gpus=gpus),
    st.integers(1, 3),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([0.25, 0.5, 1.0, 2.0]),
    st.sampled_from([0.0, 0.25, 0.4, 0.5, 1.0]),
)


@given(
    asked=st.lists(pools, min_size=1, max_size=4),
    nodes=st.lists(st.tuples(st.integers(1, 8), st.integers(0, 4)), min_size=1, max_size=4),
)
def test_what_is_packed_never_exceeds_what_there_is(asked: list[Pool], nodes: list[tuple[int, int]]) -> None:
    rooms = [Room(node(str(i), c, g)) for i, (c, g) in enumerate(nodes)]
    assume(pack({str(i): (pool, pool.workers) for i, pool in enumerate(asked)}, rooms) is None)
    used_cpus = sum(c for c, _ in nodes) - sum(room.cpus for room in rooms)
    assert used_cpus == pytest.approx(sum(pool.workers * pool.cpus for pool in asked))
    assert all(room.cpus > -1e-5 and all(-1e-5 < free <= 1 for free in room.gpus) for room in rooms)
    used_gpus = sum(g for _, g in nodes) - sum(sum(room.gpus) for room in rooms)
    assert used_gpus == pytest.approx(sum(bundle[1] for p in asked for bundle in layout(p, p.workers).bundles))


def test_a_lost_pool_comes_back_as_large_as_what_is_left_allows() -> None:
    pool = Pool(workers=4, min_workers=2)
    assert largest({"a": pool}, [node("n", 3)]) == {"a": 3}
    assert largest({"a": pool}, [node("n", 1)]) is None
    assert largest({"a": pool}, [node("n", 9)]) == {"a": 4}


def test_a_pool_on_whole_nodes_gives_up_a_node_at_a_time() -> None:
    pool = Pool(workers=6, nodes=3, min_workers=2)
    assert pool.sizes == [6, 4, 2]
    assert largest({"a": pool}, [node("n", 2), node("m", 8)]) == {"a": 4}


def test_pools_that_stay_keep_their_places() -> None:
    pool = Pool(workers=2, gpus=1, min_workers=1)
    assert largest({"a": pool}, [node("n", 8, 2)], [("n", (1, 0.5))]) == {"a": 1}


def test_what_shrinks_most_evenly_is_tried_first() -> None:
    sizes = list(smaller({"a": Pool(workers=4, min_workers=2), "b": Pool(workers=2, min_workers=1)}))
    assert sizes[0] == {"a": 4, "b": 2} and sizes[-1] == {"a": 2, "b": 1}
    assert sizes == sorted(sizes, key=lambda s: -sum(s.values()))
    assert {"a": 3, "b": 2} in sizes and {"a": 2, "b": 2} not in sizes


def test_pools_that_do_not_fit_are_refused_with_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAYSAFE_PREFLIGHT", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(cluster, "local_node", lambda: Node("this machine", 2, 0, labels={}))
    preflight_pools(None, {"policy": Pool(workers=2)})
    preflight_pools("ray://elsewhere:10001", {"policy": Pool(workers=2000)})
    with pytest.raises(ResourceError, match="this machine can't hold pool 'rollout', 1 worker") as raised:
        preflight_pools(None, {"policy": Pool(workers=2), "rollout": Pool()})
    lines = str(raised.value).splitlines()
    assert [line.split()[-3:] for line in lines if "asked" in line] == [["2", "1", "0"], ["1", "1", "0"]]
    assert next(line for line in lines if "offered: this machine" in line).split()[-3:] == ["1", "2", "0"]


def test_a_label_on_a_local_ray_is_refused_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: pytest.fail("Ray was started"))
    with pytest.raises(ResourceError, match="with labels zone=a"):
        preflight_pools(None, {"policy": Pool(labels={"zone": "a"})})
