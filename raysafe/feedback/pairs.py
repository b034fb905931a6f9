"""Answers of a model to prompts, two or more each, as pairs for people to compare."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from pydantic import Field

from raysafe.config import Config
from raysafe.data.cache import written_whole
from raysafe.data.readers import read
from raysafe.errors import ConfigError, DataError
from raysafe.models.generate.answers import answer_prompts
from raysafe.models.generate.engine import SamplingParams
from raysafe.runtime.cluster import Needs


class PairsConfig(Config):
    """Have a model answer each prompt several times; different answers become pairs for `raysafe feedback`."""

    model: str = Field(description="Model folder, run directory or hub id that answers.")
    prompts: str = Field(description="Prompts: file, folder, or Hugging Face dataset id.")
    to: str = Field(description="JSON Lines file to write; it must not be there yet.")
    n: int = Field(default=2, ge=2, le=8, description="Answers to each prompt; every two that differ are a pair.")
    temperature: float = Field(default=1.0, gt=0, description="Sampling temperature: at 0 all answers would be one.")
    max_new_tokens: int = Field(default=256, ge=1, description="Longest answer, in tokens.")
    limit: int | None = Field(default=None, ge=1, description="Use only the first prompts.")
    chat_template: str = Field(default="auto", description="auto (the tokenizer's own), plain, or a Jinja file.")
    seed: int = Field(default=0, ge=0, description="Seed of every draw.")
    workers: int = Field(default=1, ge=1, description="Ray actors that share the prompts.")
    gpus_per_worker: float = Field(default=0, ge=0)
    address: str | None = Field(default=None, description="Ray cluster to join; a local Ray is started by default.")


class Written(NamedTuple):
    """How many pairs were written, and for how many prompts there was none, all answers being equal or empty."""

    pairs: int
    without: int


def write_pairs(config: PairsConfig) -> Written:
    """Generate and write; raises DataError where no prompt got two answers that differ."""
    target = Path(config.to)
    if target.exists():
        raise ConfigError(f"{target} is there already: give another --to")
    prompts = read(config.prompts, "prompts", limit=config.limit).table
    groups = [pairs_of(answers) for answers in _answers(config, prompts)]
    rows = [
        {"prompt": prompt, "a": _message(a), "b": _message(b)}
        for prompt, pairs in zip(prompts["prompt"].to_pylist(), groups, strict=True)
        for a, b in pairs
    ]
    if not rows:
        raise DataError(f"{config.model} gave no prompt two different answers: raise --temperature or --max-new-tokens")
    with written_whole(target) as path:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return Written(len(rows), sum(not pairs for pairs in groups))


def _answers(config: PairsConfig, prompts: pa.Table) -> list[list[str]]:
    sampling = SamplingParams(
        max_tokens=config.max_new_tokens, temperature=config.temperature, seed=config.seed, n=config.n
    )
    return answer_prompts(
        config.model,
        prompts,
        sampling,
        needs=Needs(workers=config.workers, gpus=config.gpus_per_worker),
        description="answers to compare",
        chat_template=config.chat_template,
        address=config.address,
    )


def pairs_of(answers: list[str]) -> list[tuple[str, str]]:
    """Every two different answers, empty ones aside, in the order in which they were drawn."""
    return list(combinations(dict.fromkeys(text.strip() for text in answers if text.strip()), 2))


def _message(text: str) -> list[dict[str, str]]:
    """An answer that can't be mistaken for a conversation, whatever it begins with."""
    return [{"role": "assistant", "content": text}]
