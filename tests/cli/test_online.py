"""`raysafe ppo` and `raysafe grpo`: what can't go together is one sentence and exit code 2 before a process starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForSequenceClassification, LlamaConfig

from raysafe.alignment.grpo import GRPOJob
from raysafe.alignment.online import OnlineJob
from raysafe.alignment.ppo import PPOJob
from raysafe.cli.job import parse_job, show_result
from raysafe.cli.main import main
from raysafe.models.heads import RewardModel, save_reward_model
from raysafe.models.language import save_policy
from raysafe.models.presets import Preset, byte_tokenizer, make_policy, train_tokenizer
from raysafe.runtime import cluster
from raysafe.runtime.cluster import Node
from raysafe.runtime.progress import Progress
from raysafe.runtime.run import Run
from raysafe.runtime.supervisor import Supervisor

ROOT = Path(__file__).parents[2]
SHAPE = Preset(layers=1, width=8, heads=2, key_value_heads=2, feedforward=16, context=64)
REWARD = "tests.alignment.online_rewards:digits"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models: policies of 64 and 32 tokens, rewards like them, and some that fit nothing."""
    folder, tokenizer = tmp_path_factory.mktemp("models"), byte_tokenizer()
    save_policy(make_policy(SHAPE, tokenizer), tokenizer, folder / "policy")
    save_policy(make_policy(SHAPE.model_copy(update={"context": 32}), tokenizer), tokenizer, folder / "short")
    words = train_tokenizer(["some words and more words"], 270)
    save_policy(make_policy(SHAPE, words), words, folder / "words")
    for name, start in (("reward", "policy"), ("short-reward", "short"), ("words-reward", "words")):
        model = RewardModel.from_policy(str(folder / start))
        save_reward_model(model, words if start == "words" else tokenizer, folder / name)
    config: Any = LlamaConfig(vocab_size=259, hidden_size=8, intermediate_size=8, num_attention_heads=2)
    config.num_hidden_layers, config.num_labels = 1, 2
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder / "two-heads")
    tokenizer.save_pretrained(folder / "two-heads")
    save_policy(make_policy(SHAPE, tokenizer), words, folder / "mixed-up")
    return folder


@pytest.fixture(autouse=True)
def here(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with prompts, on a machine of two CPUs, in which no process may be started."""
    rows = [{"prompt": f"say {i}", "label": str(i)} for i in range(40)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for model in models.iterdir():
        (tmp_path / model.name).symlink_to(model)

    def enter(supervisor: Supervisor) -> None:
        raise AssertionError("processes were about to start")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster, "_offered", lambda _: ([Node("this machine", 2, 0, labels={})], "this machine"))
    monkeypatch.setattr(Supervisor, "__enter__", enter)
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *flags: str, job: str = "ppo") -> str:
    """What a command that is refused says, in a line; flags given twice count the last time."""
    base = {"--model": "policy", "--data": "prompts.jsonl", "--max-tokens": "8", "--validation-fraction": "0.3"}
    given = [part for name, value in base.items() if name not in flags for part in (name, value)]
    rewards = [] if "--rewards" in flags else ["--rewards", REWARD]
    assert main([job, *given, *rewards, *flags]) == 2
    said = capsys.readouterr().err
    assert said.startswith("raysafe: ") and "Traceback" not in said
    return said.removeprefix("raysafe: ").rstrip("\n")


BEFORE = [
    (["--workers", "64"], "this machine can't hold 64 worker(s) of 1 CPUs and 0 GPUs each: lower workers"),
    (["--gpus-per-worker", "1"], "this machine can't hold 1 worker(s) of 1 CPUs and 1 GPUs each: lower workers"),
    (["--placement", "split"], "this machine can't hold pool 'rollout', 1 worker(s) of 1 CPUs and 0 GPUs each, beside"),
    (["--rewards", "two-heads"], "two-heads has a head of 2 scores; a reward model has one"),
    (["--rewards", "policy"], "policy is no reward model but a LlamaForCausalLM: train one first"),
    (["--rewards", "preset:tiny"], "preset:tiny is made from a config and has no folder: train it first"),
    (["--rewards", "no/such/folder"], "there is no model folder no/such/folder: give a model folder, a finished run"),
    (["--rewards", "tests.alignment.online_rewards:digit"], "rewards: module 'tests.alignment.online_rewards' has no"),
    (["--rewards", "no_such_module:score"], "rewards: there is no module 'no_such_module' for 'no_such_module:score'"),
    (["--rewards", "check:spelling"], "rewards: there is no check 'spelling'; choose one of exact, contains"),
    (["--rewards", "feedback:file"], "rewards: there is no file file: export one with `raysafe feedback export`"),
    (["--gold", "two-heads"], "two-heads has a head of 2 scores; a reward model has one"),
    (["--rewards", "reward", "--ensemble", "minimum"], "reward is a single reward model, which has no minimum over"),
    (["--rewards", "short-reward"], "takes 32 tokens, but a prompt with its answer may have 64: set max_length to 32"),
    (
        ["--rewards", "short-reward", "--reward-sees", "answer", "--max-tokens", "40"],
        "takes 32 tokens, but an answer may have 40: set max_tokens to 32 or less",
    ),
    (["--model", "reward"], "model: reward is a reward model, not a policy: give the model that it scores"),
    (["--model", "mixed-up"], "tokenizer and model don't belong together: the tokenizer has 270 tokens, the model 259"),
    (["--reference", "reward"], "reference: reward is a reward model, not a policy: give the model that it scores"),
    (["--reference", "words"], "reference words and the policy policy have different tokenizers (270 and 259 tokens)"),
    (["--reference", "short"], "reference short takes 32 tokens, but a prompt with its answer may have 64"),
    (["--critic", "words"], "critic words and the policy policy have different tokenizers (270 and 259 tokens): start"),
    (["--critic", "short"], "critic short takes 32 tokens, but a prompt with its answer may have 64: set max_length"),
    (["--max-length", "65"], "max_length 65 exceeds the context of policy, which is 64 tokens: set max_length to 64"),
    (["--pools.policy.workers", "2"], "pools has no flag: set it in the --config file"),
    (["--pools", "x"], "pools has no flag: set it in the --config file"),
    (["--lora.targets", "embed_tokens"], "can't put adapters on embed_tokens of LlamaForCausalLM (an embedding, not a"),
    (["--lora.targets", "lm_head"], "can't put adapters on lm_head of LlamaForCausalLM (it shares its weights with"),
    (
        ["--lora.targets", "wq"],
        "can't put adapters on wq of LlamaForCausalLM (there is no such layer): choose lora.targ",
    ),
]


@pytest.mark.parametrize(("flags", "message"), BEFORE, ids=[" ".join(flags) for flags, _ in BEFORE])
def test_what_does_not_go_together_is_a_sentence_and_leaves_no_run(
    flags: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = told(capsys, *flags)
    # what can't be held has a table of asked and offered below its sentence
    assert message in said and (said.count("\n") == 0 or "can't hold" in said)
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    ("pools", "message"),
    [
        ("{policy+critic: {}, rollout: {}, reference+judge: {}}", "'judge' is no role; roles: policy, critic, rollout"),
        ("{policy+critic: {}, rollout: {}, reference: {}}", "'reward' is missing or there twice; roles: policy"),
        ("{policy+critic: {workers: 3}, rollout: {}, reference+reward: {}}", "this machine can't hold pool"),
        (
            "{policy+critic: {gpus: 0.5}, rollout: {cpus: 0.1}, reference+reward: {cpus: 0.1}}",
            "can't hold pool 'policy",
        ),
        (
            "{policy+critic: {wrkers: 1}, rollout: {}, reference+reward: {}}",
            "unknown field 'pools.policy+critic.wrkers' in job.yaml",
        ),
    ],
)
def test_pools_that_can_not_be_are_a_sentence_and_leave_no_run(
    pools: str, message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "job.yaml").write_text(f"placement: mixed\npools: {pools}\n")
    assert message in told(capsys, "--config", "job.yaml")
    assert not (here / "runs").exists()


def test_a_reward_model_with_another_tokenizer_is_no_error_for_it_reads_texts(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AssertionError, match="processes were about to start"):
        told(capsys, "--rewards", "words-reward")


DATA = [
    (
        ["--max-tokens", "60"],
        None,
        "prompts leave no room for an answer of 60 tokens within 64 (first: row prompts.jso",
    ),
    (
        ["--rewards", "check:exact"],
        {"prompt": "say what", "label": None},
        "check:exact needs a label in every row of the prompts, row prompts.jsonl:2 has none: add 'label'",
    ),
    (
        ["--gold", "check:number"],
        {"prompt": "say what", "label": "twelve"},
        "row prompts.jsonl:2: check:number needs a number as the prompt's label, got 'twelve'",
    ),
    (
        ["--rewards", "check:regex"],
        {"prompt": "say what", "label": "("},
        "row prompts.jsonl:2: check:regex needs a regular expression as the label, got '('",
    ),
    ([], {"prompt": 3}, "prompts.jsonl:2"),
    (
        ["--max-tokens", "60", "--too-long", "drop"],
        None,
        "no train prompts are left of prompts.jsonl, 30 were too long: change validation_fraction, or add prompts",
    ),
    (["--validation-fraction", "0.0001"], None, "no validation prompts are left of prompts.jsonl: change validation_f"),
]


@pytest.mark.parametrize(("flags", "row", "message"), DATA, ids=[" ".join(flags) or "bad row" for flags, _, _ in DATA])
def test_prompts_that_can_not_be_used_are_named_by_their_row_before_a_process_starts(
    flags: list[str], row: dict[str, Any] | None, message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if row is not None:
        rows = (here / "prompts.jsonl").read_text().splitlines()
        (here / "prompts.jsonl").write_text("\n".join([rows[0], json.dumps(row), *rows[2:]]))
    said = told(capsys, *flags, job="grpo")
    assert message in said and "\n" not in said
    (folder,) = (here / "runs").iterdir()
    failed = Run.open(folder)
    assert failed.status == "failed"
    assert failed.events[-1]["error"].endswith(said)


@pytest.mark.parametrize(("job", "own"), [(PPOJob, "--critic-learning-rate"), (GRPOJob, "--kind")])
def test_help_explains_the_flags_and_names_a_preset_that_there_is(
    job: type[OnlineJob], own: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([job.job, "--help"]) == 0
    shown = capsys.readouterr().out
    preset = f"jobs/presets/{job.job}_tiny.yaml"
    assert own in shown and "--watch.max-kl" in shown and f"raysafe {job.job} --config {preset}" in shown
    assert parse_job(job, [], str(ROOT / preset)).model_dump()["rewards"] == ("jobs.tasks.letters:share",)


def finished(folder: Path) -> Run:
    run = Run.create(PPOJob(model="policy", data="prompts.jsonl", rewards=(REWARD,), storage=str(folder)))
    run.log(0, {"validation/reward": 0.25, "validation/gold": 0.125, "validation/kl": 0.0})
    run.log(1, {"reward": 0.5, "gold": 0.0625, "kl": 0.01, "loss": 0.001, "tokens_per_s": 900.0})
    run.event("stopped-early", step=1, why="KL is 0.200 nats a token, watch.max_kl is 0.1", best_step=0)
    run.event("rolled-back", step=0)
    return run


def test_the_result_of_a_run_says_what_was_rewarded_and_which_step_the_model_is_of(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished(here / "runs")
    show_result(run)
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    figures = {"reward 0.5", "gold 0.0625", "kl 0.01", "validation/reward 0.25", "validation/gold 0.125"}
    assert figures <= set(shown)
    assert "early step 1: KL is 0.200 nats a token, watch.max_kl is 0.1" in shown
    assert "model of step 0, the best by validation" in shown
    assert not [line for line in shown if line.startswith("next")]


def test_the_bar_shows_rewards_instead_of_the_loss(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = finished(here / "runs")
    with Progress(run, "ppo") as progress:
        for row in run.metrics:
            progress.show(row["step"], 1, row)
    said = capfd.readouterr().err
    assert (
        said
        == "ppo: step 1 of 1  reward 0.5  kl 0.01  validation/reward 0.25  validation/gold 0.125  tokens_per_s 900\n"
    )


def test_a_reward_models_bar_shows_its_loss_and_not_its_mean_reward(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = finished(here / "runs")
    with Progress(run, "reward-model") as progress:
        progress.show(1, 1, {"loss": 0.5, "accuracy": 0.75, "reward": -2.0, "validation/reward": -1.0})
    assert capfd.readouterr().err == "reward-model: step 1 of 1  loss 0.5  accuracy 0.75\n"
