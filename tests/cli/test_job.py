"""Flags of jobs: whatever is wrong with them is one sentence and exit code 2, and inner settings have flags."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from raysafe.alignment.dpo import DPOJob
from raysafe.cli.job import parse_job
from raysafe.cli.main import main
from raysafe.errors import ConfigError
from raysafe.rl.job import RLJob

GIVEN = ["--model", "preset:tiny", "--data", "rows.jsonl"]
BAD_FLAGS = [
    (["--bta", "1"], "unknown flag '--bta'; did you mean '--beta'?"),
    (["--training.epoch=1"], "unknown flag '--training.epoch'; did you mean '--training.epochs'?"),
    (["--learning-rate", "1"], "unknown flag '--learning-rate'; did you mean '--training.learning-rate'?"),
    (["--lora.rnk", "8"], "unknown flag '--lora.rnk'; did you mean '--lora.rank'?"),
    (["--cofnig", "a.yaml"], "unknown flag '--cofnig'; did you mean '--config'?"),
    (["--zzzz"], "unknown flag '--zzzz'; --help lists the flags"),
    (["stray"], "unexpected argument 'stray'; --help lists the flags"),
    (["--skip-bad-rows", "yes"], "unexpected argument 'yes' after --skip-bad-rows; --help lists the flags"),
    (["--beta", "much"], "--beta must be a number, got 'much' (the command line)"),
    (["--seed=1.5"], "--seed must be a whole number, got '1.5' (the command line)"),
    (["--training.clip-norm", "x"], "--training.clip-norm must be a number or None, got 'x' (the command line)"),
    (["--beta"], "--beta needs a value (the command line)"),
    (["--training.betas", "0.1"], "--training.betas needs 2 values (the command line)"),
    (["--too-long", "x"], "--too-long must be one of error, drop, truncate-prompt, got 'x' (the command line)"),
    (
        ["--training.epochs", "0"],
        "training.epochs: Input should be greater than or equal to 1, got 0 (the command line)",
    ),
    (["--lora.rank", "0"], "lora.rank: Input should be greater than or equal to 1, got 0 (the command line)"),
    (["--beta", "-1"], "beta: Input should be greater than 0, got -1.0 (the command line)"),
    (
        ["--training.gpus-per-worker", "8"],
        "training: a training worker drives one GPU: set gpus_per_worker to 0 or 1 and add workers instead "
        "(the command line)",
    ),
]


@pytest.mark.parametrize(("flags", "message"), BAD_FLAGS, ids=[" ".join(flags) for flags, _ in BAD_FLAGS])
def test_a_bad_flag_is_one_sentence_that_names_it(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dpo", *GIVEN, *flags]) == 2
    assert capsys.readouterr().err == f"raysafe: {message}\n"


@pytest.mark.parametrize(
    ("flags", "named"), [(GIVEN[:2], "--data is required"), ([], "--model and --data are required")]
)
def test_required_fields_that_are_missing_are_named(
    flags: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dpo", *flags]) == 2
    assert capsys.readouterr().err == f"raysafe: {named}: give a flag or set it in the --config file\n"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_sentence_does_not_depend_on_how_tyro_draws_its_box(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    with pytest.raises(ConfigError, match=r"^--beta must be a number, got 'much'"):
        parse_job(DPOJob, [*GIVEN, "--beta", "much"], None)
    with pytest.raises(ConfigError, match=r"^unknown flag '--bta'; did you mean '--beta'"):
        parse_job(DPOJob, [*GIVEN, "--bta", "much"], None)
    with pytest.raises(ConfigError, match=r"^--model and --data are required"):
        parse_job(DPOJob, [], None)


def test_a_mistyped_required_flag_is_not_reported_as_missing() -> None:
    with pytest.raises(ConfigError, match="unknown flag '--modl'; did you mean '--model'"):
        parse_job(DPOJob, ["--modl", "preset:tiny", "--data", "rows.jsonl"], None)


def test_help_lists_every_flag_and_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dpo", "--help"]) == 0
    shown = capsys.readouterr()
    assert "--training.learning-rate" in shown.out
    assert shown.err == ""


def test_low_rank_adapters_have_flags(tmp_path: Path) -> None:
    job = parse_job(DPOJob, [*GIVEN, "--lora.rank", "8"], None)
    assert isinstance(job, DPOJob)
    assert job.lora is not None
    assert (job.lora.rank, job.lora.alpha) == (8, 32.0)
    file = tmp_path / "dpo.yaml"
    file.write_text("lora: {rank: 4, alpha: 7}\n")
    job = parse_job(DPOJob, [*GIVEN, "--lora.rank", "8"], str(file))
    assert isinstance(job, DPOJob)
    assert job.lora is not None
    assert (job.lora.rank, job.lora.alpha) == (8, 7.0)
    plain = parse_job(DPOJob, GIVEN, None)
    assert isinstance(plain, DPOJob)
    assert plain.lora is None


def test_entries_of_an_environments_settings_have_flags_over_those_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("job: rl\nenv: raysafe/SideEffects-v0\nenv_config: {level: big, waves: 1}\n")
    job = parse_job(RLJob, ["--env_config.waves", "0.5", "--env-config.record=null"], str(file))
    assert isinstance(job, RLJob)
    assert job.env_config == {"level": "big", "waves": 0.5, "record": None}
    with pytest.raises(ConfigError, match=r"--env_config\.waves needs a name and a value"):
        parse_job(RLJob, ["--env_config.waves"], str(file))
    with pytest.raises(ConfigError, match=r"must be a value as YAML has it, got '\['"):
        parse_job(RLJob, ["--env_config.waves", "["], str(file))


def test_settings_that_clash_name_the_file_and_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "dpo.yaml"
    file.write_text("test_fraction: 0.6\n")
    with pytest.raises(ConfigError) as raised:
        parse_job(DPOJob, [*GIVEN, "--validation-fraction", "0.4"], str(file))
    assert str(raised.value).endswith(f"({file} and the command line)")


def test_a_config_file_that_is_not_utf8_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "dpo.yaml"
    file.write_bytes(b"name: caf\xe9\n")
    assert main(["dpo", "--config", str(file)]) == 2
    assert capsys.readouterr().err == f"raysafe: config file {file} is not UTF-8 (byte 9): save it as UTF-8\n"


@pytest.mark.parametrize(
    ("text", "place"),
    [("1: 2\n", "1"), ("training: {true: 2}\n", "True in training"), ("a: [{b: {null: 1}}]\n", "None in a.b")],
)
def test_a_key_that_is_not_text_is_one_sentence_at_any_depth(
    text: str, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "dpo.yaml"
    file.write_text(text)
    assert main(["dpo", "--config", str(file)]) == 2
    message = f"raysafe: {file} has the key {place}, which is not text: fields are named by text\n"
    assert capsys.readouterr().err == message
