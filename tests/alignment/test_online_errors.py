"""What ends online training, or must not disturb it, shown without a process: the loop and its helpers on fakes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray
from ray.exceptions import ObjectStoreFullError

from raysafe.alignment import companions
from raysafe.alignment.companions import check_adapters, check_companion, check_reward_context
from raysafe.alignment.online_state import (
    Position,
    complete_steps,
    folder_of,
    forget_references,
    read_state,
    write_state,
)
from raysafe.errors import ConfigError, ModelError, ResourceError, TrainingError
from raysafe.models.heads import RewardModel, save_reward_model
from raysafe.models.language import save_policy
from raysafe.models.lora import LoraConfig
from raysafe.models.presets import Preset, byte_tokenizer, make_policy, train_tokenizer
from raysafe.runtime.group import ActorGroup, GroupLost, GroupSpec, Pool
from tests.alignment.fake_loop import Loop, written
from tests.alignment.online_parts import make_samples


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
