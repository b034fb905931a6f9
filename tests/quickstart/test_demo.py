"""The quickstart end to end, on so little training that its own policy must say no."""

import pytest

from raysafe.errors import NotApproved
from raysafe.oversight.safety_case import load_case
from raysafe.quickstart import demo, jobs, service
from raysafe.quickstart.demo import Quickstart
from raysafe.quickstart.grammar import CorpusSize, write_corpus
from raysafe.quickstart.review import REVIEWER
from raysafe.records.store import open_store
from raysafe.runtime.learner import FitConfig

SMALL = CorpusSize(demonstrations=120, preferences=120, held_out_preferences=30, held_out_prompts=30)


@pytest.mark.ray
@pytest.mark.slow
def test_a_model_that_learned_nothing_is_rejected_by_name_and_never_served(ray_cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "fitting", lambda **fields: FitConfig(max_steps=2, batch_size=8))
    monkeypatch.setattr(demo, "write_corpus", lambda folder, seed: write_corpus(folder, seed, SMALL))
    monkeypatch.setattr(service, "start", lambda *settings: pytest.fail("an unapproved model was served"))
    with pytest.raises(NotApproved, match=r"the demo policy rejected quickstart:1: .*win_rate"):
        Quickstart(storage=str(tmp_path)).run()
    with open_store(f"sqlite:///{tmp_path / 'raysafe.db'}") as store:
        decision = load_case(store, "quickstart").decision
    assert decision is not None and (decision.outcome, decision.reviewer) == ("rejected", REVIEWER)
