"""The model that the quickstart starts from: a tokenizer trained on its corpus, and weights that know nothing."""

from __future__ import annotations

import json
from pathlib import Path

VOCABULARY = 2000
"""More than the corpus has words, so that nearly every word becomes one token."""


def make_start(folder: Path, corpus: dict[str, Path], seed: int) -> Path:
    """Write a model folder of 0.7 million weights and its tokenizer; held-out files are not read."""
    from raysafe.models.language import save_policy
    from raysafe.models.presets import Preset, make_policy, train_tokenizer

    rows = [json.loads(line) for name in ("demonstrations", "preferences") for line in corpus[name].open()]
    texts = [text for row in rows for text in row.values()]
    # the words of the chat template, which the corpus itself doesn't hold
    tokenizer = train_tokenizer([*texts, *["user\n", "assistant\n"] * 100], VOCABULARY)
    shape = Preset(layers=3, width=128, heads=4, key_value_heads=4, feedforward=384, context=256)
    save_policy(make_policy(shape, tokenizer, seed), tokenizer, folder)
    return folder
