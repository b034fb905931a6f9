"""Placing roles by their bytes: nobody gets more than a GPU has, nothing is handed out twice, the idle count too."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysafe.runtime.sizing import RESERVED, Memory, Role, colocated, gigabytes, split, usable

GPU = 100.0


def trained(name: str, size: float) -> Role:
    """Copies take `size`, shards the Nth part of it."""
    copies: Callable[[int], Memory] = lambda gpus: Memory(weights=size)  # noqa: E731
    return Role(name, {"ddp": copies, "fsdp": lambda gpus: Memory(weights=size / gpus)}, grows=True)


def fixed(name: str, size: float, *, grows: bool = False, stays: bool = False) -> Role:
    memory = Memory(weights=size)
    return Role(name, {None: lambda gpus: memory.staying() if stays else memory}, grows=grows)


def test_colocated_needs_room_for_one_role_at_a_time_and_for_what_the_others_leave() -> None:
    roles = [fixed("reference", 60), trained("policy", 80)]
    together = colocated(roles, 1, GPU)
    assert (together.fits, together.peak, together.host) == (True, 80, 80)
    blocked = colocated([fixed("reference", 60, stays=True), trained("policy", 80)], 1, GPU)
    assert (blocked.fits, blocked.peak, blocked.host) == (False, 140, 80)
    assert blocked.problems == ("policy takes 0.0 MB, of which 0.0 MB are weights; a GPU has 0.0 MB to use",)


def test_what_is_trained_is_sharded_only_where_copies_do_not_fit() -> None:
    assert colocated([trained("policy", 90)], 4, GPU).seats[0].sharding == "ddp"
    placed = colocated([trained("policy", 200)], 4, GPU)
    assert (placed.seats[0].sharding, placed.peak) == ("fsdp", 50)


def test_split_gives_each_role_the_fewest_gpus_and_the_rest_to_generation_and_training() -> None:
    roles = [fixed("rollout", 50, grows=True), fixed("reference", 50), trained("policy", 180)]
    tight = split(roles, 4, GPU)
    assert {s.role: s.gpus for s in tight.seats} == {"rollout": 1, "reference": 1, "policy": 2}
    wide = split(roles, 9, GPU)
    assert {s.role: s.gpus for s in wide.seats} == {"rollout": 4, "reference": 1, "policy": 4}


def test_split_says_how_many_gpus_are_missing_and_what_fits_on_none() -> None:
    short = split([fixed("reference", 50), trained("policy", 180)], 2, GPU)
    assert short.problems == ("roles with GPUs of their own need 3 (reference 1, policy 2), there are 2",)
    huge = split([fixed("reference", 500e9), trained("policy", 10)], 2, 100e9)
    assert huge.problems == ("reference takes 500.0 GB, of which 500.0 GB are weights; a GPU has 92.0 GB to use",)


@given(
    sizes=st.lists(st.tuples(st.floats(1, 300), st.booleans(), st.booleans()), min_size=1, max_size=5),
    gpus=st.integers(1, 24),
)
def test_a_placement_that_fits_hands_out_no_gpu_twice_and_overfills_none(
    sizes: list[tuple[float, bool, bool]], gpus: int
) -> None:
    roles = [
        trained(f"r{i}", size) if train else fixed(f"r{i}", size, grows=grows)
        for i, (size, train, grows) in enumerate(sizes)
    ]
    apart, together = split(roles, gpus, GPU), colocated(roles, gpus, GPU)
    if apart.fits:
        held = sum(seat.gpus for seat in apart.seats)
        assert held <= gpus and apart.peak <= usable(GPU)
        # none is left over where a role can use it
        assert held == gpus or not any(role.grows for role in roles)
    assert together.fits == (together.peak <= usable(GPU))


def test_a_share_of_each_gpu_is_left_alone() -> None:
    assert usable(80e9) == 80e9 * (1 - RESERVED)


@pytest.mark.parametrize(("size", "text"), [(7.36e10, "73.6 GB"), (4e7, "40.0 MB"), (0, "0.0 GB")])
def test_sizes_are_decimal(size: float, text: str) -> None:
    assert gigabytes(size) == text
