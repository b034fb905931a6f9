"""A probe finds what was planted, and its controls catch what only looks like a finding."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from raysafe.errors import DataError, TrainingError
from raysafe.models.probe import Controls, Position, load_probe
from raysafe.models.probe_training import (
    LabelledTexts,
    ProbeTraining,
    States,
    compare,
    fit_probe,
    group_folds,
    split_groups,
    stack_states,
    train_probe,
)
from raysafe.models.roc import auroc
from tests.real_data import SHARED, SMOLLM2

N, D, GROUPS = 300, 12, 30
XSTEST = SHARED / "xstest" / "xstest_prompts.csv"


def planted(strength: float, *, base: float = 0.0, seed: int = 0) -> tuple[States, States, np.ndarray, np.ndarray]:
    """Noise with `strength` along one direction for positives; `base`: the same of the untrained network."""
    rng = np.random.default_rng(seed)
    labels_N, groups_N = rng.random(N) < 0.5, np.arange(N) % GROUPS
    direction_D = rng.standard_normal(D)
    direction_D /= np.linalg.norm(direction_D)

    def states(amount: float) -> States:
        rows_ND = rng.standard_normal((N, D)) + amount * labels_N[:, None] * direction_D
        return States(rows_ND, np.arange(N))

    return states(strength), states(base), labels_N, groups_N


def compared(strength: float, *, base: float = 0.0, seed: int = 0) -> Controls:
    return compare(*planted(strength, base=base, seed=seed), ProbeTraining(concept="c", seed=seed, draws=20))


@pytest.mark.parametrize("seed", range(3))
def test_a_planted_direction_is_found_and_beats_every_control(seed: int) -> None:
    controls = compared(3.0, seed=seed)
    # the best linear score of two unit Gaussians 3 apart has the area Phi(3 / sqrt 2) = 0.983
    assert controls.held_out == pytest.approx(0.983, abs=0.03)
    assert controls.beaten and controls.untrained < 0.75


def test_nothing_planted_beats_nothing() -> None:
    assert not any(compared(0.0, seed=seed).beaten for seed in range(5))


def test_what_an_untrained_network_shows_as_well_is_no_finding() -> None:
    assert not compared(3.0, base=3.0).beaten


def test_a_mark_of_each_topic_does_not_carry_over_to_held_out_ones() -> None:
    rng, training = np.random.default_rng(0), ProbeTraining(concept="c", draws=20)
    groups_N, labels_N = np.arange(N) % GROUPS, rng.random(N) < 0.5
    # within a topic the label is plain to see, along a direction of its own
    directions = rng.standard_normal((GROUPS, 48))
    rows_ND = rng.standard_normal((N, 48)) + np.where(labels_N, 1, -1)[:, None] * directions[groups_N]
    states, noise = States(rows_ND, np.arange(N)), States(rng.standard_normal((N, 48)), np.arange(N))
    assert not compare(states, noise, labels_N, groups_N, training).beaten
    mixed = compare(states, noise, labels_N, np.arange(N), training)
    assert mixed.held_out > 0.75, "the same states look like a finding where topics are mixed"


def test_calibration_texts_that_speak_against_it_are_an_error() -> None:
    labels_N, groups_N = np.arange(80) % 2 == 0, np.arange(80) // 2 % 4
    fitting, _ = split_groups(labels_N, groups_N, np.random.default_rng(0))
    turned_N = np.where(np.isin(np.arange(80), fitting), 1.0, -1.0) * np.where(labels_N, 1.0, -1.0)
    rows_N1 = turned_N[:, None] + np.random.default_rng(0).standard_normal((80, 1)) / 4
    with pytest.raises(TrainingError, match=r"speak against the probe \(AUROC 0\.00\)"):
        fit_probe(States(rows_N1, np.arange(80)), labels_N, groups_N, ProbeTraining(concept="c"))


def test_the_threshold_keeps_to_its_false_positive_rate_and_probabilities_are_calibrated() -> None:
    rates, gaps = [], []
    for seed in range(12):
        states, _, labels_N, groups_N = planted(2.0, seed=seed)
        probe = fit_probe(states, labels_N, groups_N, ProbeTraining(concept="c", seed=seed))
        fresh_ND = np.random.default_rng(100 + seed).standard_normal((4000, D))
        logits = ((fresh_ND - probe.mean_D) / probe.scale_D) @ probe.weights_D + probe.bias
        rates.append(np.mean(expit(probe.slope * logits + probe.offset) >= probe.threshold))
        scaled = States((states.rows_RD - probe.mean_D) / probe.scale_D, states.starts_N)
        p_N = expit(probe.slope * scaled.logits(probe.weights_D, probe.bias) + probe.offset)
        gaps.append(p_N.mean() - labels_N.mean())
    assert 0.01 < np.mean(rates) < 0.08, "0.05 was asked for"
    assert abs(np.mean(gaps)) < 0.05


@pytest.mark.parametrize("position", ["last", "mean", "max"])
def test_a_position_reads_the_tokens_it_names(position: Position) -> None:
    """One token of each positive text shows it: the last for `last`, any for `max`, all a little for `mean`."""
    rng = np.random.default_rng(1)
    labels_N = rng.random(N) < 0.5
    each, noise = [], []
    for label in labels_N:
        states_TD = rng.standard_normal((6, D))
        where = {"last": [5], "mean": list(range(6)), "max": [rng.integers(6)]}[position]
        states_TD[where, 0] += label * (6.0 if position == "max" else 3.0)
        each.append(states_TD)
        noise.append(rng.standard_normal((6, D)))
    states, untrained = stack_states(each, position), stack_states(noise, position)
    training = ProbeTraining(concept="c", position=position, draws=20)
    controls = compare(states, untrained, labels_N, np.arange(N), training)
    assert controls.held_out > 0.95 and controls.beaten
    assert np.abs(fit_probe(states, labels_N, np.arange(N), training).weights_D).argmax() == 0


def test_rows_of_some_texts_are_theirs() -> None:
    each = [np.full((length, 2), float(length)) for length in (3, 1, 2)]
    some = stack_states(each, "max").of(np.array([2, 0]))
    np.testing.assert_array_equal(some.rows_RD[:, 0], [2, 2, 3, 3, 3])
    np.testing.assert_array_equal(some.logits(np.array([1.0, 0.0]), 1.0), [3, 4])
    assert auroc(np.array([0.0, 1.0]), np.array([False, True])) == 1


def test_groups_stay_whole_and_each_part_has_both_labels() -> None:
    rng = np.random.default_rng(0)
    labels_N, groups_N = np.arange(60) % 2 == 0, np.arange(60) // 6
    for parts in (split_groups(labels_N, groups_N, rng), group_folds(labels_N, groups_N, rng)):
        assert sorted(np.concatenate(parts)) == list(range(60))
        owners = [set(groups_N[part]) for part in parts]
        assert sum(map(len, owners)) == 10, "no group is in two parts"
    with pytest.raises(DataError, match="1 groups of 60 texts, 30 of them positive, can't be split"):
        split_groups(labels_N, np.zeros(60), rng)
    with pytest.raises(DataError, match="can't be split into parts to hold out in turn"):
        group_folds(labels_N, labels_N.astype(int), rng)


def test_a_probe_of_a_random_network_does_not_beat_an_untrained_one(tmp_path: Path) -> None:
    words = ["zinc", "zone", "zoo", "buzz", "fizz", "apple", "bread", "milk", "rain", "tree"]
    prompts = [[{"role": "user", "content": f"{word} {i}"}] for i in range(24) for word in words]
    labels_N = np.array(["z" in prompt[0]["content"] for prompt in prompts])
    texts = LabelledTexts(prompts, labels_N, groups=[str(i % 24) for i in range(240)])
    probe = train_probe("preset:tiny", texts, ProbeTraining(concept="z", position="mean", layer=1, draws=20))
    assert not probe.card.controls.beaten
    probe.save(tmp_path / "p")
    assert load_probe(tmp_path / "p").card == probe.card and probe.card.layers == 2 and probe.card.hidden_size == 64


def xstest() -> LabelledTexts:
    """Unsafe and safe prompts that share their words; a topic is a kind of prompt with its contrasts."""
    with XSTEST.open() as file:
        rows = list(csv.DictReader(file))
    kinds = [row["type"].removeprefix("contrast_") for row in rows]
    merged = {"privacy_public": "privacy", "privacy_fictional": "privacy", "discr": "discrimination",
              "nons_group_real_discr": "discrimination", "real_group_nons_discr": "discrimination"}  # fmt: skip
    return LabelledTexts(
        [[{"role": "user", "content": row["prompt"]}] for row in rows],
        np.array([row["type"].startswith("contrast_") for row in rows]),
        groups=[merged.get(kind, kind) for kind in kinds],
    )


@pytest.mark.slow
@pytest.mark.skipif(not (SMOLLM2.exists() and XSTEST.exists()), reason=f"{SMOLLM2} or {XSTEST} is not here")
def test_a_real_models_probe_of_unsafe_prompts_beats_its_controls_on_unseen_topics() -> None:
    probe = train_probe(
        str(SMOLLM2), xstest(), ProbeTraining(concept="unsafe request", l2=0.1, layer=16, false_positives=0.1)
    )
    print(probe.card.controls)
    assert probe.card.controls.beaten
