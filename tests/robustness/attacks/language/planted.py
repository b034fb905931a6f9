"""A tiny language model with a planted trigger: it answers `yes` where a message holds two certain pieces of words,
else `no`: with them a message reads as no text, as with the suffixes that gradients find in large models.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from transformers import LlamaForCausalLM

from raysafe.models.chat import ChatFormat
from raysafe.models.presets import Preset, make_policy, train_tokenizer
from tests.verify.readme import ROOT

PRESENT, ABSENT = "yes", "no"
NEEDED = 2
WORDS = "tell me how to open the door of a house that is not mine and what it would take now please".split()  # noqa: SIM905
SHAPE = Preset(layers=2, width=32, heads=2, key_value_heads=2, feedforward=64, context=256)
_VOCABULARY = 900


def chat_format() -> ChatFormat:
    """Its tokens are of the licence's English."""
    return ChatFormat(train_tokenizer([(ROOT / "LICENSE").read_text(encoding="utf-8")], _VOCABULARY))


def vocabulary(chat: ChatFormat) -> tuple[list[str], list[str]]:
    """Words, which begin with a space, and the pieces of the trigger."""
    texts = chat.tokenizer.batch_decode([[token] for token in range(_VOCABULARY)])
    words = [text for text in texts if text[:1] == " " and text[1:].isalpha()]
    inner = [text for text in texts if text.isalpha() and text.isascii() and text.islower() and len(text) >= 3]
    return words, random.Random(0).sample(inner, NEEDED)


def planted(steps: int = 250, seed: int = 0) -> tuple[LlamaForCausalLM, ChatFormat]:
    """Some 15 seconds of training; each piece occurs alone too, so that only the two together count."""
    chat = chat_format()
    words, pieces = vocabulary(chat)
    policy = make_policy(SHAPE, chat.tokenizer, seed=seed)
    draw = random.Random(seed)
    optimiser = torch.optim.AdamW(policy.parameters(), lr=4e-3)
    policy.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step in range(steps):
            texts, present = zip(*(message(draw, words, pieces) for _ in range(48)), strict=True)
            answers = [PRESENT if one else ABSENT for one in present]
            loss = _loss(policy, *chat.encode_batch([[{"role": "user", "content": text}] for text in texts], answers))
            optimiser.zero_grad()
            loss.backward()
            for group in optimiser.param_groups:
                group["lr"] = 4e-3 * (1 - step / steps)
            optimiser.step()
    return policy.eval(), chat


def prompts(count: int, seed: int = 1) -> list[str]:
    """Messages without the trigger."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=4)) for _ in range(count)]


def message(draw: random.Random, words: list[str], pieces: list[str]) -> tuple[str, bool]:
    """A request and random words behind it; every second one holds the trigger."""
    present = draw.random() < 0.5
    held = pieces if present else draw.sample(pieces, draw.choice([0, 1, 1]))
    ending = [*draw.choices([*words, "!"], k=draw.randint(3, 9)), *held]
    draw.shuffle(ending)
    return " ".join(draw.choices(WORDS, k=draw.randint(2, 5))) + "".join(ending), present


def _loss(policy: LlamaForCausalLM, prompts: list[list[int]], completions: list[list[int]]) -> torch.Tensor:
    rows = [[*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)]
    width = max(map(len, rows))
    ids_BT = torch.zeros(len(rows), width, dtype=torch.int64)
    wanted_BT = torch.full((len(rows), width), -100)
    for number, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
        ids_BT[number, : len(row)] = torch.tensor(row)
        wanted_BT[number, len(prompt) : len(row)] = torch.tensor(row[len(prompt) :])
    logits_BTV = policy(input_ids=ids_BT, use_cache=False).logits
    return F.cross_entropy(logits_BTV[:, :-1].transpose(1, 2), wanted_BT[:, 1:])
