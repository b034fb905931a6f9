"""What ends online training, or must not disturb it, shown without a process: the loop and its helpers on fakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray
from ray.exceptions import ObjectStoreFullError

from raysafe.alignment import companions, online_loop
from raysafe.alignment.companions import check_adapters, check_companion, check_reward_context
from raysafe.alignment.experience import minibatches
from raysafe.alignment.grpo import GRPOJob
from raysafe.alignment.online_data import Prompts, read_prompts
from raysafe.alignment.online_loop import OnlineLoop
from raysafe.alignment.online_state import (
    Position,
    complete_steps,
    folder_of,
    forget_references,
    read_state,
    write_state,
)
from raysafe.alignment.roles import Rollout, Written
from raysafe.errors import ConfigError, ModelError, ResourceError, TrainingError
from raysafe.models.generate.engine import SamplingParams
from raysafe.models.heads import RewardModel, save_reward_model
from raysafe.models.language import save_policy
from raysafe.models.lora import LoraConfig
from raysafe.models.presets import Preset, byte_tokenizer, make_policy, train_tokenizer
from raysafe.runtime.group import ActorGroup, GroupLost, GroupSpec, Pool
from raysafe.runtime.run import Run
from raysafe.runtime.weights import StaleWeights
from tests.alignment.online_parts import make_samples

Answer = Callable[..., Any]


class Role:
    """A role's handle that writes down what it is asked, and answers at once."""

    ranks = 1

    def __init__(self, name: str, calls: list[tuple[Any, ...]], answers: dict[str, Answer]) -> None:
        self.name, self.calls, self.answers = name, calls, answers
        self.where: list[Any] = []

    def call(self, method: str, *args: Any, **more: Any) -> list[Any]:
        self.calls.append((self.name, method, *args))
        return [self.answers.get(method, lambda *_, **__: None)(*args, **more)]

    def start(self, method: str, *args: Any, **more: Any) -> SimpleNamespace:
        answers = self.call(method, *args, **more)
        return SimpleNamespace(result=lambda: answers)

    def start_spread(self, method: str, chunks: list[tuple[Any, ...]], **_: Any) -> SimpleNamespace:
        self.calls.append((self.name, method, len(chunks)))
        return SimpleNamespace(result=lambda: [self.answers[method](*chunk) for chunk in chunks])


class Loop:
    """An OnlineLoop of three prompts on fakes."""

    def __init__(self, folder: Path, answers: dict[str, Answer] | None = None, **fields: Any) -> None:
        base: dict[str, Any] = {"model": "preset:tiny", "data": "prompts.jsonl", "rewards": ("check:exact",)}
        settings = {"storage": str(folder), "steps": 4, "prompts_per_step": 3, "answers_per_prompt": 2, "max_tokens": 4}
        self.job = GRPOJob(**base | settings | fields)
        self.calls: list[tuple[Any, ...]] = []
        self.run = Run.create(self.job)
        self.rebuilt: list[frozenset[str]] = []
        everything: dict[str, Answer] = {
            "generate": written,
            "logps": lambda rows: np.full(sum(map(len, rows["answer_ids"].to_pylist())), -5.0),
            "score": lambda answers: {"reward": np.arange(len(answers.texts), dtype=float)},
            "update": lambda rows, parts, **_: {"loss": 0.0},
        } | (answers or {})
        supervisor: Any = SimpleNamespace(
            role=lambda name: Role(name, self.calls, everything), recover=lambda lost: self.rebuilt.pop(0)
        )
        prompts = Prompts([[{"role": "user", "content": str(i)}] for i in range(3)], [None] * 3, [[4, 5], [6], [7]])
        progress: Any = SimpleNamespace(say=lambda _: None, record=lambda *_: None, show=lambda *_: None)
        stop: Any = SimpleNamespace(wanted=False)
        self.loop = OnlineLoop(
            self.job, self.run, {"train": prompts, "validation": prompts}, supervisor, progress, stop
        )

    def asked(self, role: str, *methods: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.calls if call[0] == role and call[1] in methods]


def written(prompts: list[list[int]], sampling: Any, version: int, text: str = "ab") -> Written:
    count = len(prompts) * sampling.n
    tokens = np.tile(np.array([8, 9], dtype=np.int32), count)
    lengths = np.full(count, 2)
    return Written(tokens, lengths, np.full(2 * count, -5.0), [text] * count, np.ones(count, dtype=bool), version)


def test_answers_that_are_all_empty_end_the_run_with_a_sentence_and_a_checkpoint(tmp_path: Path) -> None:
    made = Loop(tmp_path, {"generate": lambda *args: written(*args, text=" \n")})
    with pytest.raises(TrainingError) as raised:
        made.loop.train()
    assert str(raised.value) == (
        "step 1: all 3 answers are empty, the policy ends its turn at once: start from a model that answers, or raise "
        "kl_coefficient"
    )
    assert complete_steps(made.run) == [0]
    assert not made.asked("reward", "score")


def test_one_answer_that_is_not_empty_is_enough(tmp_path: Path) -> None:
    samples = make_samples(3, 2)
    samples.texts = [""] * 5 + ["x"]
    made = Loop(tmp_path)
    made.loop._score(samples, made.loop.prompts)
    assert samples.scores["reward"].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_reward_that_fails_leaves_a_checkpoint_of_the_step_that_it_failed_in(tmp_path: Path) -> None:
    def score(answers: Any) -> dict[str, np.ndarray]:
        # validation writes one answer to a prompt, a step two
        if len(answers.texts) == 6 and made.loop.position.step == 2:
            raise TrainingError("reward check:exact is nan")
        return {"reward": np.arange(len(answers.texts), dtype=float)}

    made = Loop(tmp_path, {"score": score})
    with pytest.raises(TrainingError, match="reward check:exact is nan"):
        made.loop.train()
    assert complete_steps(made.run)[-1] == 2
    state = read_state(made.run, 2)
    assert (state.updates, state.samples) == (2, 12)


def lost(role: str) -> GroupLost:
    return GroupLost(role, (role,), 0, "death", "killed")


def test_a_reference_that_stayed_goes_back_with_the_policy_to_what_it_was_at_the_checkpoint(tmp_path: Path) -> None:
    fails = iter([None, None, lost("policy")])

    def update(*_: Any, **__: Any) -> dict[str, float]:
        if (error := next(fails, None)) is not None:
            raise error
        return {"loss": 0.0}

    made = Loop(tmp_path, {"update": update}, reference_refresh=2, validate_every=10)
    made.rebuilt = [frozenset({"policy"})]
    made.loop.train()
    # refreshed after step 2, back to the start with the policy's checkpoint of step 0, then refreshed again
    assert made.asked("reference", "load", "load_from") == [
        ("load_from", made.run.uri, "reference/step-00000002"),
        ("load", "preset:tiny"),
        ("load_from", made.run.uri, "reference/step-00000002"),
        ("load_from", made.run.uri, "reference/step-00000004"),
    ]
    assert [row["step"] for row in made.run.metrics] == [0, 1, 2, 3, 4]
    assert made.loop.position.samples == 24


def test_a_reference_lost_while_it_is_refreshed_costs_no_row_of_metrics_and_no_step(tmp_path: Path) -> None:
    fails = iter([lost("reference")])

    def load_from(*_: Any) -> None:
        if (error := next(fails, None)) is not None:
            raise error

    made = Loop(tmp_path, {"load_from": load_from}, reference_refresh=2, validate_every=10)
    made.rebuilt = [frozenset({"reference"})]
    made.loop.train()
    assert [row["step"] for row in made.run.metrics] == [0, 1, 2, 3, 4]
    assert len(made.asked("policy", "update")) == 4
    assert [name for _, _, name in made.asked("reference", "load_from")] == [
        "reference/step-00000002", "reference/step-00000002", "reference/step-00000004",
    ]  # fmt: skip


def test_references_stay_as_long_as_a_checkpoint_goes_on_from_them(tmp_path: Path) -> None:
    run = Loop(tmp_path).run
    for step in (2, 4, 6):
        run.folder.write(f"reference/step-{step:08d}/config.json", "{}")
    for step, name in ((1, None), (5, "reference/step-00000004"), (6, "reference/step-00000006")):
        write_state(run, Position(step=step, reference=name))
    forget_references(run)
    assert run.folder.list("reference") == ["step-00000004", "step-00000006"]
    run.folder.remove(folder_of(5))
    forget_references(run)
    assert run.folder.list("reference") == ["step-00000006"]


def test_engines_get_no_new_weights_before_they_took_all_that_was_begun_with_the_old(tmp_path: Path) -> None:
    made = Loop(tmp_path, placement="split", overlap=True, loss={"importance_cap": 2.0}, chunks_per_engine=2)
    writer = made.loop.writer
    writer.begin(made.loop.prompts, 1, version=0)
    assert writer.begun is not None
    wait, order = writer.begun.pending.result, made.calls
    writer.begun.pending = SimpleNamespace(result=lambda: order.append(("begun", "taken")) or wait())  # type: ignore[assignment]
    assert writer.write(made.loop.validation, None, version=1).version == 1
    assert [call[1] for call in order] == ["publish", "load", "generate", "taken", "publish", "load", "generate"]
    assert writer.write(made.loop.prompts, 1, version=1).version == 0


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


def full(*_: Any) -> None:
    raise ObjectStoreFullError("Failed to put object\nThe local object store is full")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_object_store_is_a_sentence_where_the_driver_hands_out_a_steps_rows(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "put", full)
    group = ActorGroup.__new__(ActorGroup)
    group.spec, group.workers, group.lost = GroupSpec("policy", Pool(workers=workers), {}), workers, None
    group.actors = [SimpleNamespace(call=SimpleNamespace(remote=full)) for _ in range(workers)]
    with pytest.raises(ResourceError) as raised:
        group.submit_all("policy", "update", (make_samples().table(),), {})
    assert str(raised.value) == (
        "Ray's object store can't hold the arguments of policy.update: give its node more memory or disk for it (`ray "
        "start --object-store-memory`, /dev/shm), or hold less at a time (Failed to put object)"
    )


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("reward")
    save_reward_model(RewardModel.from_policy("preset:tiny", seed=3), byte_tokenizer(), folder)
    return str(folder)


def test_a_critic_must_read_the_policys_tokens_and_all_of_them(reward_model: str, tmp_path: Path) -> None:
    check_companion("critic", reward_model, "preset:tiny", 2048)
    with pytest.raises(ConfigError, match="may have 2049: set max_length to 2048 or less"):
        check_companion("critic", reward_model, "preset:tiny", 2049)
    train_tokenizer(["ab ab ab"], 260).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(Path(reward_model, "config.json").read_text())
    with pytest.raises(ConfigError, match=r"different tokenizers \(260 and 259 tokens\): start the critic from"):
        check_companion("critic", str(tmp_path), "preset:tiny", 8)


def test_a_critic_whose_embedding_is_too_small_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import LlamaConfig

    monkeypatch.setattr(companions, "load_config", lambda _: LlamaConfig(vocab_size=100))
    with pytest.raises(ModelError, match="the tokenizer has 259 tokens, the model 100"):
        check_companion("critic", "preset:tiny", "preset:tiny", 8)


def test_a_reward_model_of_another_tokenizer_counts_other_tokens(tmp_path: Path) -> None:
    words = train_tokenizer(["some words and more words"], 270)
    shape = Preset(layers=1, width=8, heads=2, key_value_heads=2, feedforward=16, context=16)
    save_policy(make_policy(shape, words), words, tmp_path / "policy")
    save_reward_model(RewardModel.from_policy(str(tmp_path / "policy")), words, tmp_path / "reward")
    reward = str(tmp_path / "reward")
    check_reward_context(reward, "preset:tiny", "conversation", longest=2048, max_tokens=64)
    with pytest.raises(ConfigError, match="takes 16 tokens, but a prompt with its answer may have 17"):
        check_reward_context(reward, str(tmp_path / "policy"), "conversation", longest=17, max_tokens=4)
    with pytest.raises(ConfigError, match="takes 16 tokens, but an answer may have 17: set max_tokens to 16 or less"):
        check_reward_context(reward, str(tmp_path / "policy"), "answer", longest=2048, max_tokens=17)


def test_adapters_are_looked_up_without_weights() -> None:
    check_adapters("preset:tiny", LoraConfig(targets=("q_proj", "down_proj")))
    check_adapters("preset:tiny", LoraConfig())
    with pytest.raises(
        ModelError, match=r"can't put adapters on embed_tokens .* choose lora.targets among down_proj, "
    ):
        check_adapters("preset:tiny", LoraConfig(targets=("embed_tokens",)))
