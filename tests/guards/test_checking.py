"""What is told of a policy: what lets text past, and what differs for tenants."""

from pathlib import Path

import pytest

from raysafe.errors import ConfigError
from raysafe.guards.checking import GUARD_HEADINGS, check_policy, seal_policy
from raysafe.guards.policy_text import check_seal, seal

TEXT = """name: shop
version: 3
guards:
  - {kind: length, input_characters: 2000, sample: 0.5}
  - {kind: rate, requests_per_minute: 60, overridable: true, on_error: open, timeout_s: 2}
  - {kind: patterns, stages: [input], mode: shadow, rules: [{name: r, phrases: [bomb]}]}
tenants:
  acme:
    guards: {patterns: {mode: enforce}}
    remove: [rate]
    add: [{kind: length, name: short, output_characters: 500}]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(TEXT)
    return path


def test_each_guard_has_a_row(path: Path) -> None:
    rows = [dict(zip(GUARD_HEADINGS, row, strict=True)) for row in check_policy(path).guards]
    assert [row["guard"] for row in rows] == ["length", "rate", "patterns"]
    assert rows[1] == {
        "guard": "rate",
        "kind": "rate",
        "stages": "input, output",
        "mode": "enforce",
        "sample": "1",
        "timeout": "2 s",
        "where it fails": "lets text past",
        "runs": "at once",
        "tenants may": "loosen or remove it",
    }
    assert (rows[0]["sample"], rows[2]["mode"], rows[2]["tenants may"]) == ("0.5", "shadow", "tighten it")


def test_what_differs_for_a_tenant_has_a_row_each(path: Path) -> None:
    assert check_policy(path).tenants == [
        ("acme", "rate", "removed"),
        ("acme", "patterns", "mode: shadow -> enforce"),
        ("acme", "short", "added (length)"),
    ]


def test_what_lets_text_past_is_remarked_on(path: Path) -> None:
    assert check_policy(path).remarks == [
        "length is asked about 50.0% of exchanges only",
        "rate lets text past where it fails or takes longer than 2 s",
        "patterns is in shadow mode: it is recorded, and stops nothing",
        f"{path} doesn't end with the line '...': a running service won't take up a change of it",
    ]


def test_a_policy_without_guards_is_remarked_on(path: Path) -> None:
    path.write_text(seal("guards: []\n"))
    assert check_policy(path).remarks == ["no guard: everything is let through"]


def test_an_invalid_policy_is_an_error(path: Path) -> None:
    path.write_text(TEXT.replace("remove: [rate]", "remove: [length]"))
    with pytest.raises(ConfigError, match="the guard 'length' can't be removed"):
        check_policy(path)


def test_the_packaged_policy_has_nothing_that_lets_text_past() -> None:
    found = check_policy(None)
    assert found.label.startswith("default@1 (")
    assert found.remarks == []


def test_sealing_a_policy_marks_it_and_changes_no_setting(path: Path) -> None:
    path.chmod(0o640)
    before = check_policy(path).digest
    assert seal_policy(path).digest == check_policy(path).digest == before
    assert check_seal(path.read_bytes(), "p") == (True, True)
    assert path.read_text().startswith(TEXT)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_sealed_policy_that_was_edited_is_sealed_anew(path: Path) -> None:
    seal_policy(path)
    path.write_text(path.read_text().replace("2000", "3000"))
    with pytest.raises(ConfigError, match="was changed after it was sealed"):
        check_policy(path)
    seal_policy(path)
    assert check_policy(path).label.startswith("shop@3 (")


def test_an_invalid_policy_is_not_sealed(path: Path) -> None:
    path.write_text("guards: 3\n")
    with pytest.raises(ConfigError):
        seal_policy(path)
    assert path.read_text() == "guards: 3\n"
    assert list(path.parent.iterdir()) == [path]
