"""From a text or a file to a judge: each form finds its kind, and impossible settings name the field."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path
from typing import Any

import pytest

from raysafe.errors import ConfigError, ModelError
from raysafe.judges import local
from raysafe.judges.judge import Judge
from raysafe.judges.local import LocalJudge
from raysafe.judges.openai_endpoint import OpenAIJudge
from raysafe.judges.scripted import ScriptedJudge
from raysafe.judges.spec import KEY_VARIABLE, JudgeConfig, is_loopback, read_spec
from tests.judges.known import PROMPT

LOCAL = "http://127.0.0.1:8000/v1"


def make_judge() -> Judge:
    return ScriptedJudge(lambda messages: "5", name="made")


def make_nothing() -> None: ...


def twice(messages: list) -> int:
    return 2


@pytest.mark.parametrize(
    ("text", "kind", "model"),
    [
        (f"openai:org/model@rev@{LOCAL}", "openai", "org/model@rev"),
        ("openai:small@https://api.example.org/v1/", "openai", "small"),
        ("tests.judges.known:by_length", "scripted", "tests.judges.known:by_length"),
        ("preset:tiny", "local", "preset:tiny"),
        ("runs/sft-1", "local", "runs/sft-1"),
        ("org/model@rev", "local", "org/model@rev"),
    ],
)
def test_a_text_finds_its_kind(text: str, kind: str, model: str) -> None:
    config = read_spec(text)
    assert (config.kind, config.model) == (kind, model)


def test_a_yaml_file_holds_all_settings(tmp_path: Path) -> None:
    path = tmp_path / "judge.yaml"
    path.write_text(f"kind: openai\nmodel: small\nbase_url: {LOCAL}\nrequests_per_minute: 30\n")
    assert read_spec(str(path)).requests_per_minute == 30


def test_another_machine_needs_the_key_and_this_one_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert read_spec(f"openai:m@{LOCAL}").api_key_env is None
    away = read_spec("openai:m@https://api.example.org/v1")
    with pytest.raises(ConfigError, match=f"{KEY_VARIABLE} is empty"):
        away.build()
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    assert read_spec(f"openai:m@{LOCAL}").api_key_env == KEY_VARIABLE
    assert isinstance(away.build(), OpenAIJudge)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "openai"}, "can't do without base_url"),
        ({"kind": "openai", "base_url": "http://api.example.org/v1"}, "base_url: must be https for another machine"),
        ({"kind": "openai", "base_url": "http://localhost.example.org/v1"}, "must be https"),
        ({"kind": "openai", "base_url": "http://127.0.0.1.example.org/v1"}, "must be https"),
        ({"kind": "openai", "base_url": "ftp://127.0.0.1/v1"}, "must be an http or https URL"),
        ({"kind": "openai", "base_url": LOCAL, "workers": 2}, "workers has no effect on a judge of kind openai"),
        ({"kind": "openai", "base_url": LOCAL, "api_key_env": "not a name"}, "api_key_env"),
        ({"kind": "local", "base_url": LOCAL}, "base_url has no effect on a judge of kind local"),
        ({"kind": "local", "gpus_per_worker": 2}, "gpus_per_worker is at most 1"),
        ({"kind": "scripted", "model": "no-function"}, "model must be module:function"),
        ({"kind": "openai", "base_url": LOCAL, "timout_s": 3}, "unknown field 'timout_s'.*did you mean 'timeout_s'"),
    ],
)
def test_impossible_settings_are_refused_by_name(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        JudgeConfig(**{"model": "m", **settings})


@pytest.mark.parametrize("url", ["https://me:s3cret@host/v1", "https://host/v1?key=s3cret", "https://host/v1#s3cret"])
def test_a_secret_in_the_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigError, match="base_url must hold no user, password") as caught:
        JudgeConfig(kind="openai", model="m", base_url=url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.3.2.1:80/v1", True), ("http://[::1]:8000/v1", True), ("http://localhost/v1", True),
        ("http://0.0.0.0/v1", False), ("http://10.0.0.1/v1", False), ("http://my-localhost/v1", False),
    ],
)  # fmt: skip
def test_loopback_is_this_machine_alone(url: str, here: bool) -> None:
    assert is_loopback(url) == here


@pytest.mark.parametrize("text", ["openai:small", f"openai:@{LOCAL}", "openai:small@nonsense"])
def test_an_incomplete_endpoint_is_explained(text: str) -> None:
    with pytest.raises(ConfigError, match=r"openai:MODEL@URL|must be an http or https URL"):
        read_spec(text)


def test_a_function_or_a_maker_of_judges_is_built() -> None:
    judge = read_spec("tests.judges.known:by_length").build()
    assert isinstance(judge, Judge) and judge.name == "tests.judges.known:by_length"
    assert read_spec(f"{__name__}:make_judge").build().name == "made"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:f", "no module"),
        (f"{__name__}:absent", "no function"),
        (f"{__name__}:make_nothing", "a NoneType"),
    ],
)
def test_what_is_no_judge_is_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_spec(name).build()


def test_a_function_that_returns_no_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="returned 2; it must return the text"):
        asyncio.run(read_spec(f"{__name__}:twice").build().generate([PROMPT]))


@pytest.mark.parametrize("weights", [[1.0], [-1.0, 2.0], [0.0, 0.0], [float("nan"), 1.0]])
def test_weights_that_are_no_distribution_are_refused(weights: list[float]) -> None:
    judge = ScriptedJudge(lambda messages: "A", lambda messages, choices: weights)
    with pytest.raises(ModelError, match="weights of at least 0"):
        asyncio.run(judge.choice_logprobs([PROMPT], ["A", "B"]))


def test_a_local_model_is_loaded_from_a_config_that_can_be_sent() -> None:
    make = pickle.loads(pickle.dumps(read_spec("preset:tiny").load_local))
    assert isinstance(make(), LocalJudge)


def test_a_local_model_is_loaded_as_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(local, "LocalJudge", lambda model, **settings: made.append((model, settings)))
    read_spec("preset:tiny").build()
    JudgeConfig(kind="local", model="preset:tiny", chat_template="plain", batch_tokens=64, gpus_per_worker=0.5).build()
    plain = {"chat_template": "auto", "batch_tokens": 8192, "device": "cpu"}
    assert made == [
        ("preset:tiny", plain),
        ("preset:tiny", {"chat_template": "plain", "batch_tokens": 64, "device": "cuda"}),
    ]
