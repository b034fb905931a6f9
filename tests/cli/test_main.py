"""The command line: fast help, one sentence and exit code 2 for what is wrong, never a traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from raysafe.cli.job import parse_job
from raysafe.cli.main import COMMANDS, guarded, main
from raysafe.errors import ConfigError


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from raysafe.cli.main import main; main(['--help']); "
        "print([m for m in ('torch', 'ray', 'transformers', 'pydantic', 'tyro') if m in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "[]"
    assert all(name in result.stdout for name in COMMANDS)


def test_a_mistyped_command_gets_the_near_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dop"]) == 2
    assert capsys.readouterr().err == "raysafe: unknown command 'dop'; did you mean 'dpo'?\n"


PREFIX = "model: preset:tiny\ndata: rows.jsonl\n"
BAD_SETTINGS = {
    "unknown field 'beto' in {file}; did you mean 'beta'?": PREFIX + "beto: 0.2\n",
    "beta: Input should be a valid number, unable to parse string as a number, got 'much' ({file})": PREFIX
    + "beta: much\n",
    "beta: Input should be greater than 0, got -1 ({file})": PREFIX + "beta: -1\n",
    "{file} must hold a mapping of fields to values, found a list": "- 1\n",
    "unknown field 'training.learning_rat' in {file}; did you mean 'learning_rate'?": PREFIX
    + "training: {{learning_rat: 0.1}}\n",
}


@pytest.mark.parametrize("message", BAD_SETTINGS)
def test_a_bad_setting_is_one_sentence_with_field_value_and_remedy(
    message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "dpo.yaml"
    file.write_text(BAD_SETTINGS[message].format())
    assert main(["dpo", "--config", str(file)]) == 2
    assert capsys.readouterr().err == f"raysafe: {message.format(file=file)}\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--beta", "-1"], "beta: Input should be greater than 0, got -1.0"),
        (["--label-smoothing", "0.2"], "label_smoothing does nothing in the sigmoid loss, got 0.2"),
        (["--training.gpus-per-worker", "8"], "set gpus_per_worker to 0 or 1 and add workers instead"),
        (["--training.workers", "64"], "can't hold 64 worker(s)"),
        ([], "there is no data file rows.jsonl"),
    ],
)
def test_a_bad_flag_is_one_sentence(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["dpo", "--model", "preset:tiny", "--data", "rows.jsonl", *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("raysafe: ")
    assert message in error
    assert "Traceback" not in error


def test_flags_override_the_file_and_required_fields_come_from_either(tmp_path: Path) -> None:
    from raysafe.alignment.dpo import DPOJob

    file = tmp_path / "dpo.yaml"
    file.write_text("model: preset:tiny\nbeta: 0.3\ntraining: {epochs: 4, learning_rate: 0.01}\n")
    job = parse_job(DPOJob, ["--data", "d.jsonl", "--training.epochs", "2"], str(file))
    assert isinstance(job, DPOJob)
    assert (job.data, job.beta, job.training.epochs, job.training.learning_rate) == ("d.jsonl", 0.3, 2, 0.01)


def test_settings_survive_the_way_through_yaml(tmp_path: Path) -> None:
    from raysafe.alignment.dpo import DPOJob

    job = DPOJob(model="m", data="d", beta=0.25, training={"betas": (0.8, 0.9)})
    (tmp_path / "config.yaml").write_text(job.to_yaml())
    assert DPOJob.load(tmp_path / "config.yaml") == job


def test_settings_are_frozen_and_checked_at_construction() -> None:
    from raysafe.alignment.dpo import DPOJob

    with pytest.raises(ConfigError, match="kind: Input should be 'sigmoid'"):
        DPOJob(model="m", data="d", kind="sigmoidal")
    with pytest.raises(Exception, match="frozen"):
        DPOJob(model="m", data="d").beta = 0.5


def test_sigterm_that_ray_makes_a_system_exit_is_a_stop(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda: sys.exit(signal.SIGTERM)) == 130
    assert capsys.readouterr().err == "raysafe: stopped\n"
