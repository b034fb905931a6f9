"""RaySafe's attacks against Foolbox, ART, torchattacks and pyautoattack on the same weights, samples and budgets."""

from __future__ import annotations

import pytest
import torch

from tests.bench.attacks import SAMPLES, compare, contests, judged, parts, table, train
from tests.verify.readme import ROOT, publish

PEER = ROOT / ".venv-robust" / "bin" / "python"


@pytest.mark.slow
@pytest.mark.skipif(not PEER.is_file(), reason="no .venv-robust: `make verify` makes it")
def test_attacks_break_what_the_best_peers_break_at_no_more_passes() -> None:
    torch.set_num_threads(1)
    trained = {"plain": train(False, 10), "pgd": train(True, 20)}
    rows = compare(contests() + parts(), str(PEER), trained, SAMPLES)
    print(table(rows))
    missed = [
        f"{row['attack']} on {row['model']}: {what}"
        for row in rows
        for what, reached in judged(row).items()
        if not reached
    ]
    assert not missed
    publish("attacks", table(rows))
