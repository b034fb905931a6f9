"""GRPO's speed: RaySafe against a plain PyTorch loop and against TRL's GRPOTrainer.

    .venv/bin/python -m tests.bench.rlhf plain
    .venv-bench/bin/python -m tests.bench.rlhf trl       (`make bench` sets up this environment, with TRL 1.16)

All sides run in this process tree, one after the other, with the same weights, prompts, batch sizes and one torch
thread; start-up is counted on none. CPU seconds are those of every process of a side, Ray's own among them. Samples are
answers. `equal`: random weights that never end an answer; `uneven`: a model that writes stories, given beginnings of
stories of all lengths to finish.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from json import dumps
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from raysafe.alignment.grpo import GRPOJob
from raysafe.alignment.online_data import read_prompts
from raysafe.alignment.online_loop import train
from raysafe.models.chat import ChatFormat
from raysafe.models.generate.engine import SamplingParams
from raysafe.models.generate.load import load_engine
from raysafe.models.language import load_policy, load_tokenizer, save_policy
from raysafe.models.presets import byte_tokenizer
from raysafe.runtime.run import Run
from tests.bench.cpu import tree_cpu_s
from tests.real_data import STORIES

LEARNING_RATE, BETA, WARM_UP = 1e-4, 0.04, 2
Case = Literal["equal", "uneven"]


@dataclass(frozen=True)
class Shape:
    """What a side is given to do."""

    case: Case
    prompts: int
    answers: int
    max_tokens: int
    steps: int


@dataclass
class Clock:
    """Wall and CPU seconds of a process tree between steps, the warm-up left out."""

    samples: int
    marks: list[tuple[float, float]] = field(default_factory=list)

    def mark(self) -> None:
        self.marks.append((time.perf_counter(), tree_cpu_s()))

    @property
    def steps(self) -> int:
        return len(self.marks) - 1 - WARM_UP

    @property
    def wall_s(self) -> float:
        return (self.marks[-1][0] - self.marks[WARM_UP][0]) / self.steps

    @property
    def cpu_s(self) -> float:
        return (self.marks[-1][1] - self.marks[WARM_UP][1]) / self.steps

    @property
    def samples_per_cpu_s(self) -> float:
        return self.samples / self.cpu_s


def letters(prompt: Any, answer: str, label: Any) -> float:
    """The reward: the share of letters in the first forty characters."""
    return sum(c.isalpha() for c in answer[:40]) / 40


def endless_tokenizer() -> PreTrainedTokenizerFast:
    """The byte tokenizer without an end-of-sequence token: answers run to their limit."""
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    return tokenizer


def make_case(case: Case, folder: Path) -> tuple[str, list[str]]:
    """The model's folder and the prompts."""
    if case == "equal":
        target = folder / "equal"
        policy = load_policy("preset:small")
        tokenizer = endless_tokenizer()
        policy.generation_config.eos_token_id = None
        policy.config.eos_token_id = None
        save_policy(policy, tokenizer, target)
        rng = np.random.default_rng(0)
        return str(target), ["".join(chr(97 + c) for c in rng.integers(0, 26, 32)) for _ in range(600)]
    target = folder / "uneven"
    tokenizer = AutoTokenizer.from_pretrained(STORIES)
    # this model was trained to write the mark of the next story's beginning at a story's end
    tokenizer.eos_token = tokenizer.bos_token
    tokenizer.chat_template = (
        "{{ bos_token }}{% for message in messages %}{{ message['content'] }}"
        "{{ eos_token if message['role'] == 'assistant' }}{% endfor %}"
    )
    policy = AutoModelForCausalLM.from_pretrained(STORIES)
    policy.config.eos_token_id = policy.generation_config.eos_token_id = tokenizer.bos_token_id
    save_policy(policy, tokenizer, target)
    return str(target), beginnings(str(target), 400)


def beginnings(model: str, count: int) -> list[str]:
    """Stories that the model wrote, each cut at a random place: how much is left to tell differs as much as it can."""
    chat = ChatFormat(load_tokenizer(model))
    engine = load_engine(model, tokenizer=chat.tokenizer)
    start = [chat.tokenizer.bos_token_id]
    stories = engine.generate([start], SamplingParams(max_tokens=480, n=count, seed=7))
    shares = np.random.default_rng(7).uniform(0.3, 0.97, count)
    cut = [story.tokens[: int(len(story.tokens) * share)] for story, share in zip(stories, shares, strict=True)]
    texts = [str(chat.tokenizer.decode(tokens, skip_special_tokens=True)) for tokens in cut if len(tokens) > 4]
    return [text for text in texts if len(chat.encode([{"role": "user", "content": text}])[0]) < 250]


def write_prompts(prompts: list[str], file: Path) -> str:
    file.write_text("".join(dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    return str(file)


def run_raysafe(model: str, prompts: list[str], shape: Shape, folder: Path) -> tuple[Clock, list[dict[str, float]]]:
    job = GRPOJob(
        model=model,
        data=write_prompts(prompts, folder / "prompts.jsonl"),
        rewards=("tests.bench.rlhf:letters",),
        storage=str(folder / "runs"),
        steps=shape.steps,
        prompts_per_step=shape.prompts,
        answers_per_prompt=shape.answers,
        max_tokens=shape.max_tokens,
        validation_fraction=0.02,
        validate_every=10_000,
        kl_coefficient=BETA,
        training={
            "learning_rate": LEARNING_RATE,
            "schedule": "constant",
            "warmup_fraction": 0.0,
            "micro_tokens": 8192,
            "betas": (0.9, 0.999),
        },
    )
    clock = Clock(shape.prompts * shape.answers)
    run = Run.create(job)

    def heard(step: int, row: dict[str, float]) -> None:
        # the last step's row is told again with its validation
        if len(clock.marks) <= step:
            clock.mark()

    run.watchers.append(heard)
    train(job, run, read_prompts(job, run))
    return clock, [row for row in run.metrics if row["step"] > WARM_UP and "step_s" in row]


def run_plain(model: str, prompts: list[str], shape: Shape) -> Clock:
    """What one would write by hand: transformers' generate, padded batches, two forward passes and a backward one."""
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(model)
    policy: Any = AutoModelForCausalLM.from_pretrained(model)
    reference: Any = AutoModelForCausalLM.from_pretrained(model).eval()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    clock = Clock(shape.prompts * shape.answers)
    rng = np.random.default_rng(0)
    end = tokenizer.eos_token_id
    clock.mark()
    for _ in range(shape.steps):
        chosen = [prompts[i] for i in rng.choice(len(prompts), shape.prompts, replace=False)]
        encoded = [encode(tokenizer, prompt) for prompt in chosen]
        width = max(map(len, encoded))
        ids_PT = torch.zeros(len(encoded), width, dtype=torch.long)
        mask_PT = torch.zeros(len(encoded), width, dtype=torch.long)
        for row, ids in enumerate(encoded):
            ids_PT[row, width - len(ids) :] = torch.tensor(ids)
            mask_PT[row, width - len(ids) :] = 1
        ids_BT, mask_BT = (x.repeat_interleave(shape.answers, 0) for x in (ids_PT, mask_PT))
        policy.eval()
        with torch.inference_mode():
            whole_BT = policy.generate(
                input_ids=ids_BT,
                attention_mask=mask_BT,
                max_new_tokens=shape.max_tokens,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                eos_token_id=end,
                pad_token_id=0,
            )
        whole_BT = whole_BT.clone()
        answer_BT = whole_BT[:, width:]
        inside_BT = torch.ones_like(answer_BT)
        if end is not None:
            inside_BT = ((answer_BT == end).cumsum(1) - (answer_BT == end).long() == 0).long()
        texts = tokenizer.batch_decode(answer_BT * inside_BT, skip_special_tokens=True)
        rewards_PG = torch.tensor([letters(None, text, None) for text in texts]).view(-1, shape.answers)
        advantages_PG = (rewards_PG - rewards_PG.mean(1, keepdim=True)) / (rewards_PG.std(1, keepdim=True) + 1e-6)
        full_BT = torch.cat([mask_BT, inside_BT], 1)
        positions_BT = (full_BT.cumsum(1) - 1).clamp_min(0)

        def logps(
            module: Any,
            whole_BT: torch.Tensor = whole_BT,
            full_BT: torch.Tensor = full_BT,
            positions_BT: torch.Tensor = positions_BT,
            answer_BT: torch.Tensor = answer_BT,
        ) -> torch.Tensor:
            kept = answer_BT.shape[1] + 1
            out = module(
                input_ids=whole_BT,
                attention_mask=full_BT,
                position_ids=positions_BT,
                use_cache=False,
                logits_to_keep=kept,
            )
            logits_BTV = out.logits[:, :-1]
            return -F.cross_entropy(logits_BTV.flatten(0, 1), answer_BT.flatten(), reduction="none").view_as(answer_BT)

        with torch.no_grad():
            reference_BT = logps(reference)
        policy.train()
        logps_BT = logps(policy)
        ratio_BT = (logps_BT - logps_BT.detach()).exp()
        difference_BT = reference_BT - logps_BT
        loss_BT = -advantages_PG.view(-1, 1) * ratio_BT + BETA * (difference_BT.exp() - 1 - difference_BT)
        ((loss_BT * inside_BT).sum() / inside_BT.sum()).backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        clock.mark()
    return clock


def encode(tokenizer: Any, prompt: str) -> list[int]:
    text = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def run_trl(model: str, prompts: list[str], shape: Shape, folder: Path) -> Clock:
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(model)
    forced: dict[str, Any] = {}
    if tokenizer.eos_token is None:
        # TRL needs an end: this one is never drawn, as the shortest answer is the longest
        tokenizer.eos_token = tokenizer.pad_token
        forced = {"min_new_tokens": shape.max_tokens, "eos_token_id": tokenizer.eos_token_id}
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    clock = Clock(shape.prompts * shape.answers)

    class Marks(TrainerCallback):
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            clock.mark()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            clock.mark()

    def reward(completions: list[Any], **kwargs: Any) -> list[float]:
        return [letters(None, text, None) for text in completions]

    rows = [tokenizer.apply_chat_template([{"role": "user", "content": p}], tokenize=False) for p in prompts]
    config = GRPOConfig(
        output_dir=str(folder / "trl"),
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=shape.prompts * shape.answers,
        num_generations=shape.answers,
        max_completion_length=shape.max_tokens,
        max_steps=shape.steps,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        beta=BETA,
        temperature=1.0,
        loss_type="dapo",
        generation_kwargs=forced or None,
        gradient_checkpointing=False,
        logging_steps=10_000,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    policy = AutoModelForCausalLM.from_pretrained(model)
    trainer = GRPOTrainer(
        model=policy,
        reward_funcs=reward,
        args=config,
        train_dataset=Dataset.from_dict({"prompt": rows}),
        processing_class=tokenizer,
        callbacks=[Marks()],
    )
    trainer.train()
    return clock


def compare(
    other: str, run_other: Callable[[str, list[str], Shape, Path], Clock], shapes: list[Shape]
) -> dict[str, dict[str, float]]:
    """Run both sides of each case; print a table with the ratio of samples per CPU second, and return its figures."""
    print(f"{'case':<8}{'side':<10}{'samples/CPU s':>14}{'CPU s/step':>12}{'wall s/step':>13}")
    found = {}
    for shape in shapes:
        with tempfile.TemporaryDirectory(prefix="raysafe-bench-") as name:
            folder = Path(name)
            model, prompts = make_case(shape.case, folder)
            theirs = run_other(model, prompts, shape, folder)
            ours, rows = run_raysafe(model, prompts, shape, folder)
        for side, clock in ((other, theirs), ("RaySafe", ours)):
            print(
                f"{shape.case:<8}{side:<10}{clock.samples_per_cpu_s:>14.1f}{clock.cpu_s:>12.2f}{clock.wall_s:>13.2f}",
                flush=True,
            )
        mean = {name: float(np.mean([row[name] for row in rows])) for name in ("overhead", "complete", "length")}
        ratio = ours.samples_per_cpu_s / theirs.samples_per_cpu_s
        print(f"{shape.case}: RaySafe / {other} = {ratio:.2f}")
        print(
            f"{shape.case}: answers of {mean['length']:.0f} tokens on average, {mean['complete']:.0%} complete; "
            f"time outside generation, scoring and gradients {mean['overhead']:.1%} of a step",
            flush=True,
        )
        sides = {"own": ours, "other": theirs}
        figures = {f"{side}_samples_per_cpu_s": clock.samples_per_cpu_s for side, clock in sides.items()}
        figures |= {f"{side}_cpu_s_per_step": clock.cpu_s for side, clock in sides.items()}
        found[shape.case] = {"ratio": ratio, **mean, **figures}
    return found


def main(
    what: tyro.conf.Positional[Literal["plain", "trl"]],
    steps: int = 8,
    prompts: int = 16,
    answers: int = 8,
    max_tokens: int = 64,
    cases: tuple[Case, ...] = ("equal", "uneven"),
    json: Path | None = None,
) -> None:
    """Time one comparison. steps: of each side, two of which warm up. json: file that gets the figures."""
    equal = Shape("equal", prompts, answers, max_tokens, steps)
    uneven = Shape("uneven", prompts, answers, 4 * max_tokens, steps)
    if what == "plain":
        found = compare("plain", lambda model, rows, shape, folder: run_plain(model, rows, shape), [equal])
    else:
        found = compare("TRL", run_trl, [shape for shape in (equal, uneven) if shape.case in cases])
    if json is not None:
        json.write_text(dumps(found))


if __name__ == "__main__":
    tyro.cli(main)
