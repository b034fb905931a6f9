"""Which hosts a sandbox may reach and how much it may say to them: the rules of the filtering proxy."""

from __future__ import annotations

import ipaddress
import re

from pydantic import Field, field_validator

from raysafe.config import Config
from raysafe.control.capabilities import covers_domain

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
LONGEST_NAME = 253


def plain_host(text: str) -> str | None:
    """A host's name as it is compared: lower case, without a last dot. None for what is no name, IP literals in all
    their spellings among it (a last label that is a number makes a reader take 127.1, 0x7f.1 or 2130706433 for one).
    """
    name = text.lower().removesuffix(".")
    if len(name) > LONGEST_NAME or _NAME.fullmatch(name) is None:
        return None
    return None if _NUMBER.fullmatch(name.rpartition(".")[2]) else name


class NetworkLimits(Config):
    """What may pass to and from domains that are allowed, over all connections of a sandbox."""

    tls_ports: tuple[int, ...] = Field(default=(443,), description="Ports of CONNECT, where nothing but TLS may pass.")
    http_ports: tuple[int, ...] = Field(default=(80,), description="Ports of plain HTTP.")
    methods: tuple[str, ...] = Field(
        default=("GET", "HEAD", "POST"), description="Methods of plain HTTP; within TLS nobody can see them."
    )
    addresses: tuple[str, ...] = Field(
        default=(),
        description="Networks such as 10.1.0.0/16 that hosts may have though they are not public; none by default.",
    )
    burst_bytes: int = Field(default=1 << 16, ge=1, description="What may pass at once after a pause.")
    total_bytes: int = Field(default=100_000_000, ge=1, description="Of both directions together, in all.")
    connections: int = Field(default=32, ge=1, description="Most connections at a time; more wait.")
    requests: int = Field(default=1000, ge=1, description="Most connections in all; more are refused.")
    head_timeout_s: float = Field(default=10.0, gt=0, description="Longest wait for what opens a connection.")
    connect_timeout_s: float = Field(default=10.0, gt=0, description="Longest wait for a name and for its host.")
    idle_timeout_s: float = Field(default=60.0, gt=0, description="Longest silence of both sides.")

    @field_validator("addresses")
    @classmethod
    def _networks(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ipaddress.ip_network(address)) for address in addresses)


class NetworkRules(NetworkLimits):
    """What one sandbox's proxy goes by."""

    domains: tuple[str, ...] = Field(
        default=(), description="Hosts by name; *.example.org is all below example.org, and not example.org itself."
    )
    bytes_per_s: int = Field(default=1_000_000, ge=1, description="Of both directions together.")

    @field_validator("domains")
    @classmethod
    def _names(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_domain(domain) for domain in domains)

    def reaches(self, host: str) -> bool:
        """Whether a plain host is one of the domains."""
        return any(covers_domain(domain, host) for domain in self.domains)


def check_domain(domain: str) -> str:
    """A domain of an allow-list as it is compared; raises ValueError."""
    name = plain_host(domain.removeprefix("*."))
    if name is None or name == "":
        raise ValueError(
            f"a domain is a host's name, or *. and one, such as *.example.org (and xn-- for letters beyond ASCII), "
            f"got {domain!r}"
        )
    return f"*.{name}" if domain.startswith("*.") else name
