"""Whether starting from another task's model helped: fine-tuned against trained from scratch, pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from raysafe.records.statistics import PairedTest, paired_t

Verdict = Literal["helped", "hurt", "can't tell"]


@dataclass(frozen=True)
class Judgement:
    """What pairs of trainings say of a transfer."""

    verdict: Verdict
    gain: PairedTest
    """Accuracy of the transferred model less that from scratch, with Student's interval over the pairs."""
    confidence: float

    @property
    def sentence(self) -> str:
        gain = self.gain
        said = {
            "helped": "Transfer helped",
            "hurt": "Transfer hurt (negative transfer)",
            "can't tell": "Whether transfer helped can't be told",
        }
        return (
            f"{said[self.verdict]}: on the same rows and budget, accuracy on the target is {gain.difference:+.4f} "
            f"against training from scratch, {self.confidence:.0%} interval {gain.low:+.4f} to {gain.high:+.4f} over "
            f"{gain.n} pairs of trainings (p = {gain.p_value:.2g}, {gain.method})."
        )


def judge(transferred: Sequence[float], scratch: Sequence[float], confidence: float = 0.95) -> Judgement:
    """The verdict on accuracies of pairs that share their split; a whole interval on one side of 0 decides."""
    gain = paired_t(transferred, scratch, confidence)
    verdict: Verdict = "helped" if gain.low > 0 else "hurt" if gain.high < 0 else "can't tell"
    return Judgement(verdict, gain, confidence)
