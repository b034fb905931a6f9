"""Training the linear text guard: logistic regression with L2 by L-BFGS, a held-out part, and Platt's calibration.

Texts that resemble each other stay on one side of the split (near duplicates share runs of words), and so do the
texts of a group where groups are given. Controls are trained on shuffled labels: their mean must be at chance on the
same part (one alone may fall to either side, for it still leans on what divides the texts best).
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import expit

from raysafe.errors import DataError, TrainingError
from raysafe.guards.features import BITS, folded, hashed, windows
from raysafe.guards.linear_model import LinearModel, LinearSettings, digest, worst_logit
from raysafe.models.logistic import fit_logistic, platt
from raysafe.models.roc import auroc, empirical_threshold

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Examples:
    """Texts with labels (1 for the positive label) and the cluster that each belongs to."""

    texts: Sequence[str]
    labels_N: np.ndarray
    clusters_N: np.ndarray


@dataclass(frozen=True)
class Trained:
    """The model, fit to all examples, and what the model of the training part said of the held-out part."""

    model: LinearModel
    held_labels_H: np.ndarray
    held_scores_H: np.ndarray
    control_logits_CH: np.ndarray
    clusters: int


def examples(texts: Sequence[str], labels: Sequence[int], groups: Sequence[str] | None = None) -> Examples:
    """Raises DataError where a label has too few texts to hold some out."""
    labels_N = np.asarray(labels, dtype=np.int64)
    for label in (0, 1):
        if (count := int((labels_N == label).sum())) < 20:
            which = "positive" if label else "negative"
            raise DataError(f"{count} {which} texts are too few to train and hold some out: give 20 or more of each")
    return Examples(texts, labels_N, clusters(texts) if groups is None else _numbered(groups))


def train(
    data: Examples,
    *,
    l2: float = 3e-4,
    window: int = 1200,
    held_out: float = 0.2,
    target_fpr: float = 0.01,
    controls: int = 5,
    seed: int = 0,
    positive: str = "1",
    trained_on: str = "",
    progress: Progress = lambda what, done, total: None,
) -> Trained:
    """Fit on the training part, calibrate and measure on the held-out part, then fit on all examples.

    target_fpr: the model's own threshold lets this share of the held-out negatives over. Raises DataError where the
    texts can't be split, TrainingError where the held-out ones speak against the model.
    """
    held_N = _held_out(data, held_out, seed)
    matrix, owner_W = _matrix(data.texts, window, progress)
    steps = 2 + controls

    def fitted(labels_N: np.ndarray, rows_W: np.ndarray, number: int, what: str) -> tuple[np.ndarray, float]:
        progress(what, number, steps)
        weight_W = _weights(labels_N, owner_W, rows_W)
        return fit(matrix[rows_W], labels_N[owner_W[rows_W]], weight_W, l2)

    rows_W = np.flatnonzero(~held_N[owner_W])
    part = fitted(data.labels_N, rows_W, 0, "fit without the held-out part")
    train_N, rng = np.flatnonzero(~held_N), np.random.default_rng(seed)
    shuffled: list[tuple[np.ndarray, float]] = []
    for number in range(controls):
        shuffled_N = data.labels_N.copy()
        shuffled_N[train_N] = rng.permutation(shuffled_N[train_N])
        shuffled.append(fitted(shuffled_N, rows_W, 1 + number, "fit on shuffled labels"))
    held = np.flatnonzero(held_N).tolist()
    logits_H = np.array([worst_logit(data.texts[n], *part, window) for n in held])
    control_CH = np.array([[worst_logit(data.texts[n], *control, window) for n in held] for control in shuffled])
    labels_H = data.labels_N[held]
    slope, offset = platt(logits_H, labels_H)
    if slope <= 0:
        raise TrainingError(
            f"the held-out texts speak against the model (area {auroc(logits_H, labels_H == 1):.2f}): it found nothing "
            "that carries over to other texts; give more texts, or check their labels"
        )
    scores_H = expit(slope * logits_H + offset)
    weights_D, bias = fitted(data.labels_N, np.arange(owner_W.size), steps - 1, "fit on all examples")
    progress("done", steps, steps)
    stored_D = weights_D.astype(np.float16)
    settings = LinearSettings(
        window=window,
        bias=bias,
        slope=slope,
        offset=offset,
        threshold=min(1.0, empirical_threshold(scores_H[labels_H == 0], target_fpr)),
        positive=positive,
        sha256=digest(stored_D),
        trained_on=trained_on,
    )
    model = LinearModel(settings, stored_D.astype(np.float32))
    return Trained(model, labels_H, scores_H, control_CH, len(np.unique(data.clusters_N)))


def fit(matrix: csr_matrix, labels_W: np.ndarray, weight_W: np.ndarray, l2: float) -> tuple[np.ndarray, float]:
    """Weights of all features, and the bias, of the weighted logistic regression (models/logistic.py)."""
    # features that no row has keep the weight zero: left out, they cost nothing
    size = int(matrix.shape[1])  # pyright: ignore[reportOptionalSubscript]
    used_U, place = np.unique(matrix.indices, return_inverse=True)
    matrix = csr_matrix((matrix.data, place, matrix.indptr), shape=(matrix.indptr.size - 1, used_U.size))
    weights_D = np.zeros(size)
    weights_D[used_U], bias = fit_logistic(matrix, labels_W, l2, weight_W)
    return weights_D, bias


def clusters(texts: Sequence[str], run: int = 5, most: int = 50) -> np.ndarray:
    """The cluster of each text: texts that share a run of `run` words are in one, unless over `most` texts hold it.

    A run that many texts share is a figure of speech or a form, and would make one cluster of everything.
    """
    holders: dict[bytes, list[int]] = defaultdict(list)
    for number, text in enumerate(texts):
        words = re.findall(r"\w+", text.lower())
        runs = {" ".join(words[i : i + run]) for i in range(max(1, len(words) - run + 1))}
        for one in runs:
            holders[hashlib.blake2b(one.encode("utf-8", "replace"), digest_size=8).digest()].append(number)
    parent = list(range(len(texts)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    for holding in holders.values():
        if len(holding) <= most:
            for number in holding[1:]:
                parent[root(number)] = root(holding[0])
    return _numbered([str(root(number)) for number in range(len(texts))])


def _numbered(names: Sequence[str]) -> np.ndarray:
    return np.unique(np.asarray(names), return_inverse=True)[1]


def _held_out(data: Examples, share: float, seed: int) -> np.ndarray:
    """Whole clusters, drawn at random, until each label has `share` of its texts held out; raises DataError."""
    held_N = np.zeros(data.labels_N.size, dtype=bool)
    rng = np.random.default_rng(seed)
    order = rng.permutation(data.clusters_N.max() + 1)
    for label in (1, 0):
        wanted = share * (data.labels_N == label).sum()
        for cluster in order:
            if (held_N & (data.labels_N == label)).sum() >= wanted:
                break
            members_N = data.clusters_N == cluster
            if (data.labels_N[members_N] == label).any() and members_N.sum() <= 2 * wanted:
                held_N |= members_N
    for label in (0, 1):
        inside = int((held_N & (data.labels_N == label)).sum())
        outside = int((~held_N & (data.labels_N == label)).sum())
        if min(inside, outside) < 4:
            raise DataError(
                f"the texts labelled {label} fall into too few groups of similar ones to hold some out "
                f"({inside} held out, {outside} left): give more varied texts, or finer groups"
            )
    return held_N


def _matrix(texts: Sequence[str], window: int, progress: Progress) -> tuple[csr_matrix, np.ndarray]:
    """One row a window, counts / sqrt(features), and the text that each row belongs to."""
    rows: list[np.ndarray] = []
    columns: list[np.ndarray] = []
    values: list[np.ndarray] = []
    owners: list[int] = []
    for number, text in enumerate(texts):
        if number % 200 == 0:
            progress("features", number, len(texts))
        bytes_N = folded(text)
        found = list(hashed(bytes_N))
        for start, end in windows(bytes_N.size, window):
            inside = [buckets[(at >= start) & (at < end)] for at, buckets in found]
            buckets_F = np.concatenate(inside) if inside else np.zeros(0, dtype=np.uint32)
            unique_U, counts_U = np.unique(buckets_F, return_counts=True)
            columns.append(unique_U)
            values.append(counts_U / max(1, buckets_F.size) ** 0.5)
            rows.append(np.full(unique_U.size, len(owners)))
            owners.append(number)
    shape = (len(owners), 1 << BITS)
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return csr_matrix(entries, shape=shape), np.array(owners)


def _weights(labels_N: np.ndarray, owner_W: np.ndarray, rows_W: np.ndarray) -> np.ndarray:
    """Each label counts one half of these rows, and each text within it the same however many windows it has."""
    owners = owner_W[rows_W]
    windows_N = np.bincount(owners, minlength=labels_N.size)
    taken_N = windows_N > 0
    count_L = np.array([(labels_N[taken_N] == label).sum() for label in (0, 1)])
    return 0.5 / count_L[labels_N[owners]] / windows_N[owners]
