"""From settings, or a short text on a command line, to a judge.

openai:MODEL@URL       a model behind an OpenAI-compatible endpoint, such as `raysafe serve`
module:function        a function (messages) -> answer, or one of no arguments that makes a judge
settings.yaml          the fields of JudgeConfig
anything else          a model folder, a run, a hub id or a preset, on this machine
"""

from __future__ import annotations

import ipaddress
import os
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from raysafe.config import Config
from raysafe.errors import ConfigError
from raysafe.judges.judge import Judge
from raysafe.judges.scripted import load_scripted
from raysafe.runtime.functions import is_function

if TYPE_CHECKING:
    from raysafe.judges.local import LocalJudge

KEY_VARIABLE = "RAYSAFE_JUDGE_KEY"
"""Where `openai:MODEL@URL` looks for the API key."""
Kind = Literal["local", "openai", "scripted"]
_COMMON = {"kind", "model"}
_FIELDS: dict[Kind, set[str]] = {
    "local": {"chat_template", "batch_tokens", "workers", "cpus_per_worker", "gpus_per_worker"},
    "openai": {
        "base_url", "api_key_env", "choice_logprobs", "timeout_s", "retries", "longest_wait_s", "requests_per_minute",
        "concurrency", "reasoning_tokens", "token_field", "cache",
    },
    "scripted": set(),
}  # fmt: skip


class JudgeConfig(Config):
    """Settings of a judge. One that its kind doesn't read is an error."""

    kind: Kind = Field(description="local: a model on this cluster; openai: an endpoint; scripted: a function.")
    model: str = Field(min_length=1, description="Folder, run or hub id; the endpoint's model; module:function.")

    chat_template: str = Field("auto", description="local: auto (the tokenizer's own), plain, or a Jinja file.")
    batch_tokens: int = Field(8192, ge=1, description="local: tokens of a forward pass; lower it if memory runs out.")
    workers: int = Field(0, ge=0, description="local: Ray actors that share a batch; 0 judges in this process.")
    cpus_per_worker: float = Field(1, gt=0)
    gpus_per_worker: float = Field(0, ge=0, description="local: above 0, the model is on a GPU.")

    base_url: str | None = Field(None, description="openai: the endpoint, up to /v1; http on this machine only.")
    api_key_env: str | None = Field(
        None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="openai: environment variable that holds the API key."
    )
    choice_logprobs: bool = Field(False, description="openai: the endpoint returns log-probabilities (top_logprobs).")
    timeout_s: float = Field(60.0, gt=0, description="openai: longest wait for one answer.")
    retries: int = Field(5, ge=0, description="openai: how often a failed request is made again.")
    longest_wait_s: float = Field(120.0, gt=0, description="openai: a Retry-After beyond it is an error.")
    requests_per_minute: float | None = Field(None, gt=0, description="openai: requests start no faster than this.")
    concurrency: int = Field(8, ge=1, description="openai: requests under way at the same time.")
    reasoning_tokens: int = Field(0, ge=0, description="openai: tokens allowed beside the answer's own few.")
    token_field: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="openai: what the endpoint calls the limit."
    )
    cache: bool = Field(True, description="openai: keep answers on disk and never ask the same twice.")

    @field_validator("base_url")
    @classmethod
    def _safe_url(cls, url: str | None) -> str | None:
        return None if url is None else safe_url(url)

    @model_validator(mode="after")
    def _fits_kind(self) -> Self:
        idle = sorted(self._changed() - _COMMON - _FIELDS[self.kind])
        if idle:
            raise ValueError(f"{', '.join(idle)} has no effect on a judge of kind {self.kind}: leave it out")
        if self.kind == "openai" and self.base_url is None:
            raise ValueError("a judge of kind openai can't do without base_url, such as http://127.0.0.1:8000/v1")
        if self.kind == "scripted" and not is_function(self.model):
            raise ValueError(f"model must be module:function for a judge of kind scripted, got {self.model!r}")
        if self.kind == "local" and self.gpus_per_worker > 1:
            raise ValueError("gpus_per_worker is at most 1: a judge's model is on one GPU; set workers for more")
        return self

    def build(self, *, device: str | None = None, address: str | None = None) -> Judge:
        """The judge; a local model is loaded here, unless workers do it.

        device: of a local model in this process; by default a GPU where gpus_per_worker is above 0.
        address: Ray cluster of the workers.
        """
        if self.kind == "scripted":
            return load_scripted(self.model)
        if self.kind == "openai":
            from raysafe.judges.openai_endpoint import OpenAIJudge

            return OpenAIJudge(self)
        if self.workers:
            from raysafe.judges.pooled import PooledJudge
            from raysafe.runtime.cluster import Needs

            needs = Needs(workers=self.workers, cpus=self.cpus_per_worker, gpus=self.gpus_per_worker)
            return PooledJudge(self.load_local, needs, name=self.model, address=address)
        return self.load_local(device)

    def load_local(self, device: str | None = None) -> LocalJudge:
        """The local model's judge, in this process. As a bound method of a config it can be sent to an actor."""
        from raysafe.judges.local import LocalJudge

        device = device or ("cuda" if self.gpus_per_worker else "cpu")
        return LocalJudge(self.model, chat_template=self.chat_template, batch_tokens=self.batch_tokens, device=device)

    def _changed(self) -> set[str]:
        """Fields that were given another value than the default."""
        fields = type(self).model_fields
        return {name for name in self.model_fields_set if getattr(self, name) != fields[name].default}


def read_spec(text: str) -> JudgeConfig:
    """The settings that a text on a command line means (see above); raises ConfigError."""
    if text.startswith("openai:"):
        model, at, url = text.removeprefix("openai:").rpartition("@")
        if not at or not model:
            raise ConfigError(f"judge: {text!r} must be openai:MODEL@URL, as openai:small@http://127.0.0.1:8000/v1")
        # a service on this machine may need no key; another machine's does, and its lack is said early
        wanted = KEY_VARIABLE if KEY_VARIABLE in os.environ or not is_loopback(url) else None
        return JudgeConfig.parse({"kind": "openai", "model": model, "base_url": url, "api_key_env": wanted}, "judge")
    if text.endswith((".yaml", ".yml")):
        return JudgeConfig.load(text)
    kind = "scripted" if is_function(text) and not text.startswith("preset:") else "local"
    return JudgeConfig.parse({"kind": kind, "model": text}, "judge")


def safe_url(url: str) -> str:
    """An endpoint's URL without a slash at its end; raises ValueError or ConfigError where it would tell secrets."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http or https URL such as https://host/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        # not shown: it may be a secret
        raise ConfigError("base_url must hold no user, password, query or fragment: name the key in api_key_env")
    if parts.scheme == "http" and not is_loopback(url):
        raise ValueError("must be https for another machine: over http anybody on the way reads prompts and key")
    return url.rstrip("/")


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine, by a name or address that can be no other."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
