"""The model that the quickstart starts from: a token for every word of its language, and weights that know nothing.

Every token occurs in training. With the hundreds of unused ones of a byte-level vocabulary, DPO moves probability from
the rejected answers to tokens that nobody ever taught (likelihood displacement; Razin et al. 2024).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

UNKNOWN = "<|unknown|>"


def make_start(folder: Path, corpus: dict[str, Path], seed: int) -> Path:
    """Write a model folder of 0.7 million weights and its tokenizer; held-out files are not read."""
    from raysafe.models.language import save_policy
    from raysafe.models.presets import Preset, make_policy

    rows = [json.loads(line) for name in ("demonstrations", "preferences") for line in corpus[name].open()]
    tokenizer = word_tokenizer(text for row in rows for text in row.values())
    shape = Preset(layers=3, width=128, heads=4, key_value_heads=4, feedforward=384, context=256)
    save_policy(make_policy(shape, tokenizer, seed), tokenizer, folder)
    return folder


def word_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """One token for every word with the space before it, and a ChatML template; other words are one unknown token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from raysafe.models.presets import CHATML, END_OF_TURN, PAD, TURN

    tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.WordLevelTrainer(special_tokens=[PAD, TURN, END_OF_TURN, UNKNOWN], show_progress=False)
    # the second text: words of the chat template, which the corpus doesn't hold
    tokenizer.train_from_iterator([*texts, "user\nassistant\n"], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TURN,
        pad_token=PAD,
        unk_token=UNKNOWN,
        additional_special_tokens=[TURN],
        chat_template=CHATML,
        clean_up_tokenization_spaces=False,
    )
