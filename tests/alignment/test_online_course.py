"""The course of online training on fakes: what is learned from, validated, kept and asked for, and when it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysafe.alignment import online_loop
from raysafe.alignment.experience import minibatches
from raysafe.alignment.online_data import read_prompts
from raysafe.alignment.online_state import (
    complete_steps,
    folder_of,
)
from raysafe.alignment.roles import Rollout, Written
from raysafe.errors import ResourceError
from raysafe.models.generate.engine import SamplingParams
from raysafe.runtime.weights import StaleWeights
from tests.alignment.fake_loop import Loop, written
from tests.alignment.online_parts import make_samples


def validated(folder: Path, gold: list[float], *, noise: float = 0.0, kls: float = 0.0, **fields: Any) -> Loop:
    """A run whose validations give the rewards 0, 1, 2, … and these gold scores, while KL rises by `kls` each."""

    def score(answers: Any) -> dict[str, np.ndarray]:
        spread = noise * np.linspace(-1, 1, len(answers.texts))
        step = made.loop.position.step
        return {"reward": np.full(len(spread), float(step)), "gold": gold[step] + spread}

    def logps(rows: Any) -> np.ndarray:
        return np.full(2 * rows.num_rows, -5.0 - kls * made.loop.position.step)

    base: dict[str, Any] = {"gold": "check:contains", "validate_every": 1, "keep_checkpoints": 1}
    made = Loop(folder, {"score": score, "logps": logps}, **base | fields)
    made.loop.train()
    return made


@pytest.mark.parametrize(("monitor", "best", "kept"), [("gold", 2, [2, 4]), ("reward", 4, [4])], ids=["gold", "reward"])
def test_the_model_is_of_the_validation_with_the_best_monitored_figure(
    tmp_path: Path, monitor: str, best: int, kept: list[int]
) -> None:
    made = validated(tmp_path, [0, 3, 5, 1, 4], monitor=monitor)
    back = [] if best == 4 else [("restore", made.run.uri, f"{folder_of(best)}/policy")]
    assert made.asked("policy", "restore", "export") == [*back, ("export", made.run.uri, "model")]
    assert complete_steps(made.run) == kept
    (trained,) = (event for event in made.run.events if event["event"] == "trained")
    assert (trained["best"], trained["best_step"]) == ({"gold": 5.0, "reward": 4.0}[monitor], best)


def stopped(made: Loop) -> list[tuple[int, str]]:
    return [(event["step"], event["why"]) for event in made.run.events if event["event"] == "stopped-early"]


def test_a_run_ends_after_as_many_validations_without_a_gain_as_it_has_patience_for(tmp_path: Path) -> None:
    made = validated(tmp_path, [1, 3, 2, 2, 9], monitor="gold", watch={"patience": 2})
    assert stopped(made) == [(3, "2 validations without a better gold")]
    assert made.loop.position.best_step == 1


def test_a_validation_beyond_a_limit_ends_the_run_and_is_not_its_best(tmp_path: Path) -> None:
    made = validated(tmp_path, [0] * 5, kls=0.1, watch={"max_kl": 0.25})
    assert stopped(made) == [(3, "KL is 0.300 nats a token, watch.max_kl is 0.25")]
    assert made.loop.position.best_step == 2


def test_a_parting_is_told_and_ends_the_run_where_that_is_asked(tmp_path: Path) -> None:
    told = [event["step"] for event in validated(tmp_path / "1", [0, 5, 4, 3, 6]).run.events if "warning" in event]
    assert told == [2, 3]
    # a standard error of 10 / sqrt(3) explains it
    noisy = validated(tmp_path / "2", [0, 5, 4, 3, 6], noise=10.0, watch={"stop_on_parting": True})
    assert not stopped(noisy) and not [event for event in noisy.run.events if "warning" in event]
    ended = validated(tmp_path / "3", [0, 5, 4, 3, 6], watch={"stop_on_parting": True})
    assert [step for step, _ in stopped(ended)] == [2]


def test_a_batch_is_learned_from_in_so_many_passes_and_parts_by_numbered_updates(tmp_path: Path) -> None:
    updates: list[tuple[Any, ...]] = []

    def update(rows: Any, parts: list[np.ndarray], *, step: int, total_steps: int) -> dict[str, float]:
        updates.append((rows, parts, step, total_steps))
        return {"loss": 0.0}

    figures = {"figures": lambda rows: (np.arange(rows.num_rows), np.full(2 * rows.num_rows, -3.0)), "update": update}
    made = Loop(tmp_path / "1", figures, epochs=2, minibatches=2, steps=3, seed=7)
    made.loop.train()
    for index, (rows, parts, step, total) in enumerate(updates):
        assert (step, total) == (4 * index, 12)
        expected = [part for epoch in range(2) for part in minibatches(rows, 2, seed=(7, index, epoch))]
        assert [part.tolist() for part in parts] == [part.tolist() for part in expected]
        assert set(np.concatenate(rows["old_logps"].to_pylist())) == {-3.0}
    assert made.loop.position.updates == 12
    # one update from fresh samples: the policy itself is the old one
    single = Loop(tmp_path / "2", figures, steps=1)
    single.loop.train()
    assert single.asked("policy", "figures") == [] and "old_logps" not in updates[-1][0].column_names


def test_scores_and_figures_of_several_processes_come_back_to_their_answers(tmp_path: Path) -> None:
    samples = make_samples(3, 2)
    samples.texts = [str(place) for place in range(6)]
    given = {
        "logps": lambda rows: -np.concatenate(rows["answer_ids"].to_pylist()).astype(float),
        "score": lambda answers: {"reward": np.array([float(text) for text in answers.texts])},
    }
    made = Loop(tmp_path, given, straggler_factor=2.5)
    roles: dict[str, Any] = made.loop.roles  # type: ignore[assignment]
    for role in roles.values():
        role.ranks = 3
    start, more = roles["reward"].start_spread, []
    roles["reward"].start_spread = lambda *args, **named: more.append(named) or start(*args, **named)
    made.loop._score(samples, made.loop.prompts)
    assert more == [{"straggler_factor": 2.5}]
    tokens_N = np.concatenate(samples.answers)
    assert made.asked("reward", "score") == [("score", 3)] and made.asked("reference", "logps") == [("logps", 3)]
    assert samples.scores["reward"].tolist() == [0, 1, 2, 3, 4, 5]
    assert samples.tokens["ref_logps"].tolist() == (-tokens_N).tolist()
    shares = [
        (np.array(places), np.concatenate([samples.answers[i] for i in places])) for places in ([4, 1], [0, 5, 2, 3])
    ]
    roles["policy"].call = lambda *_: shares
    assert made.loop._figures("policy", samples).tolist() == tokens_N.tolist()


def test_the_loss_of_processes_is_bounded_as_the_settings_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def refuse(specs: Any, **more: Any) -> None:
        asked.update(more)
        raise ResourceError("no room")

    monkeypatch.setattr(online_loop, "Supervisor", refuse)
    made = Loop(tmp_path, deadline_s=7.0, max_failures=1, address="here:1")
    with pytest.raises(ResourceError, match="no room"):
        online_loop.train(made.job, made.run, {})
    bounds = {name: asked[name] for name in ("deadline_s", "max_restarts", "address")}
    assert bounds == {"deadline_s": 7.0, "max_restarts": 1, "address": "here:1"}


def test_checkpoints_come_as_often_as_the_settings_say_and_at_validations(tmp_path: Path) -> None:
    made = Loop(tmp_path, steps=7, validate_every=3, checkpoint_every=2, keep_checkpoints=9)
    made.loop.train()
    assert complete_steps(made.run) == [0, 2, 3, 4, 6, 7]
    assert [figures["step"] for figures in made.loop.position.history] == [0, 3, 6, 7]


def test_answers_are_asked_for_as_the_settings_say(tmp_path: Path) -> None:
    asked: list[Any] = []

    def note(prompts: list[list[int]], sampling: Any, version: int) -> Written:
        asked.append(sampling)
        return written(prompts, sampling, version)

    fields = {"stop": ("\n",), "chunks_per_engine": 2, "answers_per_prompt": 3, "straggler_factor": 2.5, "seed": 3}
    made = Loop(tmp_path, {"generate": note}, **fields)
    writer: Any = made.loop.writer
    start, factors = writer.rollout.start_spread, []
    writer.rollout.start_spread = lambda *a, **more: factors.append(more["straggler_factor"]) or start(*a, **more)
    for step in (0, 1, None, None):
        writer.write(made.loop.prompts, step, version=0)
    assert made.asked("rollout", "generate") == [("generate", 2)] * 4
    assert factors == [2.5] * 4
    assert {(s.max_tokens, s.stop, s.temperature) for s in asked} == {(4, ("\n",), 1.0)}
    assert [s.n for s in asked[::2]] == [3, 3, 1, 1]
    seeds = [s.seed for s in asked[::2]]
    assert seeds == [s.seed for s in asked[1::2]] and len(set(seeds)) == 3 and seeds[2] == seeds[3]
    other = Loop(tmp_path / "other", {"generate": note}, **fields | {"seed": 4})
    other.loop.writer.write(other.loop.prompts, 0, version=0)
    assert asked[-1].seed not in seeds


def test_an_engine_writes_nothing_by_other_weights_than_those_asked_for() -> None:
    rollout = Rollout("preset:tiny", "preset:tiny", "plain", "transformers", "float32", "cpu", rank=2)
    with pytest.raises(StaleWeights, match="engine 2 has no published weights and was asked to use version 3"):
        rollout.generate([[4, 5]], SamplingParams(max_tokens=2), 3)


def test_prompts_are_split_and_limited_as_the_settings_say(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"say {i}", "label": "x"}) + "\n" for i in range(60)))
    made = Loop(tmp_path, data=str(file), validation_fraction=0.4, validation_prompts=3, train_limit=5, limit=50)
    prompts = read_prompts(made.job, made.run)
    assert {name: len(part) for name, part in prompts.items()} == {"train": 5, "validation": 3}
    shown = {message["content"] for part in prompts.values() for (message,) in part.messages}
    assert len(shown) == 8 and shown < {f"say {i}" for i in range(50)}
