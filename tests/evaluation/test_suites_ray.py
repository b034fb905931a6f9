"""Each suite from its settings to evidence in the run and in the store, on a model that nobody trained."""

import json

import pytest

from raysafe.errors import ConfigError, DataError
from raysafe.evaluation.job import ROWS, EvaluateJob
from raysafe.evaluation.rewards import Scorer
from raysafe.models.heads import RewardModel, save_reward_model
from raysafe.models.language import load_policy, load_tokenizer, save_policy
from raysafe.records.registry import Registry
from raysafe.records.store import open_store

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An untrained policy, an untrained reward model, prompts and pairs."""
    folder = tmp_path_factory.mktemp("evaluate")
    save_policy(load_policy("preset:tiny"), load_tokenizer("preset:tiny"), folder / "policy")
    save_reward_model(RewardModel.from_policy("preset:tiny"), load_tokenizer("preset:tiny"), folder / "reward")
    prompts = [{"prompt": f"question {i}?", "label": "harmful" if i % 2 else "benign"} for i in range(6)]
    pairs = [{"prompt": f"question {i}?", "chosen": f"answer {i}", "rejected": f"{i} no answer"} for i in range(30)]
    for name, rows in (("prompts", prompts), ("pairs", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def settings(folder, **fields):
    return {"storage": str(folder / "runs"), "store": f"sqlite:///{folder / 'store.db'}", **fields}


def test_safety_prompts_leave_evidence_cases_and_a_report(ray_cluster, folder):
    job = EvaluateJob(
        **settings(folder, model=str(folder / "policy"), suite="safety-prompts", data=str(folder / "prompts.jsonl")),
        max_new_tokens=8,
        temperature=1.0,
        thresholds={"unsafe_rate": 0.1},
    )
    with open_store(job.store) as store:
        version, _ = Registry(store).register(folder / "policy", name="untrained")
    run = job.run()
    found = {item.metric: item for item in run.evidence}
    assert run.status == "finished"
    assert found["unsafe_rate"].n == 3 and found["unsafe_rate"].passed is False
    assert len(run.folder.read(ROWS).splitlines()) == 6
    assert b"unsafe_rate" in run.folder.read("report.html")
    with open_store(job.store) as store:
        assert [e.metric for e in Registry(store).evidence(version)] == [e.metric for e in run.evidence]


def test_a_policy_that_is_its_own_reference_ties_everywhere(ray_cluster, folder):
    # the control: no training, no preference
    policy = str(folder / "policy")
    run = EvaluateJob(
        **settings(
            folder, model=policy, reference=policy, suite="preference-accuracy", data=str(folder / "pairs.jsonl")
        )
    ).run()
    found = {item.metric: item.value for item in run.evidence}
    assert found["accuracy"] == 0.5 and found["tied"] == 1.0


@pytest.mark.slow
def test_packed_and_padded_pairs_give_the_same_implicit_rewards(ray_cluster, folder):
    rows = {}
    for layout in ({}, {"pack": False, "share_prompt": False, "completion_logits": False}):
        run = EvaluateJob.parse(
            settings(
                folder,
                model=str(folder / "policy"),
                reference="preset:tiny",
                suite="preference-accuracy",
                data=str(folder / "pairs.jsonl"),
                layout=layout,
            )
        ).run()
        rows[bool(layout)] = [json.loads(line)["reward of chosen"] for line in run.folder.read(ROWS).splitlines()]
    assert rows[True] == pytest.approx(rows[False], abs=1e-4)


def test_a_reward_model_scores_pairs_as_it_does_alone(ray_cluster, folder):
    run = EvaluateJob(
        **settings(folder, model=str(folder / "reward"), suite="preference-accuracy", data=str(folder / "pairs.jsonl"))
    ).run()
    case = json.loads(run.folder.read(ROWS).splitlines()[3])
    import pyarrow as pa

    table = pa.table({"prompt": [[{"role": "user", "content": "question 3?"}]], "completion": ["answer 3"]})
    alone = Scorer(str(folder / "reward"), "auto", 4096, 0)(table)["reward"].to_pylist()[0]
    assert case["reward of chosen"] == pytest.approx(alone, abs=1e-5)


def test_a_model_against_itself_wins_half(ray_cluster, folder):
    policy = str(folder / "policy")
    run = EvaluateJob(
        **settings(folder, model=policy, reference=policy, suite="win-rate", data=str(folder / "prompts.jsonl")),
        judge=str(folder / "reward"),
        max_new_tokens=8,
    ).run()
    assert {item.metric: item.value for item in run.evidence}["win_rate"] == 0.5


def test_a_policy_without_a_reference_is_refused_with_the_remedy(folder):
    job = EvaluateJob(
        **settings(folder, model=str(folder / "policy"), suite="preference-accuracy", data=str(folder / "pairs.jsonl"))
    )
    with pytest.raises(ConfigError, match="is a policy: set reference"):
        job.run()


def test_prompts_without_labels_are_refused(ray_cluster, folder):
    (folder / "bare.jsonl").write_text('{"prompt": "hello"}\n')
    job = EvaluateJob(
        **settings(folder, model=str(folder / "policy"), suite="safety-prompts", data=str(folder / "bare.jsonl"))
    )
    with pytest.raises(DataError, match="row 1: label is None"):
        job.run()
