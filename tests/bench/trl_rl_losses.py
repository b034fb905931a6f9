"""TRL 1.16 as the oracle of the policy-gradient losses: loss and gradient on the same answers and weights.

    .venv-bench/bin/python -m tests.bench.trl_rl_losses

TRL's GRPOTrainer computes one padded batch from answers, advantages, old and reference log-probabilities that it is
given; RaySafe's learner computes the same packed with shared prompts, packed, and padded. TRL's KL is k3, its averages
are RaySafe's sequence (grpo), constant (dr_grpo) and token (dapo), its delta is dual_clip. Its option to weigh the KL
by the ratio to the old policy is off.
"""

from __future__ import annotations

import json
import sys
import tempfile
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raysafe.alignment.advantages import group_advantages
from raysafe.alignment.experience import Samples
from raysafe.alignment.grpo import GRPOJob
from raysafe.models.language import save_policy
from raysafe.models.presets import make_policy, train_tokenizer

PROMPTS, ANSWERS, LONGEST, BETA, LIMIT = 3, 4, 12, 0.3, 1e-5
AVERAGES = {"grpo": "sequence", "dr_grpo": "constant", "dapo": "token"}
CLIPS = {
    "symmetric clip": ({}, {}),
    "clip higher": ({"epsilon_high": 0.35}, {"clip_high": 0.35}),
    "dual clip": ({"delta": 1.3}, {"dual_clip": 1.3}),
    "entropy bonus": ({"entropy_coef": 0.2}, {"entropy_coefficient": 0.2}),
}
LAYOUTS = {
    "shared": {},
    "packed": {"share_prompt": False},
    "padded": {"share_prompt": False, "pack": False, "completion_logits": False},
}


def random_samples(vocabulary: int) -> Samples:
    """Answers with old and reference log-probabilities near an untrained policy's, so that some ratios are clipped."""
    rng = np.random.default_rng(0)
    count = PROMPTS * ANSWERS
    answers = [rng.integers(3, vocabulary, rng.integers(1, LONGEST + 1)).astype(np.int32) for _ in range(count)]
    total = sum(map(len, answers))
    level = -np.log(vocabulary)
    samples = Samples(
        prompts=[rng.integers(3, vocabulary, rng.integers(2, 9)).tolist() for _ in range(PROMPTS)],
        group_C=np.repeat(np.arange(PROMPTS), ANSWERS),
        answers=answers,
        texts=[""] * count,
        complete_C=np.ones(count, dtype=bool),
        rollout_logps_N=np.zeros(total),
        version=0,
    )
    samples.tokens["old_logps"] = level + 0.3 * rng.standard_normal(total)
    samples.tokens["ref_logps"] = level + 0.3 * rng.standard_normal(total)
    samples.scores["reward"] = rng.standard_normal(count)
    return samples


def gradient(module: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])


def own(policy: str, samples: Samples, fields: dict[str, Any]) -> tuple[float, Tensor]:
    """RaySafe's loss over the whole step, and its gradient."""
    job = GRPOJob(model=policy, data="given", rewards=("check:exact",), max_tokens=LONGEST, **fields)
    job.advantages(samples, BETA)
    rows = job.experience(samples, BETA, old=True)
    learner = job.learners()["policy"]
    module = learner.build().train()
    batch = learner.collate(rows)
    loss = learner.loss(module, batch)[0] / batch.weight
    loss.backward()
    return float(loss.detach()), gradient(module)


def theirs(policy: str, samples: Samples, loss_type: str, options: dict[str, Any]) -> tuple[float, Tensor]:
    """TRL's loss and gradient on the same figures, advantages among them."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    count = len(samples.answers)
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder, loss_type=loss_type, beta=BETA, max_completion_length=LONGEST, num_generations=ANSWERS,
            per_device_train_batch_size=count, use_cpu=True, bf16=False, gradient_checkpointing=False,
            report_to="none", disable_tqdm=True, use_bias_correction_kl=False, **options,
        )  # fmt: skip
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32),
            reward_funcs=lambda completions, **_: [0.0] * len(completions),
            args=config,
            train_dataset=Dataset.from_list([{"prompt": "x"}] * count),
            processing_class=AutoTokenizer.from_pretrained(policy, padding_side="left"),
        )
    prompts = [samples.prompts[group] for group in samples.group_C]
    width = max(map(len, prompts))
    mask_CT = samples.mask_CT
    advantages_C = group_advantages(
        torch.from_numpy(samples.scores["reward"]), torch.from_numpy(samples.group_C),
        kind="dr_grpo" if loss_type == "dr_grpo" else "grpo",
    )  # fmt: skip
    answers_CT = torch.zeros(mask_CT.shape, dtype=torch.long)
    answers_CT[mask_CT] = torch.from_numpy(np.concatenate(samples.answers)).long()
    inputs = {
        "prompt_ids": torch.tensor([[0] * (width - len(p)) + p for p in prompts]),
        "prompt_mask": torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts]),
        "completion_ids": answers_CT,
        "completion_mask": mask_CT.long(),
        "advantages": advantages_C.float(),
        "old_per_token_logps": samples.padded(samples.tokens["old_logps"]).float(),
        "ref_per_token_logps": samples.padded(samples.tokens["ref_logps"]).float(),
        "num_items_in_batch": mask_CT.sum(),
    }
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    return float(loss.detach()), gradient(trainer.model)


def differences(found: tuple[float, Tensor], expected: tuple[float, Tensor]) -> dict[str, float]:
    """Relative differences of loss and gradient."""
    return {
        "loss": abs(found[0] - expected[0]) / abs(expected[0]),
        "gradient": float((found[1] - expected[1]).norm() / expected[1].norm()),
    }


def main() -> int:
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = train_tokenizer(["random tokens"], 259)
        save_policy(make_policy("tiny", tokenizer, 1), tokenizer, f"{folder}/policy")
        for loss_type, average in AVERAGES.items():
            for clip, (options, loss) in CLIPS.items():
                if clip == "entropy bonus" and average != "token":
                    # TRL's bonus is a mean over tokens, whatever the loss is divided by
                    continue
                samples = random_samples(len(tokenizer))
                expected = theirs(f"{folder}/policy", samples, loss_type, options)
                for layout_name, layout in LAYOUTS.items():
                    kind = "dr_grpo" if loss_type == "dr_grpo" else "grpo"
                    fields = {"kind": kind, "average": average, "loss": loss, "layout": layout}
                    found = own(f"{folder}/policy", samples, fields)
                    results[f"{loss_type}, {clip}, {layout_name}"] = differences(found, expected)
    for name, result in results.items():
        print(f"{name:36} loss {result['loss']:.1e}  gradient {result['gradient']:.1e}", file=sys.stderr)
    print(json.dumps(results))
    return 0 if all(max(result.values()) <= LIMIT for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
