"""A model that isn't walked whole is refused, naming what has no bound."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from raysafe.errors import ModelError
from raysafe.robustness.certify.certificate import certify
from raysafe.robustness.certify.graph import Graph
from raysafe.robustness.certify.interval import box


class Lambda(nn.Module):
    """x through a dense layer, through a function, through a dense layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.function = nn.Linear(3, 4), nn.Linear(4, 2), function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x)))


def _branch(x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


def _reused(x: Tensor) -> Tensor:
    return x + nn.functional.relu(x, inplace=True)


def _reused_view(x: Tensor) -> Tensor:
    return x + x.view(x.shape).relu_()


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "an unknown function": (torch.sin, r"no bound for the model's sin\(\)"),
    "an unknown method": (lambda x: x.softmax(1), r"no bound for the model's .softmax\(\)"),
    "a product of activations": (lambda x: x * x, r"mul\(\): it multiplies two activations"),
    "a branch": (_branch, "can't be traced"),
    "noise": (lambda x: x + torch.randn(4), "makes a tensor of shape"),
    "noise of the input's shape": (lambda x: x + torch.randn(x.shape[1:]), "randn|can't be traced"),
    "noise like the input": (torch.rand_like, "rand_like"),
    "drops in eval mode": (lambda x: nn.functional.dropout(x, 0.5, True), "drops at random"),
    "a change in place": (_reused, "changes in place what is used again"),
    "a change in place by a view": (_reused_view, "changes in place what is used again"),
    "a flattened batch": (lambda x: x.flatten(0).view(-1, 4), "flattens the batch axis"),
    "a mixed batch": (lambda x: x.view(-1, 2).view(-1, 4), "changes the batch axis"),
    "a mean over the batch": (lambda x: x - x.mean(0), "averages over the batch axis"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_has_no_bound_is_refused(what: str) -> None:
    function, message = REFUSED[what]
    x = torch.rand(2, 3)
    with pytest.raises(ModelError, match=message):
        Graph(Lambda(function)).entries(box(x, 0.1))


def test_a_module_without_a_bound_is_named() -> None:
    with pytest.raises(ModelError, match=r"no bound for the model's 1 \(Softmax\)"):
        Graph(nn.Sequential(nn.Linear(3, 2), nn.Softmax(1)))
    with pytest.raises(ModelError, match=r"no bound for the model's 0 \(Conv2d\): padding by 'circular'"):
        Graph(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"))).entries(
            box(torch.rand(1, 1, 4, 4), 0.1)
        )
    with pytest.raises(ModelError, match=r"BatchNorm1d\): it normalises by its batch"):
        Graph(nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False))).entries(box(torch.rand(2, 3), 0.1))


def test_hooks_and_forwards_of_an_instance_are_refused() -> None:
    hooked, patched = nn.Sequential(nn.Linear(3, 2)), nn.Sequential(nn.Linear(3, 2))
    hooked[0].register_forward_hook(lambda module, given, found: found + 1)
    with pytest.raises(ModelError, match="the model's 0 has forward hooks"):
        Graph(hooked)
    patched[0].forward = lambda x: x[:, :2]  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="a forward of its instance's own"):
        Graph(patched)


def test_a_forward_that_differs_each_time_is_found_out() -> None:
    model = Lambda(lambda x: x + 10 * random.random())
    with pytest.raises(ModelError, match="outside their own bounds"):
        for _ in range(20):
            certify(model, torch.rand(2, 3), torch.tensor([0, 1]), 0.0, "ibp")


def test_parameters_are_read_anew_and_modes_restored() -> None:
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 2)), nn.Dropout(0.9)).train()
    graph, inputs = Graph(model), box(torch.rand(4, 3), 0.0)
    assert model.training and model[1].training
    with torch.no_grad():
        model[0].bias.add_(5.0)
    torch.testing.assert_close(graph.entries(inputs)[-1].output.centre, model.eval()(inputs.lower))


def test_a_constant_may_be_any_buffer_parameter_or_number() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("shift", torch.tensor([1.0, -2.0]))
            self.scale = nn.Parameter(torch.tensor(3.0))

        def forward(self, x: Tensor) -> Tensor:
            return (1 - x / 4) * (self.scale + 1) - self.shift.view(1, 2)  # type: ignore[operator]

    model, x = Shifted(), torch.rand(3, 2)
    torch.testing.assert_close(Graph(model).entries(box(x, 0.0))[-1].output.centre, model(x))
