"""A GPU computes what the CPU does: log-probabilities, the DPO loss and its gradient, an update, a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from raysafe.alignment.dpo import DPOBatch, DPOJob, DPOLearner
from raysafe.alignment.trainer import OnlineTrainer
from raysafe.models.attention import PACKED
from raysafe.models.language import load_policy
from raysafe.models.logprobs import sequence_logprobs, token_logprobs
from raysafe.models.packing import Layout, TokenBatch, lay_out
from raysafe.runtime import parallel
from raysafe.runtime.learner import OptimConfig
from tests.alignment.online_parts import PLACE, Case, make_exact
from tests.real_data import STORIES

CUDA = torch.device("cuda")
LAYOUTS = [Layout(), Layout(share_prompt=False), Layout(pack=False), Layout(share_prompt=False, pack=False)]


@pytest.fixture(scope="module")
def model() -> str:
    if not STORIES.is_dir():
        pytest.skip(f"there is no trained model in {STORIES}")
    return str(STORIES)


def batch(layout: Layout) -> TokenBatch:
    """Four prompts with two answers each, of different lengths."""
    rng = np.random.default_rng(1)
    prompts = [rng.integers(3, 512, size) for size in (5, 17, 9, 30)]
    answers = [[rng.integers(3, 512, size) for size in (8 + i, 21 - i)] for i in range(4)]
    return lay_out(prompts, answers, layout)


def policy(model: str, layout: Layout, device: torch.device) -> nn.Module:
    return load_policy(model, attention=PACKED if layout.pack else None).to(device)  # type: ignore[arg-type]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_log_probabilities_in_float32_are_the_cpus(model: str, layout: Layout) -> None:
    tokens = batch(layout)
    with torch.no_grad():
        expected = token_logprobs(policy(model, layout, torch.device("cpu")), tokens)
        found = token_logprobs(policy(model, layout, CUDA), tokens.to(CUDA)).cpu()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_log_probabilities_in_bfloat16_are_near_the_cpus_and_not_equal_to_them(model: str) -> None:
    tokens = batch(Layout())
    with torch.no_grad():
        expected = token_logprobs(policy(model, Layout(), torch.device("cpu")), tokens)
        with parallel.autocast(parallel.compute_dtype("auto", CUDA), CUDA):
            found = token_logprobs(policy(model, Layout(), CUDA), tokens.to(CUDA)).cpu()
    assert 1e-4 < float((found - expected).abs().max()) < 0.5
    assert float((found - expected).abs().mean()) < 0.05


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_the_loss_of_dpo_and_its_gradient_are_the_cpus(model: str, layout: Layout) -> None:
    learner = DPOLearner(DPOJob(model=model, data="pairs.jsonl", beta=0.5, layout=layout))
    with torch.no_grad():
        reference_2B = sequence_logprobs(policy(model, layout, torch.device("cpu")), batch(layout)) - torch.arange(8.0)
    whole = DPOBatch(batch(layout), reference_2B, torch.ones(8, dtype=torch.long))
    losses, gradients = [], []
    for device in (torch.device("cpu"), CUDA):
        trained = policy(model, layout, device)
        loss, _ = learner.loss(trained, whole.to(device))
        loss.backward()
        losses.append(float(loss.detach()))
        gradients.append({n: p.grad.cpu() for n, p in trained.named_parameters() if p.grad is not None})
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    norm = float(torch.stack([g.norm() for g in gradients[0].values()]).norm())
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=0, atol=1e-4 * norm, msg=name)


@pytest.fixture(scope="module")
def online(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a policy in model/, which the cases of online training take."""
    folder = tmp_path_factory.mktemp("online")
    make_exact(folder / "model")
    before, PLACE["model"] = PLACE["model"], str(folder / "model")
    yield folder
    PLACE["model"] = before


def trainer(device: str, precision: Any = "float32") -> OnlineTrainer:
    config = OptimConfig(learning_rate=1e-3, micro_tokens=64, precision=precision)
    return OnlineTrainer(Case("token").job.learners()["policy"], config, seed=3, device=device)


def weights(of: OnlineTrainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().cpu().clone() for name, p in of.module.named_parameters()}


def test_an_update_by_policy_gradient_is_the_cpus(online: Path) -> None:
    results = []
    for device in ("cpu", "cuda"):
        one = trainer(device)
        rows, parts = Case("token").experience()
        figures = one.update(rows, parts, step=1, total_steps=8)
        results.append((figures, one.figures(rows)[1]))
    assert results[1][0]["loss"] == pytest.approx(results[0][0]["loss"], abs=1e-4)
    assert results[1][0]["gradient_norm"] == pytest.approx(results[0][0]["gradient_norm"], rel=1e-3)
    np.testing.assert_allclose(results[1][1], results[0][1], rtol=0, atol=1e-2)


def test_a_trainer_that_is_off_the_gpu_holds_nothing_there_and_goes_on_as_if_it_had_stayed(online: Path) -> None:
    before = torch.cuda.memory_allocated()
    stays, leaves = trainer("cuda"), trainer("cuda")
    rows, parts = Case("token").experience()
    for one in (stays, leaves):
        one.update(rows, parts, step=1, total_steps=8)
    both = torch.cuda.memory_allocated()
    leaves.offload()
    assert torch.cuda.memory_allocated() - before == pytest.approx((both - before) / 2, rel=0.1)
    leaves.onload()
    for one in (stays, leaves):
        one.update(rows, parts, step=2, total_steps=8)
    kept, moved = weights(stays), weights(leaves)
    for name, weight in kept.items():
        torch.testing.assert_close(moved[name], weight, rtol=0, atol=1e-6, msg=name)


def test_a_checkpoint_of_a_gpu_goes_on_as_if_nothing_had_happened(online: Path, tmp_path: Path) -> None:
    first, second = trainer("cuda", "auto"), trainer("cuda", "auto")
    rows, parts = Case("token").experience()
    first.update(rows, parts, step=1, total_steps=8)
    first.save(str(tmp_path), "one", {"answers": 3})
    assert second.restore(str(tmp_path), "one")["answers"] == 3
    assert torch.equal(torch.cuda.get_rng_state(), first_state(tmp_path))
    for one in (first, second):
        one.update(rows, parts, step=2, total_steps=8)
    expected, found = weights(first), weights(second)
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-6, msg=name)


def first_state(folder: Path) -> torch.Tensor:
    from safetensors.torch import load_file

    return load_file(folder / "one" / "random.safetensors")["0|cuda"]
