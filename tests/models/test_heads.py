"""Reward models read one score per answer, packed or padded, and open in transformers with the same scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertForSequenceClassification

from raysafe.errors import ModelError
from raysafe.models.attention import PACKED
from raysafe.models.chat import ChatFormat
from raysafe.models.ensemble import RewardEnsemble
from raysafe.models.heads import RewardModel, load_reward_model, save_reward_model
from raysafe.models.language import load_policy, save_policy
from raysafe.models.packing import Layout, lay_out
from raysafe.models.presets import byte_tokenizer

ASKED = [{"role": "user", "content": "how are you?"}]
PROMPTS = [ASKED, [{"role": "user", "content": "hi"}], ASKED, []]
ANSWERS = ["well, thank you", "no", "go away", "a bare text"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("rewards")
    for seed in range(3):
        save_reward_model(RewardModel.from_policy("preset:tiny", seed=seed), byte_tokenizer(), root / str(seed))
    return [root / str(seed) for seed in range(3)]


def tokens() -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    prompts, answers = ChatFormat(byte_tokenizer()).encode_batch(PROMPTS, ANSWERS)
    return [np.array(p, dtype=np.int64) for p in prompts], [[np.array(a, dtype=np.int64)] for a in answers]


@pytest.mark.parametrize("layout", [Layout(pack=False, share_prompt=False), Layout(), Layout(pack=False)])
def test_rewards_do_not_depend_on_the_layout(layout: Layout) -> None:
    model = RewardModel.from_policy("preset:tiny", attention=PACKED if layout.pack else "sdpa")
    plain = RewardModel.from_policy("preset:tiny")
    prompts, answers = tokens()
    batch = lay_out(prompts, answers, layout)
    expected = [
        plain(torch.tensor([len(p) + len(a) - 1]), input_ids=torch.from_numpy(np.concatenate([p, a]))[None])
        for p, (a,) in zip(prompts, answers, strict=True)
    ]
    torch.testing.assert_close(model(batch.last_C, **batch.model_inputs()), torch.cat(expected), rtol=1e-5, atol=1e-6)


def test_saved_reward_model_opens_in_transformers_with_equal_scores(folders: list[Path]) -> None:
    classifier = AutoModelForSequenceClassification.from_pretrained(folders[0])
    tokenizer = AutoTokenizer.from_pretrained(folders[0])
    prompts, answers = ChatFormat(tokenizer).encode_batch(PROMPTS, ANSWERS)
    rows = [p + a for p, a in zip(prompts, answers, strict=True)]
    with torch.no_grad():
        padded = tokenizer.pad({"input_ids": rows}, padding_side="right", return_tensors="pt")
        expected = classifier(**padded).logits
    assert expected.shape == (4, 1)
    scores = RewardEnsemble(folders[:1]).score(PROMPTS, ANSWERS)
    np.testing.assert_allclose(scores.mean_N, expected[:, 0].numpy(), rtol=1e-5)


def test_padding_token_of_a_saved_reward_model_never_ends_an_answer(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.add_special_tokens({"bos_token": "<|im_start|>"})
    save_reward_model(RewardModel.from_policy("preset:tiny"), tokenizer, tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).pad_token == "<|im_start|>"
    assert tokenizer.pad_token == tokenizer.eos_token, "the caller's tokenizer stays as it was"


def test_loaded_reward_model_equals_the_saved_one(folders: list[Path]) -> None:
    saved, loaded = RewardModel.from_policy("preset:tiny", seed=1), load_reward_model(folders[1])
    for name, weight in saved.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], weight, rtol=0, atol=0)


def test_ensemble_gives_mean_and_unbiased_spread_of_its_members(folders: list[Path]) -> None:
    scores = RewardEnsemble(folders).score(PROMPTS, ANSWERS)
    alone = np.stack([RewardEnsemble([folder]).score(PROMPTS, ANSWERS).mean_N for folder in folders])
    np.testing.assert_allclose(scores.each_MN, alone)
    np.testing.assert_allclose(scores.mean_N, alone.mean(0))
    np.testing.assert_allclose(scores.disagreement_N, np.sqrt(((alone - alone.mean(0)) ** 2).sum(0) / 2))
    assert (scores.disagreement_N > 0).all()
    assert not RewardEnsemble(folders[:1]).score(PROMPTS, ANSWERS).disagreement_N.any()


@pytest.mark.parametrize("batch_tokens", [1, 60, 10_000])
def test_scores_do_not_depend_on_the_batch(folders: list[Path], batch_tokens: int) -> None:
    ensemble = RewardEnsemble(folders[:1], batch_tokens=batch_tokens)
    np.testing.assert_allclose(
        ensemble.score(PROMPTS, ANSWERS).mean_N,
        [ensemble.score([p], [a]).mean_N[0] for p, a in zip(PROMPTS, ANSWERS, strict=True)],
        rtol=1e-5,
    )


def test_answer_longer_than_the_context_is_refused(folders: list[Path]) -> None:
    with pytest.raises(ModelError, match=r"answer 1 has \d+ tokens with its prompt, but the reward model takes 2048"):
        RewardEnsemble(folders[:1]).score([[], []], ["short", "long " * 500])


def test_backbone_is_the_policys_and_the_head_is_new(tmp_path: Path) -> None:
    policy = load_policy("preset:tiny", seed=9)
    save_policy(policy, byte_tokenizer(), tmp_path)
    model = RewardModel.from_policy(str(tmp_path), seed=4)
    for name, weight in policy.base_model.state_dict().items():
        torch.testing.assert_close(model.backbone.state_dict()[name], weight, rtol=0, atol=0)
    again, other = (RewardModel.from_policy(str(tmp_path), seed=seed) for seed in (4, 5))
    assert torch.equal(model.classifier.score.weight, again.classifier.score.weight)
    assert not torch.equal(model.classifier.score.weight, other.classifier.score.weight)
    assert 0.5 < model.classifier.score.weight.std() * 65**0.5 < 1.5


def test_critic_values_come_from_the_same_module() -> None:
    model = RewardModel.from_policy("preset:tiny")
    ids_RT = torch.randint(3, 259, (2, 7))
    values_N = model(torch.arange(14), input_ids=ids_RT)
    torch.testing.assert_close(values_N[[6, 13]], model(torch.tensor([6, 13]), input_ids=ids_RT))
    assert values_N.shape == (14,)


def test_head_stays_in_float32_under_autocast() -> None:
    model = RewardModel.from_policy("preset:tiny")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(torch.tensor([3]), input_ids=torch.arange(4)[None]).dtype == torch.float32


def test_policies_and_reward_models_are_not_taken_for_each_other(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a reward model, not a policy"):
        load_policy(folders[0])
    save_policy(load_policy("preset:tiny"), byte_tokenizer(), tmp_path)
    with pytest.raises(ModelError, match="is no reward model but a LlamaForCausalLM"):
        load_reward_model(tmp_path)


def test_classifier_of_another_kind_is_refused() -> None:
    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=1
    )
    with pytest.raises(ModelError, match="expected a decoder-only classifier with one label"):
        RewardModel(BertForSequenceClassification(config))
