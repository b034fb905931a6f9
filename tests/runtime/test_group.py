"""Calling a role's ranks, and what of a rank's failure reaches the caller."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysafe.errors import DataError, TrainingError
from raysafe.runtime.group import GroupLost, GroupSpec, Pool, death_reason
from raysafe.runtime.member import Host, failure_of
from raysafe.runtime.spreading import Deal
from raysafe.runtime.supervisor import Supervisor
from tests.runtime.group_parts import Part


def unheard(event: str, **fields: Any) -> None:
    pytest.fail(f"{event}: {fields}")


@pytest.fixture(scope="module")
def standing(ray_cluster: None) -> Iterator[Supervisor]:
    specs = [
        GroupSpec("trainer", Pool(workers=2, cpus=0.5), {"policy": Part, "critic": Part}, collective=True),
        GroupSpec("engines", Pool(workers=2, cpus=0.25), {"rollout": Part}),
    ]
    with Supervisor(specs, note=unheard, deadline_s=30) as supervisor:
        yield supervisor


@pytest.mark.ray
def test_a_call_reaches_every_rank_with_the_same_arguments(standing: Supervisor) -> None:
    assert standing.role("policy").call("times", 10, plus=1) == [1, 11]


@pytest.mark.ray
def test_a_scatter_gives_each_rank_its_own_arguments(standing: Supervisor) -> None:
    policy = standing.role("policy")
    assert policy.scatter("times", [(5,), (7,)]) == [0, 7]
    with pytest.raises(ValueError, match=r"policy.times has 2 ranks, got arguments for 1"):
        policy.scatter("times", [(5,)])


@pytest.mark.ray
def test_first_asks_rank_zero_alone(standing: Supervisor) -> None:
    assert standing.role("policy").first("about").rank == 0


@pytest.mark.ray
def test_started_calls_of_two_groups_overlap(standing: Supervisor) -> None:
    one = standing.role("policy").start_scatter("slow", [(0, 0, 0.1), (1, 0, 0.1)])
    other = standing.role("rollout").start("slow", 2, 1, 0.1)
    assert other.result() == [(2, 0), (2, 1)] and one.result() == [(0, 0), (1, 1)]


@pytest.mark.ray
def test_roles_of_one_group_share_its_processes(standing: Supervisor) -> None:
    assert standing.role("policy").call("pid") == standing.role("critic").call("pid")
    assert not set(standing.role("policy").call("pid")) & set(standing.role("rollout").call("pid"))


@pytest.mark.ray
def test_ranks_of_a_collective_group_form_a_process_group(standing: Supervisor) -> None:
    assert standing.role("policy").call("total") == [2.0, 2.0]
    assert standing.role("policy").call("threads") == [1, 1]


@pytest.mark.ray
def test_chunks_come_back_in_their_order_from_all_ranks(standing: Supervisor) -> None:
    answers = standing.role("rollout").spread("slow", [(chunk, 0, 0.02) for chunk in range(8)])
    assert [chunk for chunk, _ in answers] == list(range(8)) and {rank for _, rank in answers} == {0, 1}


@pytest.mark.ray
def test_a_straggler_is_overtaken_by_an_idle_rank(standing: Supervisor) -> None:
    rollout = standing.role("rollout")
    pending = rollout.start_spread("slow", [(chunk, 1, 2.0) for chunk in range(6)], straggler_factor=3)
    # rank 1 sleeps through its first chunk, so rank 0 answers them all
    assert pending.result() == [(chunk, 0) for chunk in range(6)]
    assert rollout.spread("slow", [(chunk, 1, 0.0) for chunk in range(4)])[0][0] == 0


@pytest.mark.ray
def test_a_component_that_raises_is_named(standing: Supervisor) -> None:
    with pytest.raises(TrainingError, match=r"policy.broken failed on rank 1 of group 'trainer': KeyError: 'tokens'"):
        standing.role("policy").scatter("broken", [(9,), (1,)])


@pytest.mark.ray
def test_an_error_meant_for_the_user_passes_as_it_is(standing: Supervisor) -> None:
    with pytest.raises(DataError, match=r"^row 3 of rewards.csv has no score$"):
        standing.role("rollout").call("refuse")


@pytest.mark.ray
def test_a_dead_rank_is_seen_while_the_other_works(ray_cluster: None) -> None:
    specs = [GroupSpec("engines", Pool(workers=2, cpus=0.25), {"rollout": Part})]
    with Supervisor(specs, note=unheard, deadline_s=30) as supervisor:
        rollout = supervisor.role("rollout")
        pid = rollout.call("pid")[1]
        pending = rollout.start_scatter("slow", [(0, 0, 20.0), (1, 1, 20.0)])
        started = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(GroupLost) as lost:
            pending.result()
        # not a claim about speed: the other rank sleeps for 20 s
        assert time.monotonic() - started < 15
        assert (lost.value.group, lost.value.rank, lost.value.kind) == ("engines", 1, "death")
        with pytest.raises(GroupLost):
            rollout.call("pid")


def test_ray_s_account_of_a_death_is_cut_to_its_point() -> None:
    said = (
        "The actor died unexpectedly before finishing this task.\n\tclass_name: Host\nThe actor is dead because its "
        "worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits with a "
        "connection error code 2. End of file. Some common causes include: (1) the process was killed by the OOM killer"
    )
    assert death_reason(said) == "Worker unexpectedly exits with a connection error code 2. End of file"
    assert death_reason("The actor is dead because it was killed by `ray.kill`.") == "it was killed by `ray.kill`"
    assert death_reason("") == "its process is gone"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DataError("no rows"), "told"),
        (ValueError("shapes"), "bug"),
        (RuntimeError("CUDA out of memory"), "bug"),
        (RuntimeError("[gloo/transport/tcp/pair.cc:537] Connection closed by peer"), "collective"),
    ],
)
def test_an_exception_is_known_for_what_it_means(error: Exception, kind: str) -> None:
    assert failure_of(error).kind == kind


class Movable:
    """Notes when it is sent off the GPU and back."""

    log: list[str]

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log
        self.log.append(f"made {name}")

    def offload(self) -> None:
        self.log.append(f"{self.name} off")

    def onload(self) -> None:
        self.log.append(f"{self.name} on")

    def work(self) -> None:
        self.log.append(f"{self.name} works")


@pytest.mark.parametrize("gpus", [0.0, 1.0])
def test_idle_roles_leave_the_gpu_before_another_works(gpus: float) -> None:
    log: list[str] = []
    host = Host("trainer", 0, 1, 1, 0, gpus)
    assert host.build({name: lambda _, name=name: Movable(name, log) for name in ("policy", "critic")}, True) is None
    for role in ("policy", "policy", "critic"):
        assert host.call(role, "work", (), {}) is None
    moves = ["policy off", "critic off", "policy on", "policy off", "critic on"] if gpus else []
    assert [entry for entry in log if entry.endswith((" on", " off"))] == moves
    if gpus:
        made = ["made policy", "policy off", "made critic"]
        works = ["critic off", "policy on", "policy works", "policy works", "policy off", "critic on", "critic works"]
        assert log == made + works


def test_a_group_whose_gpus_torch_cannot_see_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    failure = Host("trainer", 0, 1, 1, 0, 1.0).build({"policy": Part}, False)
    assert failure is not None and "has GPUs by Ray's account, but torch sees none" in failure.text


def test_chunks_are_dealt_in_order_and_a_late_one_twice() -> None:
    deal = Deal(3, factor=2.0)
    assert [deal.take(0.0), deal.take(0.0)] == [0, 1]
    assert deal.finish(0, 1.0) and deal.take(1.0) == 2
    assert deal.finish(2, 2.0)
    # one second is the median: chunk 1 is late from second 2 on
    assert deal.due_in(1.5) == pytest.approx(0.5) and deal.take(1.5) is None
    assert deal.take(2.0) == 1
    assert deal.take(9.0) is None, "no third copy"
    assert deal.finish(1, 3.0) and not deal.finish(1, 4.0)
    assert deal.finished


def test_without_a_factor_nothing_is_dealt_twice() -> None:
    deal = Deal(1, factor=None)
    assert deal.take(0.0) == 0 and deal.take(1e9) is None and deal.due_in(1e9) == float("inf")


@given(
    chunks=st.integers(1, 12), ranks=st.integers(1, 4), seed=st.integers(0, 10_000), factor=st.sampled_from([None, 1.5])
)
def test_every_chunk_counts_exactly_once(chunks: int, ranks: int, seed: int, factor: float | None) -> None:
    import random

    chance = random.Random(seed)
    deal, now = Deal(chunks, factor), 0.0
    counted: list[int] = []
    running: list[int] = []
    while not deal.finished:
        while len(running) < ranks and (chunk := deal.take(now)) is not None:
            running.append(chunk)
        now += chance.random() * 3
        chunk = running.pop(chance.randrange(len(running)))
        counted += [chunk] if deal.finish(chunk, now) else []
    assert sorted(counted) == list(range(chunks))
