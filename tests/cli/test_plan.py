"""`raysafe plan`: what it prints is what the jobs take, and what doesn't fit is an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from raysafe.alignment.grpo import GRPOJob
from raysafe.alignment.ppo import PPOJob
from raysafe.alignment.sft import SFTJob
from raysafe.cli.main import guarded
from raysafe.cli.plan import main
from raysafe.errors import ConfigError

FITS = ("--model", "1B", "--gpus", "8x80GB")


def planned(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert guarded(lambda: main([*arguments])) == code
    return capsys.readouterr().out


def facts(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    return json.loads(planned(capsys, *arguments, "--json", code=code))


def printed_settings(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.split("\n\n")[-1])


@pytest.mark.parametrize("placement", ["colocated", "split"])
@pytest.mark.parametrize(("job", "kind"), [("grpo", GRPOJob), ("ppo", PPOJob)])
@pytest.mark.parametrize("reward", ["1B", "none"])
def test_the_printed_settings_are_settings_of_the_job(
    capsys: pytest.CaptureFixture[str], placement: str, job: str, kind: Any, reward: str
) -> None:
    text = planned(capsys, *FITS, "--job", job, "--placement", placement, "--reward", reward, "--lora", "8")
    printed = printed_settings(text)
    made = kind.parse({"model": "m", "data": "d", "rewards": ["check:exact"]} | printed)
    assert made.placement == placement
    pools = {name: pool for name, (pool, _) in made.role_pools.items()}
    assert set(pools) == set(printed["pools"])
    assert sum(pool.workers * pool.gpus for pool in pools.values()) == 8


def test_the_printed_settings_of_a_training_are_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    printed = printed_settings(planned(capsys, *FITS, "--job", "sft", "--checkpointing", "--cpus", "6"))
    training = SFTJob.parse({"model": "m", "data": "d"} | printed).training
    assert (training.workers, training.gpus_per_worker, training.cpus_per_worker) == (8, 1, 6)
    assert training.activation_checkpointing


def test_two_nodes_are_filled_evenly(capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, "--model", "1B", "--gpus", "2x8x80GB")
    assert found["settings"]["pools"]["all"] == {"workers": 16, "cpus": 4, "gpus": 1, "nodes": 2}


def test_what_does_not_fit_is_said_with_what_would_and_ends_in_1(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--model", "7B", "--gpus", "8x40GB", "--job", "sft", "--sharding", "ddp")
    text = planned(capsys, *arguments, code=1)
    assert "won't fit: policy takes 1" in text and "of which 53.9 GB are gradients" in text
    assert "would fit: " in text and "--sharding fsdp" in text
    found = facts(capsys, *arguments, code=1)
    assert not found["fits"] and found["settings"] is None and found["remedies"]


def test_what_fits_nowhere_names_the_gpu_that_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    text = planned(capsys, "--model", "70B", "--gpus", "80GB", "--job", "serve", code=1)
    assert "won't fit: replica takes" in text and "it takes GPUs of 1" in text


def test_figures_of_a_preset_are_those_of_its_config(capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, "--model", "preset:small", "--gpus", "1x1GB", "--job", "sft", "--precision", "fp32")
    assert found["shape"] == {"name": "preset:small", "parameters": 2968576}
    (policy,) = found["roles"]
    assert policy["bytes_per_gpu"]["weights"] == 4 * 2968576
    assert policy["bytes_per_gpu"]["optimiser"] == 8 * 2968576
    assert found["measured"] is False


def test_the_help_says_how_far_its_figures_were_borne_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert "one model on one GPU has borne them out" in " ".join(planned(capsys, "--help").replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "1B", "--gpus", "8"), "--gpus must be as 80GB, 8x80GB"),
        (("--model", "13B", "--gpus", "80GB"), "no shape is known for the size 13B"),
        (("--model", "no/such/folder", "--gpus", "80GB"), "there is no model folder no/such/folder"),
        ((*FITS, "--context", "0"), "context: Input should be greater than or equal to 1, got 0"),
    ],
)
def test_bad_input_is_one_sentence_and_ends_in_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert guarded(lambda: main([*arguments])) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_settings_that_the_job_would_refuse_are_not_printed_by_accident() -> None:
    """The control of the test above: a pool that the placement doesn't have is refused by the job."""
    with pytest.raises(ConfigError, match="there is no pool 'policy' when colocated"):
        GRPOJob.parse(
            {"model": "m", "data": "d", "rewards": ["check:exact"], "placement": "colocated"}
            | {"pools": {"policy": {"workers": 1}}}
        )
