"""A text classifier that knows what it doesn't know: it answers only where no replacing of a few words would change it.

- kind: certified
  classifier: jailbreak
  threshold: 0.6
  words: 2

The majority vote of a classifier over texts with most words masked (models/smoothed_text.py); where neither side is
certified it abstains, and the exchange is held. A text of two words has no certificate, and is held as well.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from raysafe.errors import ConfigError, ModelError
from raysafe.guards.guard import Action, Exchange, Stage, Verdict
from raysafe.guards.settings import NOTHING, GuardConfig, Resources, only
from raysafe.models.smoothed import check_samples
from raysafe.models.smoothed_text import MaskedVote, Votes
from raysafe.runtime.functions import is_function, load_function

Scores = Callable[[Sequence[str]], Sequence[float]]
"""Texts to a score of each, from 0 to 1."""


class CertifiedConfig(GuardConfig):
    """`kind: certified` of a policy."""

    tighter: ClassVar = {**GuardConfig.tighter, "abstain": only("block")}

    kind: Literal["certified"] = "certified"
    name: str = Field(default="certified", min_length=1)
    timeout_s: float = Field(default=30.0, gt=0, description="A check that takes longer counts as failed.")
    stages: frozenset[Literal["input", "output"]] = Field(default=frozenset({"input", "output"}), min_length=1)
    classifier: str = Field(
        min_length=1,
        description="module:function (texts to scores from 0 to 1), or a linear model: a folder or a packaged one.",
    )
    threshold: float = Field(
        default=0.5, gt=0, le=1, description="Score from which a masked text's vote goes against it."
    )
    words: int = Field(
        default=1, ge=0, description="A decision must hold however so many of the words are replaced, else it abstains."
    )
    keep: float = Field(default=0.3, gt=0, lt=1, description="Share of the words that a masked text keeps.")
    mask: str = Field(default="", description="What stands for a masked word; nothing by default.")
    selection: int = Field(default=50, ge=1, description="Masked texts that choose the side.")
    samples: int = Field(default=500, ge=1, description="Masked texts that bound its probability.")
    alpha: float = Field(default=0.01, gt=0, lt=1, description="Probability that a certificate is wrong.")
    action: Literal["block", "hold"] = Field(default="block", description="On a text that is certified to be harmful.")
    abstain: Literal["block", "hold", "allow"] = Field(default="hold", description="On a text without a certificate.")

    @model_validator(mode="after")
    def _samples_suffice(self) -> Self:
        try:
            check_samples(self.selection, self.samples, self.alpha)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    def build(self, resources: Resources = NOTHING) -> CertifiedGuard:
        return CertifiedGuard(self, load_scores(self.classifier))


class CertifiedGuard:
    """The votes are drawn by a key that nobody outside knows: else a text could be chosen to be lucky in its draws."""

    inline = False

    def __init__(self, config: CertifiedConfig, scores: Scores, key: bytes | None = None) -> None:
        self.config = config
        self.name = config.name
        self.stages: frozenset[Stage] = frozenset(config.stages)
        self._key = secrets.token_bytes(32) if key is None else key
        votes = _votes(scores, config.threshold, config.classifier)
        self._vote = MaskedVote(votes, keep=config.keep, mask=config.mask)

    def check(self, exchange: Exchange, stage: Stage) -> Verdict:
        """All of the stage's texts as one. Raises ModelError where the classifier's scores are none."""
        config, text = self.config, "\n".join(exchange.texts(stage))
        seed = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=self._key, digest_size=16).digest()
        rng = np.random.default_rng(int.from_bytes(seed, "big"))
        found = self._vote.certify(
            text, rng=rng, selection=config.selection, samples=config.samples, alpha=config.alpha
        )
        if not found.of:
            return Verdict(self.name, stage, "allow")
        if found.label is None or found.words < config.words:
            sure = "neither side has a majority" if found.label is None else f"certified for {found.words} words only"
            return self._verdict(
                stage, config.abstain, f"abstains: {sure} of {found.of}, {config.words} asked for", 0.5
            )
        score = found.p_low if found.label else 1 - found.p_low
        if not found.label:
            return Verdict(self.name, stage, "allow", score=score)
        reason = f"harmful, whichever {found.words} of {found.of} words are replaced"
        return self._verdict(stage, config.action, reason, score)

    def _verdict(self, stage: Stage, action: Action, reason: str, score: float) -> Verdict:
        return Verdict(self.name, stage, action, reason, score)


def load_scores(classifier: str) -> Scores:
    """The function that module:function names, or a linear model's scores; raises RaySafeError."""
    if is_function(classifier):
        return load_function(classifier, "classifier")
    from raysafe.guards.linear_model import load_linear

    model = load_linear(classifier)
    return lambda texts: [model.score(text) for text in texts]


def _votes(scores: Scores, threshold: float, name: str) -> Votes:
    def votes(texts: Sequence[str]) -> np.ndarray:
        found_N = np.asarray(scores(texts), dtype=np.float64)
        if found_N.shape != (len(texts),) or not ((found_N >= 0) & (found_N <= 1)).all():
            raise ModelError(f"the classifier {name} must give each of {len(texts)} texts a score from 0 to 1")
        return (found_N >= threshold).astype(np.int64)

    return votes
