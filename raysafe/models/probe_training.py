"""Training a linear probe, and the controls without which its accuracy means nothing (Hewitt and Liang 2019).

Texts come in groups (topics). The probe is fitted on some and calibrated on others; how good it is, is measured by
fits that hold whole groups out, beside probes of shuffled labels, random directions, and an untrained network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from pydantic import Field
from scipy.special import expit

from raysafe.config import Config
from raysafe.errors import DataError, TrainingError
from raysafe.models.activations import ActivationReader
from raysafe.models.chat import Message
from raysafe.models.language import model_digest
from raysafe.models.logistic import fit_logistic, platt
from raysafe.models.probe import Controls, Position, Probe, ProbeCard
from raysafe.models.roc import auroc, conformal_threshold
from raysafe.runtime.bar import Bar

CALIBRATION, FOLDS = 0.25, 8
"""Share of the groups that calibrate; parts that are held out in turn."""
_ROUNDS, _RESAMPLES, _TRIES = 5, 1000, 200
Progress = Callable[[int], None]


class ProbeTraining(Config):
    """How a probe is fitted."""

    concept: str = Field(min_length=1, description="What the positive texts are, such as 'harmful request'.")
    layer: int | None = Field(default=None, ge=0, description="Blocks before the state read; by default 0.6 of them.")
    position: Position = Field(default="last", description="last token, mean of the tokens, or the highest of them.")
    l2: float = Field(default=0.01, gt=0, description="Weight of the squared norm of the weights.")
    false_positives: float = Field(default=0.05, gt=0, lt=1, description="Rate that the threshold is set for.")
    draws: int = Field(default=40, ge=20, description="Shufflings of the labels, and random directions, to compare.")
    chat_template: str = Field(default="auto", description="auto (the tokenizer's own), plain, or a Jinja file.")
    seed: int = Field(default=0, ge=0, description="Seed of splits, draws and the untrained network.")


@dataclass(frozen=True)
class LabelledTexts:
    """N conversations, and answers to them where a probe is to read those; labels_N is boolean."""

    prompts: Sequence[Sequence[Message]]
    labels_N: np.ndarray
    answers: Sequence[str] | None = None
    groups: Sequence[str] = field(default=())
    """Topic of each text; every text is its own where none is given."""

    def group_numbers(self) -> np.ndarray:
        names = list(self.groups) or list(map(str, range(len(self.prompts))))
        return np.unique(names, return_inverse=True)[1]


@dataclass(frozen=True)
class States:
    """Hidden states of N texts, (R, D): one row a text, or one a token where the highest counts."""

    rows_RD: np.ndarray
    starts_N: np.ndarray

    def logits(self, weights_D: np.ndarray, bias: float) -> np.ndarray:
        """Each text's highest logit, (N,)."""
        return np.maximum.reduceat(self.rows_RD @ weights_D + bias, self.starts_N)

    def highest(self, weights_D: np.ndarray) -> np.ndarray:
        """The row of each text's highest logit, (N,)."""
        logits_R = self.rows_RD @ weights_D
        return np.array([start + int(np.argmax(logits_R[start:end])) for start, end in self.spans()])

    def of(self, texts: np.ndarray) -> States:
        """The states of some texts."""
        spans = self.spans()
        chosen = [self.rows_RD[slice(*spans[text])] for text in texts]
        return States(np.concatenate(chosen), np.append(0, np.cumsum([len(rows) for rows in chosen])[:-1]))

    def spans(self) -> list[tuple[int, int]]:
        """Each text's rows, as a half-open range."""
        bounds = [*self.starts_N.tolist(), len(self.rows_RD)]
        return list(pairwise(bounds))


def stack_states(each: Sequence[np.ndarray], position: Position) -> States:
    """Of texts' hidden states (T, D), what a probe at this position is fitted to."""
    pick: dict[Position, Callable[[np.ndarray], np.ndarray]] = {
        "last": lambda states_TD: states_TD[-1:],
        "mean": lambda states_TD: states_TD.mean(axis=0, keepdims=True),
        "max": lambda states_TD: states_TD,
    }
    kept = [pick[position](states_TD) for states_TD in each]
    return States(np.concatenate(kept), np.append(0, np.cumsum([len(rows) for rows in kept])[:-1]))


def train_probe(model: str, texts: LabelledTexts, training: ProbeTraining) -> Probe:
    """A probe of a model's own activations, with its controls' figures; reads the texts through two networks.

    Raises DataError where the groups can't be split with both labels in each part, TrainingError where the calibration
    texts speak against the probe.
    """
    reader = ActivationReader.load(model, chat_template=training.chat_template)
    untrained = ActivationReader.untrained(model, training.seed, chat_template=training.chat_template)
    layers = len(reader.blocks)
    layer = round(0.6 * layers) if training.layer is None else training.layer
    states, control = (stack_states(_read(each, texts, layer), training.position) for each in (reader, untrained))
    labels_N, groups_N = np.asarray(texts.labels_N, dtype=bool), texts.group_numbers()
    fitted = fit_probe(states, labels_N, groups_N, training)
    with Bar("controls", total=2 + 2 * training.draws, unit="fit") as bar:
        controls = compare(states, control, labels_N, groups_N, training, bar.advance)
    card = ProbeCard(
        concept=training.concept, model_digest=model_digest(model), architecture=type(reader.policy).__name__,
        hidden_size=reader.hidden_size, layers=layers, layer=layer, position=training.position,
        text="prompt" if texts.answers is None else "answer", template=reader.chat.fingerprint,
        bias=fitted.bias, slope=fitted.slope, offset=fitted.offset, threshold=fitted.threshold,
        false_positives=training.false_positives, controls=controls,
    )  # fmt: skip
    return Probe(card, fitted.weights_D, fitted.mean_D, fitted.scale_D)


Fit = Callable[[States, np.ndarray], tuple[np.ndarray, float]]
"""States and labels to weights (D,) and bias."""


@dataclass(frozen=True)
class FittedProbe:
    """A probe's numbers before they are tied to a model."""

    weights_D: np.ndarray
    bias: float
    mean_D: np.ndarray
    scale_D: np.ndarray
    slope: float
    offset: float
    threshold: float


def fit_probe(states: States, labels_N: np.ndarray, groups_N: np.ndarray, training: ProbeTraining) -> FittedProbe:
    """Fit on most groups, calibrate on the others; pure. labels_N is boolean."""
    fitting, calibration = split_groups(labels_N, groups_N, np.random.default_rng(training.seed))
    mean_D, scale_D = _standard(states.of(fitting).rows_RD)
    scaled = _scaled(states, mean_D, scale_D)
    weights_D, bias = fit_weights(scaled.of(fitting), labels_N[fitting], training.l2)
    logits = scaled.of(calibration).logits(weights_D, bias)
    slope, offset = platt(logits, labels_N[calibration])
    if slope <= 0:
        raise TrainingError(
            f"the calibration texts speak against the probe (AUROC {auroc(logits, labels_N[calibration]):.2f}): "
            "it found nothing that carries over to other groups; give more texts, or another layer or position"
        )
    harmless = expit(slope * logits[~labels_N[calibration]] + offset)
    threshold = min(max(conformal_threshold(harmless, training.false_positives), 1e-9), 1 - 1e-9)
    return FittedProbe(weights_D, bias, mean_D, scale_D, slope, offset, threshold)


def compare(
    states: States,
    untrained: States,
    labels_N: np.ndarray,
    groups_N: np.ndarray,
    training: ProbeTraining,
    progress: Progress = lambda done: None,
) -> Controls:
    """The probe and its controls on held-out groups: each text is scored by a fit that has seen none of its group.

    untrained: the same texts' states in a random network.
    """
    rng = np.random.default_rng((training.seed, 1))
    folds = group_folds(labels_N, groups_N, rng)

    def held_out(read: States, fit: Fit) -> np.ndarray:
        scores_N = np.zeros(len(labels_N))
        for fold in folds:
            seen = np.setdiff1d(np.arange(len(labels_N)), fold)
            scaled = _scaled(read, *_standard(read.of(seen).rows_RD))
            scores_N[fold] = scaled.of(fold).logits(*fit(scaled.of(seen), labels_N[seen]))
        progress(1)
        return scores_N

    def probe(read: States, labels: np.ndarray) -> tuple[np.ndarray, float]:
        return fit_weights(read, labels, training.l2)

    def shuffled(read: States, labels: np.ndarray) -> tuple[np.ndarray, float]:
        return probe(read, rng.permutation(labels))

    def turned(read: States, labels: np.ndarray) -> tuple[np.ndarray, float]:
        return _turned(read, labels, rng), 0.0

    scores_N, base_N = held_out(states, probe), held_out(untrained, probe)
    low, excess = _bootstrap(scores_N, base_N, labels_N, groups_N, rng)
    chance = {
        name: np.quantile([auroc(held_out(states, fit), labels_N) for _ in range(training.draws)], 0.95)
        for name, fit in (("shuffled_labels", shuffled), ("random_direction", turned))
    }
    return Controls(
        held_out=auroc(scores_N, labels_N),
        held_out_low=low,
        shuffled_labels=float(chance["shuffled_labels"]),
        random_direction=float(chance["random_direction"]),
        untrained=auroc(base_N, labels_N),
        above_untrained=excess,
        examples=len(labels_N),
        groups=len(np.unique(groups_N)),
    )


def fit_weights(states: States, labels_N: np.ndarray, l2: float) -> tuple[np.ndarray, float]:
    """Logistic regression; where each text has several rows, on the row with its highest logit, chosen in turns.

    The turns are those of multiple-instance learning (Andrews et al. 2003, mi-SVM's MI variant), from the rows' means.
    """
    counts_N = np.diff(np.append(states.starts_N, len(states.rows_RD)))
    means_ND = np.add.reduceat(states.rows_RD, states.starts_N) / counts_N[:, None]
    weights_D, bias = fit_logistic(means_ND, labels_N.astype(float), l2)
    if (counts_N == 1).all():
        return weights_D, bias
    chosen = states.highest(weights_D)
    for _ in range(_ROUNDS):
        weights_D, bias = fit_logistic(states.rows_RD[chosen], labels_N.astype(float), l2)
        again = states.highest(weights_D)
        if (again == chosen).all():
            break
        chosen = again
    return weights_D, bias


def split_groups(labels_N: np.ndarray, groups_N: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Texts for fitting and for calibration: whole groups, both labels in each; raises DataError."""
    groups = np.unique(groups_N)
    share = max(1, round(CALIBRATION * len(groups)))
    for _ in range(_TRIES):
        shuffled = rng.permutation(groups)
        parts = [np.flatnonzero(np.isin(groups_N, part)) for part in (shuffled[share:], shuffled[:share])]
        if all(0 < labels_N[part].sum() < len(part) for part in parts):
            return parts
    raise _too_few(labels_N, groups, "a part for fitting and one for calibration")


def group_folds(labels_N: np.ndarray, groups_N: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Parts of whole groups to hold out in turn, each leaving both labels to the others; raises DataError."""
    groups = np.unique(groups_N)
    for _ in range(_TRIES):
        dealt = np.array_split(rng.permutation(groups), min(FOLDS, len(groups)))
        folds = [np.flatnonzero(np.isin(groups_N, part)) for part in dealt]
        left = [np.delete(labels_N, fold) for fold in folds]
        if all(0 < labels.sum() < len(labels) for labels in left):
            return folds
    raise _too_few(labels_N, groups, "parts to hold out in turn")


def _too_few(labels_N: np.ndarray, groups: np.ndarray, parts: str) -> DataError:
    return DataError(
        f"{len(groups)} groups of {len(labels_N)} texts, {int(labels_N.sum())} of them positive, can't be split into "
        f"{parts} with both labels in each: give more groups"
    )


def _read(reader: ActivationReader, texts: LabelledTexts, layer: int) -> list[np.ndarray]:
    answers = texts.answers if texts.answers is not None else [None] * len(texts.prompts)
    with Bar(f"reading {reader.model}", total=len(answers), unit="text") as bar:
        each = []
        for prompt, answer in zip(texts.prompts, answers, strict=True):
            each.append(reader.states(prompt, answer, layer))
            bar.advance(1)
        return each


def _standard(rows_RD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scale_D = rows_RD.std(axis=0)
    return rows_RD.mean(axis=0), np.where(scale_D > 1e-12, scale_D, 1.0)


def _scaled(states: States, mean_D: np.ndarray, scale_D: np.ndarray) -> States:
    return States((states.rows_RD - mean_D) / scale_D, states.starts_N)


def _turned(states: States, labels_N: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random direction, turned round where it fits the labels better that way."""
    weights_D = rng.standard_normal(states.rows_RD.shape[1])
    fits = auroc(states.logits(weights_D, 0.0), labels_N) >= auroc(states.logits(-weights_D, 0.0), labels_N)
    return weights_D if fits else -weights_D


def _bootstrap(
    scores_N: np.ndarray, base_N: np.ndarray, labels_N: np.ndarray, groups_N: np.ndarray, rng: np.random.Generator
) -> tuple[float, float]:
    """2.5% quantiles of the area, and of its excess over the base's, when groups are drawn with replacement."""
    members = [np.flatnonzero(groups_N == group) for group in np.unique(groups_N)]
    areas, excesses = [], []
    while len(areas) < _RESAMPLES:
        drawn = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        if 0 < labels_N[drawn].sum() < len(drawn):
            areas.append(auroc(scores_N[drawn], labels_N[drawn]))
            excesses.append(areas[-1] - auroc(base_N[drawn], labels_N[drawn]))
    return float(np.quantile(areas, 0.025)), float(np.quantile(excesses, 0.025))
