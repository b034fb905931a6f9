"""The trainer finds the optimum, keeps similar texts on one side, and finds nothing in shuffled labels."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from raysafe.errors import DataError, TrainingError
from raysafe.evaluation.guard_metrics import area_under_curve
from raysafe.guards.training import _held_out, clusters, examples, fit, train

RNG = np.random.default_rng(1)
WORDS = [f"w{chr(97 + i)}{chr(97 + j)}" for i in range(20) for j in range(20)]
SIGNS = ("zolgra", "mifter", "quandle")


def texts(n: int, seed: int = 0) -> tuple[list[str], list[int]]:
    """Random words; half hold one of three signs."""
    rng = np.random.default_rng(seed)
    labels = [int(i % 2) for i in range(n)]
    made = []
    for label in labels:
        words = list(rng.choice(WORDS, 25))
        if label:
            words.insert(int(rng.integers(0, 25)), str(rng.choice(SIGNS)))
        made.append(" ".join(words))
    return made, labels


def test_the_fit_is_the_minimum_of_the_loss() -> None:
    """At a minimum the gradient, computed here by itself with dense matrices, is zero; nearby points cost more."""
    x = RNG.normal(size=(60, 5))
    y = (x[:, 0] + 0.5 * RNG.normal(size=60) > 0).astype(int)
    weight = RNG.uniform(0.5, 2, 60)
    l2 = 0.03
    w, b = fit(csr_matrix(x), y, weight, l2)

    def loss(w: np.ndarray, b: float) -> float:
        p = 1 / (1 + np.exp(-(x @ w + b)))
        nll = -(y * np.log(p) + (1 - y) * np.log(1 - p))
        return float((weight * nll).sum() / weight.sum() + l2 / 2 * w @ w)

    step = 1e-5
    for axis in range(6):
        delta = np.eye(6)[axis] * step
        slope = (loss(w + delta[:5], b + delta[5]) - loss(w - delta[:5], b - delta[5])) / (2 * step)
        assert abs(slope) < 1e-4
    assert all(loss(w + RNG.normal(size=5) * 0.1, b) > loss(w, b) for _ in range(20))


def test_signs_are_learned_and_shuffled_labels_teach_nothing() -> None:
    made, labels = texts(200)
    trained = train(examples(made, labels), controls=5)
    area = area_under_curve(trained.held_labels_H, trained.held_scores_H).value
    chance = [area_under_curve(trained.held_labels_H, logits).value for logits in trained.control_logits_CH]
    assert area > 0.95
    assert 0.35 < np.mean(chance) < 0.65


def test_the_model_works_on_texts_of_its_own_kind_that_it_never_saw() -> None:
    made, labels = texts(240)
    model = train(examples(made, labels), controls=1).model
    fresh, truth = texts(200, seed=9)
    scores = np.array([model.score(text) for text in fresh])
    assert area_under_curve(np.array(truth), scores).value > 0.95
    assert (scores[np.array(truth) == 0] >= model.settings.threshold).mean() < 0.1


def test_the_same_data_and_seed_give_the_same_weights() -> None:
    made, labels = texts(80)
    first, second = (train(examples(made, labels), controls=1, seed=3).model for _ in range(2))
    assert first.settings == second.settings and np.array_equal(first.weights_D, second.weights_D)


def test_texts_that_share_a_run_of_words_are_one_cluster() -> None:
    found = clusters(
        [
            "you are now a pirate who says nothing but the truth about A",
            "well then: you are now a pirate who says nothing but the truth about B",
            "an entirely different sentence stands over here alone",
        ]
    )
    assert found[0] == found[1] != found[2]


def test_near_duplicates_never_stand_on_both_sides() -> None:
    """Copies with random labels: a split that let them through would learn them by heart."""
    rng = np.random.default_rng(2)
    made, labels = [], []
    for _ in range(60):
        text, label = " ".join(rng.choice(WORDS, 25)), int(rng.integers(0, 2))
        made += [f"{text} {rng.choice(WORDS)}" for _ in range(4)]
        labels += [label] * 4
    trained = train(examples(made, labels), controls=1)
    assert trained.clusters == 60
    assert area_under_curve(trained.held_labels_H, trained.held_scores_H).value < 0.85


def test_too_few_texts_of_a_label_are_refused() -> None:
    with pytest.raises(DataError, match="too few"):
        examples(["a b c"] * 30, [1] * 25 + [0] * 5)


def test_texts_that_are_all_alike_cannot_be_held_out() -> None:
    with pytest.raises(DataError, match="more varied texts"):
        train(examples(["the very same five words here"] * 30 + texts(60)[0], [1] * 30 + [0] * 60))


def test_a_model_that_its_held_out_texts_speak_against_is_refused() -> None:
    made, labels = texts(200)
    pairs = [str(number // 2) for number in range(200)]
    held_N = _held_out(examples(made, labels, pairs), 0.2, seed=0)
    turned = [1 - label if held else label for label, held in zip(labels, held_N, strict=True)]
    with pytest.raises(TrainingError, match="speak against the model"):
        train(examples(made, turned, pairs), controls=1)
