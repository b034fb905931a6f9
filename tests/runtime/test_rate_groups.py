"""Groups of parameters with rates and starts of their own: what they change, and that a checkpoint keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from raysafe.runtime import checkpoint as checkpoints
from raysafe.runtime import parallel
from raysafe.runtime.learner import FitConfig, RateGroup

CONFIG = FitConfig(learning_rate=0.1, weight_decay=0.1)
BODY = frozenset({"0.weight", "0.bias"})
CPU = torch.device("cpu")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def steps(module: nn.Module, optimizer: torch.optim.Optimizer, groups: list[RateGroup], first: int, last: int) -> None:
    for step in range(first, last):
        x_BD = torch.randn(8, 3, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        parallel.set_rates(optimizer, groups, CONFIG.rate(step, 10))
        module(x_BD).square().sum().backward()
        parallel.hold_back(optimizer, groups, step / 10)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def trained(groups: list[RateGroup], last: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    module = network()
    optimizer = parallel.make_optimizer(module, CONFIG, groups)
    steps(module, optimizer, groups, 0, last)
    return module, optimizer


def same(one: nn.Module, other: nn.Module, *names: str) -> bool:
    return all(torch.equal(one.state_dict()[name], other.state_dict()[name]) for name in names)


def test_a_group_stays_as_it_is_until_its_start_and_moves_after() -> None:
    groups = parallel.whole_groups(network(), [RateGroup(BODY, start=0.5)])
    assert same(trained(groups, 5)[0], network(), *BODY)
    assert not same(trained(groups, 6)[0], network(), "0.weight")
    assert not same(trained(groups, 1)[0], network(), "2.weight")


def test_a_factor_scales_adams_first_step() -> None:
    moved = {}
    for factor in (1.0, 0.25):
        groups = parallel.whole_groups(network(), [RateGroup(BODY, factor=factor)])
        after, before = trained(groups, 1)[0].state_dict(), network().state_dict()
        moved[factor] = {name: after[name] - before[name] for name in after}
    torch.testing.assert_close(moved[0.25]["0.bias"], 0.25 * moved[1.0]["0.bias"], rtol=1e-6, atol=0)
    assert torch.equal(moved[0.25]["2.weight"], moved[1.0]["2.weight"])


def test_one_group_of_all_is_no_group() -> None:
    plain, grouped = trained([RateGroup(frozenset(dict(network().named_parameters())))], 4)[0], network()
    optimizer = parallel.make_optimizer(grouped, CONFIG)
    steps(grouped, optimizer, parallel.whole_groups(grouped, ()), 0, 4)
    assert same(plain, grouped, *plain.state_dict())


def test_parameters_of_no_group_learn_at_the_schedules_rate_and_frozen_ones_are_in_none() -> None:
    module = network()
    module.get_parameter("0.bias").requires_grad_(False)
    found = parallel.whole_groups(module, [RateGroup(BODY, factor=0.1), RateGroup(frozenset({"gone"}))])
    assert found == [RateGroup(frozenset({"0.weight"}), 0.1), RateGroup(frozenset({"2.weight", "2.bias"}))]


def test_a_parameter_in_two_groups_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.bias is in two rate groups"):
        parallel.whole_groups(network(), [RateGroup(frozenset({"0.bias"})), RateGroup(BODY)])


@pytest.mark.parametrize("stop", [3, 7])
def test_a_checkpoint_before_or_after_a_groups_start_is_gone_on_from_exactly(tmp_path: Path, stop: int) -> None:
    groups = parallel.whole_groups(network(), [RateGroup(BODY, factor=0.5, start=0.5)])
    whole, _ = trained(groups, 10)
    module, optimizer = trained(groups, stop)
    checkpoints.write(tmp_path, checkpoints.gather(module, optimizer, CPU), {})
    again = network()
    resumed = parallel.make_optimizer(again, CONFIG, groups)
    checkpoints.restore(tmp_path, again, resumed, rank=0, device=CPU)
    steps(again, resumed, groups, stop, 10)
    assert same(again, whole, *whole.state_dict())
