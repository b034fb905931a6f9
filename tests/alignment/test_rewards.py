"""Rewards: checks, mixtures, ensembles by hand, people's scores; and a sentence for each that can't be one."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoModelForSequenceClassification, LlamaConfig

from raysafe.alignment.rewards import (
    Answers,
    Check,
    EnsembleOptions,
    Feedback,
    RewardModels,
    Rewards,
    check_source,
    combined,
    ensemble_members,
    finite,
    weighted,
)
from raysafe.errors import ConfigError, DataError, ModelError, TrainingError
from raysafe.models.heads import RewardModel, save_reward_model
from raysafe.models.language import load_policy, save_policy
from raysafe.models.presets import byte_tokenizer, train_tokenizer


def answers(*texts: str, labels: list[str | None] | None = None, prompt: str = "Say.") -> Answers:
    prompts = [[{"role": "user", "content": prompt}] for _ in texts]
    return Answers(prompts, list(texts), labels or [None] * len(texts))


def length_of(prompt: Any, text: str, label: str | None) -> int:
    return len(text)


def never(prompt: Any, text: str, label: str | None) -> float:
    return math.nan if text == "bad" else 1.0


def yes(prompt: Any, text: str, label: str | None) -> bool:
    return True


HERE = "tests.alignment.test_rewards"


@pytest.mark.parametrize(
    ("check", "text", "label", "passes"),
    [
        ("exact", " 42\n", "42", True),
        ("exact", "The 42", "42", False),
        ("exact", "yes", "Yes", False),
        ("contains", "It is PARIS.", " paris", True),
        ("contains", "It is Rome.", "paris", False),
        ("number", "First 3, so 1,234.50 in all", "1234.5", True),
        ("number", "The answer is 12.", "12", True),
        ("number", "12 or 13", "12", False),
        ("number", "It falls to -7 degrees", "-7", True),
        ("number", "It falls to 7 degrees", "-7", False),
        ("number", "It is -1,000,000", "-1000000", True),
        ("number", "on 2026-05-20", "20", True),
        ("number", "between 3-5", "5", True),
        ("number", "f(x)-5", "5", True),
        ("number", "1,2,3", "3", True),
        ("number", "so .5", "0.5", True),
        ("number", "no number", "0", False),
        ("number", "", "0", False),
        ("number", "0.10", ".1", True),
        ("regex", " abc ", "a.c", True),
        ("regex", "xabc", "a.c", False),
    ],
)
def test_checks_by_hand(check: str, text: str, label: str, passes: bool) -> None:
    assert Check(check).score(answers(text, labels=[label])).tolist() == [float(passes)]


@pytest.mark.parametrize(
    ("check", "label", "told"),
    [
        ("exact", None, "check:exact needs a label in every row"),
        ("number", "twelve", "needs a number as the prompt's label, got 'twelve'"),
        ("regex", "(", r"needs a regular expression as the label, got '\('"),
    ],
)
def test_a_label_that_a_check_can_not_use_is_told(check: str, label: str | None, told: str) -> None:
    with pytest.raises(DataError, match=told):
        Check(check).score(answers("x", labels=[label]))


def test_sources_add_up_by_their_weights_and_are_told_apart() -> None:
    rewards = Rewards({"check:exact": 2.0, f"{HERE}:length_of": -0.5}, "check:contains", EnsembleOptions())
    scores = rewards.score(answers("ab", "abc", labels=["ab", "b"]))
    assert scores["reward"].tolist() == [2.0 - 1.0, -1.5]
    assert scores["reward/check:exact"].tolist() == [1.0, 0.0]
    assert scores[f"reward/{HERE}:length_of"].tolist() == [2.0, 3.0]
    assert scores["gold"].tolist() == [1.0, 1.0]


def test_a_single_source_is_the_reward() -> None:
    scores = Rewards({"check:exact": 1.0}, None, EnsembleOptions()).score(answers("a", "b", labels=["a", "a"]))
    assert {name: values.tolist() for name, values in scores.items()} == {"reward": [1.0, 0.0]}


def test_sources_of_one_last_name_keep_figures_of_their_own(tmp_path: Path) -> None:
    files = [tmp_path / name / "scores.jsonl" for name in ("a", "b")]
    for place, file in enumerate(files):
        file.parent.mkdir()
        file.write_text(json.dumps({"prompt": "Say.", "completion": "x", "score": place + 1}) + "\n")
    scores = Rewards({f"feedback:{file}": 1.0 for file in files}, None, EnsembleOptions()).score(answers("x"))
    assert scores.pop("reward").tolist() == [3.0]
    assert sorted(values.tolist() for values in scores.values()) == [[1.0], [2.0]]


def test_members_combine_by_mean_minimum_or_mean_less_their_deviation() -> None:
    # (1, 3, 5): mean 3, deviation 2; (4, 4, 1): mean 3, deviation sqrt(3)
    each = np.array([[1.0, 4], [3, 4], [5, 1]])
    assert combined(each, "mean", 9.0).tolist() == [3.0, 3.0]
    assert combined(each, "minimum", 9.0).tolist() == [1.0, 1.0]
    assert combined(each, "penalised", 0.5).tolist() == pytest.approx([2.0, 3 - math.sqrt(3) / 2])


def test_a_reward_that_is_no_number_names_its_source_and_the_answer() -> None:
    rewards = Rewards({f"{HERE}:never": 1.0}, None, EnsembleOptions())
    with pytest.raises(TrainingError, match=rf"reward {HERE}:never is nan for 1 of 3 answers, first for 'bad'"):
        rewards.score(answers("fine", "bad", "good"))


def test_a_reward_of_another_type_or_number_is_refused() -> None:
    with pytest.raises(TrainingError, match="returned True; it must return a number"):
        Rewards({f"{HERE}:yes": 1.0}, None, EnsembleOptions()).score(answers("x"))
    with pytest.raises(TrainingError, match=r"reward r gave \(1,\) values for 2 answers"):
        finite(np.zeros(1), "r", answers("x", "y"))


def test_weights_go_with_their_sources() -> None:
    assert weighted(("a", "b"), ()) == {"a": 1.0, "b": 1.0}
    assert weighted(("a", "b"), (2.0, -1.0)) == {"a": 2.0, "b": -1.0}
    with pytest.raises(ValueError, match="reward_weights has 1 weights for 2 rewards: give one each"):
        weighted(("a", "b"), (1.0,))
    with pytest.raises(ValueError, match="names a source twice"):
        weighted(("a", "a"), ())


def test_peoples_scores_are_found_by_prompt_and_answer_and_0_elsewhere(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Say.", "completion": "yes ", "score": 0.8},
        {"prompt": [{"role": "user", "content": "Say."}], "completion": "no", "score": -1},
        {"prompt": "Shout.", "completion": "maybe", "score": 5},
    ]
    (tmp_path / "scores.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    found = Feedback(str(tmp_path / "scores.jsonl")).score(answers("yes", "no", "maybe"))
    assert found.tolist() == [0.8, -1.0, 0.0]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("{", "JSONDecodeError"),
        ('{"prompt": "a", "completion": "b"}', "KeyError: 'score'"),
        ('{"prompt": "a", "completion": "b", "score": "good"}', "could not convert"),
        ('{"prompt": "a", "completion": "b", "score": NaN}', "not finite"),
        ('{"prompt": "a", "completion": 3, "score": 1}', "AttributeError"),
        ('{"prompt": ["a"], "completion": "b", "score": 1}', "TypeError"),
        ("[]", "TypeError"),
    ],
)
def test_a_bad_row_of_scores_is_named_by_its_line(tmp_path: Path, row: str, told: str) -> None:
    good = '{"prompt": "a", "completion": "b", "score": 1}\n'
    (tmp_path / "scores.jsonl").write_text(good * 2 + row + "\n")
    with pytest.raises(DataError, match=rf"scores.jsonl:3: a row needs prompt, completion and score \(.*{told}"):
        Feedback(str(tmp_path / "scores.jsonl"))


def test_a_file_of_scores_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scores.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="is not UTF-8"):
        Feedback(str(tmp_path / "scores.jsonl"))


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("check:spelling", "rewards: there is no check 'spelling'; choose one of exact, contains, number, regex"),
        ("feedback:missing.jsonl", "rewards: there is no file missing.jsonl: export one with"),
        (f"{HERE}:nothing", "rewards: module .* has no function 'nothing'"),
        ("nowhere_at_all:reward", "rewards: there is no module 'nowhere_at_all'"),
    ],
)
def test_a_source_that_can_not_be_is_refused_before_anything_starts(source: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        check_source(source)


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reward")
    save_reward_model(RewardModel.from_policy("preset:tiny", seed=3), byte_tokenizer(), folder)
    return folder


def test_a_trained_reward_model_is_a_source_and_reads_the_prompt_or_the_bare_answer(reward_model: Path) -> None:
    check_source(str(reward_model))
    scores = []
    for sees in ("conversation", "answer"):
        source = RewardModels(str(reward_model), EnsembleOptions(sees=sees), "cpu")  # type: ignore[arg-type]
        scores.append([source.score(answers("good", "bad", prompt=prompt)) for prompt in ("One?", "Another!")])
    assert np.abs(scores[0][0] - scores[0][1]).min() > 1e-4
    np.testing.assert_array_equal(scores[1][0], scores[1][1])


def test_further_members_are_found_in_their_order_and_a_single_model_has_no_minimum(
    reward_model: Path, tmp_path: Path
) -> None:
    for place in ("", "ensemble/2", "ensemble/10"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "config.json").write_text("{}")
    assert ensemble_members(str(tmp_path)) == [str(tmp_path / p) for p in ("", "ensemble/2", "ensemble/10")]
    with pytest.raises(ConfigError, match="is a single reward model, which has no minimum over members"):
        RewardModels(str(reward_model), EnsembleOptions(combine="minimum"), "cpu")


def test_a_policy_is_no_reward_model(tmp_path: Path) -> None:
    save_policy(load_policy("preset:tiny"), byte_tokenizer(), tmp_path)
    with pytest.raises(ModelError, match="is no reward model but a LlamaForCausalLM: train one first"):
        check_source(str(tmp_path))


def test_a_head_of_two_scores_is_refused_in_a_sentence(tmp_path: Path) -> None:
    config = LlamaConfig(vocab_size=259, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    config.num_labels = 2
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="has a head of 2 scores; a reward model has one"):
        check_source(str(tmp_path))


def test_a_reward_model_with_another_models_tokenizer_is_refused(reward_model: Path, tmp_path: Path) -> None:
    for file in reward_model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    train_tokenizer(["some words and more words and words"], 280).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="tokenizer and model don't belong together: the tokenizer has 2"):
        check_source(str(tmp_path))


def test_what_is_only_watched_is_no_part_of_an_ensembles_pessimism(reward_model: Path) -> None:
    options = EnsembleOptions(combine="minimum")
    scores = Rewards({"check:exact": 1.0}, str(reward_model), options).score(answers("a", labels=["a"]))
    expected = RewardModels(str(reward_model), EnsembleOptions(), "cpu").score(answers("a"))
    assert scores["gold"].tolist() == expected.tolist()
