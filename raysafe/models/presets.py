"""Small Llama models made from a config and a seed, and byte-level tokenizers trained from texts, with no download.

preset   layers  width  parameters (259 tokens)   for
tiny          2     64                 0.11 million   tests
small         4    256                 2.97 million   trials on a CPU
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

import torch
from pydantic import Field
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from raysafe.config import Config
from raysafe.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PREFIX = "preset:"
PAD, TURN, END_OF_TURN = "<|pad|>", "<|im_start|>", "<|im_end|>"
SMALLEST_VOCABULARY = 256 + 3
"""Every byte, and the three special tokens."""

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class Preset(Config):
    """Shape of a Llama model with tied embeddings."""

    layers: int = Field(ge=1)
    width: int = Field(ge=1, description="Features of the residual stream.")
    heads: int = Field(ge=1)
    key_value_heads: int = Field(ge=1)
    feedforward: int = Field(ge=1, description="Features of the gated feed-forward layers.")
    context: int = Field(ge=1, description="Longest sequence, in tokens.")

    def to_llama(self, tokenizer: PreTrainedTokenizerBase) -> LlamaConfig:
        """The transformers config whose vocabulary is the tokenizer's."""
        return LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=self.width,
            intermediate_size=self.feedforward,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.key_value_heads,
            max_position_embeddings=self.context,
            tie_word_embeddings=True,
            bos_token_id=cast("int | None", tokenizer.bos_token_id),
            eos_token_id=cast("int | None", tokenizer.eos_token_id),
            pad_token_id=cast("int | None", tokenizer.pad_token_id),
        )


PRESETS = {
    "tiny": Preset(layers=2, width=64, heads=4, key_value_heads=2, feedforward=172, context=2048),
    "small": Preset(layers=4, width=256, heads=4, key_value_heads=2, feedforward=688, context=4096),
}


def find_preset(name: str) -> Preset:
    """The preset called `tiny` or `preset:tiny`; raises ModelError."""
    key = name.removeprefix(PREFIX)
    if key not in PRESETS:
        raise ModelError(f"there is no model preset '{key}': choose one of {', '.join(PRESETS)}")
    return PRESETS[key]


def make_policy(
    preset: str | Preset, tokenizer: PreTrainedTokenizerBase, seed: int = 0, attention: str = "sdpa"
) -> LlamaForCausalLM:
    """An untrained float32 policy; the same seed gives the same weights, and the global random state is left alone."""
    shape = find_preset(preset) if isinstance(preset, str) else preset
    config = shape.to_llama(tokenizer)
    config._attn_implementation = attention
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval()


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level byte-pair encoding with a ChatML template: every text comes back from its tokens as it was.

    The vocabulary holds at most `vocab_size` tokens, fewer where the texts have no more pairs to merge.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise ModelError(f"vocab_size must be at least {SMALLEST_VOCABULARY} (all bytes, 3 marks), got {vocab_size}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, TURN, END_OF_TURN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TURN,
        pad_token=PAD,
        additional_special_tokens=[TURN],
        chat_template=CHATML,
        clean_up_tokenization_spaces=False,
    )


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte: the tokenizer of `preset:` models, which need no texts to be trained on."""
    return train_tokenizer([], SMALLEST_VOCABULARY)
