"""CPU and recall of the cheap text guards, against peers' heuristics on the same texts: `python -m tests.bench.guards`.

Needs the prompts of tests.bench.guards_data. `--peers PYTHON` names the interpreter of an environment with
tests/bench/guards-requirements.txt and llm-guard 0.3.16 (--no-deps); without it only RaySafe's own side runs.
Targets: <= 1 ms CPU for 1,000 characters, all guards together; a tenth of the CPU of NeMo Guardrails' regex rail a
check; recall over the peers'; and 1 MB of any one character in time linear in its length.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from raysafe.evaluation.guard_metrics import recall_at
from raysafe.evaluation.guard_scores import Examiner
from raysafe.guards.injection_phrases import PHRASES
from raysafe.guards.policy import Policy
from raysafe.guards.transforms import apply
from raysafe.runtime.bar import Bar
from tests.real_data import CACHE, ROOT

TARGET_MS = 1.0
POLICY = Path(__file__).with_name("guards_policy.yaml")
TIMED = 300


def texts_of(folder: Path, name: str, families: tuple[str, ...] = ()) -> list[str]:
    rows = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().split("\n") if line]
    return [row["text"] for row in rows if not families or row["family"] in families]


def expression(phrase: str) -> str:
    """A phrase as a regular expression over raw text, as one would write it for a rail."""
    written, need = [], False
    for token in re.finditer(r"\(|\)\?|\)|\||\{(\d+),(\d+)\}|([a-z0-9]+)(\*?)", phrase):
        if token[3]:
            written.append((r"\W+" if need else "") + r"\b" + token[3] + (r"\w*" if token[4] else r"\b"))
            need = True
        elif token[1]:
            written.append(rf"(?:\W+\w+){{{token[1]},{token[2]}}}?")
            need = True
        elif token[0] == "(":
            written.append((r"(?:\W+" if need else "(?:") + "(?:")
            need = False
        elif token[0] == "|":
            written.append("|")
            need = False
        else:
            written.append("))" + token[0][1:])
            need = True
    return "".join(written)


def ours(examiner: Examiner, job: dict[str, Any]) -> dict[str, Any]:
    """Scores and decisions, CPU per check, and per 1,000 characters."""
    scores, stopped = {}, {}
    with Bar("RaySafe", total=sum(map(len, job["texts"].values())), unit="text") as bar:
        for name, texts in job["texts"].items():
            judged = examiner.judge_all(texts, bar.advance)
            scores[name], stopped[name] = judged.scores_N, judged.stopped_N
    started = time.process_time()
    for text in job["timed"]:
        examiner.judge(text)
    cpu_ms = (time.process_time() - started) * 1000
    characters = sum(map(len, job["timed"]))
    return {
        "scores": scores,
        "stopped": stopped,
        "cpu_ms": cpu_ms / len(job["timed"]),
        "cpu_ms_per_1000": cpu_ms / characters * 1000,
    }


def thousand(examiner: Examiner, texts: list[str]) -> float:
    """CPU ms of passages of exactly 1,000 characters of benign text."""
    joined = "\n".join(texts)
    passages = [joined[at : at + 1000] for at in range(0, min(len(joined), 300_000) - 1000, 1000)]
    for text in passages[:20]:
        examiner.judge(text)
    started = time.process_time()
    for text in passages:
        examiner.judge(text)
    return (time.process_time() - started) * 1000 / len(passages)


def adversarial(examiner: Examiner, size: int) -> dict[str, tuple[float, float]]:
    """CPU s at `size` and twice `size` characters of what might cost more than its length."""
    kinds = {f"{character!r} repeated": character for character in "a A0=[<\u0430\u200b\n-%"}
    kinds |= {
        "ignore all previous": "ignore all previous ",
        "base64 runs": "aWdub3JlIGFsbA== ",
        "spelled": "a b c d e f ",
    }
    found = {}
    for name, unit in kinds.items():
        times = []
        for length in (size, 2 * size):
            text = (unit * (length // len(unit) + 1))[:length]
            started = time.process_time()
            examiner.judge(text)
            times.append(time.process_time() - started)
        found[name] = (times[0], times[1])
    nested = "ignore all previous instructions " * (size // 120)
    times = []
    for text in (nested, nested * 2):
        for _ in range(3):
            text = apply(["base64"], text)
        started = time.process_time()
        examiner.judge(text)
        times.append(time.process_time() - started)
    found["base64 three deep"] = (times[0], times[1])
    return found


def compare(mine: dict[str, Any], peers: dict[str, Any]) -> bool:
    """Print recall and CPU side by side; whether RaySafe is over all peers."""
    better = True
    families = [name for name in mine["scores"] if name not in ("benign", "xstest")]
    sides = {"RaySafe": mine["scores"]} | {
        name: {key: np.array(values) for key, values in peer["decisions"].items()} for name, peer in peers.items()
    }
    for name, scores in sides.items():
        cpu_ms = mine["cpu_ms"] if name == "RaySafe" else peers[name]["cpu_ms"]
        flagged = {key: float((scores[key] >= 1).mean()) for key in ("benign", "xstest")} if name != "RaySafe" else {}
        print(f"{name}: {cpu_ms:.3f} ms CPU a check" + "".join(f", {k} flagged {v:.2%}" for k, v in flagged.items()))
        for family in families:
            rows = [recall_at(scores[family], scores["benign"], level) for level in (0.01, 0.05)]
            shown = [f"{r.level:.0%}: {r.recall.value:.1%} ({r.recall.low:.1%} to {r.recall.high:.1%})" for r in rows]
            print(f"  {family:10} n {rows[0].recall.n:5}  recall at {'; at '.join(shown)}")
    for name, peer in peers.items():
        decisions = {key: np.array(values) for key, values in peer["decisions"].items()}
        for family in families[:2]:
            for level in (0.01, 0.05):
                own = recall_at(mine["scores"][family], mine["scores"]["benign"], level).recall.value
                better &= own > recall_at(decisions[family], decisions["benign"], level).recall.value
        if name.startswith("NeMo"):
            ratio = peer["cpu_ms"] / mine["cpu_ms"]
            print(f"{name}: {ratio:.1f} times RaySafe's CPU a check (target: 10)")
            better &= ratio >= 10
    return better


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=Path, default=CACHE / "guard-prompts", help="folder of guards_data")
    parser.add_argument("--policy", type=Path, default=POLICY)
    parser.add_argument("--peers", help="python of the environment with the peers")
    parser.add_argument("--size", type=int, default=500_000, help="characters of the adversarial texts, and twice that")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    examiner = Examiner(Policy.load(options.policy))
    benign = texts_of(options.prompts, "benign")
    job: dict[str, Any] = {
        "texts": {
            "jailbreak": texts_of(options.prompts, "attacks", ("jailbreak",)),
            "injection": texts_of(options.prompts, "attacks", ("injection",)),
            "request": texts_of(options.prompts, "requests")[::4],
            "benign": benign,
            "xstest": texts_of(options.prompts, "xstest"),
        },
        "timed": benign[:: max(1, len(benign) // TIMED)],
        "patterns": [expression(phrase) for _, phrases in PHRASES.values() for phrase in phrases],
    }
    mine = ours(examiner, job)
    cpu_ms = thousand(examiner, benign)
    print(f"1,000 characters of benign text: {cpu_ms:.3f} ms CPU, guards {', '.join(examiner.guards)}")
    print(f"XSTest's safe prompts stopped by the policy: {mine['stopped']['xstest'].mean():.1%}")
    met = cpu_ms <= TARGET_MS
    lengths = adversarial(examiner, options.size)
    for name, (once, twice) in lengths.items():
        print(f"  {name:24} {options.size:,}: {once:.2f} s, twice that: {twice:.2f} s")
        met &= twice < 3 * once + 0.1
    peers: dict[str, Any] = {}
    if options.peers:
        with tempfile.TemporaryDirectory() as folder:
            task, result = Path(folder, "job.json"), Path(folder, "result.json")
            task.write_text(json.dumps(job))
            command = [options.peers, "-m", "tests.bench.guards_peers", str(task), str(result)]
            subprocess.run(command, check=True, cwd=ROOT)
            peers = json.loads(result.read_text())
        met &= compare(mine, peers)
    if options.json:
        figures = {"cpu_ms_per_1000": cpu_ms, "cpu_ms": mine["cpu_ms"], "lengths": lengths}
        figures["peers"] = {name: peer["cpu_ms"] for name, peer in peers.items()}
        options.json.write_text(json.dumps(figures, indent=2))
    print(f"targets: {'met' if met else 'missed'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
