"""The five capabilities of a served model, and what is in effect: the minimum of what is asked, reviewed and allowed.

A safety case grants capabilities to a model, a policy allows them to a service, a request may ask for less. Nothing is
granted that isn't named: the defaults allow text alone.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable
from functools import reduce
from typing import Literal, TypeVar, get_args

from pydantic import Field, field_validator

from raysafe.config import Config

Limit = TypeVar("Limit", int, float)
Autonomy = Literal[0, 1, 2, 3]
Influence = Literal["self", "tenant", "public"]
INFLUENCES: tuple[Influence, ...] = get_args(Influence)
ANY = "*"
AUTONOMY = ("suggest", "act after approval", "act, then report", "act")


class Capabilities(Config):
    """What may be done. Empty lists grant nothing; `*` grants all of a kind; a rate of none is no limit."""

    tokens_per_minute: int | None = Field(default=None, ge=1, description="Computational resources; none: no limit.")
    requests_per_minute: int | None = Field(default=None, ge=1)
    model_seconds_per_minute: float | None = Field(default=None, gt=0)
    data_classes: tuple[str, ...] = Field(default=(), description="Information that it may read, by class.")
    paths: tuple[str, ...] = Field(default=(), description="Folders and files that its tools may touch, absolute.")
    domains: tuple[str, ...] = Field(
        default=(), description="Network domains that its tools may reach; *.example.org is all below example.org."
    )
    tools: tuple[str, ...] = Field(default=(), description="Actions that it may call, by tool name.")
    autonomy: Autonomy = Field(default=0, description="0 suggest, 1 act after approval, 2 act then report, 3 act.")
    scope: Influence = Field(default="self", description="Whom its actions may touch.")
    recipients: int = Field(default=0, ge=0, description="People whom one action may reach.")

    @field_validator("domains")
    @classmethod
    def _lower_case(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(domain.lower() for domain in domains)

    @field_validator("paths")
    @classmethod
    def _absolute(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        for path in paths:
            if path != ANY and (not path.startswith("/") or posixpath.normpath(path) != path):
                raise ValueError(f"a path is absolute and plain, such as /srv/data, got {path!r}")
        return paths


UNLIMITED = Capabilities(
    data_classes=(ANY,),
    paths=(ANY,),
    domains=(ANY,),
    tools=(ANY,),
    autonomy=3,
    scope="public",
    recipients=1_000_000_000,
)
"""The top of the order: whoever sets no limit."""


def minimum(*given: Capabilities) -> Capabilities:
    """What all of them grant: the greatest lower bound. Of none, UNLIMITED."""
    return reduce(_lower, given, UNLIMITED)


def covers_domain(granted: str, domain: str) -> bool:
    """Whether a grant of `granted` reaches `domain`, itself a domain or a `*.` pattern."""
    if granted in (ANY, domain):
        return True
    return granted.startswith("*.") and domain.removeprefix("*").endswith(granted[1:])


def covers_path(granted: str, path: str) -> bool:
    """Whether a grant of `granted` reaches `path`: itself, or what is below it."""
    return granted in (ANY, path) or path.startswith(granted.rstrip("/") + "/")


def _lower(one: Capabilities, other: Capabilities) -> Capabilities:
    return Capabilities(
        tokens_per_minute=_least(one.tokens_per_minute, other.tokens_per_minute),
        requests_per_minute=_least(one.requests_per_minute, other.requests_per_minute),
        model_seconds_per_minute=_least(one.model_seconds_per_minute, other.model_seconds_per_minute),
        data_classes=_common(one.data_classes, other.data_classes, _same),
        paths=_common(one.paths, other.paths, covers_path),
        domains=_common(one.domains, other.domains, covers_domain),
        tools=_common(one.tools, other.tools, _same),
        autonomy=min(one.autonomy, other.autonomy),
        scope=INFLUENCES[min(INFLUENCES.index(one.scope), INFLUENCES.index(other.scope))],
        recipients=min(one.recipients, other.recipients),
    )


def _least(one: Limit | None, other: Limit | None) -> Limit | None:
    return min((limit for limit in (one, other) if limit is not None), default=None)


def _same(granted: str, name: str) -> bool:
    return granted in (ANY, name)


def _common(one: Iterable[str], other: Iterable[str], covers: Callable[[str, str], bool]) -> tuple[str, ...]:
    """What both sides grant, each in its narrower form."""
    first, second = tuple(one), tuple(other)
    kept = [name for name in first if any(covers(granted, name) for granted in second)]
    kept += [name for name in second if any(covers(granted, name) for granted in first)]
    return tuple(sorted(set(kept)))
