"""Losing ranks, groups and nodes, and going on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raysafe.errors import ConfigError, DataError, ResourceError, TrainingError
from raysafe.runtime import supervisor as module
from raysafe.runtime.group import GroupLost, GroupSpec, Pool
from raysafe.runtime.supervisor import Supervisor
from tests.runtime.group_parts import Part, Unfit

TRAINER = GroupSpec("trainer", Pool(workers=2, cpus=0.5), {"policy": Part}, collective=True)
ENGINE = GroupSpec("engines", Pool(cpus=0.25), {"rollout": Part})


class Notes:
    """Takes events as a run does."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def __call__(self, event: str, **fields: Any) -> None:
        self.events.append({"event": event, **fields})

    def __getitem__(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == name]


@pytest.mark.ray
def test_a_killed_rank_and_what_died_elsewhere_are_rebuilt_until_the_bound(ray_cluster: None) -> None:
    notes = Notes()
    with Supervisor([TRAINER, ENGINE], note=notes, deadline_s=30, max_restarts=2) as supervisor:
        policy, rollout = supervisor.role("policy"), supervisor.role("rollout")
        untouched = rollout.first("pid")
        with pytest.raises(GroupLost) as first:
            policy.call("die", 1)
        assert (first.value.rank, first.value.kind) == (1, "death")
        assert supervisor.recover(first.value) == {"policy"}
        assert policy.call("total") == [2.0, 2.0] and policy.first("about").incarnation == 1
        assert rollout.first("pid") == untouched
        assert supervisor.recover(first.value) == frozenset(), "that incarnation is rebuilt already"

        os.kill(untouched, signal.SIGKILL)
        with pytest.raises(GroupLost) as second:
            policy.call("die", 0)
        assert supervisor.recover(second.value) == {"policy", "rollout"}
        assert policy.call("total") == [2.0, 2.0] and rollout.first("about").incarnation == 1

        with pytest.raises(GroupLost) as third:
            policy.call("die", 0)
        with pytest.raises(
            TrainingError, match=r"group 'trainer' was lost after 2 rebuild\(s\), .* by death of rank 0"
        ):
            supervisor.recover(third.value)
    assert [(e["group"], e["rank"], e["kind"]) for e in notes["lost"]] == [
        ("trainer", 1, "death"),
        ("trainer", 0, "death"),
        ("engines", 0, "death"),
        ("trainer", 0, "death"),
    ]
    assert [(e["group"], e["workers"], e["attempt"]) for e in notes["rebuilt"]] == [
        ("trainer", 2, 1),
        ("trainer", 2, 2),
        ("engines", 1, 2),
    ]
    assert all(event["seconds"] > 0 for event in notes["rebuilt"])
    json.dumps(notes.events)


@pytest.mark.ray
def test_a_rank_that_hangs_in_a_collective_is_ended_by_the_deadline(ray_cluster: None) -> None:
    with Supervisor([TRAINER], note=Notes(), deadline_s=20) as supervisor:
        policy = supervisor.role("policy")
        pids = policy.call("pid")
        with pytest.raises(GroupLost, match=r"hang: no answer to policy.stop from rank\(s\) 0, 1 within 2 s") as lost:
            policy.call("stop", 1, deadline_s=2)
        assert supervisor.recover(lost.value) == {"policy"}
        assert policy.call("total") == [2.0, 2.0]
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()], "the stopped process is gone too"


@pytest.mark.ray
def test_a_factory_that_refuses_ends_everything_at_once(ray_cluster: None) -> None:
    specs = [ENGINE, GroupSpec("scores", Pool(cpus=0.25), {"reward": Unfit})]
    notes = Notes()
    supervisor = Supervisor(specs, note=notes, deadline_s=30)
    with pytest.raises(DataError, match="the reward model's tokenizer is another one"), supervisor:
        pytest.fail("it stands")
    assert notes.events == []
    with pytest.raises(TrainingError, match="group 'engines' doesn't stand"):
        supervisor.role("rollout").call("pid")


@pytest.mark.ray
def test_pools_that_do_not_fit_start_nothing(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ActorGroup", lambda *a, **k: pytest.fail("an actor was started"))
    big = GroupSpec("engines", Pool(workers=3, cpus=0.5), {"rollout": Part})
    with (
        pytest.raises(ResourceError, match=r"the cluster can't hold pool 'trainer', 2 worker.*beside"),
        Supervisor([TRAINER, big], note=Notes(), deadline_s=30),
    ):
        pytest.fail("it stands")


def test_a_role_in_two_groups_is_refused() -> None:
    twice = GroupSpec("other", Pool(), {"policy": Part})
    with pytest.raises(ConfigError, match="role 'policy' is in the groups 'trainer' and 'other'"):
        Supervisor([TRAINER, twice], note=Notes(), deadline_s=1)
    with pytest.raises(ConfigError, match="two groups are named 'trainer'"):
        Supervisor([TRAINER, TRAINER], note=Notes(), deadline_s=1)


def test_a_role_that_is_nowhere_is_refused() -> None:
    with pytest.raises(ConfigError, match="no group has the role 'critic'; there are policy, rollout"):
        Supervisor([TRAINER, ENGINE], note=Notes(), deadline_s=1).role("critic")


@pytest.fixture(scope="module")
def seen() -> dict[str, dict[str, Any]]:
    """What faults_toy.py saw on a cluster of three raylets with pretended GPUs, by test."""
    root = Path(__file__).parents[2]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_ADDRESS")}
    result = subprocess.run(
        [sys.executable, "-m", "tests.runtime.faults_toy"],
        cwd=root,
        env=kept | {"RAYSAFE_FAKE_GPUS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    return {line["test"]: line for line in lines}


@pytest.mark.ray
@pytest.mark.slow
def test_a_pool_runs_on_nodes_with_its_labels_only(seen: dict[str, dict[str, Any]]) -> None:
    assert {found["node"] for found in seen["labels"]["found"]} == {seen["labels"]["right"]}


@pytest.mark.ray
@pytest.mark.slow
def test_two_halves_of_a_gpu_are_one_gpu(seen: dict[str, dict[str, Any]]) -> None:
    first, second = seen["labels"]["found"]
    assert first["gpus"] == second["gpus"] and len(first["gpus"]) == 1


@pytest.mark.ray
@pytest.mark.slow
def test_a_pool_on_two_nodes_has_half_its_ranks_on_each(seen: dict[str, dict[str, Any]]) -> None:
    nodes = [found["node"] for found in seen["strict"]["found"]]
    assert nodes[0] == nodes[1] != nodes[2] == nodes[3]
    assert seen["strict"]["totals"] == [4.0] * 4


@pytest.mark.ray
@pytest.mark.slow
def test_placements_that_are_impossible_are_refused_at_once(seen: dict[str, dict[str, Any]]) -> None:
    assert "5 worker(s) of 0.5 CPUs and 1 GPUs each:" in seen["too many"]["refused"]
    assert "on 3 node(s)" in seen["too many nodes"]["refused"]
    assert "with labels part=!in(head,left,right)" in seen["no such label"]["refused"]


@pytest.mark.ray
@pytest.mark.slow
def test_a_group_whose_raylet_is_killed_goes_on_on_another_node(seen: dict[str, dict[str, Any]]) -> None:
    moved = seen["moved"]
    before, after = ({found["node"] for found in moved[when]} for when in ("before", "after"))
    assert len(before) == len(after) == 1 and before != after
    assert moved["totals"] == [2.0, 2.0] and moved["rebuilt"] == ["policy"]
    assert [event["event"] for event in moved["events"]] == ["lost", "rebuilt"]
    assert moved["others"][0]["incarnation"] == 0, "the group on the head was left alone"


@pytest.mark.ray
@pytest.mark.slow
def test_a_group_comes_back_smaller_where_a_node_is_missing(seen: dict[str, dict[str, Any]]) -> None:
    shrunk = seen["shrunk"]
    assert shrunk["ranks"] == 2 and shrunk["totals"] == [2.0, 2.0]
    assert shrunk["events"][-1]["workers"] == 2


@pytest.mark.ray
@pytest.mark.slow
def test_where_nothing_is_left_the_refusal_says_so(seen: dict[str, dict[str, Any]]) -> None:
    assert "can't hold pool 'policy', 1 worker(s) of 1 CPUs and 1 GPUs each" in seen["nothing left"]["refused"]
