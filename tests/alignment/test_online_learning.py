"""Online training learns what is rewarded, and nothing where the reward says nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raysafe.alignment.grpo import GRPOJob
from raysafe.models.language import save_policy
from raysafe.models.presets import Preset, byte_tokenizer, make_policy

SHAPE = Preset(layers=1, width=32, heads=2, key_value_heads=2, feedforward=64, context=96)
DIGITS = "tests.alignment.online_rewards:digits"
NOISE = "tests.alignment.online_rewards:noise"


def shares_of_digits(folder: Path, reward: str) -> tuple[float, float]:
    """Mean share of digits in the answers to held-out prompts, before and after training on a reward."""
    job = GRPOJob(
        model=str(folder / "model"),
        data=str(folder / "prompts.jsonl"),
        storage=str(folder / "runs"),
        rewards=(reward,),
        gold=DIGITS,
        validation_fraction=0.4,
        steps=40,
        prompts_per_step=8,
        answers_per_prompt=16,
        max_tokens=8,
        kl_coefficient=0.0,
        validate_every=40,
        training={"learning_rate": 0.006},  # type: ignore[arg-type]
    )
    rows = [row for row in job.run().metrics if "validation/gold" in row]
    return rows[0]["validation/gold"], rows[-1]["validation/gold"]


@pytest.mark.ray
def test_grpo_learns_what_is_rewarded_and_nothing_from_noise(tmp_path: Path, ray_cluster: None) -> None:
    tokenizer = byte_tokenizer()
    save_policy(make_policy(SHAPE, tokenizer), tokenizer, tmp_path / "model")
    prompts = [json.dumps({"prompt": f"give me {word} {i}"}) for i in range(20) for word in ("some", "a few", "more")]
    (tmp_path / "prompts.jsonl").write_text("\n".join(prompts))
    start, learned = shares_of_digits(tmp_path, DIGITS)
    again, unlearned = shares_of_digits(tmp_path, NOISE)
    # an untrained model draws from 259 tokens, ten of which are digits
    assert start == again < 0.1
    assert learned > 0.5
    assert unlearned < 0.15
