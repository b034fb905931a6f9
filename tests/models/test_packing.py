"""Every layout of the same completions gives the loss and gradients of the plain padded computation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from raysafe.errors import ModelError
from raysafe.models.attention import PACKED, check_packable
from raysafe.models.logprobs import sequence_logprobs
from raysafe.models.packing import Layout, lay_out

VOCABULARY = 50
LAYOUTS = [
    Layout(share_prompt=s, pack=p, completion_logits=c) for s, p, c in itertools.product((False, True), repeat=3)
]


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config)


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
    )
    return GPT2LMHeadModel(config)


def qwen2() -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        use_sliding_window=False,
    )
    return Qwen2ForCausalLM(config)


def ragged() -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    """Prompts and 1 to 3 completions each, of many lengths."""
    rng = np.random.default_rng(3)
    draw = lambda n: rng.integers(1, VOCABULARY, n)  # noqa: E731
    prompts = [draw(n) for n in (7, 1, 19, 4)]
    return prompts, [[draw(5), draw(1)], [draw(12), draw(9)], [draw(3)], [draw(2), draw(8), draw(4)]]


def plain_logprobs(model: torch.nn.Module, prompts: list[np.ndarray], branches: list[list[np.ndarray]]) -> torch.Tensor:
    """One sequence at a time, no packing code involved."""
    totals = []
    for prompt, several in zip(prompts, branches, strict=True):
        for branch in several:
            ids = torch.from_numpy(np.concatenate([prompt, branch]))[None]
            logps = model(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
            at = torch.arange(len(prompt) - 1, ids.shape[1] - 1)
            totals.append(logps[at, ids[0, at + 1]].sum())
    return torch.stack(totals)


def objective(logps_C: torch.Tensor) -> torch.Tensor:
    """A loss in which every completion counts differently."""
    return (torch.nn.functional.softplus(logps_C / 5) * torch.arange(1, len(logps_C) + 1)).sum()


@pytest.mark.parametrize("build", [llama, gpt2, qwen2])
@pytest.mark.parametrize(
    "layout", LAYOUTS, ids=lambda x: f"share{x.share_prompt:d}-pack{x.pack:d}-some{x.completion_logits:d}"
)
def test_layout_equals_one_sequence_at_a_time_in_loss_and_gradient(build, layout: Layout) -> None:
    prompts, branches = ragged()
    model = build()
    expected_C = plain_logprobs(model, prompts, branches)
    objective(expected_C).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    model.set_attn_implementation(PACKED if layout.pack else "sdpa")
    logps_C = sequence_logprobs(model, lay_out(prompts, branches, layout))
    loss = objective(logps_C)
    loss.backward()
    torch.testing.assert_close(loss, objective(expected_C), rtol=1e-5, atol=0)
    for name, parameter in model.named_parameters():
        error = (parameter.grad - expected[name]).norm() / expected[name].norm().clamp_min(1e-12)
        assert error < 1e-5 or expected[name].norm() < 1e-4, (name, float(error))


def test_branches_do_not_see_each_other() -> None:
    prompts, branches = ragged()
    model = llama()
    model.set_attn_implementation(PACKED)
    before_C = sequence_logprobs(model, lay_out(prompts, branches, Layout()))
    branches[0][0] = branches[0][0][::-1].copy()
    after_C = sequence_logprobs(model, lay_out(prompts, branches, Layout()))
    assert not torch.allclose(before_C[0], after_C[0])
    torch.testing.assert_close(before_C[1:], after_C[1:])


def test_shared_prompt_stands_once() -> None:
    prompts, branches = ragged()
    once = lay_out(prompts, branches, Layout()).input_ids_RT.numel()
    each = lay_out(prompts, branches, Layout(share_prompt=False)).input_ids_RT.numel()
    assert each - once == sum(len(p) * (len(b) - 1) for p, b in zip(prompts, branches, strict=True))


def test_without_a_prompt_the_first_token_is_no_target() -> None:
    batch = lay_out([np.array([], dtype=np.int64)], [[np.array([5, 6, 7])]], Layout())
    assert batch.target_N.tolist() == [6, 7]
    assert batch.predictor_N.tolist() == [0, 1]


def test_sliding_window_attention_is_refused_with_the_remedy() -> None:
    from transformers import MistralConfig, MistralForCausalLM

    config = MistralConfig(
        vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, sliding_window=8,
    )  # fmt: skip
    with pytest.raises(ModelError, match=r"sliding window.*layout\.pack"):
        check_packable(MistralForCausalLM(config))
