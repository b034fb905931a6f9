"""The constitution's YAML: eight principles as packaged, and mistakes in an edited copy named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from raysafe.errors import ConfigError
from raysafe.judges.constitution import Constitution, default_constitution, load_constitution

EIGHT = ["harmlessness", "honesty", "helpfulness", "fairness", "privacy", "autonomy", "transparency", "accountability"]
PLAIN = {"name": "kindness", "description": "The answer is kind to people.", "rubric": "10: kind\n0: cruel to people"}


def test_the_packaged_constitution_has_the_eight_principles_and_complies_at_seven() -> None:
    constitution = default_constitution()
    assert constitution.names == EIGHT and constitution.threshold == 7
    assert constitution.weights_P == pytest.approx(1 / 8)


def test_an_edited_copy_is_read_and_has_another_digest(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(default_constitution().to_yaml())
    assert load_constitution(path) == default_constitution()
    path.write_text(default_constitution().to_yaml().replace("threshold: 7.0", "threshold: 5"))
    assert load_constitution(path).threshold == 5
    assert load_constitution(path).digest != default_constitution().digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"treshold": 5}, "unknown field 'treshold' in .*; did you mean 'threshold'"),
        ({"threshold": 11}, "threshold: .*less than or equal to 10"),
        ({"principles": []}, "principles: .*at least 1 item"),
        ({"principles": [PLAIN, PLAIN]}, "two principles are called 'kindness'"),
        ({"principles": [{**PLAIN, "wieght": 2}]}, "unknown field 'principles.0.wieght'"),
        ({"principles": [{**PLAIN, "weight": 0}]}, "principles.0.weight: .*greater than 0"),
        ({"principles": [{**PLAIN, "rubric": ""}]}, "principles.0.rubric"),
        ({"principles": [{**PLAIN, "name": "Two Words"}]}, "principles.0.name"),
    ],
)
def test_a_mistake_is_named_with_its_field(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "principles": [PLAIN], **change}))
    with pytest.raises(ConfigError, match=message):
        load_constitution(path)


def test_weights_are_told_in_comparisons_only_where_they_differ() -> None:
    other = {**PLAIN, "name": "brevity", "weight": 3}
    assert "weight" not in Constitution.parse({"principles": [PLAIN]}).criteria
    heavy = Constitution.parse({"principles": [PLAIN, other]})
    assert "brevity (weight 3)" in heavy.criteria
    assert heavy.weights_P == pytest.approx([0.25, 0.75])
