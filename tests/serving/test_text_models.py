"""Encoders and text classifiers as backends, on tiny random models; transformers one text at a time is the oracle."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel

from raysafe.models.heads import RewardModel, load_reward_model, save_reward_model
from raysafe.models.presets import byte_tokenizer
from raysafe.serving.backend import NotOffered, PromptRefused
from raysafe.serving.local import load_backend
from raysafe.serving.replicas import ReplicaSettings

pytestmark = pytest.mark.anyio
TEXTS = ("a", "some words", "a longer text than the others")
TOKENIZER = byte_tokenizer()


def bert(kind: Any, folder: Path, **settings: Any) -> Any:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(TOKENIZER), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, initializer_range=0.5, pad_token_id=0, **settings,
    )  # fmt: skip
    model = kind(config).eval()
    model.save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return model


def served(folder: Path) -> Any:
    return load_backend(ReplicaSettings(folder=str(folder)))


def logits(model: Any, text: str) -> torch.Tensor:
    return model(torch.tensor([TOKENIZER(text)["input_ids"]])).logits[0].detach()


async def test_texts_of_several_callers_are_embedded_as_alone(tmp_path: Path) -> None:
    bert(BertModel, tmp_path)
    backend = served(tmp_path)
    together = await asyncio.gather(*(backend.embed((text, "x")) for text in TEXTS))
    for text, found in zip(TEXTS, together, strict=True):
        alone = await backend.embed((text,))
        assert found.vectors[0] == pytest.approx(alone.vectors[0], abs=1e-5)
        assert found.prompt_tokens == len(text) + 1
    with pytest.raises(PromptRefused, match="this model takes 64"):
        await backend.embed(("x" * 65,))
    with pytest.raises(PromptRefused, match="surrogate"):
        await backend.embed(("a\ud800",))
    with pytest.raises(NotOffered):
        await backend.predict(TEXTS)
    backend.close()


@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification"])
async def test_a_sequence_classifier_gives_its_labels_probabilities(problem: str, tmp_path: Path) -> None:
    labels = {"id2label": {0: "good", 1: "bad", 2: "odd"}, "label2id": {"good": 0, "bad": 1, "odd": 2}}
    model = bert(BertForSequenceClassification, tmp_path, problem_type=problem, **labels)
    backend = served(tmp_path)
    for text, found in zip(TEXTS, await backend.predict(TEXTS), strict=True):
        logits_K = logits(model, text)
        scores_K = (logits_K.sigmoid() if problem.startswith("multi") else logits_K.softmax(-1)).tolist()
        assert found.scores == pytest.approx(dict(zip(("good", "bad", "odd"), scores_K, strict=True)), abs=1e-5)
        assert found.label == max(found.scores, key=found.scores.__getitem__)
    for wrong in (((1.0, 2.0),), ("x" * 65,), ("a\ud800",)):
        with pytest.raises(PromptRefused):
            await backend.predict(wrong)
    backend.close()


async def test_a_reward_model_gives_the_reward_of_a_bare_answer(tmp_path: Path) -> None:
    save_reward_model(RewardModel.from_policy("preset:tiny"), byte_tokenizer(), tmp_path)
    backend, model = served(tmp_path), load_reward_model(tmp_path)
    for text, found in zip(TEXTS, await backend.predict(TEXTS), strict=True):
        ids = torch.tensor([[*TOKENIZER(text)["input_ids"], TOKENIZER.eos_token_id]])
        reward = model(torch.tensor([ids.shape[1] - 1]), input_ids=ids).item()
        assert found.label == "reward" and found.scores == {"reward": pytest.approx(reward, abs=1e-4)}
    backend.close()
