"""Who judges, as the README shows it: a model by the constitution, people on a page; and what a plan says."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.feedback.serving import Server
from tests.real_data import SMOLLM2
from tests.verify.readme import ROOT, publish
from tests.verify.shell import Shell

PAIRS = ROOT / "jobs" / "data" / "preferences.jsonl"


@pytest.mark.slow
def test_a_plan_says_what_fits(shell: Shell) -> None:
    assert "placement: colocated" in shell.run("raysafe plan --model 7B --gpus 8x80GB --checkpointing")
    publish("plan", "\n".join(line[:140] for line in shell.transcript().splitlines()))


@pytest.mark.slow
@pytest.mark.skipif(not SMOLLM2.is_dir(), reason="SmolLM2 is not in the user's cache")
def test_a_small_model_judges_by_place_and_the_report_says_so(shell: Shell) -> None:
    rows = PAIRS.read_text(encoding="utf-8").splitlines()[:8]
    (shell.folder / "pairs.jsonl").write_text("\n".join(rows) + "\n")
    (shell.folder / SMOLLM2.name).symlink_to(SMOLLM2)
    assert "position bias" in shell.run(f"raysafe judge pairs.jsonl --judge {SMOLLM2.name} --compare")
    publish("judge", shell.transcript())


@pytest.mark.slow
def test_people_compare_answers_and_their_judgements_are_preferences(shell: Shell) -> None:
    rows = [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()[:32]]
    items = [{"prompt": row["prompt"], "a": row["chosen"], "b": row["rejected"]} for row in rows]
    file = shell.folder / "items.jsonl"
    file.write_text("".join(json.dumps(item) + "\n" for item in items))
    better = {row["chosen"] for row in rows}
    command = "raysafe feedback items.jsonl --out judged --raters ann bob --overlap 0.5"
    with Server(file, shell.folder / "judged", "--raters", "ann", "bob", "--overlap", "0.5") as server:
        for name, token in server.tokens.items():
            with server.client(token) as client:
                judge_all(client, better, wrong_every=6 if name == "bob" else 0)
        said = (
            "".join(server.said)
            .replace(f"{shell.folder}/", "")
            .replace(server.url.rstrip("/"), "http://127.0.0.1:8790")
        )
        for token in server.tokens.values():
            said = said.replace(token, "…")
        server.end()
    shell.lines += [f"$ {command}", *said.rstrip().splitlines()]
    shell.run("raysafe feedback status judged")
    shell.run("raysafe feedback export judged --to preferences.jsonl")
    publish("feedback", shell.transcript())


def judge_all(client: httpx.Client, better: set[str], *, wrong_every: int) -> None:
    """A rater who knows the better answer, and errs now and then."""
    turn = client.get("/api/turn").json()
    count = 0
    while turn.get("item"):
        count += 1
        first = turn["item"]["sides"][0]["parts"][0] in better
        if wrong_every and count % wrong_every == 0:
            first = not first
        body = {"item": turn["item"]["name"], "choice": "first" if first else "second", "seconds": 1.0}
        said = client.post("/api/judgements", json=body)
        said.raise_for_status()
        turn = said.json()
