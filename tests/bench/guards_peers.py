"""The peers' side of tests/bench/guards.py, in an environment of its own: `python -m tests.bench.guards_peers JOB OUT`.

JOB is the file that `tests.bench.guards` writes: texts, and regular expressions that say what RaySafe's phrases say.
OUT gets each peer's decisions (1 where it stops the text) and its CPU time. What runs offline:
NeMo Guardrails' regex rail through LLMRails.check, and LLM Guard's BanSubstrings with the list that it ships.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

Check = Callable[[str], bool]


def nemo(patterns: list[str]) -> Check:
    """The regex rail on the input, and no other."""
    rails: Any = importlib.import_module("nemoguardrails")
    yaml: Any = importlib.import_module("yaml")
    regexes = {"patterns": patterns, "case_insensitive": True}
    settings = {
        "models": [],
        "rails": {
            "input": {"flows": ["regex check input"]},
            "config": {"regex_detection": {"input": regexes}},
        },
    }
    app = rails.LLMRails(rails.RailsConfig.from_content(yaml_content=yaml.safe_dump(settings)))

    def check(text: str) -> bool:
        return app.check([{"role": "user", "content": text}]).status.value == "blocked"

    return check


def llm_guard() -> Check:
    """BanSubstrings with PROMPT_STOP_SUBSTRINGS; its package is entered without the scanners that need models."""
    spec = importlib.util.find_spec("llm_guard")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("llm-guard is not installed: pip install --no-deps llm-guard==0.3.16")
    root = Path(next(iter(spec.submodule_search_locations)))
    for name in ("llm_guard", "llm_guard.input_scanners"):
        module = types.ModuleType(name)
        module.__path__ = [str(root.parent.joinpath(*name.split(".")))]
        sys.modules[name] = module
    logging.disable(logging.CRITICAL)
    structlog: Any = importlib.import_module("structlog")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    scanners: Any = importlib.import_module("llm_guard.input_scanners.ban_substrings")
    scanner = scanners.BanSubstrings(substrings=scanners.PROMPT_STOP_SUBSTRINGS)
    return lambda text: not scanner.scan(text)[1]


def run(check: Check, job: dict[str, Any]) -> dict[str, Any]:
    check("warm up")
    decisions = {name: [int(check(text)) for text in texts] for name, texts in job["texts"].items()}
    started = time.process_time()
    for text in job["timed"]:
        check(text)
    cpu_ms = (time.process_time() - started) * 1000
    return {"decisions": decisions, "cpu_ms": cpu_ms / len(job["timed"])}


def main() -> int:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    peers = {"NeMo Guardrails regex rail": nemo(job["patterns"]), "LLM Guard BanSubstrings": llm_guard()}
    results = {name: run(check, job) for name, check in peers.items()}
    Path(sys.argv[2]).write_text(json.dumps(results), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
