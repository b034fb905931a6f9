"""The command line of `raysafe submit`: what belongs to the script, what to the cluster, and what is refused."""

from __future__ import annotations

import pytest

from raysafe.cli.main import main
from raysafe.cli.submit import HELP, KNOWN, Submission, read_arguments, read_request
from raysafe.errors import ConfigError


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("job.py --address x", ["--address", "x"]),
        ("job.py -- --address x", ["--address", "x"]),
        ("-- job.py --flag", ["--flag"]),
        ("job.py", []),
        ("job.py -- a -- b", ["a", "--", "b"]),
    ],
)
def test_what_follows_the_script_or_two_dashes_belongs_to_the_script(line: str, arguments: list[str]) -> None:
    assert read_arguments(line.split()) == Submission("job.py", arguments)


def test_flags_of_submit_may_stand_on_either_side_of_the_script_before_two_dashes() -> None:
    asked = Submission("job.py", ["--seed", "1"], "http://a", "w", "/v/python", wait=False)
    line = [
        "--address",
        "http://a",
        "job.py",
        "--working-dir=w",
        "--python=/v/python",
        "--no-wait",
        "--",
        "--seed",
        "1",
    ]
    assert read_arguments(line) == asked


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which script?"),
        (["--adress", "x"], "unknown flag '--adress'"),
        (["--address"], "--address needs a value"),
        (["a.py", "b", "--", "c"], "what is 'b' after a.py?"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_every_flag_is_in_the_help() -> None:
    assert [flag for flag in KNOWN.split(", ") if flag not in HELP] == []


def test_what_the_script_occupies_is_read_from_the_line() -> None:
    line = "--num-cpus 2 --num-gpus=0.5 --memory 2GiB --submission-id a.1 --name x --metadata k=v=w --wait a.py --wait"
    asked = read_arguments([*line.split()])
    assert asked is not None and asked.wait and asked.arguments == ["--wait"]
    request = read_request(asked._replace(resources='{"licence": 1}'))
    assert (request.num_cpus, request.num_gpus, request.memory_bytes) == (2.0, 0.5, 2 << 30)
    assert (request.resources, request.submission_id) == ({"licence": 1.0}, "a.1")
    assert request.metadata == {"k": "v=w", "job_name": "x"}


def test_a_variable_by_its_name_alone_is_taken_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_HERE", "value")
    asked = Submission("a.py", [], env=("OF_HERE", "B=c=d", "E="))
    assert read_request(asked).runtime_env["env_vars"] == {"OF_HERE": "value", "B": "c=d", "E": ""}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"env": ("NOT_SET_ANYWHERE",)}, "--env NOT_SET_ANYWHERE takes the value from here, but"),
        ({"env": ("sk-5173205",)}, "--env wants NAME=VALUE or NAME"),
        ({"num_gpus": "1.5"}, "--num-gpus must be a fraction below 1 or a whole number, got '1.5'"),
        ({"num_cpus": "nan"}, "--num-cpus must be"),
        ({"memory": "2 apples"}, "--memory must be a number of bytes, as 2147483648, 2GiB or 2GB, got '2 apples'"),
        ({"memory": "0"}, "--memory must be"),
        ({"resources": "licence"}, "--resources must be a JSON mapping"),
        ({"resources": '{"GPU": 1}'}, "--resources names GPU, which is --num-gpus's"),
        ({"resources": '{"licence": 0}'}, "--resources licence must be a number above 0, got 0"),
        ({"submission_id": "a/b"}, "--submission-id must be letters"),
        ({"metadata": ("k",)}, "--metadata wants KEY=VALUE"),
        ({"metadata": ('{"k": 1}',)}, "--metadata must map texts to texts"),
    ],
)
def test_a_wrong_request_is_one_sentence(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_request(Submission("a.py", [])._replace(**changes))
    assert message in str(raised.value)
    assert "5173205" not in str(raised.value)
