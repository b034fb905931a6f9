"""Keys, tokens and passwords: by the forms that their issuers give them, and by their entropy where one is assigned.

- kind: secrets
  action: block
  forms: [github, aws, private_key, assigned]

The forms are those that issuers document for their own scanning partners. What has no form (a password, a key of one's
own) is found only where something called a key, token, secret or password is set to it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Literal, get_args

from pydantic import Field

from raysafe.guards.entities import EntityConfig, EntityGuard
from raysafe.guards.finding import Finder, Place, Shape
from raysafe.guards.settings import NOTHING, Resources

Form = Literal[
    "private_key",
    "aws",
    "github",
    "gitlab",
    "slack",
    "google",
    "openai",
    "stripe",
    "npm",
    "pypi",
    "huggingface",
    "raysafe",
    "jwt",
    "url",
    "assigned",
]

PEM = 8192
"""Characters of a private key in PEM, at most; of a longer block, the rest stays."""
JWT = 4096
_SECRET_NAMES = (
    r"(?:pass(?:word|wd|phrase)|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|auth[_-]?key|credentials?)"
)
_ASSIGNED = re.compile(
    rf"(?<![^\W_]){_SECRET_NAMES}[\w-]{{0,24}}[\"']?\s{{0,2}}(?::=|=>|[:=])\s{{0,2}}[\"'`]?"
    r"([^\s\"'`,;(){}<>\[\]]{8,200})",
    re.IGNORECASE,
)
_ASSIGNED_OPENING = re.compile(rf"(?<![^\W_]){_SECRET_NAMES}", re.IGNORECASE)
_ORDINARY = re.compile(r"[A-Za-z_./-]+|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")


def entropy(text: str) -> float:
    """Bits per character of a text's own distribution of characters (Shannon, 1948)."""
    size = len(text)
    return -sum(count / size * math.log2(count / size) for count in Counter(text).values()) if size else 0.0


class SecretsConfig(EntityConfig):
    """`kind: secrets` of a policy."""

    kind: Literal["secrets"] = "secrets"
    name: str = Field(default="secrets", min_length=1)
    forms: frozenset[Form] = Field(
        default=frozenset(get_args(Form)), min_length=1, description="What is looked for; everything by default."
    )
    least_entropy: float = Field(
        default=2.75,
        ge=0,
        le=8,
        description="Bits per character from which what is assigned to a password, key or token counts as one; names "
        "and words joined by hyphens or dots never do.",
    )

    def build(self, resources: Resources = NOTHING) -> SecretsGuard:
        return SecretsGuard(self)


class SecretsGuard(EntityGuard):
    """Streams with a hold-back of the word under way, or of the block of a private key."""

    def __init__(self, config: SecretsConfig) -> None:
        assigned = Shape(
            "PASSWORD",
            _ASSIGNED,
            lambda match: _assigned(match, config.least_entropy),
            needs=("pass", "pwd", "secret", "token", "key", "credential"),
            opening=_ASSIGNED_OPENING,
            reach=280,
        )
        shapes = [shape for form, shape in {**SHAPES, "assigned": assigned}.items() if form in config.forms]
        super().__init__(config, Finder(shapes))


def _assigned(match: re.Match[str], least_entropy: float) -> Place | None:
    value = match[1].rstrip(".!?")
    if entropy(value[:64]) < least_entropy or _ORDINARY.fullmatch(value):
        return None
    # a call, a variable, a template: the place of a secret, not one
    if value.startswith(("$", "%", "os.", "process.", "self.", "http://", "https://", "xxx", "***", "...")):
        return None
    kinds = sum(any(map(test, value)) for test in (str.isdigit, str.islower, str.isupper)) + (not value.isalnum())
    return (match.start(1), match.start(1) + len(value)) if kinds >= 2 and not value.isdigit() else None


def _mixed(match: re.Match[str]) -> Place | None:
    """Random characters rather than words: a digit in it, and enough entropy."""
    body = match[0].rpartition("-")[2] if "-" in match[0] else match[0]
    return match.span() if any(map(str.isdigit, body)) and entropy(match[0]) >= 3 else None


def _word(form: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Za-z0-9]){form}")


SHAPES: dict[str, Shape] = {
    "private_key": Shape(
        "PRIVATE_KEY",
        re.compile(
            r"-----BEGIN [A-Z ]{0,24}PRIVATE KEY(?: BLOCK)?-----(?:(?!-----)[A-Za-z0-9+/=\s\\:,-]){0,8000}+"
            r"(?:-----END [A-Z ]{0,24}PRIVATE KEY(?: BLOCK)?-----)?"
        ),
        needs=("private key",),
        opening=re.compile(r"-----BEGIN (?:[A-Z ]{0,40}\Z|[A-Z ]{0,24}PRIVATE)"),
        reach=PEM,
    ),
    "aws": Shape(
        "AWS_KEY", _word(r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}(?![A-Za-z0-9])"), needs=("akia", "asia", "abia", "acca")
    ),
    "github": Shape(
        "GITHUB_TOKEN",
        _word(r"(?:gh[pousr]_[A-Za-z0-9]{36,251}|github_pat_[A-Za-z0-9_]{60,240})"),
        needs=("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
    ),
    "gitlab": Shape(
        "GITLAB_TOKEN", _word(r"gl(?:pat|ptt|dt|rt|cbt|soat|ft|agent|imt)-[A-Za-z0-9_.-]{20,120}"), needs=("gl",)
    ),
    "slack": Shape(
        "SLACK_TOKEN",
        _word(r"(?:xox[abeoprs]-[A-Za-z0-9-]{10,120}|xapp-\d-[A-Za-z0-9-]{10,120})"),
        needs=("xox", "xapp-"),
    ),
    "google": Shape(
        "GOOGLE_KEY",
        _word(r"(?:AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,250}|GOCSPX-[A-Za-z0-9_-]{28})(?![A-Za-z0-9_-])"),
        needs=("aiza", "ya29.", "gocspx-"),
    ),
    "openai": Shape(
        "API_KEY", _word(r"sk-(?:[a-z]{2,10}-|[a-z]{2,6}\d\d-)?[A-Za-z0-9_-]{20,240}"), _mixed, needs=("sk-",)
    ),
    "stripe": Shape(
        "STRIPE_KEY",
        _word(r"(?:[sr]k_(?:live|test)_|whsec_)[A-Za-z0-9]{16,240}"),
        needs=("k_live_", "k_test_", "whsec_"),
    ),
    "npm": Shape("NPM_TOKEN", _word(r"npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])"), needs=("npm_",)),
    "pypi": Shape("PYPI_TOKEN", _word(r"pypi-AgE[A-Za-z0-9_-]{50,240}"), needs=("pypi-age",)),
    "huggingface": Shape("HF_TOKEN", _word(r"hf_[A-Za-z]{34,40}(?![A-Za-z0-9])"), needs=("hf_",)),
    "raysafe": Shape("RAYSAFE_KEY", _word(r"rs-[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])"), needs=("rs-",)),
    "jwt": Shape(
        "JWT",
        _word(rf"eyJ[A-Za-z0-9_-]{{8,1024}}+\.eyJ[A-Za-z0-9_-]{{4,{JWT}}}+\.[A-Za-z0-9_-]{{0,1024}}+"),
        needs=("eyj",),
        # the letters first: a search for them skips all else
        opening=re.compile(r"eyJ(?<![A-Za-z0-9]eyJ)"),
        reach=JWT + 2060,
    ),
    "url": Shape(
        "PASSWORD",
        re.compile(r"(?<=://)[^\s/:@\"'<>]{0,64}+:([^\s/@\"'<>]{3,128}+)@(?=[\w\[])"),
        lambda match: None if match[1].startswith(("$", "%", "<", "{")) else match.span(1),
        needs=("://",),
    ),
}
