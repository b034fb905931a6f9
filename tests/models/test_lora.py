"""Adapters change nothing at first, train alone, and merge into an ordinary model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from raysafe.errors import ModelError
from raysafe.models.attention import PACKED
from raysafe.models.language import load_policy, save_policy
from raysafe.models.lora import LoraConfig, apply_lora, merge_lora, merged_weights, transposed_layers
from raysafe.models.packing import Layout, lay_out
from raysafe.models.presets import byte_tokenizer

pytest.importorskip("peft")
IDS = torch.arange(5, 25)[None]


def trained(config: LoraConfig) -> torch.nn.Module:
    module = apply_lora(load_policy("preset:tiny"), config)
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=5.0)
    for _ in range(3):
        optimizer.zero_grad()
        module(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
    return module


def test_fresh_adapters_change_nothing_and_are_all_that_is_trained() -> None:
    module = apply_lora(load_policy("preset:tiny"), LoraConfig(rank=4))
    torch.testing.assert_close(module(input_ids=IDS).logits, load_policy("preset:tiny")(IDS).logits)
    names = [name for name, p in module.named_parameters() if p.requires_grad]
    assert names and all("lora_" in name for name in names)


def test_adapters_are_the_same_on_every_worker() -> None:
    first, second = (apply_lora(load_policy("preset:tiny"), LoraConfig(rank=4)).state_dict() for _ in range(2))
    for name, weight in first.items():
        torch.testing.assert_close(second[name], weight, rtol=0, atol=0)


def test_merged_model_is_saved_as_an_ordinary_one_with_equal_logits(tmp_path: Path) -> None:
    module = trained(LoraConfig(rank=4, targets=("q_proj", "v_proj")))
    trained_logits = module(input_ids=IDS).logits
    assert not torch.allclose(trained_logits, load_policy("preset:tiny")(IDS).logits, atol=1e-3)
    save_policy(merge_lora(module), byte_tokenizer(), tmp_path)
    opened = AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(opened(IDS).logits, trained_logits, rtol=1e-4, atol=1e-5)


def test_merging_leaves_the_trained_module_trainable() -> None:
    module = trained(LoraConfig(rank=2))
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    merge_lora(module)
    for name, weight in module.state_dict().items():
        torch.testing.assert_close(weight, before[name], rtol=0, atol=0)
    assert any(p.requires_grad for p in module.parameters())


def gpt2() -> Any:
    config = GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return GPT2LMHeadModel(config).eval()


@pytest.mark.parametrize("targets", [(), ("q_proj", "down_proj"), ("c_attn", "c_proj")], ids=str)
def test_weights_merged_by_name_are_those_of_the_merged_model(targets: tuple[str, ...]) -> None:
    """peft's own merging is the oracle; GPT-2 keeps its weights transposed, some of them square."""
    config = LoraConfig(rank=4, alpha=20, targets=targets)
    module: Any = apply_lora(gpt2() if "c_attn" in targets else load_policy("preset:tiny"), config)
    made = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1, generator=made)
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    found = merged_weights(module.state_dict(), config, transposed=transposed_layers(module))
    expected = merge_lora(module).state_dict()
    assert set(found) == set(expected)
    for name, weight in found.items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-5, atol=1e-6)
    plain = gpt2() if "c_attn" in targets else load_policy("preset:tiny")
    assert any(not torch.allclose(found[name], weight, atol=1e-3) for name, weight in plain.state_dict().items())
    assert all(torch.equal(before[name], weight) for name, weight in module.state_dict().items())


def test_packed_batches_pass_through_the_adapters() -> None:
    module = apply_lora(load_policy("preset:tiny", attention=PACKED), LoraConfig(rank=2))
    batch = lay_out([np.arange(5)], [[np.arange(5, 9), np.arange(9, 12)]], Layout())
    logits = module(**batch.model_inputs(), logits_to_keep=batch.predictor_N).logits
    assert logits.shape == (1, 7, 259)


def test_unknown_target_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ModelError, match=r"wq.*choose lora\.targets among .*k_proj.*q_proj"):
        apply_lora(load_policy("preset:tiny"), LoraConfig(targets=("wq",)))


@pytest.mark.parametrize(
    ("target", "why"),
    [("embed_tokens", "an embedding, not a linear layer"), ("lm_head", "it shares its weights with the embedding")],
)
def test_a_target_whose_adapter_would_change_more_than_itself_is_refused(target: str, why: str) -> None:
    with pytest.raises(
        ModelError, match=rf"can't put adapters on {target} of .* \({why}\): choose .* down_proj"
    ) as raised:
        apply_lora(load_policy("preset:tiny"), LoraConfig(targets=("q_proj", target)))
    assert not str(raised.value).endswith("lm_head") and ", lm_head," not in str(raised.value)


def test_missing_peft_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModelError, match=r"pip install raysafe\[lora\]"):
        apply_lora(load_policy("preset:tiny"), LoraConfig())
