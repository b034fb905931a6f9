"""Files of rules: what is refused, with the field and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from raysafe.errors import ConfigError
from raysafe.monitoring.rules import Rules

LIMIT: dict[str, Any] = {"name": "errors", "metric": "performance.errors", "limit": {"above": 0.1}}
DETECTOR: dict[str, Any] = {"name": "drift", "metric": "behaviour.repetition", "detector": {"kind": "cusum"}}


def parsed(*rules: dict[str, Any], **rest: Any) -> Rules:
    return Rules.parse({"name": "r", "rules": list(rules), **rest}, "rules.yaml")


@pytest.mark.parametrize(
    ("rules", "rest", "message"),
    [
        ([LIMIT | {"limitt": 1}], {}, "did you mean 'limit'"),
        ([LIMIT | {"detector": {"kind": "cusum"}}], {}, "either a detector or a limit"),
        ([{"name": "x", "metric": "safety.blocked"}], {}, "either a detector or a limit"),
        ([LIMIT | {"limit": {"above": 1, "below": 0}}], {}, "either above or below"),
        ([LIMIT | {"limit": {"above": 1, "clear": 2}}], {}, "good side"),
        ([LIMIT | {"limit": {"below": 1, "clear": 0.5}}], {}, "good side"),
        ([LIMIT | {"calibration": {"values": 100}}], {}, "no effect on a limit"),
        ([DETECTOR | {"detector": {"kind": "cusm"}}], {}, "did you mean 'cusum'"),
        ([DETECTOR | {"calibration": {"values": 50}}], {}, "needs 200 calibration values"),
        ([LIMIT, LIMIT], {}, "two rules are called 'errors'"),
        ([LIMIT | {"sinks": ["pager"]}], {}, "'pager', which is no sink"),
        ([LIMIT | {"inhibited_by": ["other"]}], {}, "'other', which is no rule"),
        ([LIMIT | {"inhibited_by": ["drift"]}, DETECTOR | {"inhibited_by": ["errors"]}], {}, "tell nobody"),
        ([LIMIT | {"escalate": [{"after_s": 5}, {"after_s": 5}]}], {}, "growing deadlines"),
        ([LIMIT | {"escalate": [{"after_s": 5, "intervention": {"kind": "throttle"}}]}], {}, "requests_per_minute"),
        ([LIMIT | {"severity": "bad"}], {}, "severity"),
        ([LIMIT | {"metric": "Errors"}], {}, "metric"),
        ([], {}, "rules"),
        ([LIMIT], {"sinks": [{"kind": "webhook", "url": "https://x/y", "secret_env": "NO_SUCH_SECRET"}]}, "whsec_"),
        ([LIMIT], {"sinks": [{"kind": "webhook", "url": "http://example.org/", "secret_env": "S"}]}, "must be https"),
    ],
)
def test_what_cannot_be_meant_is_refused(rules: list[dict[str, Any]], rest: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parsed(*rules, **rest)


def test_a_secret_that_is_none_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "whsec_c2hvcnQ=")
    with pytest.raises(ConfigError) as refused:
        parsed(LIMIT, sinks=[{"kind": "webhook", "url": "https://x/y", "secret_env": "HOOK"}])
    assert "c2hvcnQ" not in str(refused.value)


def test_a_label_changes_with_what_is_said_and_not_with_the_layout(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("name: r\nrules: [{name: errors, metric: performance.errors, limit: {above: 0.1}}]\n...\n")
    assert Rules.load(path).label == parsed(LIMIT).label
    assert Rules.load(path).label != parsed(LIMIT | {"for_s": 1}).label


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("name: r\nname: s\nrules: []\n")
    with pytest.raises(ConfigError, match="given twice"):
        Rules.load(path)


def test_rules_come_back_from_yaml_as_they_were() -> None:
    found = parsed(LIMIT, DETECTOR | {"escalate": [{"after_s": 1, "intervention": {"kind": "degrade"}}]})
    assert Rules.parse(yaml.safe_load(found.to_yaml())) == found
    assert found.rules[1].detector is not None and found.rules[1].detector.kind == "cusum"


def test_a_rules_memory_depends_on_what_it_watches_only() -> None:
    plain = parsed(DETECTOR).rules[0].fingerprint
    assert parsed(DETECTOR | {"severity": "critical", "for_s": 5}).rules[0].fingerprint == plain
    assert parsed(DETECTOR | {"detector": {"kind": "cusum", "side": "low"}}).rules[0].fingerprint != plain
