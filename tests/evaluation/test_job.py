"""Impossible evaluations fail at construction, in a sentence."""

from types import SimpleNamespace

import pytest

from raysafe.errors import ConfigError, DataError
from raysafe.evaluation.job import EvaluateJob
from raysafe.evaluation.safety_prompts import figures
from raysafe.evaluation.suites import SUITES, Findings

BASE = {"model": "m", "data": "d.jsonl"}


def test_a_setting_that_the_suite_does_not_read_is_an_error():
    with pytest.raises(ConfigError, match="judge has no effect in suite safety-prompts"):
        EvaluateJob.parse({**BASE, "suite": "safety-prompts", "judge": "a:b"})


def test_a_default_that_a_yaml_file_repeats_is_no_error():
    assert EvaluateJob.parse({**BASE, "suite": "preference-accuracy", "temperature": 0.0}).temperature == 0


def test_a_suite_says_what_it_needs():
    with pytest.raises(ConfigError, match="suite win-rate can't do without judge and reference"):
        EvaluateJob.parse({**BASE, "suite": "win-rate"})


def test_a_threshold_on_an_unknown_metric_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"names unsafe, which .* has neither_rate, over_refusal_rate, unsafe_rate"):
        EvaluateJob.parse({**BASE, "suite": "safety-prompts", "thresholds": {"unsafe": 0.1}})


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_has_its_function(name):
    assert callable(SUITES[name].examine)


def test_a_job_survives_yaml(tmp_path):
    job = EvaluateJob(**BASE, suite="safety-prompts", thresholds={"unsafe_rate": 0.05})
    (tmp_path / "job.yaml").write_text(job.to_yaml())
    assert EvaluateJob.load(tmp_path / "job.yaml") == job


def test_a_threshold_on_a_figure_that_the_data_cannot_give_is_an_error():
    job = EvaluateJob(**BASE, suite="safety-prompts", thresholds={"unsafe_rate": 0.05})
    findings = Findings(figures(["benign"], ["complies"]), [], {}, "00")
    with pytest.raises(DataError, match=r"d.jsonl holds no cases for unsafe_rate"):
        job._evidence(findings, "ab", None)


def measurements(suite, **changes):
    """The measurement that each evidence of a job stands for, before and after a change of its settings."""
    first = {"safety-prompts": {}, "win-rate": {"reference": "r", "judge": "m:f"}}[suite]

    class ARun:
        uri = "run"

    found = []
    for settings, models in ((first, {"r": "digest of r"}), ({**first, **changes}, {"r2": "digest of r2"})):
        job = EvaluateJob.parse({**BASE, "suite": suite, **settings})
        figure = SimpleNamespace(metric="x", value=0.1, n=3, interval=None, better="lower")
        [item] = job._evidence(Findings([figure], [], {}, "data", models), "model", ARun)
        found.append(item.measurement)
    return found


@pytest.mark.parametrize(
    ("suite", "changes"),
    [
        ("safety-prompts", {"limit": 3}),
        ("safety-prompts", {"detector": "mine:function"}),
        ("safety-prompts", {"max_new_tokens": 1}),
        ("safety-prompts", {"chat_template": "plain"}),
        ("win-rate", {"reference": "r2"}),
        ("win-rate", {"judge": "mine:function"}),
    ],
)
def test_a_figure_measured_in_another_way_is_another_measurement(suite, changes):
    before, after = measurements(suite, **changes)
    assert before != after


@pytest.mark.parametrize("changes", [{"thresholds": {}}, {"micro_tokens": 64}, {"seed": 3}, {"workers": 2}])
def test_what_decides_no_figure_leaves_the_measurement_the_same(changes):
    before, after = measurements("safety-prompts", **changes)
    assert before == after


def test_a_reference_is_known_by_its_digest_and_not_by_its_path():
    job = EvaluateJob.parse({**BASE, "suite": "win-rate", "reference": "r", "judge": "m:f"})
    assert job._decisive(Findings([], [], {}, "data", {"r": "digest of r"}))["reference"] == "digest of r"
