"""certify() says what it proved: its fields, its radius, its settings."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import beta, norm
from torch import Tensor, nn

from raysafe.errors import ConfigError, DataError, ModelError
from raysafe.models.mlp import Smoothing
from raysafe.robustness.certify.certificate import METHODS, certify
from raysafe.robustness.certify.smoothing import smooth, smooth_in_parallel
from raysafe.runtime.cluster import Needs


class Halves(nn.Module):
    """Class 1 where the first number is above a half: the boundary is |x0 - 1/2| away in any norm."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.layer.load_state_dict(
            {"weight": torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), "bias": torch.tensor([0.5, -0.5])}
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


X, Y = torch.tensor([[0.9, 0.5], [0.6, 0.5], [0.1, 0.5], [0.8, 0.2]]), torch.tensor([1, 1, 0, 0])


@pytest.mark.parametrize("method", METHODS[:4])
def test_a_proof_says_which_inputs_keep_their_label(method: str) -> None:
    """0.4, 0.1 and 0.4 from the boundary, and one that is wrong as it is; the margins are twice the distances."""
    found = certify(Halves(), X, Y, 0.2, method, search_radius=0.45)  # type: ignore[arg-type]
    assert found.certified.tolist() == [True, False, True, False] and found.predicted.tolist() == [1, 1, 0, 1]
    assert found.radius.tolist() == pytest.approx([0.4, 0.1, 0.4, 0], abs=1e-3)
    others = found.lower_bounds.gather(1, 1 - Y[:, None]).squeeze(1)
    assert others.tolist() == pytest.approx([0.4, -0.2, 0.4, -1.0], abs=1e-4)
    assert found.lower_bounds.gather(1, Y[:, None]).abs().max() < 1e-5


def test_without_a_search_the_radius_is_epsilon_where_that_is_certified() -> None:
    assert certify(Halves(), X, Y, 0.2, "crown").radius.tolist() == pytest.approx([0.2, 0, 0.2, 0])


def test_the_ball_is_cut_to_the_range_of_inputs() -> None:
    """Brighter than 1 there is nothing: at epsilon 1 a pixel of 0.9 may fall to 0, but one can't rise to 1.9."""
    layer = nn.Linear(1, 2)
    layer.load_state_dict({"weight": torch.tensor([[0.0], [1.0]]), "bias": torch.tensor([1.1, 0.0])})
    x, y = torch.tensor([[0.9]]), torch.tensor([0])
    assert certify(layer, x, y, 1.0, "ibp").certified.item()
    assert not certify(layer, x, y, 1.0, "ibp", clip=None).certified.item()


def test_batches_and_modes_change_nothing() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3)).train()
    x, y = torch.rand(7, 4), torch.randint(0, 3, (7,))
    whole, parts = (certify(model, x, y, 0.05, "crown", batch=size) for size in (100, 2))
    torch.testing.assert_close(whole.lower_bounds, parts.lower_bounds)
    assert all(module.training for module in model.modules())


def test_smoothing_gives_the_closed_form_of_its_votes() -> None:
    """The radius is sigma * Phi^-1 of scipy's beta quantile of the hits, for a vote that is unanimous here."""
    smoothing = Smoothing(sigma=0.05, samples=200, alpha=0.01)
    found = certify(Halves(), X, Y, 0.01, "smoothing", smoothing=smoothing)
    p_low = beta.ppf(0.01, 200, 1)
    assert found.lower_bounds[0].item() == pytest.approx(p_low, abs=1e-12)
    assert found.radius[0].item() == pytest.approx(0.05 * norm.ppf(p_low), abs=1e-12)
    assert found.certified.tolist() == [True, True, True, False] and found.predicted.tolist() == [1, 1, 0, 1]


def test_smoothing_abstains_at_the_boundary() -> None:
    smoothing = Smoothing(sigma=0.5, samples=50)
    found = certify(Halves(), torch.tensor([[0.5, 0.5]]), torch.tensor([1]), 0.0, "smoothing", smoothing=smoothing)
    assert (found.predicted.item(), found.radius.item(), found.certified.item()) == (-1, 0, False)


def test_votes_are_the_same_however_inputs_are_shared_out() -> None:
    smoothing = Smoothing(sigma=0.3, samples=100)
    whole = smooth(Halves(), X, smoothing, seed=3)
    parts = [smooth(Halves(), X[i : i + 2], smoothing, seed=3, first=i) for i in (0, 2)]
    assert torch.cat([part.p_low_B for part in parts]).tolist() == whole.p_low_B.tolist()


def test_what_can_not_be_certified_is_refused() -> None:
    for wrong, error in (
        ({"method": "best"}, "method must be one of ibp, crown-ibp"),
        ({"epsilon": -0.1}, "epsilon must be at least 0"),
        ({"method": "smoothing"}, "smoothing needs its settings"),
        ({"smoothing": Smoothing(sigma=1)}, "no effect on ibp"),
        ({"search_radius": 0.05}, "search_radius must be above epsilon"),
    ):
        with pytest.raises(ConfigError, match=error):
            certify(Halves(), **{"x_BCHW": X, "y_B": Y, "epsilon": 0.1, "method": "ibp", **wrong})
    with pytest.raises(ConfigError, match=r"inputs must lie in \[0, 1\]"):
        certify(Halves(), X * 2, Y, 0.1, "ibp")
    with pytest.raises(DataError, match="labels must be one whole number from 0 to 1"):
        certify(Halves(), X, Y + 1, 0.1, "ibp")
    with pytest.raises(DataError, match="one whole number for each of 4 inputs"):
        certify(Halves(), X, Y[:2], 0.1, "ibp")
    with pytest.raises(ModelError, match="certificates are of torch modules"):
        certify(lambda x: x, X, Y, 0.1, "ibp")  # type: ignore[arg-type]


@pytest.mark.ray
def test_actors_give_the_votes_of_one_process() -> None:
    smoothing = Smoothing(sigma=0.3, samples=20)
    x = torch.rand(70, 2, generator=torch.Generator().manual_seed(0))
    whole = smooth(Halves(), x, smoothing, seed=3)
    shared = smooth_in_parallel(Halves, x, smoothing, seed=3, needs=Needs(workers=2))
    assert shared.label_B.tolist() == whole.label_B.tolist() and shared.radius_B.tolist() == whole.radius_B.tolist()
