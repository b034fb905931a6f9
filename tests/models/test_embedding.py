"""Sentence embeddings: one text at a time by transformers alone is the oracle, and published similarities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from raysafe.errors import ModelError
from raysafe.models.embedding import SentenceEncoder, load_sentence_encoder
from raysafe.models.presets import byte_tokenizer
from tests.real_data import CACHE

MINILM = CACHE / "all-MiniLM-L6-v2"
TEXTS = ["a", "some words", "a much longer text than the others are"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random BERT without a pooling head, on bytes."""
    path, tokenizer = tmp_path_factory.mktemp("bert"), byte_tokenizer()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, initializer_range=0.5,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def with_modules(folder: Path, target: Path, kinds: list[str], **pooling: bool) -> Path:
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    modules = [
        {"idx": i, "path": "1_Pooling", "type": f"sentence_transformers.models.{k}"} for i, k in enumerate(kinds)
    ]
    (target / "modules.json").write_text(json.dumps(modules))
    (target / "1_Pooling").mkdir()
    settings = {"word_embedding_dimension": 16, **{f"pooling_mode_{name}": on for name, on in pooling.items()}}
    (target / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    return target


def embed(encoder: SentenceEncoder, texts: list[str]) -> torch.Tensor:
    return encoder.embed([encoder.encode(text) for text in texts])


def states(encoder: SentenceEncoder, text: str) -> torch.Tensor:
    return encoder.model(torch.tensor([encoder.encode(text)])).last_hidden_state[0]


def test_a_text_among_others_has_the_normalised_mean_of_its_own_states(folder: Path) -> None:
    encoder = load_sentence_encoder(folder)
    for vector_D, text in zip(embed(encoder, TEXTS), TEXTS, strict=True):
        mean_D = states(encoder, text).mean(0)
        torch.testing.assert_close(vector_D, mean_D / mean_D.norm(), rtol=1e-4, atol=1e-5)


def test_pooling_is_what_the_folder_says(folder: Path, tmp_path: Path) -> None:
    kinds = ["Transformer", "Pooling"]
    encoder = load_sentence_encoder(with_modules(folder, tmp_path, kinds, cls_token=True, mean_tokens=False))
    torch.testing.assert_close(embed(encoder, TEXTS)[2], states(encoder, TEXTS[2])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kinds", "pooling", "message"),
    [
        (["Transformer", "Pooling", "Dense"], {"mean_tokens": True}, "has the module Dense"),
        (["Transformer", "Pooling"], {"max_tokens": True}, "pools by max_tokens"),
        (["Transformer", "Pooling"], {"mean_tokens": True, "cls_token": True}, "pools by"),
    ],
)
def test_a_pooling_that_is_not_known_is_refused(
    kinds: list[str], pooling: dict[str, Any], message: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=message):
        load_sentence_encoder(with_modules(folder, tmp_path, kinds, **pooling))


def test_a_text_beyond_the_context_is_refused_and_not_cut(folder: Path) -> None:
    encoder = load_sentence_encoder(folder)
    with pytest.raises(ModelError, match="a text has 65 tokens, and this model takes 64"):
        encoder.encode("x" * 65)


@pytest.mark.skipif(not MINILM.exists(), reason=f"{MINILM} is not here")
def test_vectors_of_minilm_are_the_mean_pooling_that_its_model_card_computes() -> None:
    """transformers alone, in one padded batch: sum of masked states over the sum of the mask, then L2."""
    texts = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium, and then home again."]
    tokenizer, model = AutoTokenizer.from_pretrained(MINILM), AutoModel.from_pretrained(MINILM).eval()
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    mask_BT1 = batch["attention_mask"].unsqueeze(-1).float()
    with torch.no_grad():
        states_BTD = model(**batch).last_hidden_state
    mean_BD = (states_BTD * mask_BT1).sum(1) / mask_BT1.sum(1)
    expected_BD = torch.nn.functional.normalize(mean_BD, p=2, dim=1)
    torch.testing.assert_close(embed(load_sentence_encoder(MINILM), texts), expected_BD, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not MINILM.exists(), reason=f"{MINILM} is not here")
def test_similarities_of_minilm_are_those_that_its_library_documents() -> None:
    """The first example of sentence-transformers' documentation, for all-MiniLM-L6-v2."""
    texts = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    vectors_BD = embed(load_sentence_encoder(MINILM), texts)
    expected = torch.tensor([[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]])
    torch.testing.assert_close(vectors_BD @ vectors_BD.T, expected, rtol=0, atol=1e-4)
