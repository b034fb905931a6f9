"""`raysafe guards train | test` from the command line."""

import json
from pathlib import Path

import numpy as np
import pytest

from raysafe.cli.guards import main
from raysafe.cli.main import guarded
from raysafe.guards.linear_model import load_linear

WORDS = [f"w{chr(97 + i)}{chr(97 + j)}" for i in range(20) for j in range(20)]


def rows(n: int, seed: int = 0) -> list[dict[str, str]]:
    rng = np.random.default_rng(seed)
    made = []
    for number in range(n):
        words = list(rng.choice(WORDS, 20))
        if number % 2:
            words.insert(3, "zolgra")
        made.append({"text": " ".join(words), "label": "attack" if number % 2 else "benign"})
    return made


def write(path: Path, values: list[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in values))
    return str(path)


def test_a_trained_model_guards_by_a_policy_that_is_tested(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "train.jsonl", rows(240))
    assert main(["train", data, "--out", str(tmp_path / "model"), "--json"]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert trained["auc"]["value"] > 0.9 and 0.2 < np.mean(trained["shuffled"]) < 0.8
    assert load_linear(tmp_path / "model").settings.trained_on == "240 texts of train.jsonl"

    policy = tmp_path / "policy.yaml"
    policy.write_text(f"guards:\n  - kind: linear\n    model: {tmp_path / 'model'}\n")
    fresh = write(tmp_path / "test.jsonl", rows(300, seed=5))
    options = ["--transforms", "plain", "base64", "--adaptive", "3", "--adaptive-prompts", "3"]
    assert main(["test", str(policy), fresh, "--out", str(tmp_path / "report"), *options]) == 0
    shown = capsys.readouterr().out
    assert "base64" in shown and "recall left after 3 tries" in shown
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["transforms"][0]["at"][1]["recall"]["value"] > 0.8
    assert (tmp_path / "report" / "recall.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["test", "default", "nowhere.jsonl"], "can't read nowhere.jsonl"),
        (["test", "default", "nowhere.jsonl", "--transforms", "base46"], "did you mean 'base64'"),
        (["test", "nowhere.yaml", "nowhere.jsonl"], "can't read config file"),
        (["train", "nowhere.jsonl", "--out", "model"], "can't read nowhere.jsonl"),
    ],
)
def test_what_the_user_can_mend_is_one_sentence(
    arguments: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert guarded(lambda: main(arguments)) == 2
    assert complaint in capsys.readouterr().err


def test_a_folder_with_other_files_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    data = write(tmp_path / "train.jsonl", rows(60))
    assert guarded(lambda: main(["train", data, "--out", str(tmp_path)])) == 2
    assert not (tmp_path / "linear.json").exists()
