"""What DPO's learner makes of log-probabilities, by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from raysafe.alignment import dpo
from raysafe.alignment.dpo import DPOBatch, DPOJob, DPOLearner


def test_the_likelihood_of_chosen_answers_is_added_by_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    logps_2B = torch.tensor([-6.0, -9.0, -2.0, -1.0])
    monkeypatch.setattr(dpo, "sequence_logprobs", lambda module, tokens: logps_2B)
    tokens: Any = None
    batch = DPOBatch(tokens, torch.tensor([-5.0, -8.0, -3.0, -4.0]), torch.tensor([3, 7, 4, 9]))
    module: Any = None
    plain, tied = (
        DPOLearner(DPOJob(model="m", data="d", likelihood=weight)).loss(module, batch)[0] for weight in (0.0, 0.5)
    )
    assert float(tied - plain) == pytest.approx(0.5 * (6 / 3 + 2 / 4))
