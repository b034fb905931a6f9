"""What online training changed, on prompts that it never saw: a start and a trained policy answer the same ones.

    python -m jobs.tasks.held_out START TRAINED --prompts TRAINED/held-out.jsonl --rewards JUDGE jobs.tasks.vader:score

Each reward is a source as `raysafe ppo --rewards` takes it. Also printed: KL to the start in nats a token, variety, and
perplexity under the start. The last line is all of it as JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np

from raysafe.alignment.experience import Samples
from raysafe.alignment.rewards import Answers, EnsembleOptions, Sees, make_source
from raysafe.alignment.roles import Reference
from raysafe.alignment.watch import sample_figures
from raysafe.cli.main import guarded
from raysafe.data.readers import read
from raysafe.models.chat import ChatFormat
from raysafe.models.generate.engine import SamplingParams
from raysafe.models.generate.load import load_engine
from raysafe.models.language import load_tokenizer, model_folder
from raysafe.models.packing import Layout
from raysafe.records.statistics import paired_t
from raysafe.runtime.bar import Bar

CHUNK = 64
"""Prompts that are answered together."""


def write(model: str, prompts: list[list[int]], sampling: SamplingParams) -> Samples:
    """One answer to each prompt."""
    chat = ChatFormat(load_tokenizer(model))
    engine = load_engine(model, tokenizer=chat.tokenizer)
    answers = []
    with Bar(f"answers of {Path(model).name}", total=len(prompts), unit="prompt") as bar:
        for start in range(0, len(prompts), CHUNK):
            answers += engine.generate(prompts[start : start + CHUNK], sampling)
            bar.show(len(answers))
    return Samples(
        prompts=prompts,
        group_C=np.arange(len(prompts)),
        answers=[np.asarray(answer.tokens, dtype=np.int32) for answer in answers],
        texts=[answer.text for answer in answers],
        complete_C=np.array([answer.finish_reason == "stop" for answer in answers]),
        rollout_logps_N=np.concatenate([np.asarray(answer.logprobs, dtype=np.float64) for answer in answers]),
        version=0,
    )


def compare(given: argparse.Namespace) -> dict[str, Any]:
    """Figures of both policies, and of each reward the paired difference with its interval."""
    start, trained = (str(model_folder(model)) for model in (given.start, given.trained))
    rows = read(given.prompts, "prompts").table.to_pylist()
    messages = [row["prompt"] for row in rows]
    (prompts,) = ChatFormat(load_tokenizer(start)).encode_batch(messages)
    sampling = SamplingParams(max_tokens=given.max_tokens, seed=given.seed)
    reference = Reference(start, Layout(), 4096, "auto", "cpu")
    sources = {name: make_source(name, EnsembleOptions(sees=given.reward_sees), "cpu") for name in given.rewards}
    sides = [write(model, prompts, sampling) for model in (start, trained)]
    for samples in sides:
        samples.tokens["ref_logps"] = reference.logps(samples.table())
        answers = Answers(messages, samples.texts, [row["label"] for row in rows])
        samples.scores |= {name: source.score(answers) for name, source in sources.items()}
        samples.scores["reward"] = samples.scores[given.rewards[0]]
    before, after = (sample_figures(samples) for samples in sides)
    found: dict[str, Any] = {"prompts": len(prompts), "before": before, "after": after, "rewards": {}}
    for name in sources:
        test = paired_t(sides[1].scores[name], sides[0].scores[name])
        found["rewards"][name] = {"difference": test.difference, "interval": [test.low, test.high], "p": test.p_value}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start", help="model folder or run")
    parser.add_argument("trained", help="model folder or run that started from it")
    parser.add_argument("--prompts", required=True, help="prompts that neither was trained on")
    parser.add_argument("--rewards", required=True, nargs="+", help="what the answers are scored by")
    parser.add_argument("--reward-sees", default="answer", choices=get_args(Sees))
    parser.add_argument("--max-tokens", type=int, default=28)
    parser.add_argument("--seed", type=int, default=0)
    found = compare(parser.parse_args())
    for name in ("kl", "distinct_2", "perplexity", "length", *found["rewards"]):
        print(f"{name:32} {found['before'][name]:8.3f} -> {found['after'][name]:8.3f}")
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(guarded(main))
