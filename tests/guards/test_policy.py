"""A policy file becomes a pipeline, or one sentence that names the field and its near field."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from raysafe.errors import ConfigError
from raysafe.guards.policy import Policy, default_policy, load_policy

RULES = [{"name": "r", "phrases": ["a b"]}]


def test_the_packaged_policy_names_its_guards_in_order() -> None:
    pipeline = default_policy().build()
    names = [entry.guard.name for entry in pipeline.entries]
    assert names == ["length", "rate", "harmful-requests", "injection", "jailbreaks", "harmful-answers"]
    assert pipeline.inline


def test_a_policy_file_is_the_same_policy(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(default_policy().to_yaml())
    assert load_policy(path) == default_policy()
    assert load_policy(None) == default_policy()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"guards": [], "recordtext": True}, "unknown field 'recordtext' in p.yaml; did you mean 'record_text'?"),
        (
            {"guards": [{"kind": "length", "input_character": 3}]},
            "unknown field 'input_character' in p.yaml, guards[0]; did you mean 'input_characters'?",
        ),
        (
            {"guards": [{"kind": "patterns", "rules": [{"name": "r", "phrase": ["a"]}]}]},
            "unknown field 'phrase' in p.yaml, guards[0], rules[0]; did you mean 'phrases'?",
        ),
        ({"guards": [{"kind": "pattern"}]}, "unknown kind 'pattern' (p.yaml, guards[0]); did you mean 'patterns'?"),
        ({"guards": [{"rules": RULES}]}, "has no kind (p.yaml, guards[0])"),
        ({"guards": ["patterns"]}, "guards[0] in p.yaml must be a mapping"),
        ({}, "field 'guards' is required in p.yaml"),
        ({"guards": [{"kind": "rate", "requests_per_minute": -1}]}, "requests_per_minute: Input should be greater"),
        (
            {"guards": [{"kind": "patterns", "rules": RULES}, {"kind": "patterns", "rules": RULES}]},
            "two guards are called 'patterns'",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place_and_remedy(values: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Policy.parse(values, "p.yaml")
    assert sentence in str(caught.value)


def test_a_failing_rule_may_be_stated_open() -> None:
    policy = Policy.parse({"guards": [{"kind": "patterns", "rules": RULES, "on_error": "open", "timeout_s": 1}]}, "p")
    entry = policy.build().entries[0]
    assert (entry.on_error, entry.timeout_s) == ("open", 1)


def test_a_file_that_is_not_yaml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("guards: [")
    with pytest.raises(ConfigError, match=r"policy\.yaml is not valid YAML"):
        load_policy(path)


def test_the_example_documents_every_field_it_sets() -> None:
    from importlib.resources import files

    text = files("raysafe.guards").joinpath("policies/default.yaml").read_text()
    assert set(yaml.safe_load(text)) == set(Policy.model_fields)


def test_the_digest_is_that_of_the_settings_and_not_of_the_file() -> None:
    text = "name: p\nguards:\n  - {kind: length, messages: 3}\n"
    same = "# a comment\nguards:\n- kind: length\n  timeout_s: 5.0\n  messages: 3\nname: p\n"
    other = text.replace("3", "4")
    digests = [Policy.from_bytes(each.encode(), "p").digest for each in (text, same, other)]
    assert digests[0] == digests[1] != digests[2]


def test_the_digest_is_the_same_in_every_process() -> None:
    code = "from raysafe.guards.policy import default_policy; print(default_policy().digest)"
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == default_policy().digest


@pytest.mark.parametrize(
    ("version", "label"),
    [("3", "p@3 ("), ("'1.10'", "p@1.10 ("), ("2026-11-26", "p@2026-11-26 ("), ("null", "p (")],
)
def test_the_label_names_the_version_as_it_is_written(version: str, label: str) -> None:
    policy = Policy.from_bytes(f"name: p\nversion: {version}\nguards: []\n".encode(), "p")
    assert policy.label == f"{label}{policy.digest[:8]})"


@pytest.mark.parametrize("version", ["1.10", "true"])
def test_a_version_that_yaml_would_rewrite_must_be_in_quotes(version: str) -> None:
    with pytest.raises(ConfigError, match=r"version: .*put the version in quotes"):
        Policy.from_bytes(f"version: {version}\nguards: []\n".encode(), "p")


def test_what_a_policy_says_of_a_guard_is_in_its_entry() -> None:
    values = {"kind": "length", "messages": 3, "mode": "shadow", "sample": 0.25, "beside": True}
    entry = Policy.parse({"guards": [values]}).build().entries[0]
    assert (entry.mode, entry.sample, entry.beside) == ("shadow", 0.25, True)


def test_a_guard_that_modifies_cannot_run_beside_the_model() -> None:
    guard = {"kind": "patterns", "rules": RULES, "action": "modify", "beside": True}
    with pytest.raises(ConfigError, match="a guard that modifies must have done so before the model is asked"):
        Policy.parse({"guards": [guard]})
    assert Policy.parse({"guards": [{**guard, "mode": "shadow"}]})


def test_a_guard_of_answers_cannot_run_beside_the_model() -> None:
    policy = Policy.parse({"guards": [{"kind": "patterns", "rules": RULES, "stages": ["output"], "beside": True}]})
    with pytest.raises(ConfigError, match="'patterns' reads no requests: beside is for guards of the stage input"):
        policy.build()
