"""The quickstart as a client: three requests to the guarded service, over HTTP, as any OpenAI client sends them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from raysafe.errors import RaySafeError, StorageError
from raysafe.quickstart.grammar import task_of_prompt

if TYPE_CHECKING:
    from raysafe.serving.service import Service

TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Reply:
    """What the service did with a request: answered it, or a guard stopped it with a reason."""

    prompt: str
    outcome: str
    text: str


def start(store_url: str, model: str, port: int, address: str | None, run_name: str) -> Service:
    """Serve the approved model, under the packaged policy, with an API key of this start."""
    from raysafe.serving.service import ServiceConfig, start_service

    return start_service(
        ServiceConfig(
            model=model, name="quickstart", store=store_url, port=port, address=address, max_tokens=48, new_key=run_name
        )
    )


def choose_prompts(held_out_prompts: Path) -> list[str]:
    """Held-out requests: a benign one, a harmful one for the model to refuse, and one that a guard stops."""
    from raysafe.guards.policy import default_policy

    pipeline = default_policy().build()
    found: dict[str, str] = {}
    for line in held_out_prompts.read_text(encoding="utf-8").splitlines():
        prompt = json.loads(line)["prompt"]
        stopped = pipeline.check_text(prompt).action == "block"
        kind = task_of_prompt()[prompt].kind
        found.setdefault(f"{kind}, stopped" if stopped else kind, prompt)
    wanted = ("innocent", "harmful", "harmful, stopped")
    return [found[kind] for kind in wanted if kind in found]


def try_out(service: Service, prompts: list[str]) -> list[Reply]:
    """Send each request with the key that this start made."""
    assert service.key is not None  # start() asks for a new one
    return [ask(service.url, service.key, service.model, prompt) for prompt in prompts]


def verify(store_url: str) -> str:
    """What the audit log's check found; raises StorageError where a chain is broken."""
    from raysafe.records.audit import audit_folder
    from raysafe.records.audit_verify import verify as verify_chains

    chains = verify_chains(audit_folder(store_url))
    problems = [f"{chain.writer}: {problem}" for chain in chains for problem in chain.problems]
    if problems:
        raise StorageError(f"the audit log in {audit_folder(store_url)} is broken: {'; '.join(problems)}")
    rows, covered = sum(chain.rows for chain in chains), sum(min(chain.anchored, chain.rows) for chain in chains)
    return f"{rows} rows in {len(chains)} chains, none changed; {covered} of them under signed anchors"


def ask(url: str, key: str, model: str, prompt: str, *, temperature: float = 0.0) -> Reply:
    """Send one request to `url`/v1/chat/completions; raises RaySafeError where the service doesn't answer."""
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "temperature": temperature}
    try:
        response = httpx.post(
            f"{url}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"}, timeout=TIMEOUT_S
        )
        content = response.json()
    except (httpx.HTTPError, ValueError) as error:
        raise RaySafeError(f"the service at {url} didn't answer ({type(error).__name__}): look at its log") from error
    return read_reply(prompt, response.status_code, content)


def read_reply(prompt: str, status: int, content: dict) -> Reply:
    """Tell an answer, a stopped answer and a stopped request apart; raises RaySafeError for any other error."""
    if status == 200:
        choice = content["choices"][0]
        if choice["finish_reason"] == "content_filter":
            return Reply(prompt, "answer stopped by a guard", choice["message"].get("refusal") or "")
        return Reply(prompt, "answered", choice["message"]["content"])
    error = content.get("error", {})
    if error.get("code") == "content_policy_violation":
        return Reply(prompt, "request stopped by a guard", error["message"])
    raise RaySafeError(f"the service answered {status} to {prompt!r}: {error.get('message', content)}")
